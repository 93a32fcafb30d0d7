/* Tests cluster/lease over a cluster and a clock that the test plays: how a term begins, goes on
 * and ends, and what happens to a Lease that others change. */
#include "cluster/lease.h"

#include "cluster/lease_record.h"
#include "tests/unit/world/replicas.h"

#define TEST(f) cmocka_unit_test_setup_teardown(f, replicas_setup, replicas_teardown)
#define LEASE "Lease", HOME, LEASE_NAME
#define NO_RENEWAL "no renewal of the Lease has succeeded within 10 s"

/* The Lease as another replica would write it. */
#define SPEC(holder, duration, transitions)                                                        \
    "{'spec':{'holderIdentity':'" holder "','leaseDurationSeconds':" duration                      \
    ",'acquireTime':'2026-01-01T00:00:00.000000Z','renewTime':'2026-01-01T00:00:00.000000Z',"      \
    "'leaseTransitions':" transitions "}}"

static struct replica *const first = &replicas[0], *const second = &replicas[1];

/* ---- progress ---- */

/* Goes on until nothing more happens while time stands still. */
static void settle(void)
{
    for (int quiet = 0; quiet < 3; quiet++) {
        replicas_turn();
        while (fake_pick(0)) {
            quiet = 0;
        }
    }
}

/* Moves the clock in small steps. */
static void pass(int64_t time)
{
    for (int64_t step = MILLIS(250); time > 0; time -= step) {
        test_now += time < step ? time : step;
        settle();
    }
}

static const char *said(const char *path)
{
    static char text[256];
    struct item *i = fake_find(LEASE);
    char *got = fake_get(i ? i->text : "{}", path);
    text_fmt(text, sizeof(text), "%s", got);
    free(got);
    return text;
}

static bool is_held_by(int i)
{
    char begin[16];
    size_t n = text_fmt(begin, sizeof(begin), "pod-%d_", i);
    const char *holder = said("spec.holderIdentity");
    return strncmp(holder, begin, n) == 0 &&
           strcmp(lease_view(replicas[i].lease).holder, holder) == 0;
}

#define expect_leader(i)                                                                           \
    do {                                                                                           \
        assert_true(is_held_by(i));                                                                \
        assert_true(lease_held(replicas[i].lease) && replicas[i].leads);                           \
    } while (0)

#define expect_follower(i) assert_false(lease_held(replicas[i].lease) || replicas[i].leads)

static unsigned writes(void)
{
    return fake.calls_made[CLUSTER_CREATE] + fake.calls_made[CLUSTER_APPLY];
}

/* ---- what happens to calls ---- */

static bool holds_writes(const struct cluster_call *call)
{
    return call->verb != CLUSTER_GET;
}

static bool holds_all(const struct cluster_call *call)
{
    (void)call;
    return true;
}

static bool holds_answers(const struct cluster_call *call)
{
    return call->carried_out;
}

static enum cluster_result fails(const struct cluster_call *call)
{
    (void)call;
    return CLUSTER_LATER;
}

static enum cluster_result refuses_writes(const struct cluster_call *call)
{
    return call->verb == CLUSTER_GET ? CLUSTER_DONE : CLUSTER_REFUSED;
}

static bool loses_writes(const struct cluster_call *call)
{
    return call->verb != CLUSTER_GET;
}

/* ---- a term ---- */

/* RFC 3339 with exactly six digits of the second, or the API server refuses it. */
static void expect_micro_time(const char *path)
{
    const char *text = said(path), *form = "0000-00-00T00:00:00.000000Z";
    assert_int_equal(strlen(text), strlen(form));
    for (size_t i = 0; form[i]; i++) {
        assert_true(form[i] == '0' ? text_is_digit(text[i]) : text[i] == form[i]);
    }
}

