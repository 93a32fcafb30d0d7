/* Keeps entries in a hash table, and on a list that begins with the least recently used one. The
 * answer of an entry follows from its times; only the fetch is a state:
 *
 *                   set           fresh_until        valid_until        spare_until
 *   value            |--- hand out ---|-- hand out, ----|-- wait for -----|  gone
 *                                        fetch ahead       fetch; if it
 *                                                          fails: hand out
 *   no value         wait for fetch
 *   failed before    no fetch starts before retry_at; hand out the value if that is allowed,
 *                    else the failure
 *
 * A task of its own delivers each answer, so a handler never runs inside cache_get or at the end of
 * a fetch. */
#include "lib/cache.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backoff.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/sys.h"

/* A failure that will not pass by itself is remembered until LASTING * retry_max after its
 * retry_at, any other failure until retry_max after it. */
enum { LASTING = 4 };

struct cache {
    struct loop *loop;
    struct cache_settings set;
    struct cache_stats stats;
    uint64_t seed;    /* seeds the hash, so that nobody can choose keys that collide */
    size_t n_buckets; /* a power of two */
    struct list oldest_first;
    struct list answers; /* waits whose answer is on its way */
    struct list buckets[];
};

struct cache_entry {
    struct cache *cache;
    struct list bucket, age;
    struct list waits;
    struct timer forget; /* due when the entry knows nothing useful any more */

    bool fetching;
    void *job;

    void *value; /* may be NULL */
    int64_t fresh_until, valid_until, spare_until;

    unsigned failures; /* in a row */
    int64_t retry_at;
    struct error *err; /* the last failure; NULL: none since the last success */

    size_t key_length;
    char key[];
};

struct cache_wait {
    struct cache *cache;
    struct list link; /* on the waits of an entry, or on `answers` */
    struct task task;
    struct cache_handler handler;
    void *value;
    struct error err;
};

struct cache *cache_new(struct loop *loop, const struct cache_settings *settings)
{
    size_t n = 16;
    while (n < settings->max_entries) {
        n *= 2;
    }
    struct cache *cache = mem_zalloc(sizeof(*cache) + n * sizeof(cache->buckets[0]));
    cache->loop = loop;
    cache->set = *settings;
    cache->n_buckets = n;
    sys->random(&cache->seed, sizeof(cache->seed));
    list_init(&cache->oldest_first);
    list_init(&cache->answers);
    for (size_t i = 0; i < n; i++) {
        list_init(&cache->buckets[i]);
    }
    return cache;
}

/* ---- entries ---- */

/* Hashes with FNV-1a and the seed. */
static struct list *bucket_of(struct cache *cache, struct str key)
{
    uint64_t h = cache->seed;
    for (size_t i = 0; i < key.n; i++) {
        h = (h ^ (unsigned char)key.p[i]) * 0x100000001B3;
    }
    return &cache->buckets[(h ^ h >> 32) & (cache->n_buckets - 1)];
}

static struct cache_entry *find(struct cache *cache, struct str key)
{
    LIST_EACH (it, bucket_of(cache, key)) {
        struct cache_entry *e = container_of(it, struct cache_entry, bucket);
        if (e->key_length == key.n && memcmp(e->key, key.p, key.n) == 0) {
            return e;
        }
    }
    return NULL;
}

static void set_value(struct cache_entry *e, void *value)
{
    if (e->value) {
        e->cache->set.unref(e->value);
    }
    e->value = value;
}

/* Frees an entry that nobody waits for, and abandons its fetch. */
static void entry_free(struct cache_entry *e)
{
    struct cache *cache = e->cache;
    assert(list_empty(&e->waits));
    if (e->fetching) {
        cache->set.abandon(e->job, cache->set.arg);
    }
    set_value(e, NULL);
    timer_cancel(cache->loop, &e->forget);
    list_remove(&e->bucket);
    list_remove(&e->age);
    cache->stats.entries--;
    mem_wipe(e->key, e->key_length);
    free(e->err);
    free(e);
}

