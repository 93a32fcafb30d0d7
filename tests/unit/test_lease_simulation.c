/* Plays with three replicas and one Lease, by seed: requests are carried out and answered late or
 * never, watches fall silent, processes are stopped, killed and started, the machine sleeps, and
 * somebody meddles with the Lease.
 *
 * - At no time do two replicas hold the Lease, by the true time. (Two rules of the play follow from
 *   what lease.h promises: the Lease is only deleted or released by hand when all replicas that run
 *   know who holds it.)
 * - When the trouble has ended, one of them leads within bounds, and stays the leader.
 *
 * SIM_SEED=n runs one seed; SIM_COUNT=n runs the first n. */
#include "cluster/lease.h"

#include <stdio.h>

#include "tests/unit/world/replicas.h"

enum { SEEDS = 200, STEPS = 2000 };

#define LEASE "Lease", HOME, LEASE_NAME

/* The longest duration that somebody writes into the Lease. */
#define LONGEST SECONDS(30)

/* After the trouble a call hangs, or the Lease of a process that was killed runs out; there are
 * pauses between attempts. */
#define RECOVERY (LONGEST + DEADLINE + 2 * RETRY)

static struct {
    uint64_t chance;
    bool failing, losing, silent;
    int64_t stops_until[REPLICAS];
    unsigned hand_overs, releases; /* over all seeds */
} play;

/* ---- random numbers ---- */

static size_t rand_below(size_t n)
{
    play.chance ^= play.chance << 13;
    play.chance ^= play.chance >> 7;
    play.chance ^= play.chance << 17;
    return (size_t)((play.chance >> 11) % n);
}

static bool one_in(size_t n)
{
    return rand_below(n) == 0;
}

static void fake_random(void *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ((unsigned char *)out)[i] = (unsigned char)rand_below(256);
    }
}

/* ---- what is always true ---- */

static int holder(void)
{
    int found = -1;
    for (int i = 0; i < REPLICAS; i++) {
        if (replicas[i].lease && lease_held(replicas[i].lease)) {
            if (found >= 0) {
                struct item *lease = fake_find(LEASE);
                fail_msg("%d and %d hold the Lease: %s", found, i, lease ? lease->text : "none");
            }
            found = i;
        }
    }
    return found;
}

/* ---- trouble ---- */

static enum cluster_result fate(const struct cluster_call *call)
{
    (void)call;
    return play.failing && one_in(2) ? CLUSTER_LATER : CLUSTER_DONE;
}

static bool loses(const struct cluster_call *call)
{
    (void)call;
    return play.losing && one_in(2);
}

/* Tells whether all replicas that run know of the Lease what there is to know. */
static bool all_know(void)
{
    struct item *lease = fake_find(LEASE);
    for (int i = 0; i < REPLICAS; i++) {
        if (replicas[i].lease && (!lease || replicas[i].stopped ||
                                  !fake_says(lease->text, "spec.holderIdentity",
                                             lease_view(replicas[i].lease).holder))) {
            return false;
        }
    }
    return lease;
}

/* Somebody changes the Lease. */
static void meddle(void)
{
    static const char *const patches[] = {
        "{'metadata':{'labels':{'a':'b'}}}",
        "{'metadata':{'labels':{'a':null}}}",
        "{'spec':{'holderIdentity':'somebody'}}",
        "{'spec':{'holderIdentity':null}}",
        "{'spec':{'leaseDurationSeconds':2}}",
        "{'spec':{'leaseDurationSeconds':30}}",
        "{'spec':{'leaseDurationSeconds':null,'acquireTime':null}}",
        "{'spec':{'leaseTransitions':0}}",
        "{'spec':null}",
    };
    if (!fake_find(LEASE)) {
        return;
    }
    if (one_in(8)) {
        if (all_know()) {
            fake_drop(LEASE);
        }
    } else {
        fake_put(LEASE, patches[rand_below(ARRAY_LEN(patches))]);
    }
}

