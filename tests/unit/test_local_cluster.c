/* Tests local/cluster: what the watches report, in which order, and what happens to a status. */
#include "local/cluster.h"

#include <stdio.h>

#include "cluster/cluster.h"
#include "local/object.h"
#include "tests/unit/world/objects.h"
#include "tests/unit/world/streams.h"

static const struct cluster_kind destinations = {"destination.connectivity.api.sap", "v1",
                                                 "destinations", "Destination"};
static const struct cluster_kind secrets = {"", "v1", "secrets", "Secret"};
static const struct cluster_kind services = {"", "v1", "services", "Service"};

static struct loop *loop;
static struct local_cluster *lc;
static struct cluster *cluster;

/* The reports to one watch: "[" a list begins, "+namespace/name destination reason",
 * "-namespace/name", "]" it ends. */
struct follower {
    struct cluster_watch *watch;
    char told[2048];
    /* At the report with this sign it ends the watch of `leaves` inside the callback; 0: never. */
    char leave_at;
    struct follower *leaves;
};

static struct follower follower, other;
static char statuses[1024]; /* the statuses that were reported as written */

/* The outcome of a call. */
struct outcome {
    struct cluster_call *call;
    int done;
    enum cluster_result result;
    char reason[64]; /* the reason in the answer's object; "-": no object */
    struct error err;
};

/* ---- watches ---- */

static void note(struct follower *f, const char *fmt, ...) printf_like(2, 3);
static void note(struct follower *f, const char *fmt, ...)
{
    size_t n = strlen(f->told);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(f->told + n, sizeof(f->told) - n, fmt, ap);
    va_end(ap);
}

static void perhaps_leave(struct follower *f, char sign)
{
    if (f->leave_at == sign) {
        f->leave_at = 0;
        cluster_unwatch(cluster, f->leaves->watch);
        f->leaves->watch = NULL;
    }
}

static void on_listing(void *arg)
{
    note(arg, "[");
    perhaps_leave(arg, '[');
}

static void on_listed(enum cluster_presence presence, void *arg)
{
    assert_int_equal(presence, CLUSTER_PRESENT);
    note(arg, "]");
    perhaps_leave(arg, ']');
}

/* Returns the reason of the last condition; the caller frees it. */
static char *reason_of(struct json_value object)
{
    struct json_value conditions = json_get(json_get(object, "status"), "conditions");
    char *reason = NULL;
    for (struct json_value c = json_first(conditions); json_exists(c); c = json_next(c)) {
        free(reason);
        reason = json_strdup(json_get(c, "reason"), NULL);
    }
    return reason ? reason : strdup("");
}

static void tell(struct follower *f, const char *sign, struct json_value object)
{
    struct json_value metadata = json_get(object, "metadata");
    struct json_value ref = json_get(json_get(object, "spec"), "destinationRef");
    char *namespace = json_strdup(json_get(metadata, "namespace"), NULL);
    char *name = json_strdup(json_get(metadata, "name"), NULL);
    char *destination = json_strdup(json_get(ref, "name"), NULL);
    char *reason = reason_of(object);
    note(f, "%s%s/%s%s%s%s%s ", sign, namespace, name, destination ? "=" : "",
         destination ? destination : "", reason[0] ? ":" : "", reason);
    free(namespace);
    free(name);
    free(destination);
    free(reason);
}

static void on_object(struct json_value object, void *arg)
{
    tell(arg, "+", object);
    perhaps_leave(arg, '+');
}

static void on_gone(struct json_value object, void *arg)
{
    tell(arg, "-", object);
    perhaps_leave(arg, '-');
}

static void follow(struct follower *f, const struct cluster_kind *kind, const char *namespace,
                   const char *name)
{
    struct cluster_selection selection = {.kind = kind, .namespace = namespace, .name = name};
    struct cluster_watch_handler handler = {
        .listing = on_listing, .object = on_object, .gone = on_gone, .listed = on_listed, .arg = f};
    f->watch = cluster_watch(cluster, &selection, handler);
    assert_string_equal(f->told, ""); /* no callback comes from inside */
}

#define expect_told(f, text) check_told(f, text, __FILE__, __LINE__)

static void check_told(struct follower *f, const char *text, const char *file, int line)
{
    loop_turn(loop, false);
    if (strcmp(f->told, text) != 0) {
        print_error("\"%s\" is not \"%s\"\n", f->told, text);
        _fail(file, line);
    }
    f->told[0] = '\0';
}

/* ---- the directory ---- */

static const struct local_object *object_from(const char *text)
{
    struct error err;
    struct object o = object_of(text);
    const struct local_object *object = local_object_new(o.root, &err);
    if (!object) {
        fail_msg("%s", err.text);
    }
    object_free(&o);
    return object;
}

