/* What the token endpoint of an authorization server answers (RFC 6749 section 5). Pure. */
#ifndef TPROXY_OAUTH_ANSWER_H
#define TPROXY_OAUTH_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/peer_words.h"
#include "http/proto.h"
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

/* The question that the server answers. */
struct token_question {
    const char *property;        /* the property that holds the server's URL: "tokenServiceURL" */
    struct peer_secrets secrets; /* secrets that the request carried */
};

/* Reads an answer; an error may come with status 200, too. OK: the caller clears the answer. ERR
 * and *err, by the error's code if it is a known one and the status says less, or else by the
 * status: FAIL_AUTH when the server refuses the client (401, 403, invalid_client) or what it brings
 * (invalid_grant); FAIL_CONFIG when a person has to change something (invalid_scope,
 * unsupported_grant_type, invalid_request, a redirect) or the server or tenant does not exist
 * (404); FAIL_REMOTE when the server cannot serve at present (408, 429, 5xx,
 * temporarily_unavailable); FAIL_TOKEN for all else. The text lacks its subject, the server:
 * "refuses the client (401: invalid_client: Bad credentials)". */
int token_answer_read(const struct token_question *question, const struct http_head *head,
                      struct str body, struct token_answer *answer, struct error *err) warn_unused;

/* Idempotent. */
void token_answer_clear(struct token_answer *answer);

/* A lifetime in seconds, as a JSON number or string: in microseconds, at most a day. -1 when it is
 * none. */
int64_t token_lifetime(struct json_value v);

/* Is it a type of bearer tokens (RFC 6750; Apigee says "BearerToken"), in any case, or absent? */
bool token_is_bearer(struct json_value type);

/* Writes another type for people: "mac" with its quotation marks, or "a number". Returns out. */
char *token_type_shown(char *out, size_t cap, struct json_value type, struct peer_secrets secrets);

#endif
