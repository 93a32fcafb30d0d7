/* What the token endpoint of an authorization server answers (RFC 6749 section 5). Pure. */
#ifndef TPROXY_CORE_TOKEN_ANSWER_H
#define TPROXY_CORE_TOKEN_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/json.h"
#include "lib/mem.h"
#include "lib/text.h"

/* Longest answer, octets. */
enum { TOKEN_ANSWER_MAX = 64 * 1024 };

struct token_answer {
    struct secret access_token;  /* not empty; as it came */
    int64_t lifetime;            /* from its receipt, microseconds; 5 minutes when it is not said */
    struct secret refresh_token; /* takes the place of the one that was sent; empty: none does */
};

/* Reads an answer of that HTTP status; `known` are the n secrets that the request carried. OK: the
 * caller clears the answer. ERR and *err: FAIL_AUTH when the server refuses the client (401, 403,
 * 400 with such a code) or what it brings (invalid_grant); FAIL_CONFIG when nobody is there, or no
 * such tenant (404); FAIL_REMOTE when it cannot serve (408, 429, 5xx); FAIL_TOKEN for all else. The
 * text lacks its subject, the server: "refuses the client (401: invalid_client: Bad credentials)".
 */
int token_answer_read(int status, struct str body, const struct str *known, size_t n,
                      struct token_answer *answer, struct error *err) warn_unused;

/* Idempotent. */
void token_answer_clear(struct token_answer *answer);

/* A lifetime in seconds, as a JSON number or string: in microseconds, at most a day. -1 when it is
 * none. */
int64_t token_lifetime(struct json_value v);

/* Is it "bearer" (RFC 6750, any case), or nothing? */
bool token_is_bearer(struct json_value type);

/* Writes ": " and what the string v says, sanitised as by text_printable; nothing when v is no
 * string or empty. It comes from somebody who deals in secrets: what looks like a token becomes
 * "***", and all is left out when one of the n known secrets is in it. Returns out. */
char *token_said(char *out, size_t cap, struct json_value v, const struct str *known, size_t n);

#endif