static bool evict_one(struct cache *cache)
{
    LIST_EACH (it, &cache->oldest_first) {
        struct cache_entry *e = container_of(it, struct cache_entry, age);
        if (!e->fetching) {
            entry_free(e);
            return true;
        }
    }
    return false;
}

/* Returns NULL when there is no room because every entry is being fetched. */
static struct cache_entry *entry_new(struct cache *cache, struct str key)
{
    if (cache->stats.entries >= cache->set.max_entries && !evict_one(cache)) {
        return NULL;
    }
    struct cache_entry *e = mem_zalloc(sizeof(*e) + key.n);
    e->cache = cache;
    e->key_length = key.n;
    memcpy(e->key, key.p, key.n);
    list_init(&e->waits);
    list_init(&e->bucket);
    list_init(&e->age);
    list_append(bucket_of(cache, key), &e->bucket);
    list_append(&cache->oldest_first, &e->age);
    cache->stats.entries++;
    return e;
}

static void on_forget(struct timer *t)
{
    entry_free(container_of(t, struct cache_entry, forget));
}

/* After a failure the entry outlives its retry_at, because the next failure needs the number of
 * failures so far. A failure that will not pass by itself stays known for longer: see
 * cache_failure. */
static void arm_forget(struct cache_entry *e)
{
    int64_t more = e->failures && !fail_may_pass(e->err->fail) ? LASTING : 1;
    int64_t due = e->failures ? e->retry_at + more * e->cache->set.retry_max : 0;
    if (e->value && e->spare_until > due) {
        due = e->spare_until;
    }
    timer_set(e->cache->loop, &e->forget, due, on_forget);
}

/* ---- answers ---- */

static void wait_free(struct cache_wait *w)
{
    task_cancel(&w->task);
    list_remove(&w->link);
    if (w->value) {
        w->cache->set.unref(w->value);
    }
    free(w);
}

static void on_queued_answer(struct task *t)
{
    struct cache_wait *w = container_of(t, struct cache_wait, task);
    struct cache_handler handler = w->handler;
    void (*unref)(void *) = w->cache->set.unref;
    void *value = w->value;
    struct error err = w->err;
    w->value = NULL;
    wait_free(w);
    handler.done(value, value ? NULL : &err, handler.arg);
    if (value) {
        unref(value);
    }
}

/* Queues an answer for w: the value, or the error when there is no value. */
static void queue_answer(struct cache_wait *w, void *value, const struct error *err)
{
    if (value) {
        w->value = w->cache->set.ref(value);
    } else {
        assert(err);
        w->err = *err;
    }
    list_remove(&w->link);
    list_append(&w->cache->answers, &w->link);
    loop_soon(w->cache->loop, &w->task, on_queued_answer);
}

/* Returns the value that may be used in spite of the last failure, or NULL. A peer that refuses us
 * or has the wrong certificate has given a verdict; after every other failure the old value may
 * still be right. */
static void *spare_value(const struct cache_entry *e)
{
    int64_t now = loop_now(e->cache->loop);
    bool open = e->err->fail != FAIL_AUTH && e->err->fail != FAIL_CERT;
    bool usable = now < e->valid_until || (now < e->spare_until && open);
    return usable ? e->value : NULL;
}

/* ---- asking ---- */

static void fetch(struct cache_entry *e, const void *request)
{
    struct cache *cache = e->cache;
    e->fetching = true;
    timer_cancel(cache->loop, &e->forget);
    e->job = cache->set.fetch(e, (struct str){e->key, e->key_length}, request, cache->set.arg);
}

static void ask_entry(struct cache_entry *e, const void *request, struct cache_wait *w)
{
    struct cache *cache = e->cache;
    int64_t now = loop_now(cache->loop);
    bool may_fetch = !e->fetching && now >= e->retry_at;
    bool valid = e->value && now < e->valid_until;
    if (may_fetch && !(valid && now < e->fresh_until)) {
        fetch(e, request);
    }
    if (valid) {
        cache->stats.hits++;
        queue_answer(w, e->value, NULL);
    } else if (e->fetching) {
        cache->stats.misses++;
        list_append(&e->waits, &w->link);
    } else {
        cache->stats.hits++;
        queue_answer(w, spare_value(e), e->err);
    }
}

