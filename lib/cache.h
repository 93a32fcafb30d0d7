/* Remembers what is costly to learn: key -> value, where a value comes from a fetch that takes
 * time. The cache does not know what keys and values mean.
 *
 * One fetch at a time runs for a key, and everybody who asks for the key shares it. A value that
 * gets old is refreshed before it expires, when somebody asks for it. A failure is remembered, so
 * that a peer in trouble is not asked again at once. The number of entries is bounded; the least
 * recently used one is dropped first. */
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
        retry_max; /* how long a failure is remembered: retry_min, doubled after each further
                      failure up to retry_max; each time up to a quarter longer, at random */

    /* Starts to fetch the value of `key`; `request` is what cache_get was given. Both are valid
     * only during the call. The fetch ends with cache_fetched or cache_failed, exactly once and
     * never from inside this call. Returns what `abandon` needs. */
    void *(*fetch)(struct cache_entry *entry, struct str key, const void *request, void *arg);

    /* Stops a fetch. Neither cache_fetched nor cache_failed may follow. */
    void (*abandon)(void *job, void *arg);

    /* Values are counted references. */
    void *(*ref)(void *value);
    void (*unref)(void *value);

    void *arg; /* for fetch and abandon */
};

/* Creates a cache and copies the settings. cache_free frees it. */
struct cache *cache_new(struct loop *loop, const struct cache_settings *settings);

/* Frees the cache: abandons all fetches, cancels all waits, drops all values. NULL is allowed. */
void cache_free(struct cache *cache);

/* Called exactly once, never from inside cache_get; the wait is gone by then. Gets a value, valid
 * during the call (take a reference to keep it), or NULL and *err: the failure of the fetch, or
 * FAIL_LIMIT when every entry is being fetched. May call anything, cache_free included. */
struct cache_handler {
    void (*done)(void *value, const struct error *err, void *arg);
    void *arg;
};

/* Asks for the value of a key (any bytes, compared in full). `request` is passed to `fetch`, if
 * this call starts one. Returns a handle for cache_cancel, valid until `done` is called. */
struct cache_wait *cache_get(struct cache *cache, struct str key, const void *request,
                             struct cache_handler handler);

/* Cancels a wait: `done` will not be called. A fetch under way goes on, to fill the cache. NULL is
 * allowed. */
void cache_cancel(struct cache_wait *wait);

/* How long a value may be used, in microseconds from now. Up to `fresh` it is handed out; up to
 * `valid` it is handed out while a new one is fetched; up to `spare` (if that is longer) it is
 * handed out only when fetching a new one fails with an error other than FAIL_AUTH and
 * FAIL_CERT. */
struct cache_life {
    int64_t fresh, valid, spare;
};

/* End a fetch, with a value whose reference the cache takes over, or with a failure. After a
 * failure no fetch starts for the remembered time, or for `retry_after` microseconds if that is
 * longer; a value that is still valid stays in use. */
void cache_fetched(struct cache_entry *entry, void *value, struct cache_life life);
void cache_failed(struct cache_entry *entry, const struct error *err, int64_t retry_after);

/* Returns the value that is known for the key, however old it is, or NULL. Valid until the next
 * call. Fetches nothing. */
void *cache_peek(struct cache *cache, struct str key);

/* Returns how the last fetch for the key has failed; NULL when no fetch has failed since the last
 * value, or the failure is forgotten. Valid until the next call. Fetches nothing. */
const struct error *cache_failure(struct cache *cache, struct str key);

/* Forgets the value and the failure of the key, but only if its value is still `value`; NULL stands
 * for any value. A fetch under way goes on. */
void cache_drop(struct cache *cache, struct str key, const void *value);

/* hits: answers from memory, failures included. misses: answers that had to wait for a fetch. */
struct cache_stats {
    size_t entries;
    uint64_t hits, misses;
};
struct cache_stats cache_stats(const struct cache *cache);

#endif
