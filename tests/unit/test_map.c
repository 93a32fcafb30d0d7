/* Tests lib/map against a plain array. */
#include "lib/map.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/check.h"

enum { OBJECTS = 2000, KEYS = 300 };

struct object {
    struct map_entry entry;
    char key[16];
    bool in;
};

static struct object objects[OBJECTS];

static size_t count_of(const struct map *map, const char *key)
{
    size_t n = 0;
    for (struct map_entry *e = map_find(map, key); e; e = map_find_next(e)) {
        assert_string_equal(e->key, key);
        assert_true(container_of(e, struct object, entry)->in);
        n++;
    }
    return n;
}

static void test_empty(void **state)
{
    (void)state;
    struct map map;
    map_init(&map);
    assert_null(map_find(&map, "a"));
    assert_null(map_find(&map, ""));
    map_free(&map);
    assert_null(map_find(&map, "a"));
}

static void test_against_array(void **state)
{
    (void)state;
    size_t expected[KEYS] = {0};
    struct map map;
    unsigned random = 1;
    map_init(&map);
    for (int round = 0; round < 20000; round++) {
        random = random * 1103515245 + 12345;
        size_t i = random / 65536 % OBJECTS, k = i % KEYS;
        struct object *o = &objects[i];
        snprintf(o->key, sizeof(o->key), "key-%zu", k);
        if (o->in) {
            map_remove(&map, &o->entry);
            expected[k]--;
        } else {
            map_add(&map, &o->entry, o->key);
            expected[k]++;
        }
        o->in = !o->in;
        assert_int_equal(count_of(&map, o->key), expected[k]);
    }
    size_t sum = 0;
    for (size_t k = 0; k < KEYS; k++) {
        char key[16];
        snprintf(key, sizeof(key), "key-%zu", k);
        assert_int_equal(count_of(&map, key), expected[k]);
        sum += expected[k];
    }
    assert_int_equal(map.n, sum);
    map_free(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_against_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
