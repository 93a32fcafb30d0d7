/* Tests lib/cache: which answer each asker gets and when, how often the cache fetches, and that it
 * neither loses nor leaks a value. The test sets the clock; the values are reference counters. */
#include "lib/cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/sys.h"

struct value {
    int refs;
    int number;
};

enum { MAX_ENTRIES = 3 };

static int64_t now;
static uint32_t chance; /* the next random bytes */
static struct sys test_sys;
static struct loop *loop;
static struct cache *cache;
static int values_alive;

/* The fetch that was started last, and the number of fetches. */
static struct cache_entry *fetching;
static char fetched_key[32];
static const char *fetched_request;
static int fetches, abandoned;

/* One asker and its answer. */
struct asker {
    struct cache_wait *wait;
    int answers;
    int number; /* the number of the value; 0: an error */
    struct error err;
    bool free_cache;
    const char *ask_again;
};

static int64_t test_now(void)
{
    return now;
}

static void test_random(void *out, size_t n)
{
    memset(out, 0, n);
    memcpy(out, &chance, n < sizeof(chance) ? n : sizeof(chance));
}

static void *start_fetch(struct cache_entry *entry, struct str key, const void *request, void *arg)
{
    assert_ptr_equal(arg, &fetches);
    fetching = entry;
    text_fmt(fetched_key, sizeof(fetched_key), "%.*s", STR_ARG(key));
    fetched_request = request;
    fetches++;
    return entry;
}

static void abandon(void *job, void *arg)
{
    assert_ptr_equal(arg, &fetches);
    assert_non_null(job);
    abandoned++;
}

static void *value_ref(void *value)
{
    struct value *v = value;
    v->refs++;
    return v;
}

static void value_unref(void *value)
{
    struct value *v = value;
    if (--v->refs == 0) {
        values_alive--;
        free(v);
    }
}

static struct value *value_new(int number)
{
    struct value *v = mem_zalloc(sizeof(*v));
    *v = (struct value){.refs = 1, .number = number};
    values_alive++;
    return v;
}

static int set_up(void **state)
{
    (void)state;
    test_sys = sys_real;
    test_sys.now = test_now;
    test_sys.random = test_random;
    sys = &test_sys;
    now = SECONDS(1000);
    chance = 0;
    fetching = NULL;
    fetches = abandoned = 0;
    loop = loop_new(NULL);
    const struct cache_settings settings = {
        .max_entries = MAX_ENTRIES,
        .retry_min = SECONDS(1),
        .retry_max = SECONDS(8),
        .fetch = start_fetch,
        .abandon = abandon,
        .ref = value_ref,
        .unref = value_unref,
        .arg = &fetches,
    };
    cache = cache_new(loop, &settings);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cache_free(cache);
    loop_turn(loop, false);
    loop_free(loop);
    sys = &sys_real;
    assert_int_equal(values_alive, 0);
    return 0;
}

static void pass(int64_t span)
{
    now += span;
    loop_turn(loop, false);
}

static void ask(struct asker *a, const char *key);

static void on_done(void *value, const struct error *err, void *arg)
{
    struct asker *a = arg;
    assert_true((value == NULL) == (err != NULL));
    a->wait = NULL;
    a->answers++;
    a->number = value ? ((struct value *)value)->number : 0;
    a->err = err ? *err : (struct error){.fail = FAIL_NONE};
    if (a->ask_again) {
        const char *key = a->ask_again;
        a->ask_again = NULL;
        ask(a, key);
    }
    if (a->free_cache) {
        cache_free(cache);
        cache = NULL;
        /* The value outlives the cache until the callback returns. */
        assert_int_equal(a->number, value ? ((struct value *)value)->number : 0);
    }
}

static void ask(struct asker *a, const char *key)
{
    int before = a->answers;
    a->wait = cache_get(cache, str_of(key), "request", (struct cache_handler){on_done, a});
    assert_non_null(a->wait);
    assert_int_equal(a->answers, before);
}

/* Returns the number that `key` gives right now. 0: an error, stored in *err if err is given. -1:
 * the asker would have to wait; it is cancelled instead. */