static void start_or_end(int i)
{
    if (!replicas[i].lease) {
        /* A process that starts while the Lease is missing does not know who holds it. */
        if (fake_find(LEASE) || holder() < 0) {
            replica_start(i);
        }
    } else if (one_in(2)) {
        replica_kill(i);
    } else if (!replicas[i].stopped) {
        play.releases++;
        lease_release(replicas[i].lease);
    }
}

static void trouble(void)
{
    int i = (int)rand_below(REPLICAS);
    switch (rand_below(8)) {
    case 0:
        play.failing = !play.failing;
        break;
    case 1:
        play.losing = !play.losing;
        break;
    case 2:
        fake_kind("Lease")->mute = !fake_kind("Lease")->mute;
        break;
    case 3:
    case 4:
        replicas[i].stopped = replicas[i].lease && !replicas[i].stopped;
        break;
    case 5:
        start_or_end(i);
        break;
    case 6:
        meddle();
        break;
    case 7:
        if (one_in(10)) {
            slept += (int64_t)rand_below(SECONDS(20));
        } else {
            fake_relist("Lease");
        }
        break;
    }
}

static void end_trouble(void)
{
    play.failing = play.losing = false;
    fake_kind("Lease")->mute = false;
    for (int i = 0; i < REPLICAS; i++) {
        replicas[i].stopped = false;
    }
    if (!replicas[0].lease || lease_is_over(replicas[0].lease)) {
        replica_kill(0);
        replica_start(0);
    }
}

/* ---- a play ---- */

/* Does some of what can happen now. */
static void some_progress(void)
{
    for (size_t n = rand_below(6); n > 0; n--) {
        size_t choices = fake_choices();
        if (choices) {
            fake_pick(rand_below(choices));
        }
        holder();
    }
}

static void all_progress(void)
{
    for (int quiet = 0; quiet < 3; quiet++) {
        replicas_turn();
        while (fake_pick(0)) {
            quiet = 0;
            holder();
        }
    }
}

static int64_t random_time(void)
{
    return one_in(20) ? (int64_t)rand_below(SECONDS(8)) : (int64_t)rand_below(MILLIS(400));
}

static void play_seed(uint64_t seed)
{
    int last = -1;
    play.chance = seed * 0x9E3779B97F4A7C15U + 1;
    play.failing = play.losing = false;
    replicas_setup(NULL);
    test_sys.random = fake_random;
    fake.fate = fate;
    fake.loses = loses;
    fake.late_cancels = true;
    for (int i = 0; i < REPLICAS; i++) {
        replica_start(i);
    }
    for (int i = 0; i < STEPS; i++) {
        if (one_in(15)) {
            trouble();
        }
        test_now += random_time();
        holder();
        if (one_in(2)) {
            some_progress(); /* events come before timers that are due as well */
        }
        replicas_turn();
        some_progress();
        int now = holder();
        play.hand_overs += now >= 0 && last >= 0 && now != last;
        last = now >= 0 ? now : last;
    }
    end_trouble();
    for (int64_t end = test_now + RECOVERY; test_now < end; test_now += MILLIS(200)) {
        all_progress();
    }
    last = holder();
    assert_true(last >= 0);
    for (int64_t end = test_now + SECONDS(60); test_now < end; test_now += MILLIS(200)) {
        all_progress();
        assert_int_equal(holder(), last);
    }
    replicas_teardown(NULL);
}

static uint64_t number_in(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void simulation(void **state)
{
    uint64_t first = number_in("SIM_SEED", 0);
    uint64_t last = getenv("SIM_SEED") ? first : number_in("SIM_COUNT", SEEDS) - 1;
    (void)state;
    for (uint64_t seed = first; seed <= last; seed++) {
        fprintf(stderr, "\rseed %llu ", (unsigned long long)seed);
        fflush(stderr);
        play_seed(seed);
    }
    fprintf(stderr, "\r%u hand-overs, %u releases\n", play.hand_overs, play.releases);
    assert_true(play.hand_overs > 0 || getenv("SIM_SEED") || getenv("SIM_COUNT"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(simulation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