static void first_start(void **state)
{
    (void)state;
    replica_start(0);
    expect_follower(0);
    assert_string_equal(lease_view(first->lease).holder, "");
    settle();
    expect_leader(0);
    assert_str(buf_str(&fake.journal), "create Lease home/tproxy\n");
    assert_string_equal(said("spec.leaseDurationSeconds"), "15");
    assert_string_equal(said("spec.leaseTransitions"), "0");
    expect_micro_time("spec.acquireTime");
    expect_micro_time("spec.renewTime");
    assert_int_equal(first->acquired, 1);
    assert_null(lease_view(first->lease).problem);
}

/* The identity differs in each process, even in the same pod. */
static void identities(void **state)
{
    char former[256];
    (void)state;
    replica_start(0);
    settle();
    text_fmt(former, sizeof(former), "%s", said("spec.holderIdentity"));
    replica_kill(0);
    replica_start(0);
    settle();
    expect_follower(0);
    pass(DURATION);
    expect_leader(0);
    assert_string_not_equal(said("spec.holderIdentity"), former);
}

/* Nothing but the time of the renewal changes, and everything that is not ours stays. */
static void renewals(void **state)
{
    char acquired[64], renewed[64];
    (void)state;
    fake_put(LEASE, "{'metadata':{'labels':{'a':'b'}},'spec':{'holderIdentity':'',"
                    "'leaseDurationSeconds':1,'leaseTransitions':6,'preferredHolder':'somebody'}}");
    replica_start(0);
    settle();
    expect_leader(0);
    text_fmt(acquired, sizeof(acquired), "%s", said("spec.acquireTime"));
    for (unsigned n = writes(); n < 60; n++) {
        text_fmt(renewed, sizeof(renewed), "%s", said("spec.renewTime"));
        pass(RETRY);
        expect_leader(0);
        assert_int_equal(writes(), n + 1);
        assert_string_not_equal(said("spec.renewTime"), renewed);
        assert_string_equal(said("spec.acquireTime"), acquired);
        assert_string_equal(said("spec.leaseTransitions"), "7");
    }
    assert_string_equal(said("metadata.labels.a"), "b");
    assert_string_equal(said("spec.preferredHolder"), "somebody");
    assert_int_equal(fake.calls_made[CLUSTER_GET], 0);
    assert_int_equal(first->lost, 0);
}

/* ---- a Lease that somebody holds ---- */

/* The Lease is taken when it has not changed for so long. */
static void expect_taken_after(int64_t time)
{
    pass(time - MILLIS(250));
    expect_follower(0);
    test_now += MILLIS(250) - 1;
    settle();
    expect_follower(0);
    assert_int_equal(writes(), 0);
    test_now += 1;
    settle();
    expect_leader(0);
}

/* The clock of the holder does not count, nor a change of something else than the spec. */
static void expired(void **state)
{
    (void)state;
    fake_put(LEASE, SPEC("x", "15", "3"));
    replica_start(0);
    settle();
    assert_string_equal(lease_view(first->lease).holder, "x");
    for (int i = 0; i < 20; i++) {
        char renewal[64];
        text_fmt(renewal, sizeof(renewal), "{'spec':{'renewTime':'2000-01-01T00:00:00.%06dZ'}}", i);
        pass(DURATION - SECONDS(1));
        fake_put(LEASE, renewal);
        settle();
        expect_follower(0);
    }
    pass(SECONDS(5));
    fake_put(LEASE, "{'metadata':{'labels':{'a':'b'}}}");
    settle();
    expect_taken_after(DURATION - SECONDS(5));
    assert_string_equal(said("spec.leaseTransitions"), "4");
}