static int get(const char *key, struct error *err)
{
    struct asker a = {0};
    ask(&a, key);
    pass(0);
    if (err) {
        *err = a.err;
    }
    if (!a.answers) {
        cache_cancel(a.wait);
        return -1;
    }
    assert_int_equal(a.answers, 1);
    return a.number;
}

static const struct cache_life life = {SECONDS(60), SECONDS(100), SECONDS(300)};

static void succeed(int number)
{
    assert_non_null(fetching);
    struct cache_entry *entry = fetching;
    fetching = NULL;
    cache_fetched(entry, value_new(number), life);
}

static void fail_with(enum fail fail, int64_t retry_after)
{
    struct error err;
    error_set(&err, fail, "the peer is on fire");
    assert_non_null(fetching);
    struct cache_entry *entry = fetching;
    fetching = NULL;
    cache_failed(entry, &err, retry_after);
}

static void learn(const char *key, int number)
{
    assert_int_equal(get(key, NULL), -1);
    succeed(number);
}

static void test_single_flight(void **state)
{
    (void)state;
    struct asker a = {0}, b = {0}, c = {0};
    ask(&a, "key");
    assert_string_equal(fetched_key, "key");
    assert_string_equal(fetched_request, "request");
    ask(&b, "key");
    ask(&c, "key");
    pass(SECONDS(1));
    assert_int_equal(fetches, 1);
    assert_int_equal(a.answers + b.answers + c.answers, 0);
    succeed(7);
    assert_int_equal(a.answers, 0);
    pass(0);
    assert_int_equal(a.number, 7);
    assert_int_equal(b.number, 7);
    assert_int_equal(c.number, 7);
    assert_int_equal(a.answers + b.answers + c.answers, 3);
    pass(SECONDS(1));
    assert_int_equal(a.answers + b.answers + c.answers, 3);
    assert_int_equal(values_alive, 1);
}

static void test_keys_are_bytes(void **state)
{
    (void)state;
    struct asker a = {0}, b = {0};
    a.wait = cache_get(cache, (struct str){"k\0a", 3}, NULL, (struct cache_handler){on_done, &a});
    struct cache_entry *first = fetching;
    b.wait = cache_get(cache, (struct str){"k\0b", 3}, NULL, (struct cache_handler){on_done, &b});
    assert_int_equal(fetches, 2);
    succeed(2);
    fetching = first;
    succeed(1);
    pass(0);
    assert_int_equal(a.number, 1);
    assert_int_equal(b.number, 2);
    assert_int_equal(get("", NULL), -1);
    succeed(3);
    assert_int_equal(get("", NULL), 3);
}

static void test_ages(void **state)
{
    (void)state;
    learn("key", 1);
    pass(SECONDS(59));
    assert_int_equal(get("key", NULL), 1);
    assert_int_equal(fetches, 1);

    /* A stale value is given at once, and one fetch for a new value starts. */
    pass(SECONDS(1));
    assert_int_equal(get("key", NULL), 1);
    assert_int_equal(get("key", NULL), 1);
    assert_int_equal(fetches, 2);
    succeed(2);
    assert_int_equal(get("key", NULL), 2);
    assert_int_equal(values_alive, 1);

    /* An expired value is given to nobody. */
    pass(SECONDS(100));
    assert_int_equal(get("key", NULL), -1);
    succeed(3);
    assert_int_equal(get("key", NULL), 3);

    /* The value expires while its refresh is under way. */
    pass(SECONDS(99));
    assert_int_equal(get("key", NULL), 3);
    pass(SECONDS(1000));
    assert_int_equal(get("key", NULL), -1);
    assert_int_equal(fetches, 4);
    succeed(4);
    assert_int_equal(get("key", NULL), 4);

    /* The cache frees a value that can no longer be used. */
    assert_int_equal(cache_stats(cache).entries, 1);
    pass(SECONDS(299));
    assert_int_equal(cache_stats(cache).entries, 1);
    pass(SECONDS(2));
    assert_int_equal(cache_stats(cache).entries, 0);
    assert_int_equal(values_alive, 0);
}

