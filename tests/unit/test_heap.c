/* Tests lib/heap against a plain array, and counts its comparisons. */
#include "lib/heap.h"

#include "tests/unit/check.h"

enum { OBJECTS = 1000, STEPS = 20000 };

struct object {
    struct heap_node node;
    unsigned rank;
    bool in;
};

static struct object objects[OBJECTS];
static size_t comparisons;

static bool comes_before(const struct heap_node *a, const struct heap_node *b)
{
    comparisons++;
    return container_of(a, const struct object, node)->rank <
           container_of(b, const struct object, node)->rank;
}

static void begin(struct heap *heap)
{
    heap_init(heap, comes_before);
    comparisons = 0;
    for (size_t i = 0; i < OBJECTS; i++) {
        objects[i] = (struct object){.rank = (unsigned)(i * 7919 % OBJECTS)};
    }
}

/* Returns the least rank in the heap; OBJECTS if it is empty. */
static unsigned least(void)
{
    unsigned rank = OBJECTS;
    for (size_t i = 0; i < OBJECTS; i++) {
        rank = objects[i].in && objects[i].rank < rank ? objects[i].rank : rank;
    }
    return rank;
}

static void expect_least(const struct heap *heap)
{
    struct heap_node *first = heap_first(heap);
    unsigned rank = first ? container_of(first, struct object, node)->rank : OBJECTS;
    assert_int_equal(rank, least());
}

static void empty(void **state)
{
    (void)state;
    struct heap heap;
    begin(&heap);
    assert_null(heap_first(&heap));
    heap_add(&heap, &objects[0].node);
    assert_ptr_equal(heap_first(&heap), &objects[0].node);
    heap_remove(&heap, &objects[0].node);
    assert_null(heap_first(&heap));
}

static void any_node_leaves(void **state)
{
    (void)state;
    struct heap heap;
    begin(&heap);
    unsigned long chance = 1;
    for (int step = 0; step < STEPS; step++) {
        chance = chance * 6364136223846793005u + 1442695040888963407u;
        struct object *o = &objects[(chance >> 33) % OBJECTS];
        if (o->in) {
            heap_remove(&heap, &o->node);
        } else {
            heap_add(&heap, &o->node);
        }
        o->in = !o->in;
        if (step % 10 == 0) {
            expect_least(&heap);
        }
    }
}

/* All objects are added and then removed in order, in about n log n comparisons. */
static void comparisons_are_few(void **state)
{
    (void)state;
    struct heap heap;
    begin(&heap);
    for (size_t i = 0; i < OBJECTS; i++) {
        heap_add(&heap, &objects[i].node);
    }
    for (unsigned rank = 0; rank < OBJECTS; rank++) {
        struct heap_node *first = heap_first(&heap);
        assert_int_equal(container_of(first, struct object, node)->rank, rank);
        heap_remove(&heap, first);
    }
    assert_null(heap_first(&heap));
    assert_in_range(comparisons, OBJECTS, 3 * 10 * OBJECTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty),
        cmocka_unit_test(any_node_leaves),
        cmocka_unit_test(comparisons_are_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