/* The duration of the Lease counts if it is longer than our own, up to a bound. */
static void durations(void **state)
{
    static const struct {
        const char *spec;
        int64_t time;
    } cases[] = {
        {SPEC("x", "40", "0"), SECONDS(40)},
        {SPEC("x", "5", "0"), DURATION},
        {SPEC("x", "600", "0"), SECONDS(600)},
        {SPEC("x", "2147483647", "0"), LEASE_DURATION_MAX},
        {SPEC("x", "-1", "0"), DURATION},
        {SPEC("x", "'15'", "0"), DURATION},
        {SPEC("x", "null", "null"), DURATION},
        {"{'spec':{'holderIdentity':'x'}}", DURATION},
        /* Somebody has emptied these, and the holder may not know it yet. */
        {SPEC("", "15", "0"), DURATION},
        {SPEC("", "40", "0"), SECONDS(40)},
        {SPEC("", "null", "0"), DURATION},
        {"{'spec':{'holderIdentity':null}}", DURATION},
        {"{'spec':null}", DURATION},
        {"{}", DURATION},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        replicas_teardown(NULL);
        replicas_setup(NULL);
        fake_put(LEASE, cases[i].spec);
        replica_start(0);
        settle();
        expect_taken_after(cases[i].time);
        assert_string_equal(said("spec.leaseTransitions"), "1");
    }
}

static void released(void **state)
{
    (void)state;
    fake_put(LEASE, SPEC("", "1", "3"));
    replica_start(0);
    settle();
    expect_leader(0);
    assert_string_equal(said("spec.leaseTransitions"), "4");
}

/* leaseTransitions is an int32. */
static void many_transitions(void **state)
{
    (void)state;
    fake_put(LEASE, SPEC("", "1", "2147483647"));
    replica_start(0);
    settle();
    expect_leader(0);
    assert_string_equal(said("spec.leaseTransitions"), "2147483647");
}

/* The deletion of a Lease does not shorten the term of its holder, nor does another object in its
 * place: the holder may have renewed it a moment before. */
static void held_and_deleted(void **state)
{
    (void)state;
    for (int replaced = 0; replaced < 2; replaced++) {
        replicas_teardown(NULL);
        replicas_setup(NULL);
        fake_put(LEASE, SPEC("x", "20", "3"));
        replica_start(0);
        settle();
        pass(SECONDS(18));
        fake_drop(LEASE);
        settle();
        if (replaced) {
            fake_put(LEASE, SPEC("", "1", "0"));
            settle();
        }
        expect_taken_after(replaced ? DURATION : SECONDS(20));
        assert_string_equal(said("spec.leaseTransitions"), replaced ? "1" : "4");
    }
}

/* ---- two who want it ---- */

static void one_of_two(void **state)
{
    (void)state;
    fake.holds = holds_writes;
    replica_start(0);
    replica_start(1);
    settle();
    assert_int_equal(writes(), 2);
    fake.holds = NULL;
    settle();
    assert_int_equal(first->leads + second->leads, 1);
    pass(SECONDS(120));
    assert_int_equal(first->acquired + second->acquired, 1);
    assert_int_equal(first->lost + second->lost, 0);
}

/* The one that comes too late with its patch waits again. */
static void conflict(void **state)
{
    (void)state;
    fake_put(LEASE, SPEC("x", "15", "0"));
    replica_start(0);
    settle();
    pass(DURATION - SECONDS(1));
    fake_kind("Lease")->mute = true; /* the renewal is not seen */
    fake_put(LEASE, SPEC("y", "15", "1"));
    pass(SECONDS(1));
    assert_int_equal(writes(), 1);
    expect_follower(0);
    assert_string_equal(lease_view(first->lease).holder, "y");
    pass(DURATION - SECONDS(1));
    assert_int_equal(writes(), 1);
    pass(SECONDS(1));
    expect_leader(0);
}

/* A silent watch does not lead to two leaders, though the follower sees no renewal. */
static void silent_watch(void **state)
{
    (void)state;
    replica_start(0);
    settle();
    replica_start(1);
    settle();
    fake_kind("Lease")->mute = true;
    pass(SECONDS(300));
    expect_leader(0);
    expect_follower(1);
    assert_int_equal(first->lost, 0);
    assert_true(fake.calls_made[CLUSTER_GET] <= 300 / 15);
    replica_kill(0);
    pass(2 * DURATION + SECONDS(1));
    expect_leader(1);
}

