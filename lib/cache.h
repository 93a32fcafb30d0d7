/* What is costly to learn is learned once and remembered: key -> value, where the values come from
 * a fetch that takes time. The cache knows nothing of what they are.
 *
 * One fetch at a time for a key, shared by all who ask meanwhile. A value that gets old is
 * refreshed before it expires, when somebody asks; a failure is remembered, so that a peer in
 * trouble is not asked again at once. The number of entries has a bound; who was asked for least
 * recently goes first. */
#ifndef TPROXY_LIB_CACHE_H
#define TPROXY_LIB_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/text.h"

struct cache;
struct cache_entry;
struct cache_wait;
struct loop;

struct cache_settings {
    size_t max_entries;
    int64_t retry_min,
        retry_max; /* how long a failure is remembered: the first, doubled up to the last; each time
                      up to a quarter longer, by chance */

    /* Starts to fetch the value of `key`; `request` is what cache_get was given. Both are valid
     * only during the call. The fetch ends with cache_fetched or cache_failed, exactly once and
     * never from inside this call. Returns what `abandon` needs. */
    void *(*fetch)(struct cache_entry *entry, struct str key, const void *request, void *arg);

    /* Stops a fetch, which must not be ended any more. */
    void (*abandon)(void *job, void *arg);

    /* Values are counted references. */
    void *(*ref)(void *value);
    void (*unref)(void *value);

    void *arg; /* for fetch and abandon */
};

/* Copies the settings. */
struct cache *cache_new(struct loop *loop, const struct cache_settings *settings);

/* Abandons fetches, silences who waits, drops all values. NULL is allowed. */
void cache_free(struct cache *cache);

/* Called exactly once, never from inside cache_get; the wait is gone by then. Either a value, valid
 * during the call (take a reference to keep it), or NULL and *err: the fetch's failure, or
 * FAIL_LIMIT when every entry is being fetched. May call anything, cache_free included. */
struct cache_handler {
    void (*done)(void *value, const struct error *err, void *arg);
    void *arg;
};

/* Asks for the value of a key (any bytes, compared in full). `request` goes to `fetch`, if this
 * call starts one. */
struct cache_wait *cache_get(struct cache *cache, struct str key, const void *request,
                             struct cache_handler handler);

/* Silence: `done` will not be called. A fetch under way goes on for the cache's sake. NULL is
 * allowed. */
void cache_cancel(struct cache_wait *wait);

/* How long a value serves, microseconds from now. Up to `fresh` it is simply handed out; up to
 * `valid` also, while a new one is fetched; up to `spare` (if that is longer) only when fetching a
 * new one fails otherwise than with FAIL_AUTH or FAIL_CERT. */
struct cache_life {
    int64_t fresh, valid, spare;
};

/* The two ends of a fetch. The cache takes over the reference `value`. After a failure no fetch
 * starts for the remembered time, or for `retry_after` microseconds if that is longer; a value that
 * is still valid stays in use. */
void cache_fetched(struct cache_entry *entry, void *value, struct cache_life life);
void cache_failed(struct cache_entry *entry, const struct error *err, int64_t retry_after);

/* The value that is known of the key, of whatever age; NULL when there is none. Valid until the
 * next call. Nothing is fetched. */
void *cache_peek(struct cache *cache, struct str key);

/* Returns how the last fetch for the key has failed; NULL when no fetch has failed since the last
 * value, or the failure is forgotten. Valid until the next call. Fetches nothing. */
const struct error *cache_failure(struct cache *cache, struct str key);

/* Forgets what is known of the key, a failure included, but only if its value still is `value`;
 * NULL: whatever it is. A fetch under way goes on. */
void cache_drop(struct cache *cache, struct str key, const void *value);

/* hits: answered from memory, failures too; misses: had to wait for a fetch. */
struct cache_stats {
    size_t entries;
    uint64_t hits, misses;
};
struct cache_stats cache_stats(const struct cache *cache);

#endif
