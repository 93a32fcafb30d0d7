/* The destination: what a BTP Destination of type MAIL says about reaching and logging in to a
 * mailbox, checked and turned into the terms of the mail session. Pure: properties in, an immutable
 * snapshot or a verdict out.
 *
 *     struct json *doc = json_parse(text, &err);
 *     struct properties *props = properties_from_json(json_root(doc), &err);
 *     const struct destination *dest = destination_new(props, allow_loopback, &problem);
 *     properties_free(props);
 *     ...
 *     destination_unref(dest);
 *
 * Property names: SAP's (Type, ProxyType, Authentication, mail.*, tokenService*) and those of
 * Jakarta Mail's POP3 provider, mail.<p>.*, where p is the protocol in use. docs/destinations.md
 * lists them all. */
#ifndef TPROXY_CORE_DESTINATION_H
#define TPROXY_CORE_DESTINATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/mem.h"

struct buf;
struct properties;

/* Bounds of what a destination takes from its properties, bytes without NUL. */
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
 * if offered, clear text otherwise. STLS_REQUIRED: STLS, or no session. */
enum tls_mode { TLS_NONE, TLS_IMPLICIT, TLS_STLS_WANTED, TLS_STLS_REQUIRED };

enum mail_tls_version { MAIL_TLS_1_2, MAIL_TLS_1_3 };

/* Who logs in, and with what. */
enum mail_auth {
    AUTH_NONE,               /* NoAuthentication: the client itself, through a plain relay */
    AUTH_BASIC,              /* we, with user and password */
    AUTH_CLIENT_CREDENTIALS, /* we, with an access token of our own */
    AUTH_REFRESH_TOKEN, /* we, with a token made from the refresh token that the client sends */
    AUTH_AUTHORIZATION_CODE, /* we, with a token made from the code that the client sends */
};

/* How to log in at the mail server. APOP is usable only when the greeting carries a timestamp,
 * PLAIN and XOAUTH2 when the capability SASL lists them; USER_PASS always. */
enum mechanism { MECH_PLAIN, MECH_USER_PASS, MECH_APOP, MECH_XOAUTH2, MECH_COUNT };

/* How tokens for the mail server are asked of the authorization server that the destination names
 * (RFC 6749 section 3.2): pieces of the request. */
struct token_service {
    struct secret url; /* with the queries; see token_service_url */
    bool common;       /* each tenant has its own URL */
    bool on_premise;   /* only the Connectivity Proxy reaches it */
    bool allow_local;  /* it may be at a loopback or link-local address */
    char *client_id;   /* or tokenServiceUser, with its password: */
    struct secret client_secret;
    bool basic;            /* these two go into a header field, else into the form */
    struct secret headers; /* more lines, each with its CRLF */
    struct secret form;    /* more fields, encoded; scope is one of them */
    struct secret redirect_uri, code_verifier; /* of the code; the form has them too */
    int64_t connect_timeout, answer_timeout;   /* microseconds; 0: not said */
};

/* An immutable snapshot, shared by reference count. No text in it contains CR, LF or NUL. */
struct destination {
    unsigned refs;
    char *name;

    enum mail_protocol protocol;
    enum proxy_type proxy;
    char *host;     /* name (with a final dot: absolute) or address, IPv6 without brackets */
    char *tls_name; /* what its certificate must carry, also SNI: host without the final dot */
    uint16_t port;
    char *location_id; /* CloudConnectorLocationId; "" without one, or when not on-premise */

    enum tls_mode tls;
    bool tls_trust_any;  /* ssl.trust names this host or "*": any certificate chain is accepted */
    bool tls_check_host; /* ssl.checkserveridentity: the certificate must be for tls_name */
    enum mail_tls_version tls_min, tls_max;

