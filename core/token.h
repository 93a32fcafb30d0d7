/* An OAuth access token, which is shown in order to log in (RFC 6749 section 1.4). */
#ifndef TPROXY_CORE_TOKEN_H
#define TPROXY_CORE_TOKEN_H

#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/mem.h"
#include "lib/text.h"

/* Maximum length of an access token in octets. */
enum { TOKEN_MAX = 16 * 1024 };

/* How long before its expiry a token is no longer handed out, because it still has to travel. */
#define TOKEN_MARGIN SECONDS(10)

/* A token is immutable and shared by reference count. The last unref wipes it. */
struct token {
    unsigned refs;
    struct secret value; /* one line of printable ASCII */
    int64_t received;    /* time of its receipt on the monotonic clock, set by the receiver */
    int64_t expires;     /* time on the monotonic clock: its receipt plus its lifetime */
};

/* Makes a token with one reference from a copy of the text. Returns NULL and *err (FAIL_TOKEN) when
 * the text is empty, too long, or has characters that a header field cannot carry. */
struct token *token_new(struct str value, int64_t expires, struct error *err);

/* Add and release a reference. unref accepts NULL. */
struct token *token_ref(struct token *token);
void token_unref(struct token *token);

#endif
