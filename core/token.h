/* An access token: what OAuth hands out and who logs in with it shows (RFC 6749 section 1.4). */
#ifndef TPROXY_CORE_TOKEN_H
#define TPROXY_CORE_TOKEN_H

#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/mem.h"
#include "lib/text.h"

/* Longest access token, octets. */
enum { TOKEN_MAX = 16 * 1024 };

/* Immutable, shared by reference count; the last unref wipes it. */
struct token {
    unsigned refs;
    struct secret value; /* one line of printable ASCII */
    int64_t received;    /* when, on the monotonic clock; set by who received it */
    int64_t expires;     /* likewise, counted from its receipt */
};

/* A copy of the text with one reference; NULL and *err (FAIL_TOKEN) when it is empty, too long, or
 * contains what no header field may. */
struct token *token_new(struct str value, int64_t expires, struct error *err);
struct token *token_ref(struct token *token);
void token_unref(struct token *token); /* NULL is allowed */

#endif