static void killed(void **state)
{
    (void)state;
    replica_start(0);
    settle();
    replica_start(1);
    pass(SECONDS(60));
    expect_leader(0);
    replica_kill(0);
    pass(DURATION - RETRY - MILLIS(250));
    expect_follower(1);
    pass(RETRY + MILLIS(250));
    expect_leader(1);
    assert_string_equal(said("spec.leaseTransitions"), "1");
}

/* ---- a term that is lost ---- */

/* Others change the Lease. The gate closes with the report, before anything has been read. */
static void taken_by_another(void **state)
{
    (void)state;
    replica_start(0);
    settle();
    fake.holds = holds_all;
    fake_put(LEASE, SPEC("x", "15", "9"));
    while (fake_pick(0)) {
    }
    assert_false(lease_held(first->lease));
    assert_true(first->leads);
    fake.holds = NULL;
    settle();
    expect_follower(0);
    assert_string_equal(first->why, "x has taken the Lease");
    assert_string_equal(lease_view(first->lease).holder, "x");
    pass(DURATION);
    expect_leader(0);
    assert_int_equal(first->acquired, 2);
    assert_string_equal(said("spec.leaseTransitions"), "10");
}

/* Without a watch the next renewal meets the other version. */
static void taken_without_a_report(void **state)
{
    (void)state;
    replica_start(0);
    settle();
    fake_kind("Lease")->mute = true;
    fake_put(LEASE, SPEC("x", "15", "9"));
    pass(RETRY);
    expect_follower(0);
    assert_string_equal(first->why, "x has taken the Lease");
}

/* A name of a stranger does not harm the log. */
static void hostile_holder(void **state)
{
    struct object o = object_of("{'spec':{'holderIdentity':'a\\u0000\\n\\u001b[31m'}}");
    (void)state;
    replica_start(0);
    settle();
    fake_store(fake_find(LEASE), fake_merged(fake_find(LEASE)->text, o.text));
    object_free(&o);
    settle();
    pass(SECONDS(1));
    expect_leader(0); /* a NUL is not a name: it counts as garbage */

    o = object_of("{'spec':{'holderIdentity':'a\\n\\u001b[31m'}}");
    fake_store(fake_find(LEASE), fake_merged(fake_find(LEASE)->text, o.text));
    object_free(&o);
    settle();
    expect_follower(0);
    assert_string_equal(first->why, "a??[31m has taken the Lease");
}

/* The term ends a deadline after the last renewal that succeeded was sent. lease_held() knows it
 * without a turn of the loop. */
static void api_server_away(void **state)
{
    (void)state;
    for (int way = 0; way < 3; way++) {
        replicas_teardown(NULL);
        replicas_setup(NULL);
        replica_start(0);
        settle();
        pass(RETRY);
        fake.fate = way == 0 ? fails : NULL;
        fake.holds = way == 1 ? holds_all : way == 2 ? holds_answers : NULL;
        fake.late_cancels = way == 2;
        pass(DEADLINE - MILLIS(250));
        test_now += MILLIS(250) - 1;
        assert_true(lease_held(first->lease));
        test_now += 1;
        assert_false(lease_held(first->lease));
        assert_true(first->leads);
        settle();
        expect_follower(0);
        assert_string_equal(first->why, NO_RENEWAL);
        pass(SECONDS(60));
        expect_follower(0);
        fake.fate = NULL;
        fake.holds = NULL;
        pass(DEADLINE / 2 + 2 * RETRY); /* a call that hangs, and a pause */
        expect_leader(0);
        assert_int_equal(first->acquired, 2);
        assert_string_equal(said("spec.leaseTransitions"), "0"); /* nobody else has led */
    }
}

