/* Reads a BTP Destination of type MAIL: checks how to reach a mailbox and how to log in to it, and
 * turns that into the terms of the mail session. Pure: properties in, an immutable snapshot or a
 * verdict out.
 *
 *     struct json *doc = json_parse(text, &err);
 *     struct properties *props = properties_from_json(json_root(doc), &err);
 *     const struct destination *dest = destination_new(props, allow_loopback, &problem);
 *     properties_free(props);
 *     ...
 *     destination_unref(dest);
 *
 * The names of properties are SAP's (Type, ProxyType, Authentication, mail.*, tokenService*) and
 * those of Jakarta Mail's POP3 provider, mail.<p>.*, where p is the protocol in use.
 * docs/destinations.md lists them all. */
#ifndef TPROXY_CORE_DESTINATION_H
#define TPROXY_CORE_DESTINATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/mem.h"

struct properties;
struct tls_roots;
struct token_service;

/* Bounds of the properties that a destination keeps, in bytes without NUL; the last one is a
 * number of warnings. */
enum {
    DESTINATION_NAME_MAX = 200,
    DESTINATION_HOST_MAX = 253,
    DESTINATION_USER_MAX = 512,
    DESTINATION_PASSWORD_MAX = 2048,
    DESTINATION_WARNINGS_MAX = 16,
};

enum mail_protocol { MAIL_POP3, MAIL_POP3S };

enum proxy_type { PROXY_INTERNET, PROXY_ON_PREMISE };

/* TLS towards the mail server. IMPLICIT: from the first byte (pop3s, or ssl.enable). STLS_WANTED:
 * STLS if the server offers it, clear text otherwise. STLS_REQUIRED: STLS, or no session. */
enum tls_mode { TLS_NONE, TLS_IMPLICIT, TLS_STLS_WANTED, TLS_STLS_REQUIRED };

enum mail_tls_version { MAIL_TLS_1_2, MAIL_TLS_1_3 };

/* The kind of login at the mail server. */
enum mail_auth {
    AUTH_NONE,  /* NoAuthentication: the client logs in itself, through a plain relay */
    AUTH_BASIC, /* we log in with user and password */
    AUTH_CLIENT_CREDENTIALS, /* we log in with an access token of our own */
    AUTH_REFRESH_TOKEN,      /* we log in with a token for the client's refresh token */
    AUTH_AUTHORIZATION_CODE, /* we log in with a token for the client's authorization code */
};

/* The way to log in at the mail server. APOP needs a timestamp in the greeting; PLAIN and XOAUTH2
 * need their names in the capability SASL; USER_PASS can always be used. */
enum mechanism { MECH_PLAIN, MECH_USER_PASS, MECH_APOP, MECH_XOAUTH2, MECH_COUNT };

/* An immutable snapshot, shared by reference count. No text in it contains CR, LF or NUL. */
struct destination {
    unsigned refs;
    char *texts; /* owns name, host, tls_name, location_id and user */
    const char *name;

    enum mail_protocol protocol;
    enum proxy_type proxy;
    const char *host;     /* name (with a final dot: absolute) or address, IPv6 without brackets */
    const char *tls_name; /* the name in the certificate and in SNI: host without the final dot */
    uint16_t port;
    const char *location_id; /* CloudConnectorLocationId; "" without one, or when not on-premise */

    enum tls_mode tls;
    bool tls_trust_any;  /* ssl.trust names this host or "*": any certificate chain is accepted */
    bool tls_check_host; /* ssl.checkserveridentity: the certificate must be for tls_name */
    enum mail_tls_version tls_min, tls_max;
    struct tls_roots *trust_store; /* TrustStoreLocation: trusted in place of all other
                                      certificates; NULL: those of the proxy are trusted */

