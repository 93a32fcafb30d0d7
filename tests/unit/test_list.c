/* Tests lib/list. */
#include "lib/list.h"

#include "tests/unit/check.h"

struct item {
    char name;
    struct list link;
};

/* Returns the names on the list in order, and checks that the backward links agree. */
static const char *names(struct list *head)
{
    static char text[16];
    size_t n = 0;
    LIST_EACH (it, head) {
        assert_ptr_equal(it->next->prev, it);
        assert_ptr_equal(it->prev->next, it);
        text[n++] = container_of(it, struct item, link)->name;
    }
    text[n] = '\0';
    return text;
}

static void test_order(void **state)
{
    (void)state;
    struct list head;
    struct item items[] = {{.name = 'a'}, {.name = 'b'}, {.name = 'c'}};
    list_init(&head);
    assert_true(list_empty(&head));
    assert_string_equal(names(&head), "");
    for (size_t i = 0; i < ARRAY_LEN(items); i++) {
        list_init(&items[i].link);
        list_append(&head, &items[i].link);
    }
    assert_false(list_empty(&head));
    assert_string_equal(names(&head), "abc");
    list_remove(&items[1].link);
    assert_true(list_empty(&items[1].link));
    list_remove(&items[1].link); /* has no effect, because it is on no list */
    assert_string_equal(names(&head), "ac");
    list_append(&head, &items[1].link);
    assert_string_equal(names(&head), "acb");
}

static void test_remove_in_loop(void **state)
{
    (void)state;
    struct list head, other;
    struct item items[] = {{.name = 'a'}, {.name = 'b'}, {.name = 'c'}, {.name = 'd'}};
    list_init(&head);
    list_init(&other);
    for (size_t i = 0; i < ARRAY_LEN(items); i++) {
        list_append(&head, &items[i].link);
    }
    LIST_EACH (it, &head) {
        if (container_of(it, struct item, link)->name % 2) {
            list_remove(it);
            list_append(&other, it);
        }
    }
    assert_string_equal(names(&head), "bd");
    assert_string_equal(names(&other), "ac");
    LIST_EACH (it, &head) {
        list_remove(it);
    }
    assert_true(list_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_remove_in_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
