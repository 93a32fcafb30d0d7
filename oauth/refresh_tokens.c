/* A list. It is searched once for a request for a token, which takes much longer than the
 * search. */
#include "oauth/refresh_tokens.h"

#include <stdlib.h>
#include <string.h>

#include "lib/list.h"

struct refresh_token {
    struct list link;
    unsigned char digest[DIGEST_SHA256_SIZE];
    struct secret token;
};

struct refresh_tokens {
    struct list oldest_first;
    size_t n;
};

struct refresh_tokens *oauth_refresh_tokens_new(void)
{
    struct refresh_tokens *tokens = mem_zalloc(sizeof(*tokens));
    list_init(&tokens->oldest_first);
    return tokens;
}

static void drop(struct refresh_tokens *tokens, struct refresh_token *r)
{
    list_remove(&r->link);
    secret_clear(&r->token);
    free(r);
    tokens->n--;
}

void oauth_refresh_tokens_free(struct refresh_tokens *tokens)
{
    if (tokens) {
        LIST_EACH (it, &tokens->oldest_first) {
            drop(tokens, container_of(it, struct refresh_token, link));
        }
        free(tokens);
    }
}

static struct refresh_token *find(struct refresh_tokens *tokens,
                                  const unsigned char digest[DIGEST_SHA256_SIZE])
{
    LIST_EACH (it, &tokens->oldest_first) {
        struct refresh_token *r = container_of(it, struct refresh_token, link);
        if (memcmp(r->digest, digest, DIGEST_SHA256_SIZE) == 0) {
            return r;
        }
    }
    return NULL;
}

const struct secret *oauth_refresh_tokens_find(struct refresh_tokens *tokens,
                                               const unsigned char digest[DIGEST_SHA256_SIZE])
{
    struct refresh_token *r = find(tokens, digest);
    if (!r) {
        return NULL;
    }
    list_remove(&r->link);
    list_append(&tokens->oldest_first, &r->link);
    return &r->token;
}

void oauth_refresh_tokens_keep(struct refresh_tokens *tokens,
                               const unsigned char digest[DIGEST_SHA256_SIZE],
                               const struct secret *token)
{
    struct refresh_token *r = find(tokens, digest);
    if (!r) {
        r = mem_zalloc(sizeof(*r));
        memcpy(r->digest, digest, DIGEST_SHA256_SIZE);
        list_init(&r->link);
        tokens->n++;
    }
    list_remove(&r->link);
    list_append(&tokens->oldest_first, &r->link);
    secret_set(&r->token, token->p, token->n);
    if (tokens->n > REFRESH_TOKENS_MAX) {
        drop(tokens, container_of(tokens->oldest_first.next, struct refresh_token, link));
    }
}

void oauth_refresh_tokens_drop(struct refresh_tokens *tokens,
                               const unsigned char digest[DIGEST_SHA256_SIZE])
{
    struct refresh_token *r = find(tokens, digest);
    if (r) {
        drop(tokens, r);
    }
}
