/* Reads the credentials of clients whose login is checked: SASL responses in base64, and the texts
 * of USER and PASS. The mechanisms are XOAUTH2 (Google's and Microsoft's), OAUTHBEARER (RFC 7628),
 * PLAIN (RFC 4616) and LOGIN. Pure. */
#ifndef TPROXY_POP3_SASL_H
#define TPROXY_POP3_SASL_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/mem.h"
#include "lib/text.h"

/* Maximum lengths in octets: of a user as in a destination, of a token so that it fits into a line.
 */
enum { SASL_USER_MAX = 512, SASL_SECRET_MAX = 12 * 1024 };

/* A mail user, and a refresh token or an authorization code. Zero-initialise; wipe with
 * pop3_sasl_wipe. */
struct sasl_credentials {
    char user[SASL_USER_MAX + 1];
    struct secret secret;
};

enum sasl_mechanism { SASL_XOAUTH2, SASL_OAUTHBEARER, SASL_PLAIN, SASL_LOGIN, SASL_MECHANISMS };

/* Returns the name of a mechanism ("XOAUTH2"); static storage. */
const char *pop3_sasl_name(enum sasl_mechanism mechanism);

/* Finds the mechanism of that name, in any case. Returns ERR when there is none. */
int pop3_sasl_find(struct str name, enum sasl_mechanism *mechanism) warn_unused;

/* Reads the client's response in base64; not for LOGIN. Returns ERR and *wrong when the response is
 * malformed: a clause that says what is wrong or what to send, in static storage, without any part
 * of the response. */
int pop3_sasl_read(struct sasl_credentials *c, enum sasl_mechanism mechanism, struct str base64,
                   const char **wrong) warn_unused;

/* Set the user and the secret: from the two responses of LOGIN in base64, or from the arguments of
 * USER and PASS as they are. Return ERR and *wrong as pop3_sasl_read does. */
int pop3_sasl_set_user(struct sasl_credentials *c, struct str text, bool is_base64,
                       const char **wrong) warn_unused;
int pop3_sasl_set_secret(struct sasl_credentials *c, struct str text, bool is_base64,
                         const char **wrong) warn_unused;

/* Wipes and frees the credentials and leaves them empty. May be called more than once. */
void pop3_sasl_wipe(struct sasl_credentials *c);

#endif
