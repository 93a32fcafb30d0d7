/* Reads the answer of an authorization server's token endpoint (RFC 6749 section 5). Pure. */
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

/* Maximum length of an answer in octets. */
enum { TOKEN_ANSWER_MAX = 64 * 1024 };

struct token_answer {
    struct secret access_token;  /* not empty; unchanged */
    int64_t lifetime;            /* from its receipt, microseconds; 5 minutes without expires_in */
    struct secret refresh_token; /* replaces the one that was sent; empty: that one stays */
};

/* The question that the server answers. */
struct token_question {
    const char *property;        /* the property that holds the server's URL: "tokenServiceURL" */
    struct peer_secrets secrets; /* secrets that the request carried */
};

/* Reads an answer; an error may come with status 200, too. On OK the caller clears the answer.
 * Returns ERR and *err when there is no token. The status decides if it is 404, 408, 429 or 5xx;
 * otherwise the error's code decides if it is known, and the status if not:
 * - FAIL_AUTH when the server refuses the client (401, 403, invalid_client) or the refresh token or
 *   code (invalid_grant);
 * - FAIL_CONFIG when a person has to change something (invalid_scope, unsupported_grant_type,
 *   invalid_request, a redirect), or the server or tenant does not exist (404);
 * - FAIL_REMOTE when the server cannot serve at present (408, 429, 5xx, temporarily_unavailable);
 * - FAIL_TOKEN in all other cases.
 * The caller puts the name of the server before the text: "refuses the client (401: invalid_client:
 * Bad credentials)". */
int oauth_answer_read(const struct token_question *question, const struct http_head *head,
                      struct str body, struct token_answer *answer, struct error *err) warn_unused;

/* Wipes and frees the tokens. May be called more than once. */
void oauth_answer_clear(struct token_answer *answer);

/* Returns a lifetime in microseconds, at most a day, from a JSON number or string of seconds.
 * Returns -1 when v is neither. */
int64_t oauth_answer_lifetime(struct json_value v);

/* Tells whether the type is absent or that of bearer tokens (RFC 6750; Apigee says "BearerToken"),
 * in any case. */
bool oauth_answer_is_bearer(struct json_value type);

/* Writes another type for people: "mac" with its quotation marks, or "a number". Returns out. */
char *oauth_answer_type_shown(char *out, size_t cap, struct json_value type,
                              struct peer_secrets secrets);

#endif