static void test_failures(void **state)
{
    (void)state;
    struct error err;
    struct asker a = {0}, b = {0};
    ask(&a, "key");
    ask(&b, "key");
    fail_with(FAIL_CONNECT, 0);
    pass(0);
    assert_int_equal(a.answers + b.answers, 2);
    assert_int_equal(a.err.fail, FAIL_CONNECT);
    assert_string_equal(b.err.text, "the peer is on fire");

    /* The failure is remembered for 1, 2, 4, 8, 8 seconds. */
    const int delays[] = {1, 2, 4, 8, 8};
    for (size_t i = 0; i < ARRAY_LEN(delays); i++) {
        pass(SECONDS(delays[i]) - 1);
        assert_int_equal(get("key", &err), 0);
        assert_int_equal(err.fail, FAIL_CONNECT);
        assert_int_equal(fetches, 1 + (int)i);
        pass(1);
        assert_int_equal(get("key", NULL), -1);
        assert_int_equal(fetches, 2 + (int)i);
        fail_with(FAIL_CONNECT, 0);
    }

    /* The peer may ask for a longer delay. */
    pass(SECONDS(8));
    assert_int_equal(get("key", NULL), -1);
    fail_with(FAIL_REMOTE, SECONDS(30));
    pass(SECONDS(30) - 1);
    assert_int_equal(get("key", &err), 0);
    assert_int_equal(err.fail, FAIL_REMOTE);
    pass(1);
    assert_int_equal(get("key", NULL), -1);

    /* A success resets the failure count. */
    succeed(1);
    assert_int_equal(get("key", NULL), 1);
    pass(SECONDS(100));
    assert_int_equal(get("key", NULL), -1);
    fail_with(FAIL_CONNECT, 0);
    pass(SECONDS(1));
    assert_int_equal(get("key", NULL), -1);
}

/* Up to a quarter of the time is added at random. */
static void test_chance(void **state)
{
    (void)state;
    const uint32_t chances[] = {125000, 249999};
    const int64_t after[] = {MILLIS(1125), MILLIS(1250)};
    const char *const keys[] = {"half", "all"};
    for (size_t i = 0; i < ARRAY_LEN(chances); i++) {
        assert_int_equal(get(keys[i], NULL), -1);
        chance = chances[i];
        fail_with(FAIL_CONNECT, 0);
        pass(after[i] - 2);
        assert_int_equal(get(keys[i], NULL), 0);
        pass(2);
        assert_int_equal(get(keys[i], NULL), -1);
        fail_with(FAIL_CONNECT, 0);
    }
}

static void test_failed_refresh(void **state)
{
    (void)state;
    struct error err;
    learn("key", 1);
    pass(SECONDS(60));
    assert_int_equal(get("key", NULL), 1);
    fail_with(FAIL_CONFIG, 0);
    assert_int_equal(get("key", NULL), 1);
    assert_int_equal(fetches, 2);
    pass(SECONDS(1));
    assert_int_equal(get("key", NULL), 1);
    assert_int_equal(fetches, 3);
    fail_with(FAIL_TIMEOUT, SECONDS(60));

    /* The value has expired, and the last attempt failed without a verdict on it. The cache gives
     * the spare value without a fetch ... */
    pass(SECONDS(50));
    assert_int_equal(get("key", NULL), 1);
    assert_int_equal(fetches, 3);
    /* ... and after a fetch that fails in the same way ... */
    pass(SECONDS(10));
    struct asker a = {0};
    ask(&a, "key");
    assert_int_equal(fetches, 4);
    pass(0);
    assert_int_equal(a.answers, 0);
    fail_with(FAIL_CONFIG, 0);
    pass(0);
    assert_int_equal(a.number, 1);
    /* ... but not after the peer has refused. */
    pass(SECONDS(8));
    assert_int_equal(get("key", NULL), -1);
    fail_with(FAIL_AUTH, 0);
    assert_int_equal(get("key", &err), 0);
    assert_int_equal(err.fail, FAIL_AUTH);
}