static const struct local_object *cr(const char *namespace, const char *name,
                                     const char *destination)
{
    char text[512];
    text_fmt(text, sizeof(text),
             "{'apiVersion':'x/v1','kind':'Destination','metadata':{'namespace':'%s','name':'%s'},"
             "'spec':{'destinationRef':{'name':'%s'}}}",
             namespace, name, destination);
    return object_from(text);
}

static void put_cr(const char *namespace, const char *name, const char *destination)
{
    const struct local_object *object = cr(namespace, name, destination);
    local_cluster_put(lc, object);
    local_object_unref(object);
}

static void drop_cr(const char *namespace, const char *name)
{
    const struct local_object *object = cr(namespace, name, "whatever");
    local_cluster_drop(lc, object);
    local_object_unref(object);
}

static const struct local_object *secret(const char *namespace, const char *name)
{
    char text[256];
    text_fmt(text, sizeof(text),
             "{'apiVersion':'v1','kind':'Secret','metadata':{'namespace':'%s','name':'%s'}}",
             namespace, name);
    return object_from(text);
}

static void put_secret(const char *namespace, const char *name)
{
    const struct local_object *object = secret(namespace, name);
    local_cluster_put(lc, object);
    local_object_unref(object);
}

static bool is_followed(const char *name)
{
    const struct local_object *object = secret(LOCAL_HOME, name);
    bool followed = local_cluster_is_followed(lc, object);
    local_object_unref(object);
    return followed;
}

/* ---- calls ---- */

static void on_done(const struct cluster_answer *answer, void *arg)
{
    struct outcome *o = arg;
    o->done++;
    o->call = NULL;
    o->result = answer->result;
    o->err = answer->err;
    char *reason = reason_of(answer->object);
    text_fmt(o->reason, sizeof(o->reason), "%s", json_exists(answer->object) ? reason : "-");
    free(reason);
}

static void ask(struct outcome *o, enum cluster_verb verb, const struct cluster_kind *kind,
                const char *namespace, const char *name, const char *body)
{
    struct cluster_request request = {.verb = verb,
                                      .kind = kind,
                                      .namespace = namespace,
                                      .name = name,
                                      .uid = "u",
                                      .body = str_of(body)};
    *o = (struct outcome){0};
    o->call = cluster_call(cluster, &request, (struct cluster_handler){on_done, o});
    assert_int_equal(o->done, 0);
}

static struct outcome answer_to(enum cluster_verb verb, const struct cluster_kind *kind,
                                const char *namespace, const char *name, const char *body)
{
    struct outcome o;
    ask(&o, verb, kind, namespace, name, body);
    loop_turn(loop, false);
    assert_int_equal(o.done, 1);
    return o;
}

static struct outcome write_status(const char *namespace, const char *name, const char *reason)
{
    char body[256];
    text_fmt(body, sizeof(body), "{\"status\":{\"conditions\":[{\"reason\":\"%s\"}]}}", reason);
    return answer_to(CLUSTER_PATCH_STATUS, &destinations, namespace, name, body);
}

static void on_status(const char *kind, const char *name, struct json_value status, void *arg)
{
    size_t n = strlen(statuses);
    struct json_value condition = json_first(json_get(status, "conditions"));
    char *reason = json_strdup(json_get(condition, "reason"), NULL);
    assert_ptr_equal(arg, &lc);
    text_fmt(statuses + n, sizeof(statuses) - n, "%s %s %s\n", kind, name, reason);
    free(reason);
}

/* ---- life ---- */

static int setup(void **state)
{
    (void)state;
    test_sys_init();
    loop = loop_new(NULL);
    lc = local_cluster_new(loop, (struct local_cluster_handler){.status = on_status, .arg = &lc});
    cluster = local_cluster_face(lc);
    follower = other = (struct follower){0};
    statuses[0] = '\0';
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_unwatch(cluster, follower.watch);
    cluster_unwatch(cluster, other.watch);
    local_cluster_free(lc);
    loop_turn(loop, false);
    loop_free(loop);
    sys = &sys_real;
    return 0;
}

/* ---- tests ---- */

static void lists_once_the_directory_is_read(void **state)
{
    (void)state;
    follow(&follower, &destinations, NULL, NULL);
    put_cr("apps", "a", "x");
    local_cluster_put_destination(lc, "b");
    expect_told(&follower, "");
    local_cluster_settled(lc);
    expect_told(&follower, "[+apps/a=x +default/b=b ]");
    local_cluster_settled(lc);
    expect_told(&follower, "");
    follow(&other, &destinations, NULL, NULL);
    expect_told(&other, "[+apps/a=x +default/b=b ]");
    expect_told(&follower, "");
}

