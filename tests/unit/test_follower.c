/* Tests cluster/follower and cluster/object_watch against a cluster that the test plays: what is
 * known after lists that are complete, refused or broken off, and what an answer adds to it. */
#include "cluster/follower.h"

#include "cluster/kinds.h"
#include "cluster/object_watch.h"
#include "cluster/store.h"
#include "lib/log.h"
#include "tests/unit/check.h"
#include "tests/unit/world/cluster.h"

static struct follower follower;
static struct store store;
static struct buf heard; /* what the handlers have been told, one word each */
static bool list_counts;

static void note(const char *sign, const char *text)
{
    int rc = buf_fmt(&heard, "%s%s ", sign, text);
    assert_int_equal(rc, OK);
}

static void note_named(const char *sign, struct json_value object)
{
    char *name = json_strdup(json_get(json_get(object, "metadata"), "name"), NULL);
    note(sign, name);
    free(name);
}

/* Lets everything happen, and checks what the handlers have been told since the last call. */
static void expect(const char *text)
{
    while (fake_pick(0)) {
    }
    assert_str(buf_str(&heard), text);
    buf_drop(&heard, buf_len(&heard));
}

static void on_listing(void *arg)
{
    (void)arg;
    note("", "listing");
}

static void on_there(struct json_value object, struct stored *stored, void *arg)
{
    assert_ptr_equal(arg, &follower);
    assert_true((stored != NULL) == (follower.set.store != NULL));
    note_named("+", object);
}

static void on_gone(struct json_value object, void *arg)
{
    assert_ptr_equal(arg, &follower);
    note_named("-", object);
}

static bool counts(void *arg)
{
    (void)arg;
    return list_counts;
}

static void on_listed(bool complete, void *arg)
{
    assert_ptr_equal(arg, &follower);
    note("", complete ? "listed" : "unlisted");
}

static void follow(struct store *into)
{
    struct cluster_selection selection = {.kind = &kind_service};
    struct follower_settings settings = {.name = "Services",
                                         .store = into,
                                         .listing = on_listing,
                                         .there = on_there,
                                         .gone = on_gone,
                                         .counts = counts,
                                         .listed = on_listed,
                                         .arg = &follower};
    follower_start(&follower, fake.faces, &selection, &settings);
}