    enum mail_auth auth;
    char *user;             /* "" for NONE; for the two kinds of user token the client's counts */
    struct secret password; /* BASIC only */
    struct token_service *tokens; /* NULL for NONE and BASIC */
    /* In order of preference. The first one that is usable counts: none is tried after a refusal.
     * Empty for AUTH_NONE. */
    enum mechanism mechanisms[MECH_COUNT];
    size_t n_mechanisms;
    bool xoauth2_two_lines; /* the token only after a continuation, never on the line of AUTH */
    bool ask_capa;          /* may CAPA be sent? (disablecapa) */

    int64_t connect_timeout; /* name resolution and TCP together, microseconds */
    int64_t answer_timeout;  /* the server's answer to one step: TLS, a command; microseconds */

    /* Sentences for the administrator, without secrets. */
    char **warnings;
    size_t n_warnings; /* at most DESTINATION_WARNINGS_MAX */
};

/* What keeps a destination from being used: the reasons of the condition Available which concern a
 * destination. */
enum verdict {
    VERDICT_OK,
    VERDICT_TYPE_NOT_SUPPORTED,           /* not MAIL, or neither pop3 nor pop3s */
    VERDICT_PROXY_TYPE_NOT_SUPPORTED,     /* neither Internet nor OnPremise */
    VERDICT_AUTHENTICATION_NOT_SUPPORTED, /* a kind of login that we have not */
    VERDICT_URL_NOT_SUPPORTED,            /* host or port missing or malformed */
    VERDICT_LOOPBACK_URL_NOT_SUPPORTED,   /* ProxyType Internet and a host that is this machine */
    VERDICT_KEY_STORE_INVALID,            /* needs a key store that we cannot use */
    VERDICT_CONFIGURATION_FAILED,         /* anything else, e.g. a required property is missing */
    /* Not by destination_new, but by who should have had it read: */
    VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, /* OnPremise, and no way there */
    VERDICT_TENANT_MODE_MISMATCH,    /* OnPremise, and the way there knows one tenant where we have
                                     many, or the other way round */
    VERDICT_NOT_FOUND,               /* the Destination service does not have it */
    VERDICT_FRAGMENT_NOT_FOUND,      /* nor the fragment that goes into it */
    VERDICT_INSTANCE_NOT_CONFIGURED, /* its instance is unknown, or has no usable service key */
    VERDICT_UNREADABLE,              /* the service could not be asked, or made no sense */
    VERDICT_COUNT
};

struct destination_problem {
    enum verdict verdict;
    char field[128];          /* the property to look at */
    char text[FAIL_TEXT_MAX]; /* one line for people: what is wrong with it, and the remedy */
};

/* The condition's reason, "ConfigurationError-ReferencedDestination-UrlNotSupported";
 * with_fragment: in the form that says that a destination fragment took part, where SAP has one.
 * "ConfigurationSuccessful" for OK. */
const char *verdict_reason(enum verdict verdict, bool with_fragment);

/* A destination with one reference, or NULL and *problem. Without allow_loopback a ProxyType
 * Internet host that is a loopback or unspecified address in any spelling, or a name below
 * "localhost", is refused; names that merely resolve to such addresses are the business of who
 * connects, and so is the host of the token service. */
const struct destination *destination_new(const struct properties *props, bool allow_loopback,
                                          struct destination_problem *problem);

/* Counts references; the last unref wipes the secrets and frees. unref takes NULL. */
const struct destination *destination_ref(const struct destination *dest);
void destination_unref(const struct destination *dest);

/* Do both describe the same mailbox reached and logged in to in the same way? Warnings do not
 * count. */
bool destination_equal(const struct destination *a, const struct destination *b);

/* Appends the URL for a tenant: with type Common it takes the place of "{tenant}", or else becomes
 * the first label of the host. ERR when it does not fit, or the type is Common and there is no
 * tenant (NULL), or none that is one label of a host name. */
int token_service_url(const struct token_service *service, const char *tenant,
                      struct buf *out) warn_unused;

/* "BasicAuthentication", ... as the property Authentication spells it; "pop3", "pop3s". */
const char *mail_auth_name(enum mail_auth auth);
const char *mail_protocol_name(enum mail_protocol protocol);

#endif