static void test_spare_ends(void **state)
{
    (void)state;
    learn("key", 1);
    pass(SECONDS(299));
    assert_int_equal(get("key", NULL), -1);
    fail_with(FAIL_TIMEOUT, 0);
    assert_int_equal(get("key", NULL), 1);
    pass(SECONDS(1));
    assert_int_equal(get("key", NULL), -1);
    fail_with(FAIL_TIMEOUT, 0);
    assert_int_equal(get("key", NULL), 0);
}

static void test_cancel(void **state)
{
    (void)state;
    struct asker a = {0}, b = {0}, c = {0};
    ask(&a, "key");
    ask(&b, "key");
    cache_cancel(a.wait);
    succeed(1);
    cache_cancel(b.wait); /* its answer was on the way */
    pass(0);
    assert_int_equal(a.answers + b.answers, 0);
    ask(&c, "key");
    cache_cancel(c.wait);
    cache_cancel(NULL);
    pass(0);
    assert_int_equal(c.answers, 0);
    /* The value is stored although nobody waited for it. */
    assert_int_equal(get("key", NULL), 1);
    assert_int_equal(fetches, 1);
}

static void test_bound(void **state)
{
    (void)state;
    struct error err;
    learn("a", 1);
    learn("b", 2);
    learn("c", 3);
    assert_int_equal(get("a", NULL), 1);
    learn("d", 4);
    assert_int_equal(cache_stats(cache).entries, MAX_ENTRIES);
    assert_int_equal(get("a", NULL), 1);
    assert_int_equal(get("c", NULL), 3);
    assert_int_equal(get("d", NULL), 4);
    assert_int_equal(values_alive, 3);

    /* Entries that are being fetched are not evicted. */
    struct asker waiting[MAX_ENTRIES] = {0};
    ask(&waiting[0], "x");
    ask(&waiting[1], "y");
    ask(&waiting[2], "z");
    assert_int_equal(get("more", &err), 0);
    assert_int_equal(err.fail, FAIL_LIMIT);
    succeed(9);
    pass(0);
    assert_int_equal(waiting[2].number, 9);
    assert_int_equal(get("more", NULL), -1);
    assert_int_equal(get("z", &err), 0);
    assert_int_equal(err.fail, FAIL_LIMIT);
}

static void test_peek(void **state)
{
    (void)state;
    assert_null(cache_peek(cache, str_of("key")));
    assert_int_equal(get("key", NULL), -1);
    assert_null(cache_peek(cache, str_of("key")));
    struct value *value = value_new(1);
    cache_fetched(fetching, value, life);
    assert_ptr_equal(cache_peek(cache, str_of("key")), value);
    assert_int_equal(value->refs, 1);

    /* A peek returns a value of any age and starts no fetch. */
    pass(SECONDS(299));
    assert_ptr_equal(cache_peek(cache, str_of("key")), value);
    assert_int_equal(fetches, 1);
    pass(SECONDS(1));
    assert_null(cache_peek(cache, str_of("key")));
}

/* The last failure stays known until a value is fetched or until some time after it has expired.
 * That time is longer for a failure that does not pass by itself. */
static void test_failure(void **state)
{
    (void)state;
    assert_null(cache_failure(cache, str_of("key")));
    assert_int_equal(get("key", NULL), -1);
    assert_null(cache_failure(cache, str_of("key")));
    fail_with(FAIL_CONFIG, 0);
    pass(SECONDS(30));
    assert_int_equal(cache_failure(cache, str_of("key"))->fail, FAIL_CONFIG);
    assert_int_equal(fetches, 1);
    assert_int_equal(get("key", NULL), -1);
    succeed(1);
    assert_null(cache_failure(cache, str_of("key")));

    assert_int_equal(get("other", NULL), -1);
    fail_with(FAIL_REMOTE, 0);
    assert_int_equal(cache_failure(cache, str_of("other"))->fail, FAIL_REMOTE);
    pass(SECONDS(30));
    assert_null(cache_failure(cache, str_of("other")));
}