static int setup(void **state)
{
    (void)state;
    log_set_level(LOG_FATAL);
    fake_start();
    follower = (struct follower){0};
    list_counts = true;
    store_init(&store, sizeof(struct stored), NULL);
    buf_init(&heard, 1000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    follower_stop(&follower);
    follower_stop(&follower);
    store_clear(&store);
    buf_free(&heard);
    fake_stop();
    return 0;
}

static void lists(void **state)
{
    (void)state;
    fake_put("Service", "x", "a", "{}");
    fake_put("Service", "x", "b", "{}");
    follow(&store);
    assert_false(follower.listed || follower.known);
    expect("listing +a +b listed ");
    assert_true(follower.listed && follower.known);
    fake_put("Service", "x", "c", "{}");
    fake_drop("Service", "x", "a");
    expect("+c -a ");
    assert_null(store_find(&store, "a"));

    /* An object that a later list does not name is dropped, which `listed` tells. */
    fake_drop("Service", "x", "b");
    fake_relist("Service");
    expect("listing +c listed ");
    assert_null(store_find(&store, "b"));
    assert_non_null(store_find(&store, "c"));
}

/* A list that is refused or breaks off proves nothing about the objects. */
static void no_lists(void **state)
{
    (void)state;
    fake_put("Service", "x", "a", "{}");
    fake_set_presence("Service", CLUSTER_FORBIDDEN);
    follow(&store);
    expect("listing unlisted ");
    assert_true(follower.listed);
    assert_false(follower.known);
    fake_set_presence("Service", CLUSTER_PRESENT);
    expect("listing +a listed ");
    fake_set_presence("Service", CLUSTER_UNKNOWN);
    expect("listing unlisted ");
    assert_true(follower.known);
    assert_int_equal(follower.presence, CLUSTER_UNKNOWN);
    assert_non_null(store_find(&store, "a"));
    fake_kind("Service")->presence = CLUSTER_PRESENT;
    fake_kind("Service")->cut = fake_kind("Service")->empty = true;
    fake_relist("Service");
    expect("listing ");
    assert_non_null(store_find(&store, "a"));
}

/* The user may reject a complete list; the follower keeps what it knew. */
static void rejected_list(void **state)
{
    (void)state;
    fake_put("Service", "x", "a", "{}");
    list_counts = false;
    follow(&store);
    expect("listing +a ");
    assert_true(follower.listed);
    assert_false(follower.known);
    fake_kind("Service")->empty = true;
    fake_relist("Service");
    expect("listing ");
    assert_non_null(store_find(&store, "a"));
    list_counts = true;
    follower_stop(&follower);
    follow(&store);
    expect("listing listed ");
    assert_null(store_find(&store, "a"));
    assert_int_equal(follower.round, 3);
}

static void no_store(void **state)
{
    (void)state;
    fake_put("Service", "x", "a", "{}");
    follow(NULL);
    expect("listing +a listed ");
    fake_drop("Service", "x", "a");
    expect("-a ");
}

/* An answer counts only if the watch has not reported something newer. */
static void answers(void **state)
{
    (void)state;
    static const struct {
        const char *version;
        bool news;
    } rows[] = {{"\"1\"", false}, {"\"2\"", false}, {"\"3\"", true}, {"\"\"", true}};
    fake_put("Service", "x", "a", "{}");
    fake_put("Service", "x", "b", "{}");
    follow(&store);
    expect("listing +a +b listed ");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[128];
        text_fmt(text, sizeof(text), "{\"metadata\":{\"name\":\"n\",\"resourceVersion\":%s}}",
                 rows[i].version);
        struct json *doc = json_parse(str_of(text), NULL);
        assert_int_equal(follower_is_news(&follower, json_root(doc)), rows[i].news);
        follower_take(&follower, json_root(doc));
        expect(rows[i].news ? "+n " : "");
        json_free(doc);
    }
}

/* ---- one object ---- */

static void on_object(struct json_value object, void *arg)
{
    (void)arg;
    note_named("+", object);
}

static void on_absent(enum object_absence absence, const char *problem, void *arg)
{
    (void)arg;
    note(absence == OBJECT_GONE ? "gone: " : "forbidden: ", problem);
}

static void one_object(void **state)
{
    (void)state;
    static const char gone[] = "gone: Secret with name \"key\" not found in namespace: \"x\". ";
    struct object_watch_handler handler = {.there = on_object, .absent = on_absent};
    fake_put("Secret", "x", "other", "{}");
    struct object_watch *watch = object_watch_new(fake.faces, &kind_secret, "x", "key", handler);
    assert_false(object_watch_listed(watch));
    expect(gone);
    assert_true(object_watch_listed(watch));
    fake_put("Secret", "x", "key", "{}");
    expect("+key ");
    fake_relist("Secret");
    expect("+key ");
    fake_drop("Secret", "x", "key");
    expect(gone);
    fake_put("Secret", "x", "key", "{}");
    fake_set_presence("Secret", CLUSTER_FORBIDDEN);
    expect("forbidden: Secret \"key\" in namespace \"x\" may not be read: a Role in that namespace "
           "has to grant get, list and watch on it (docs/install.md) ");
    object_watch_free(watch);
    object_watch_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lists, setup, teardown),
        cmocka_unit_test_setup_teardown(no_lists, setup, teardown),
        cmocka_unit_test_setup_teardown(rejected_list, setup, teardown),
        cmocka_unit_test_setup_teardown(no_store, setup, teardown),
        cmocka_unit_test_setup_teardown(answers, setup, teardown),
        cmocka_unit_test_setup_teardown(one_object, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