struct cache_wait *cache_get(struct cache *cache, struct str key, const void *request,
                             struct cache_handler handler)
{
    struct cache_wait *w = mem_zalloc(sizeof(*w));
    w->cache = cache;
    w->handler = handler;
    list_init(&w->link);
    task_init(&w->task);
    struct cache_entry *e = find(cache, key);
    if (!e) {
        e = entry_new(cache, key);
    }
    if (e) {
        list_remove(&e->age);
        list_append(&cache->oldest_first, &e->age);
        ask_entry(e, request, w);
    } else {
        struct error err;
        error_set(&err, FAIL_LIMIT, "more than %zu requests at once", cache->set.max_entries);
        queue_answer(w, NULL, &err);
    }
    return w;
}

void cache_cancel(struct cache_wait *wait)
{
    if (wait) {
        wait_free(wait);
    }
}

/* ---- the ends of a fetch ---- */

static void conclude(struct cache_entry *e, void *value)
{
    assert(e->fetching);
    e->fetching = false;
    e->job = NULL;
    LIST_EACH (it, &e->waits) {
        queue_answer(container_of(it, struct cache_wait, link), value, e->err);
    }
    arm_forget(e);
}

void cache_fetched(struct cache_entry *entry, void *value, struct cache_life life)
{
    int64_t now = loop_now(entry->cache->loop);
    assert(value);
    set_value(entry, value);
    entry->fresh_until = now + life.fresh;
    entry->valid_until = now + life.valid;
    entry->spare_until = now + (life.spare > life.valid ? life.spare : life.valid);
    entry->failures = 0;
    entry->retry_at = 0;
    free(entry->err);
    entry->err = NULL;
    conclude(entry, value);
}

/* The random part is added, so that no peer is asked earlier than it wants. */
static int64_t retry_delay(const struct cache_entry *entry, int64_t retry_after)
{
    const struct cache_settings *set = &entry->cache->set;
    int64_t delay = backoff_delay(entry->failures, set->retry_min, set->retry_max, 0);
    delay = delay > retry_after ? delay : retry_after;
    return delay + backoff_random(delay / 4);
}

void cache_failed(struct cache_entry *entry, const struct error *err, int64_t retry_after)
{
    entry->retry_at = loop_now(entry->cache->loop) + retry_delay(entry, retry_after);
    entry->failures++;
    entry->err = entry->err ? entry->err : mem_alloc(sizeof(*entry->err));
    *entry->err = *err;
    conclude(entry, spare_value(entry));
}

void *cache_peek(struct cache *cache, struct str key)
{
    const struct cache_entry *e = find(cache, key);
    return e ? e->value : NULL;
}

const struct error *cache_failure(struct cache *cache, struct str key)
{
    const struct cache_entry *e = find(cache, key);
    return e ? e->err : NULL;
}

void cache_drop(struct cache *cache, struct str key, const void *value)
{
    struct cache_entry *e = find(cache, key);
    if (!e || (value && e->value != value)) {
        return;
    }
    if (!e->fetching) {
        entry_free(e);
        return;
    }
    set_value(e, NULL);
    e->failures = 0;
    e->retry_at = 0;
}

/* ---- the whole ---- */

struct cache_stats cache_stats(const struct cache *cache)
{
    return cache->stats;
}

static void free_waits(struct list *waits)
{
    LIST_EACH (it, waits) {
        wait_free(container_of(it, struct cache_wait, link));
    }
}

void cache_free(struct cache *cache)
{
    if (!cache) {
        return;
    }
    free_waits(&cache->answers);
    LIST_EACH (it, &cache->oldest_first) {
        struct cache_entry *e = container_of(it, struct cache_entry, age);
        free_waits(&e->waits);
        entry_free(e);
    }
    free(cache);
}