    enum mail_auth auth;
    const char *user;       /* "" for NONE; not used for REFRESH_TOKEN and AUTHORIZATION_CODE, where
                               the client names the user */
    struct secret password; /* BASIC only */
    struct token_service *tokens; /* core/token_service.h; NULL for NONE and BASIC */
    /* In order of preference; empty for AUTH_NONE. Only the first usable one is tried: after a
     * refusal there is no second attempt. */
    enum mechanism mechanisms[MECH_COUNT];
    size_t n_mechanisms;
    bool xoauth2_two_lines; /* the token only after a continuation, never on the line of AUTH */
    bool ask_capa;          /* CAPA may be sent (disablecapa) */

    int64_t connect_timeout; /* name resolution and TCP together, microseconds */
    int64_t answer_timeout;  /* the server's answer to one step (TLS, a command), microseconds */

    /* Sentences for the administrator, without secrets. */
    char **warnings;
    size_t n_warnings; /* at most DESTINATION_WARNINGS_MAX */
};

/* The reasons why a destination cannot be used. Each is a reason of the condition Available. */
enum verdict {
    VERDICT_OK,
    VERDICT_TYPE_NOT_SUPPORTED,           /* not MAIL, or neither pop3 nor pop3s */
    VERDICT_PROXY_TYPE_NOT_SUPPORTED,     /* neither Internet nor OnPremise */
    VERDICT_AUTHENTICATION_NOT_SUPPORTED, /* a kind of login that we do not support */
    VERDICT_URL_NOT_SUPPORTED,            /* host or port missing or malformed */
    VERDICT_LOOPBACK_URL_NOT_SUPPORTED,   /* ProxyType Internet and a host that is this machine */
    VERDICT_KEY_STORE_INVALID,            /* needs a key store that we cannot use */
    VERDICT_TRUST_STORE_INVALID,          /* the same for a trust store, or it is not there */
    VERDICT_CONFIGURATION_FAILED,         /* anything else, e.g. a required property is missing */
    /* The verdicts below do not come from destination_new, but from the code that fetches a
     * destination or finds the way to it: */
    VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, /* OnPremise, and there is no usable Connectivity
                                                  Proxy */
    VERDICT_TENANT_MODE_MISMATCH,    /* OnPremise, and only one of the Connectivity Proxy and us
                                        serves many tenants */
    VERDICT_NOT_FOUND,               /* the Destination service does not have the destination */
    VERDICT_FRAGMENT_NOT_FOUND,      /* it does not have the destination's fragment */
    VERDICT_INSTANCE_NOT_CONFIGURED, /* its instance is unknown, or has no usable service key */
    VERDICT_UNREADABLE,              /* the service did not answer, or its answer is malformed */
    VERDICT_COUNT
};

struct destination_problem {
    enum verdict verdict;
    char field[128];          /* the property with the error */
    char text[FAIL_TEXT_MAX]; /* one line for people: the error and the remedy */
};

/* Returns the condition's reason, "ConfigurationError-ReferencedDestination-UrlNotSupported", or
 * "ConfigurationSuccessful" for OK; static storage. with_fragment: returns the form of the reason
 * that says that a destination fragment took part, if SAP has such a form. */
const char *verdict_reason(enum verdict verdict, bool with_fragment);

/* Makes a destination with one reference. Returns NULL and *problem when the properties are wrong.
 * Without allow_loopback a ProxyType Internet host that is a loopback or unspecified address in any
 * spelling, or a name below "localhost", is refused. The code that connects has to refuse a name
 * that resolves to such an address, and to check the host of the token service. */
const struct destination *destination_new(const struct properties *props, bool allow_loopback,
                                          struct destination_problem *problem);

/* Add and release a reference. The last unref wipes the secrets and frees the destination. unref
 * accepts NULL. */
const struct destination *destination_ref(const struct destination *dest);
void destination_unref(const struct destination *dest);

/* Replaces the trust store by an equal one, so that its certificates are in memory once. */
void destination_share_trust_store(const struct destination *dest, struct tls_roots *equal);

/* Tells whether both describe the same mailbox, reached and logged in to in the same way. Warnings
 * do not count. */
bool destination_equal(const struct destination *a, const struct destination *b);

/* Returns the name of the protocol ("pop3", "pop3s"); static storage. */
const char *mail_protocol_name(enum mail_protocol protocol);

#endif