/* A change between watch and list is in the list, and is reported once. */
static void changes_before_the_list(void **state)
{
    (void)state;
    local_cluster_settled(lc);
    follow(&follower, &destinations, NULL, NULL);
    put_cr("apps", "a", "x");
    put_cr("apps", "a", "y");
    expect_told(&follower, "[+apps/a=y ]");
}

static void follows(void **state)
{
    (void)state;
    local_cluster_settled(lc);
    follow(&follower, &destinations, NULL, NULL);
    expect_told(&follower, "[]");
    put_cr("apps", "a", "x");
    put_cr("apps", "a", "y");
    local_cluster_put_destination(lc, "b");
    drop_cr("apps", "a");
    drop_cr("apps", "a");
    drop_cr("apps", "nobody");
    local_cluster_drop_destination(lc, "b");
    local_cluster_drop_destination(lc, "b");
    expect_told(&follower, "+apps/a=x +apps/a=y +default/b=b -apps/a=y -default/b=b ");
}

static void selects(void **state)
{
    (void)state;
    local_cluster_settled(lc);
    follow(&follower, &secrets, LOCAL_HOME, "key");
    follow(&other, &secrets, LOCAL_HOME, NULL);
    put_secret(LOCAL_HOME, "key");
    put_secret(LOCAL_HOME, "other");
    put_secret("vault", "key");
    put_cr(LOCAL_HOME, "key", "x");
    expect_told(&follower, "[+" LOCAL_HOME "/key ]");
    expect_told(&other, "[+" LOCAL_HOME "/key +" LOCAL_HOME "/other ]");
    assert_true(is_followed("other"));
    cluster_unwatch(cluster, other.watch);
    assert_true(is_followed("key"));
    assert_false(is_followed("other"));
    follow(&other, &services, NULL, NULL);
    expect_told(&other, "[]");
}

/* A CR in a file replaces the one that was made for the destination with the same name. */
static void cr_replaces_a_destination(void **state)
{
    (void)state;
    local_cluster_settled(lc);
    follow(&follower, &destinations, NULL, NULL);
    local_cluster_put_destination(lc, "a");
    put_cr("default", "a", "x");
    local_cluster_put_destination(lc, "a");
    expect_told(&follower, "[+default/a=x ]");
    follow(&other, &destinations, NULL, NULL);
    expect_told(&other, "[+default/a=x ]");
    drop_cr("default", "a");
    expect_told(&follower, "+default/a=a ");
    put_cr("default", "a", "x");
    expect_told(&follower, "+default/a=x ");
    local_cluster_drop_destination(lc, "a");
    expect_told(&follower, "");
    drop_cr("default", "a");
    expect_told(&follower, "-default/a=x ");
}

/* A CR in another namespace replaces it, too. */
static void cr_of_another_namespace_replaces_it(void **state)
{
    (void)state;
    local_cluster_settled(lc);
    follow(&follower, &destinations, NULL, NULL);
    expect_told(&follower, "[]");
    local_cluster_put_destination(lc, "a");
    put_cr("apps", "a", "x");
    expect_told(&follower, "+default/a=a -default/a=a +apps/a=x ");
    assert_true(local_cluster_hides_destination(lc, "a"));
    assert_false(local_cluster_hides_destination(lc, "x"));
    put_cr("apps", "a", "y");
    put_cr("mail", "a", "z");
    expect_told(&follower, "+apps/a=y +mail/a=z ");
    drop_cr("apps", "a");
    expect_told(&follower, "-apps/a=y ");
    drop_cr("mail", "a");
    expect_told(&follower, "-mail/a=z +default/a=a ");
    assert_false(local_cluster_hides_destination(lc, "a"));
    local_cluster_drop_destination(lc, "a");
    expect_told(&follower, "-default/a=a ");
}

/* A status stays with its object when the file changes, and is gone when the object is deleted. */
static void keeps_statuses(void **state)
{
    (void)state;
    local_cluster_settled(lc);
    put_cr("apps", "a", "x");
    follow(&follower, &destinations, NULL, NULL);
    expect_told(&follower, "[+apps/a=x ]");
    struct outcome o = write_status("apps", "a", "Good");
    assert_int_equal(o.result, CLUSTER_DONE);
    assert_string_equal(o.reason, "Good");
    expect_told(&follower, "+apps/a=x:Good ");
    assert_string_equal(statuses, "Destination a Good\n");

    /* Writing the same status again is not reported. */
    o = write_status("apps", "a", "Good");
    assert_int_equal(o.result, CLUSTER_DONE);
    assert_string_equal(o.reason, "Good");
    expect_told(&follower, "");
    assert_string_equal(statuses, "Destination a Good\n");

    put_cr("apps", "a", "y");
    expect_told(&follower, "+apps/a=y:Good ");
    write_status("apps", "a", "Bad");
    expect_told(&follower, "+apps/a=y:Bad ");
    drop_cr("apps", "a");
    put_cr("apps", "a", "y");
    expect_told(&follower, "-apps/a=y:Bad +apps/a=y ");

    /* An object that was hidden comes back as a new one. */
    local_cluster_put_destination(lc, "b");
    write_status("default", "b", "Good");
    put_cr("default", "b", "x");
    drop_cr("default", "b");
    expect_told(&follower, "+default/b=b +default/b=b:Good +default/b=x +default/b=b ");
}