/* A renewal that is answered after the deadline begins another term. */
static void late_answer(void **state)
{
    (void)state;
    replica_start(0);
    settle();
    pass(SECONDS(6)); /* a renewal */
    fake.holds = holds_answers;
    pass(RETRY); /* another one is carried out */
    test_now += DEADLINE - RETRY;
    assert_false(lease_held(first->lease));
    fake.holds = NULL;
    while (fake_pick(0)) {
    }
    assert_int_equal(first->lost, 1);
    settle();
    expect_leader(0);
    assert_int_equal(first->acquired, 2);

    fake_kind("Lease")->mute = true;
    fake.holds = holds_writes;
    pass(RETRY); /* a renewal is sent, but not carried out */
    test_now += SECONDS(60);
    fake.holds = NULL;
    assert_true(fake_pick(0) && fake_pick(0)); /* it is carried out, and answered */
    assert_int_equal(first->lost, 2);
    assert_false(lease_held(first->lease)); /* it was sent too long ago */
    settle();
    expect_leader(0);
}

/* A request that is not answered is given up and made again; if it is carried out after all, it
 * does no harm. */
static void hanging_renewal(void **state)
{
    (void)state;
    replica_start(0);
    settle();
    fake.late_cancels = true;
    fake.holds = holds_writes;
    pass(RETRY);
    unsigned before = writes();
    pass(DEADLINE / 2 + RETRY / 2); /* given up; the Lease is read, the next renewal hangs, too */
    assert_int_equal(writes(), before + 1);
    assert_int_equal(fake.calls_made[CLUSTER_GET], 1);
    fake.holds = NULL;
    settle();
    expect_leader(0);
    pass(SECONDS(60));
    expect_leader(0);
    assert_int_equal(first->lost, 0);
}

/* The answer to the first write is lost: the Lease has our name all the same. */
static void lost_answer(void **state)
{
    (void)state;
    fake.loses = loses_writes;
    replica_start(0);
    settle();
    expect_follower(0);
    fake.loses = NULL;
    pass(2 * RETRY);
    expect_leader(0);
    assert_string_equal(said("spec.leaseTransitions"), "0");
}

/* Something in the cluster changes what we write: it must not look like our Lease. */
static void rewritten(void **state)
{
    (void)state;
    fake.prunes = "{\"spec\":{\"holderIdentity\":\"x\"}}";
    replica_start(0);
    pass(SECONDS(60));
    expect_follower(0);
    assert_int_equal(first->acquired, 0);
    assert_in_range(writes(), 1, 60 / 15 + 1);
}

/* ---- a process that does not run, a machine that sleeps ---- */

static void stopped(void **state)
{
    (void)state;
    replica_start(0);
    settle();
    replica_start(1);
    pass(SECONDS(30));
    first->stopped = true;
    test_now += DEADLINE;
    assert_false(lease_held(first->lease)); /* at a write in the first moment after SIGCONT */
    pass(DURATION - DEADLINE);
    expect_leader(1);
    unsigned before = writes();
    first->stopped = false;
    assert_false(lease_held(first->lease));
    settle();
    expect_follower(0);
    expect_leader(1);
    assert_int_equal(first->lost, 1);
    pass(SECONDS(60));
    expect_leader(1);
    assert_int_equal(second->lost, 0);
    assert_true(writes() <= before + 60 / 2 + 1);
}

static void suspended(void **state)
{
    (void)state;
    replica_start(0);
    settle();
    slept += DEADLINE;
    assert_false(lease_held(first->lease));
    assert_true(first->leads);
    pass(RETRY);
    expect_leader(0);
    assert_int_equal(first->lost, 1);
    assert_string_equal(first->why, NO_RENEWAL);
}

/* ---- a Lease that somebody spoils ---- */

