/* The cluster of local mode: what watches are told, and that they are told nothing any more. */
#include "cluster.h"
#include "lib/loop.h"
#include "lib/text.h"
#include "local_cluster.h"
#include "local_object.h"
#include "tests/unit/check.h"

enum { WATCHES = 3 };

static const struct cluster_kind kind_destination = {"g", "v1", "destinations", "Destination"};
static const struct cluster_kind kind_secret = {"", "v1", "secrets", "Secret"};

/* One watch, and what it was told: "(" listing, "+name" object, "-name" gone, ")" listed. */
struct watcher {
    struct cluster_watch *watch;
    char told[200];
    char leave_at; /* which of these ends `leaves`, from inside the handler; 0: none */
    struct watcher *leaves;
};

static struct loop *loop;
static struct local_cluster *lc;
static struct watcher watchers[WATCHES];

static void note(struct watcher *w, char what, struct json_value object)
{
    char *name = json_strdup(json_get(json_get(object, "metadata"), "name"), NULL);
    size_t n = strlen(w->told);
    text_fmt(w->told + n, sizeof(w->told) - n, "%c%s", what, name ? name : "");
    free(name);
    if (w->leave_at == what) {
        w->leave_at = 0;
        cluster_unwatch(local_cluster_face(lc), w->leaves->watch);
        w->leaves->watch = NULL;
    }
}

static void on_listing(void *arg)
{
    note(arg, '(', (struct json_value){0});
}

static void on_object(struct json_value object, void *arg)
{
    note(arg, '+', object);
}

static void on_gone(struct json_value object, void *arg)
{
    note(arg, '-', object);
}

static void on_listed(enum cluster_presence presence, void *arg)
{
    assert_int_equal(presence, CLUSTER_PRESENT);
    note(arg, ')', (struct json_value){0});
}

static void follow(struct watcher *w, const struct cluster_kind *kind)
{
    struct cluster_watch_handler handler = {on_listing, on_object, on_gone, on_listed, w};
    w->watch =
        cluster_watch(local_cluster_face(lc), &(struct cluster_selection){.kind = kind}, handler);
    assert_string_equal(w->told, "");
}

static void on_status(const char *kind, const char *name, struct json_value status, void *arg)
{
    (void)kind, (void)name, (void)status, (void)arg;
}

static int setup(void **state)
{
    struct error err;
    (void)state;
    loop = loop_new(&err);
    lc = local_cluster_new(loop, (struct local_cluster_handler){.status = on_status});
    memset(watchers, 0, sizeof(watchers));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < WATCHES; i++) {
        cluster_unwatch(local_cluster_face(lc), watchers[i].watch);
    }
    local_cluster_free(lc);
    loop_turn(loop, false);
    loop_free(loop);
    return 0;
}

static void expect(const struct watcher *w, const char *told)
{
    assert_string_equal(w->told, told);
}

static void put_cr(const char *name)
{
    const struct local_object *cr = local_object_of_destination(name);
    local_cluster_put(lc, cr);
    local_object_unref(cr);
}

static void drop_cr(const char *name)
{
    const struct local_object *cr = local_object_of_destination(name);
    local_cluster_drop(lc, cr);
    local_object_unref(cr);
}

/* Lists wait for the directory; afterwards changes are told. */
static void list_and_changes(void **state)
{
    struct watcher *crs = &watchers[0], *secrets = &watchers[1], *late = &watchers[2];
    (void)state;
    follow(crs, &kind_destination);
    follow(secrets, &kind_secret);
    local_cluster_put_destination(lc, "a");
    loop_turn(loop, false);
    expect(crs, "");
    local_cluster_settled(lc);
    loop_turn(loop, false);
    expect(crs, "(+a)");
    expect(secrets, "()");
    local_cluster_put_destination(lc, "b");
    local_cluster_drop_destination(lc, "a");
    expect(crs, "(+a)+b-a");
    follow(late, &kind_destination);
    loop_turn(loop, false);
    expect(late, "(+b)");
    expect(secrets, "()");
}

/* A CR that somebody wrote hides the one that was made for a destination. */
static void written_before_made(void **state)
{
    struct watcher *w = &watchers[0];
    (void)state;
    follow(w, &kind_destination);
    local_cluster_settled(lc);
    loop_turn(loop, false);
    put_cr("a");
    local_cluster_put_destination(lc, "a");
    expect(w, "()+a");
    drop_cr("a");
    expect(w, "()+a+a");
    put_cr("a");
    local_cluster_drop_destination(lc, "a");
    expect(w, "()+a+a+a");
    drop_cr("a");
    expect(w, "()+a+a+a-a");
}

/* A handler that ends its watch is told nothing more, whatever it was told. */
static void leave_from_inside(void **state)
{
    static const struct {
        char at;
        const char *told;
    } rows[] = {{'(', "("}, {'+', "(+a"}, {')', "(+a+b)"}, {'-', "(+a+b)-a"}};
    (void)state;
    local_cluster_settled(lc);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct watcher *w = &watchers[0];
        *w = (struct watcher){.leave_at = rows[i].at, .leaves = w};
        put_cr("a");
        put_cr("b");
        follow(w, &kind_destination);
        loop_turn(loop, false);
        drop_cr("a");
        drop_cr("b");
        expect(w, rows[i].told);
    }
}

/* So may one that ends another's: the one that would be told next, too. */
static void end_another(void **state)
{
    (void)state;
    local_cluster_settled(lc);
    for (size_t i = 0; i < WATCHES; i++) {
        follow(&watchers[i], &kind_destination);
    }
    loop_turn(loop, false);
    watchers[0].leave_at = '+';
    watchers[0].leaves = &watchers[1];
    put_cr("a");
    expect(&watchers[0], "()+a");
    expect(&watchers[1], "()");
    expect(&watchers[2], "()+a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(list_and_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(written_before_made, setup, teardown),
        cmocka_unit_test_setup_teardown(leave_from_inside, setup, teardown),
        cmocka_unit_test_setup_teardown(end_another, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
