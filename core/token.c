/* Copies an access token once and then shares it. */
#include "core/token.h"

#include <stdlib.h>

struct token *token_new(struct str value, int64_t expires, struct error *err)
{
    if (value.n == 0 || value.n > TOKEN_MAX) {
        error_set(err, FAIL_TOKEN, "the access token has %zu octets; 1 to %d are possible", value.n,
                  TOKEN_MAX);
        return NULL;
    }
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < 0x20 || value.p[i] > 0x7E) {
            error_set(err, FAIL_TOKEN, "the access token has characters that no token may have");
            return NULL;
        }
    }
    struct token *token = mem_zalloc(sizeof(*token));
    token->refs = 1;
    token->expires = expires;
    secret_set(&token->value, value.p, value.n);
    return token;
}

struct token *token_ref(struct token *token)
{
    token->refs++;
    return token;
}

void token_unref(struct token *token)
{
    if (token && --token->refs == 0) {
        secret_clear(&token->value);
        free(token);
    }
}