/* The leader restores the Lease within its term. As long as it is spoilt, nothing is written. */
static void spoilt(void **state)
{
    static const char *const patches[] = {
        "{'spec':{'holderIdentity':''}}",
        "{'spec':{'holderIdentity':null,'leaseDurationSeconds':null}}",
        "{'spec':{'leaseDurationSeconds':1}}",
        "{'spec':{'leaseDurationSeconds':100000}}",
        "{'spec':null}",
        NULL, /* it is deleted */
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(patches); i++) {
        char acquired[64];
        replicas_teardown(NULL);
        replicas_setup(NULL);
        fake_put(LEASE, SPEC("", "1", "4"));
        replica_start(0);
        settle();
        replica_start(1);
        settle();
        text_fmt(acquired, sizeof(acquired), "%s", said("spec.acquireTime"));
        fake.holds = holds_all;
        if (patches[i]) {
            fake_put(LEASE, patches[i]);
        } else {
            fake_drop(LEASE);
        }
        settle();
        assert_false(lease_held(first->lease));
        fake.holds = NULL;
        settle();
        expect_leader(0);
        assert_int_equal(first->lost, 0);
        assert_string_equal(said("spec.acquireTime"), acquired);
        assert_string_equal(said("spec.leaseTransitions"), "5");
        assert_string_equal(said("spec.leaseDurationSeconds"), "15");
        pass(SECONDS(60));
        expect_leader(0);
        expect_follower(1);
    }
}

/* Another object with the same contents, as `kubectl replace --force` makes it. */
static void replaced(void **state)
{
    (void)state;
    replica_start(0);
    settle();
    char *copy = fake_merged(fake_find(LEASE)->text, "{\"metadata\":{\"uid\":null}}");
    fake_drop(LEASE);
    fake_create(LEASE, copy);
    free(copy);
    settle();
    pass(SECONDS(20));
    expect_leader(0);
    assert_int_equal(first->lost, 0);
}

/* Somebody who changes it all the time does not cause many more writes than renewals are. */
static void spoilt_again_and_again(void **state)
{
    (void)state;
    for (int way = 0; way < 3; way++) {
        replicas_teardown(NULL);
        replicas_setup(NULL);
        replica_start(0);
        settle();
        for (int i = 0; i < 6000; i++) {
            if (way == 0 && fake_find(LEASE)) {
                fake_drop(LEASE);
            } else if (way == 1) {
                fake_put(LEASE, "{'spec':{'holderIdentity':null}}");
            } else if (way == 2) {
                char label[64];
                text_fmt(label, sizeof(label), "{'metadata':{'labels':{'n':'%d'}}}", i);
                fake_put(LEASE, label);
            }
            test_now += MILLIS(10);
            settle();
        }
        assert_in_range(writes(), 0,
                        (way == 2 ? 2 : 1) * 60 / 2 + 10); /* one is repeated at once */
        assert_in_range(fake.calls_made[CLUSTER_GET], 0, 60 * 10 + 10);
        assert_int_equal(first->lost, 0);
        pass(RETRY);
        expect_leader(0);
    }
}

/* Reports that are older than our own write say nothing about it. */
static void late_reports(void **state)
{
    (void)state;
    fake_put(LEASE, SPEC("x", "15", "0"));
    replica_start(0);
    settle();
    fake.answers_first = true;
    for (int i = 0; i < 3; i++) {
        fake_put(LEASE, i % 2 ? SPEC("y", "15", "0") : SPEC("z", "15", "0"));
    }
    fake_put(LEASE, SPEC("", "1", "0"));
    fake_kind("Lease")->mute = true;
    pass(DURATION); /* its patch fails, then it reads that the Lease is free */
    expect_leader(0);
    fake_kind("Lease")->mute = false;
    unsigned reads = fake.calls_made[CLUSTER_GET];
    while (fake_pick(0)) {
        assert_true(lease_held(first->lease));
    }
    assert_int_equal(fake.calls_made[CLUSTER_GET], reads);
    expect_leader(0);
}

/* ---- the end ---- */

