/* A short list, made when there is the first refusal. */
#include "core/refusals.h"

#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"

/* How long a credential is not shown again: doubles from one refusal to the next. */
#define PAUSE_FIRST SECONDS(5)
#define PAUSE_MOST SECONDS(60)

struct credential credential_of(const char *user, struct str secret)
{
    struct credential credential;
    const struct str parts[] = {{user, strlen(user) + 1}, secret};
    digest_sha256(credential.digest, parts, ARRAY_LEN(parts));
    return credential;
}

void refusals_clear(struct refusals *refusals)
{
    for (size_t i = 0; i < refusals->n; i++) {
        free(refusals->list[i].text);
    }
    free(refusals->list);
    *refusals = (struct refusals){0};
}

static struct refusal *known(const struct refusals *refusals, const struct credential *credential)
{
    for (size_t i = 0; i < refusals->n; i++) {
        struct refusal *r = &refusals->list[i];
        if (memcmp(r->credential.digest, credential->digest, sizeof(credential->digest)) == 0) {
            return r;
        }
    }
    return NULL;
}

struct refusal *refusals_find(const struct refusals *refusals, const struct credential *credential,
                              int64_t now)
{
    struct refusal *r = known(refusals, credential);
    return r && r->until > now ? r : NULL;
}

/* An empty place. */
static struct refusal *place(struct refusals *refusals)
{
    if (!refusals->list) {
        refusals->list = mem_alloc(REFUSALS_MAX * sizeof(*refusals->list));
    }
    if (refusals->n < REFUSALS_MAX) {
        return &refusals->list[refusals->n++];
    }
    struct refusal *first = refusals->list;
    for (size_t i = 1; i < refusals->n; i++) {
        if (refusals->list[i].until < first->until) {
            first = &refusals->list[i];
        }
    }
    free(first->text);
    return first;
}

unsigned refusals_add(struct refusals *refusals, const struct credential *credential,
                      unsigned before, bool final, int64_t now, const char *text)
{
    struct refusal *r = known(refusals, credential);
    if (!r) {
        r = place(refusals);
        *r = (struct refusal){.credential = *credential};
    }
    r->count = (r->count > before ? r->count : before) + 1;
    int64_t pause = r->count <= 4 ? PAUSE_FIRST << (r->count - 1) : PAUSE_MOST;
    r->until = now + pause;
    r->final = final;
    free(r->text);
    r->text = mem_strdup(text);
    return r->count;
}

void refusals_drop(struct refusals *refusals, const struct credential *credential)
{
    struct refusal *r = known(refusals, credential);
    if (r) {
        free(r->text);
        *r = refusals->list[--refusals->n];
    }
}