static void statuses_of_missing_objects(void **state)
{
    (void)state;
    local_cluster_settled(lc);
    local_cluster_put_destination(lc, "a");
    put_cr("apps", "a", "x");
    struct outcome o = write_status("default", "a", "Late"); /* hidden by the CR in a file */
    assert_int_equal(o.result, CLUSTER_ABSENT);
    assert_string_equal(o.err.text, "Destination a: it is not in the directory");
    assert_string_equal(o.reason, "-");
    o = write_status("apps", "b", "Late");
    assert_int_equal(o.result, CLUSTER_ABSENT);
    assert_string_equal(statuses, "");
}

static void other_calls(void **state)
{
    (void)state;
    put_cr("apps", "a", "x");
    struct outcome o = answer_to(CLUSTER_GET, &destinations, "apps", "a", "");
    assert_int_equal(o.result, CLUSTER_DONE);
    assert_string_equal(o.reason, "");
    assert_int_equal(answer_to(CLUSTER_GET, &services, NULL, "a", "").result, CLUSTER_ABSENT);
    /* Writes to kinds that nobody reads succeed without effect. */
    assert_int_equal(answer_to(CLUSTER_CREATE, &services, "apps", "a", "{}").result, CLUSTER_DONE);
    assert_int_equal(answer_to(CLUSTER_APPLY, &services, "apps", "a", "{}").result, CLUSTER_DONE);
    assert_int_equal(answer_to(CLUSTER_DELETE, &services, "apps", "a", "").result, CLUSTER_DONE);
}

static void silence(void **state)
{
    (void)state;
    struct outcome o;
    ask(&o, CLUSTER_PATCH_STATUS, &destinations, "apps", "a", "{\"status\":{}}");
    cluster_cancel(cluster, o.call);
    cluster_cancel(cluster, NULL);
    cluster_unwatch(cluster, NULL);

    local_cluster_settled(lc);
    follow(&follower, &destinations, NULL, NULL);
    cluster_unwatch(cluster, follower.watch);
    follower.watch = NULL;
    put_cr("apps", "a", "x");
    expect_told(&follower, "");
    assert_int_equal(o.done, 0);
}

/* After a handler has ended its own watch it gets no more reports, whichever report it was in. */
static void handler_ends_its_watch(void **state)
{
    static const struct {
        char at;
        const char *told;
    } rows[] = {{'[', "["},
                {'+', "[+apps/a=x "},
                {']', "[+apps/a=x +apps/b=x ]"},
                {'-', "[+apps/a=x +apps/b=x ]-apps/a=x "}};
    (void)state;
    local_cluster_settled(lc);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        follower = (struct follower){.leave_at = rows[i].at, .leaves = &follower};
        put_cr("apps", "a", "x");
        put_cr("apps", "b", "x");
        follow(&follower, &destinations, NULL, NULL);
        loop_turn(loop, false);
        drop_cr("apps", "a");
        drop_cr("apps", "b");
        expect_told(&follower, rows[i].told);
    }
}

/* A handler may also end another watch, which would get the report next. */
static void handler_ends_another_watch(void **state)
{
    (void)state;
    local_cluster_settled(lc);
    follow(&follower, &destinations, NULL, NULL);
    follow(&other, &destinations, NULL, NULL);
    expect_told(&follower, "[]");
    expect_told(&other, "[]");
    follower.leave_at = '+';
    follower.leaves = &other;
    put_cr("apps", "a", "x");
    expect_told(&follower, "+apps/a=x ");
    expect_told(&other, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(lists_once_the_directory_is_read),
        TEST(changes_before_the_list),
        TEST(follows),
        TEST(selects),
        TEST(cr_replaces_a_destination),
        TEST(cr_of_another_namespace_replaces_it),
        TEST(keeps_statuses),
        TEST(statuses_of_missing_objects),
        TEST(other_calls),
        TEST(silence),
        TEST(handler_ends_its_watch),
        TEST(handler_ends_another_watch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
