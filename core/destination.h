/* The destination: what a BTP Destination of type MAIL says about reaching and logging in to a
 * mailbox, checked and turned into the terms of the mail session. Pure: properties in, an immutable
 * snapshot or a verdict out.
 *
 *     struct json *doc = json_parse(text, &err);
 *     struct properties *props = properties_from_json(json_root(doc), &err);
 *     struct destination *dest = destination_new(props, allow_loopback, &problem);
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
#include "lib/json.h"
#include "lib/mem.h"

/* ---- properties ---- */

/* Bounds of a set of properties and of what a destination takes from it, bytes without NUL. */
enum {
    PROPERTIES_MAX = 1024,
    DESTINATION_NAME_MAX = 200,
    DESTINATION_HOST_MAX = 253,
    DESTINATION_USER_MAX = 512,
    DESTINATION_PASSWORD_MAX = 2048,
    DESTINATION_WARNINGS_MAX = 16,
};

/* Names and their values as text; any value may be a secret. */
struct properties;

/* From a JSON object whose values are strings, numbers or booleans (null: as if absent), or such an
 * object as the member "destinationConfiguration" of another, the way the Destination service
 * answers. Members whose name begins with '$' are no properties and passed over. The document may
 * be freed afterwards. NULL and *err (FAIL_CONFIG, naming the property; FAIL_LIMIT) when it is
 * anything else. */
struct properties *properties_from_json(struct json_value v, struct error *err);

/* Wipes and frees. NULL is allowed. */
void properties_free(struct properties *props);

/* The value, NUL-terminated, its length in *n (n may be NULL); NULL when there is no such property.
 * Names are case-sensitive. Valid until properties_free. */
const char *properties_get(const struct properties *props, const char *name, size_t *n);

/* ---- destination ---- */

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

/* An immutable snapshot, shared by reference count. No text in it contains CR, LF or NUL. */
struct destination {
    unsigned refs;
    char *name;

    enum mail_protocol protocol;
    enum proxy_type proxy;
    char *host;     /* name (a final dot: absolute) or address literal, IPv6 without brackets; of a
                     * virtual host     when on-premise */
    char *tls_name; /* what its certificate must carry, also SNI: host without the final dot */
    uint16_t port;
    char *location_id; /* CloudConnectorLocationId, "" when there is none; on-premise only */

    enum tls_mode tls;
    bool tls_trust_any;  /* ssl.trust names this host or "*": any certificate chain is accepted */
    bool tls_check_host; /* ssl.checkserveridentity: the certificate must be for tls_name */
    enum mail_tls_version tls_min, tls_max;

    enum mail_auth auth;
    char *user;             /* "" when there is none: NONE, or the client names it (REFRESH_TOKEN,
                               AUTHORIZATION_CODE) */
    struct secret password; /* BASIC only */
    enum mechanism
        mechanisms[MECH_COUNT]; /* in order of preference: the first that is usable counts, */
    size_t n_mechanisms;        /* without another try after a refusal. None for AUTH_NONE */
    bool xoauth2_two_lines;     /* AUTH XOAUTH2, continuation, then the token: else all in one line
                                   where it fits */
    bool ask_capa;              /* may CAPA be sent? (disablecapa) */

    int64_t connect_timeout; /* name resolution, TCP and TLS together, microseconds */
    int64_t answer_timeout;  /* the mail server's answer to one step of the login, microseconds */

    char *warnings[DESTINATION_WARNINGS_MAX]; /* sentences for the administrator; no secrets in them
                                               */
    size_t n_warnings;
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
    VERDICT_COUNT
};

struct destination_problem {
    enum verdict verdict;
    char field[128];          /* the property to look at */
    char text[FAIL_TEXT_MAX]; /* one line: what is wrong with it, and the remedy. No secrets; peer
                                 text is sanitised */
};

/* The condition's reason, "ConfigurationError-ReferencedDestination-UrlNotSupported";
 * with_fragment: in the form that says that a destination fragment took part, where SAP has one.
 * "ConfigurationSuccessful" for OK. */
const char *verdict_reason(enum verdict verdict, bool with_fragment);

/* A destination with one reference, or NULL and *problem. Without allow_loopback a ProxyType
 * Internet host that is a loopback or unspecified address in any spelling, or a name below
 * "localhost", is refused; names that merely resolve to such addresses are the business of who
 * connects. */
struct destination *destination_new(const struct properties *props, bool allow_loopback,
                                    struct destination_problem *problem);

/* Counts references; the last unref wipes the password and frees. unref takes NULL. */
const struct destination *destination_ref(const struct destination *dest);
void destination_unref(const struct destination *dest);

/* Do both describe the same mailbox reached and logged in to in the same way? Warnings do not
 * count. */
bool destination_equal(const struct destination *a, const struct destination *b);

/* "BasicAuthentication", ... as the property Authentication spells it; "pop3", "pop3s". */
const char *mail_auth_name(enum mail_auth auth);
const char *mail_protocol_name(enum mail_protocol protocol);

#endif
