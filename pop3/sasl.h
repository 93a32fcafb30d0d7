/* What clients send to log in with credentials that count: SASL responses in base64, and USER and
 * PASS. XOAUTH2 (Google's and Microsoft's), OAUTHBEARER (RFC 7628), PLAIN (RFC 4616), LOGIN. Pure.
 */
#ifndef TPROXY_POP3_SASL_H
#define TPROXY_POP3_SASL_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/mem.h"
#include "lib/text.h"

/* Bounds, octets: a user is no longer than that of a destination, a token than what a line holds.
 */
enum { SASL_USER_MAX = 512, SASL_SECRET_MAX = 12 * 1024 };

/* A mail user, and a refresh token or an authorization code. Zero-initialise; wipe with sasl_wipe.
 */
struct sasl_credentials {
    char user[SASL_USER_MAX + 1];
    struct secret secret;
};

enum sasl_mechanism { SASL_XOAUTH2, SASL_OAUTHBEARER, SASL_PLAIN, SASL_LOGIN, SASL_MECHANISMS };

/* "XOAUTH2", ... Static storage. */
const char *sasl_name(enum sasl_mechanism mechanism);

/* ERR: none of them (any case). */
int sasl_find(struct str name, enum sasl_mechanism *mechanism) warn_unused;

/* Reads the client's response in base64; not for LOGIN. ERR and *wrong: a sentence that says what
 * should be sent; static storage, nothing of what was sent in it. */
int sasl_read(struct sasl_credentials *c, enum sasl_mechanism mechanism, struct str base64,
              const char **wrong) warn_unused;

/* The two halves of LOGIN in base64, or of USER and PASS as they are. ERR as above. */
int sasl_set_user(struct sasl_credentials *c, struct str text, bool is_base64,
                  const char **wrong) warn_unused;
int sasl_set_secret(struct sasl_credentials *c, struct str text, bool is_base64,
                    const char **wrong) warn_unused;

void sasl_wipe(struct sasl_credentials *c);

#endif
