/* Tests lib/turns. */
#include "lib/turns.h"

#include "tests/unit/check.h"

enum { GROUPS = 3, MEMBERS = 26 };

static struct turns turns;
static struct turns_group groups[GROUPS];
static struct member {
    char name;
    struct list link;
} members[MEMBERS];

static int set_up(void **state)
{
    (void)state;
    turns_init(&turns);
    for (size_t i = 0; i < GROUPS; i++) {
        turns_group_init(&groups[i]);
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        members[i].name = (char)('a' + i);
        list_init(&members[i].link);
    }
    return 0;
}

/* Adds the members with these names to the group. */
static void add(size_t group, const char *names)
{
    for (; *names; names++) {
        turns_add(&turns, &groups[group], &members[*names - 'a'].link);
    }
}

/* Returns the names of the next n members, or of all that there are. */
static const char *next(size_t n, bool (*may)(const struct turns_group *group))
{
    static char names[MEMBERS + 1];
    size_t taken = 0;
    for (struct list *it; taken < n && (it = turns_next(&turns, may));) {
        assert_true(list_empty(it));
        names[taken++] = container_of(it, struct member, link)->name;
    }
    names[taken] = '\0';
    return names;
}

static void groups_take_turns(void **state)
{
    (void)state;
    add(0, "abcd");
    add(1, "mn");
    add(2, "x");
    assert_string_equal(next(MEMBERS, NULL), "amxbncd");
    assert_null(turns_next(&turns, NULL));
}

/* A member of a group that had none does not wait for the others, once a round. */
static void single_member_comes_first(void **state)
{
    (void)state;
    add(0, "abcd");
    add(1, "mnop");
    assert_string_equal(next(2, NULL), "am");
    add(2, "x");
    assert_string_equal(next(1, NULL), "x");
    add(2, "y"); /* it has had its turn in this round */
    assert_string_equal(next(4, NULL), "bnyc");
    assert_string_equal(next(2, NULL), "od");
    add(2, "z"); /* it had no members when its turn came */
    assert_string_equal(next(MEMBERS, NULL), "zp");
}

/* Two groups that get a member each time they have none do not keep a third one waiting. */
static void nobody_waits_for_ever(void **state)
{
    (void)state;
    add(0, "ab");
    assert_string_equal(next(1, NULL), "a");
    for (int round = 0; round < 3 && !list_empty(&members[1].link); round++) {
        add(1, "m");
        add(2, "x");
        next(2, NULL);
    }
    assert_true(list_empty(&members[1].link));
}

static bool not_the_first(const struct turns_group *group)
{
    return group != &groups[0];
}

static void group_keeps_its_turn(void **state)
{
    (void)state;
    add(0, "ab");
    add(1, "mno");
    assert_string_equal(next(2, not_the_first), "mn");
    assert_string_equal(next(MEMBERS, NULL), "aob");
}

static void member_goes(void **state)
{
    (void)state;
    add(0, "abc");
    add(1, "m");
    list_remove(&members['a' - 'a'].link);
    list_remove(&members['m' - 'a'].link);
    assert_string_equal(next(MEMBERS, NULL), "bc");
    add(1, "m");
    assert_string_equal(next(MEMBERS, NULL), "m");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(groups_take_turns, set_up),
        cmocka_unit_test_setup(single_member_comes_first, set_up),
        cmocka_unit_test_setup(nobody_waits_for_ever, set_up),
        cmocka_unit_test_setup(group_keeps_its_turn, set_up),
        cmocka_unit_test_setup(member_goes, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
