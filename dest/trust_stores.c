/* Keeps each trust store once. */
#include "dest/trust_stores.h"

#include <stdlib.h>

#include "core/destination.h"
#include "lib/digest.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "lib/tls_roots.h"

enum { SWEEP_FIRST = 16 };

struct entry {
    struct map_entry by_digest;
    struct list link;
    struct tls_roots *roots;
    char digest[TEXT_BASE64_SIZE(DIGEST_SHA256_SIZE)]; /* of the certificates */
};

void dest_trust_stores_init(struct dest_trust_stores *stores)
{
    map_init(&stores->by_digest);
    list_init(&stores->all);
    stores->sweep_at = SWEEP_FIRST;
}

static void drop(struct dest_trust_stores *stores, struct entry *entry)
{
    map_remove(&stores->by_digest, &entry->by_digest);
    list_remove(&entry->link);
    tls_roots_unref(entry->roots);
    free(entry);
}

void dest_trust_stores_close(struct dest_trust_stores *stores)
{
    while (!list_empty(&stores->all)) {
        drop(stores, container_of(stores->all.next, struct entry, link));
    }
    map_free(&stores->by_digest);
}

/* Drops the stores that no destination has any more. The next sweep comes when there are twice as
 * many as now, so that it costs little for each store added. */
static void sweep(struct dest_trust_stores *stores)
{
    LIST_EACH (it, &stores->all) {
        struct entry *entry = container_of(it, struct entry, link);
        if (!tls_roots_shared(entry->roots)) {
            drop(stores, entry);
        }
    }
    size_t n = stores->by_digest.n;
    stores->sweep_at = n < SWEEP_FIRST / 2 ? SWEEP_FIRST : 2 * n;
}

void dest_trust_stores_share(struct dest_trust_stores *stores, const struct destination *dest)
{
    unsigned char sum[DIGEST_SHA256_SIZE];
    char digest[TEXT_BASE64_SIZE(DIGEST_SHA256_SIZE)];
    if (!dest->trust_store) {
        return;
    }
    struct str der = tls_roots_der(dest->trust_store);
    digest_sha256(sum, &der, 1);
    text_base64(digest, sum, sizeof(sum));
    for (struct map_entry *e = map_find(&stores->by_digest, digest); e; e = map_find_next(e)) {
        struct tls_roots *roots = container_of(e, struct entry, by_digest)->roots;
        if (tls_roots_equal(roots, dest->trust_store)) {
            destination_share_trust_store(dest, roots);
            return;
        }
    }
    if (stores->by_digest.n >= stores->sweep_at) {
        sweep(stores);
    }
    struct entry *entry = mem_zalloc(sizeof(*entry));
    entry->roots = tls_roots_ref(dest->trust_store);
    text_fmt(entry->digest, sizeof(entry->digest), "%s", digest);
    map_add(&stores->by_digest, &entry->by_digest, entry->digest);
    list_append(&stores->all, &entry->link);
}