static void test_drop(void **state)
{
    (void)state;
    struct value *first = value_new(1);
    assert_int_equal(get("key", NULL), -1);
    cache_fetched(fetching, first, life);
    cache_drop(cache, str_of("other"), NULL);
    cache_drop(cache, str_of("key"), &life);
    assert_int_equal(get("key", NULL), 1);
    value_ref(first);
    cache_drop(cache, str_of("key"), first);
    assert_int_equal(first->refs, 1);
    assert_int_equal(get("key", NULL), -1);
    succeed(2);
    /* Dropping the first value has no effect, because the entry has another one by now. */
    cache_drop(cache, str_of("key"), first);
    assert_int_equal(get("key", NULL), 2);
    value_unref(first);

    /* If the value is dropped while its refresh is under way, the asker gets the result of the
     * refresh. */
    pass(SECONDS(60));
    assert_int_equal(get("key", NULL), 2);
    cache_drop(cache, str_of("key"), NULL);
    struct asker a = {0};
    ask(&a, "key");
    pass(0);
    assert_int_equal(a.answers, 0);
    succeed(3);
    pass(0);
    assert_int_equal(a.number, 3);
    assert_int_equal(fetches, 3);

    /* A failure is dropped too, even while the next attempt is under way. */
    pass(SECONDS(60));
    assert_int_equal(get("key", NULL), 3);
    fail_with(FAIL_CONNECT, 0);
    pass(SECONDS(1));
    assert_int_equal(get("key", NULL), 3);
    cache_drop(cache, str_of("key"), NULL);
    fail_with(FAIL_CONNECT, 0);
    pass(SECONDS(1));
    assert_int_equal(get("key", NULL), -1);
    fail_with(FAIL_CONNECT, 0);
    pass(SECONDS(10));
    assert_int_equal(cache_stats(cache).entries, 0);
    assert_int_equal(get("key", NULL), -1);
    fail_with(FAIL_CONNECT, 0);
    assert_int_equal(get("key", NULL), 0);
    cache_drop(cache, str_of("key"), NULL);
    assert_int_equal(get("key", NULL), -1);
}

static void test_handler_may_do_anything(void **state)
{
    (void)state;
    learn("known", 1);
    struct asker a = {.ask_again = "known"};
    ask(&a, "known");
    pass(0);
    pass(0);
    assert_int_equal(a.answers, 2);
    assert_int_equal(a.number, 1);

    struct asker b = {.free_cache = true}, c = {0}, d = {0};
    ask(&b, "known");
    ask(&c, "known");
    ask(&d, "slow");
    pass(0);
    assert_int_equal(b.number, 1);
    assert_int_equal(c.answers + d.answers, 0);
    assert_int_equal(abandoned, 1);
    assert_int_equal(values_alive, 0);
}

static void test_end(void **state)
{
    (void)state;
    struct asker a = {0}, b = {0};
    learn("known", 1);
    ask(&a, "known");
    ask(&b, "slow");
    cache_free(cache);
    cache = NULL;
    pass(SECONDS(1000));
    assert_int_equal(a.answers + b.answers, 0);
    assert_int_equal(abandoned, 1);
    assert_int_equal(values_alive, 0);
    cache_free(NULL);
}

static void test_figures(void **state)
{
    (void)state;
    learn("a", 1);
    assert_int_equal(get("a", NULL), 1);
    assert_int_equal(get("a", NULL), 1);
    assert_int_equal(get("b", NULL), -1);
    fail_with(FAIL_DNS, 0);
    assert_int_equal(get("b", NULL), 0);
    struct cache_stats stats = cache_stats(cache);
    assert_int_equal(stats.entries, 2);
    assert_int_equal(stats.hits, 3);
    assert_int_equal(stats.misses, 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_single_flight),
        TEST(test_keys_are_bytes),
        TEST(test_ages),
        TEST(test_failures),
        TEST(test_chance),
        TEST(test_failed_refresh),
        TEST(test_spare_ends),
        TEST(test_cancel),
        TEST(test_bound),
        TEST(test_peek),
        TEST(test_failure),
        TEST(test_drop),
        TEST(test_handler_may_do_anything),
        TEST(test_end),
        TEST(test_figures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