static void release(void **state)
{
    (void)state;
    replica_start(0);
    settle();
    replica_start(1);
    pass(SECONDS(5));
    lease_release(first->lease);
    assert_false(lease_held(first->lease));
    assert_false(lease_is_over(first->lease));
    fake_kind("Lease")->mute = true;
    settle();
    assert_true(lease_is_over(first->lease));
    assert_string_equal(said("spec.holderIdentity"), "");
    assert_string_equal(said("spec.leaseDurationSeconds"), "1");
    assert_string_equal(said("spec.leaseTransitions"), "0");
    assert_int_equal(first->lost, 0);
    fake_kind("Lease")->mute = false;
    settle();
    expect_leader(1);
    assert_string_equal(said("spec.leaseTransitions"), "1");
    pass(SECONDS(60)); /* the first one does not compete any more */
    expect_leader(1);
    lease_release(first->lease);
    assert_true(lease_is_over(first->lease));
}

static void release_waits_for_writes(void **state)
{
    (void)state;
    replica_start(0);
    settle();
    fake.faces[0].writes = 1;
    lease_release(first->lease);
    pass(SECONDS(2));
    assert_false(lease_is_over(first->lease));
    assert_true(is_held_by(0));
    fake.faces[0].writes = 0;
    fake.faces[0].gate.answered(fake.faces[0].gate.arg);
    settle();
    assert_true(lease_is_over(first->lease));
    assert_string_equal(said("spec.holderIdentity"), "");
}

/* A write that is never answered: the Lease runs out by itself. */
static void release_with_a_write_that_hangs(void **state)
{
    (void)state;
    replica_start(0);
    settle();
    replica_start(1);
    settle();
    fake.faces[0].writes = 1;
    lease_release(first->lease);
    pass(SECONDS(3));
    assert_true(lease_is_over(first->lease));
    assert_true(is_held_by(0));
    fake.faces[0].writes = 0;
    fake.faces[0].gate.answered(fake.faces[0].gate.arg); /* nobody listens */
    pass(DURATION - SECONDS(3) - MILLIS(250));
    expect_follower(1);
    pass(MILLIS(250));
    expect_leader(1);
}

/* A renewal is under way, is answered or not, or meets another version. */
static void release_with_a_renewal(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        replicas_teardown(NULL);
        replicas_setup(NULL);
        replica_start(0);
        settle();
        fake.holds = holds_all;
        pass(RETRY);
        if (way == 1) {
            fake_put(LEASE, "{'metadata':{'labels':{'a':'b'}}}");
        } else if (way == 2) {
            fake_put(LEASE, SPEC("x", "15", "0"));
        } else if (way == 3) {
            fake_drop(LEASE);
        }
        lease_release(first->lease);
        settle();
        assert_false(lease_is_over(first->lease));
        fake.holds = NULL;
        settle();
        assert_true(lease_is_over(first->lease));
        assert_string_equal(said("spec.holderIdentity"), way == 2 ? "x" : "");
        assert_true((fake_find(LEASE) == NULL) == (way == 3));
    }
}

/* The API server is away: the process does not wait for it. */
static void release_in_vain(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        replicas_teardown(NULL);
        replicas_setup(NULL);
        replica_start(0);
        settle();
        fake.fate = way ? fails : NULL;
        fake.holds = way ? NULL : holds_all;
        lease_release(first->lease);
        pass(SECONDS(3));
        assert_true(lease_is_over(first->lease));
        assert_false(lease_held(first->lease));
    }
}

/* A process that does not lead has nothing to release, unless its first write is under way. */
static void release_by_a_follower(void **state)
{
    (void)state;
    replica_start(0);
    lease_release(first->lease);
    assert_true(lease_is_over(first->lease));
    replica_kill(0);

    fake_put(LEASE, SPEC("x", "15", "0"));
    replica_start(0);
    settle();
    lease_release(first->lease);
    assert_true(lease_is_over(first->lease));
    assert_int_equal(writes(), 0);
    replica_kill(0);

    fake_put(LEASE, SPEC("", "1", "0"));
    fake.holds = holds_writes;
    replica_start(0);
    settle();
    assert_int_equal(writes(), 1);
    lease_release(first->lease);
    assert_false(lease_is_over(first->lease));
    fake.holds = NULL;
    settle();
    assert_true(lease_is_over(first->lease));
    assert_int_equal(first->acquired, 0);
    assert_string_equal(said("spec.holderIdentity"), "");
}

