/* A list. It is searched once for a request for a token, which takes much longer than the
 * search. */
#include "oauth/refresh_tokens.h"

#include <stdlib.h>
#include <string.h>

#include "lib/list.h"

struct rotation {
    struct list link;
    unsigned char digest[DIGEST_SHA256_SIZE];
    struct secret token;
};

struct rotations {
    struct list oldest_first;
    size_t n;
};

struct rotations *rotations_new(void)
{
    struct rotations *rotations = mem_zalloc(sizeof(*rotations));
    list_init(&rotations->oldest_first);
    return rotations;
}

static void drop(struct rotations *rotations, struct rotation *r)
{
    list_remove(&r->link);
    secret_clear(&r->token);
    free(r);
    rotations->n--;
}

void rotations_free(struct rotations *rotations)
{
    if (rotations) {
        LIST_EACH (it, &rotations->oldest_first) {
            drop(rotations, container_of(it, struct rotation, link));
        }
        free(rotations);
    }
}

static struct rotation *find(struct rotations *rotations,
                             const unsigned char digest[DIGEST_SHA256_SIZE])
{
    LIST_EACH (it, &rotations->oldest_first) {
        struct rotation *r = container_of(it, struct rotation, link);
        if (memcmp(r->digest, digest, DIGEST_SHA256_SIZE) == 0) {
            return r;
        }
    }
    return NULL;
}

const struct secret *rotations_find(struct rotations *rotations,
                                    const unsigned char digest[DIGEST_SHA256_SIZE])
{
    struct rotation *r = find(rotations, digest);
    if (!r) {
        return NULL;
    }
    list_remove(&r->link);
    list_append(&rotations->oldest_first, &r->link);
    return &r->token;
}

void rotations_keep(struct rotations *rotations, const unsigned char digest[DIGEST_SHA256_SIZE],
                    const struct secret *token)
{
    struct rotation *r = find(rotations, digest);
    if (!r) {
        r = mem_zalloc(sizeof(*r));
        memcpy(r->digest, digest, DIGEST_SHA256_SIZE);
        list_init(&r->link);
        rotations->n++;
    }
    list_remove(&r->link);
    list_append(&rotations->oldest_first, &r->link);
    secret_set(&r->token, token->p, token->n);
    LIST_EACH (it, &rotations->oldest_first) {
        if (rotations->n <= ROTATIONS_MAX) {
            break;
        }
        drop(rotations, container_of(it, struct rotation, link));
    }
}

void rotations_drop(struct rotations *rotations, const unsigned char digest[DIGEST_SHA256_SIZE])
{
    struct rotation *r = find(rotations, digest);
    if (r) {
        drop(rotations, r);
    }
}