/* ---- rights ---- */

static void not_readable(void **state)
{
    (void)state;
    fake_set_presence("Lease", CLUSTER_FORBIDDEN);
    replica_start(0);
    pass(SECONDS(60));
    expect_follower(0);
    assert_int_equal(writes(), 0);
    assert_non_null(strstr(lease_view(first->lease).problem,
                           "Lease \"tproxy\" in namespace \"home\" may not be read"));
    fake_set_presence("Lease", CLUSTER_PRESENT);
    settle();
    expect_leader(0);
    assert_null(lease_view(first->lease).problem);
}

static void not_writable(void **state)
{
    (void)state;
    fake.fate = refuses_writes;
    replica_start(0);
    pass(SECONDS(60));
    expect_follower(0);
    assert_true(writes() > 60 / 3 - 2 && writes() <= 60);
    assert_non_null(strstr(lease_view(first->lease).problem, "may not be used (see RBAC in "));
    fake.fate = NULL;
    pass(2 * RETRY);
    expect_leader(0);
    assert_null(lease_view(first->lease).problem);
}

/* ---- the gate ---- */

static bool gate(void)
{
    return fake.faces[0].gate.may_write(fake.faces[0].gate.arg);
}

static void is_the_gate(void **state)
{
    (void)state;
    replica_start(0);
    assert_false(gate());
    settle();
    assert_true(gate());
    test_now += DEADLINE;
    assert_false(gate());
    settle();
    assert_true(gate());
    lease_release(first->lease);
    assert_false(gate());
    replica_kill(0);
    assert_false(gate());
}

static void metrics(void **state)
{
    struct buf out;
    (void)state;
    fake_put(LEASE, SPEC("", "1", "8"));
    replica_start(0);
    settle();
    fake.fate = fails;
    pass(DEADLINE);
    buf_init(&out, SIZE_MAX);
    lease_metrics(first->lease, &out);
    assert_int_equal(buf_add(&out, "", 1), OK);
    assert_non_null(strstr(buf_str(&out).p, "\ntproxy_leader 0\n"));
    assert_non_null(strstr(buf_str(&out).p, "\ntproxy_leader_terms_total 1\n"));
    assert_non_null(strstr(buf_str(&out).p, "\ntproxy_leader_terms_lost_total 1\n"));
    assert_non_null(strstr(buf_str(&out).p, "\ntproxy_leader_transitions 9\n"));
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(first_start),
        TEST(identities),
        TEST(renewals),
        TEST(expired),
        TEST(durations),
        TEST(released),
        TEST(many_transitions),
        TEST(held_and_deleted),
        TEST(one_of_two),
        TEST(conflict),
        TEST(silent_watch),
        TEST(killed),
        TEST(taken_by_another),
        TEST(taken_without_a_report),
        TEST(hostile_holder),
        TEST(api_server_away),
        TEST(late_answer),
        TEST(hanging_renewal),
        TEST(lost_answer),
        TEST(rewritten),
        TEST(stopped),
        TEST(suspended),
        TEST(spoilt),
        TEST(replaced),
        TEST(spoilt_again_and_again),
        TEST(late_reports),
        TEST(release),
        TEST(release_waits_for_writes),
        TEST(release_with_a_write_that_hangs),
        TEST(release_with_a_renewal),
        TEST(release_in_vain),
        TEST(release_by_a_follower),
        TEST(not_readable),
        TEST(not_writable),
        TEST(is_the_gate),
        TEST(metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
