/* Processes with a Lease each. */
#include "tests/unit/world/replicas.h"

#include "lib/log.h"

struct replica replicas[REPLICAS];
int64_t slept;

static int nowhere; /* the log's descriptor */

static int64_t boottime(void)
{
    return test_now + slept;
}

static void on_acquired(void *arg)
{
    struct replica *r = arg;
    assert_false(r->leads);
    assert_true(lease_view(r->lease).holder[0]);
    r->leads = true;
    r->acquired++;
}

static void on_lost(const char *why, void *arg)
{
    struct replica *r = arg;
    assert_true(r->leads);
    assert_false(lease_held(r->lease));
    r->leads = false;
    r->lost++;
    text_fmt(r->why, sizeof(r->why), "%s", why);
}

void replica_start(int i)
{
    struct replica *r = &replicas[i];
    struct error err;
    char instance[16];
    text_fmt(instance, sizeof(instance), "pod-%d", i);
    struct lease_settings settings = {.namespace = HOME,
                                      .name = LEASE_NAME,
                                      .instance = instance,
                                      .duration = DURATION,
                                      .deadline = DEADLINE,
                                      .retry = RETRY};
    struct lease_handler handler = {.acquired = on_acquired, .lost = on_lost, .arg = r};
    assert_null(r->lease);
    *r = (struct replica){.loop = loop_new(&err)};
    assert_non_null(r->loop);
    r->lease = lease_new(r->loop, &fake.faces[i], &settings, handler);
}

void replica_kill(int i)
{
    struct replica *r = &replicas[i];
    if (r->lease) {
        lease_free(r->lease);
        loop_turn(r->loop, false);
        loop_free(r->loop);
    }
    *r = (struct replica){0};
}

static bool is_stopped(size_t client)
{
    return replicas[client].stopped;
}

void replicas_turn(void)
{
    for (int i = 0; i < REPLICAS; i++) {
        if (replicas[i].lease && !replicas[i].stopped) {
            loop_turn(replicas[i].loop, false);
        }
    }
}

int replicas_setup(void **state)
{
    (void)state;
    test_sys_init();
    test_sys.boottime = boottime;
    slept = 0;
    nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    log_open(nowhere, LOG_FORMAT_TEXT);
    fake_start();
    for (size_t i = 0; i < FAKE_CLIENTS; i++) {
        fake.faces[i].writer = "tproxy-" HOME;
    }
    fake.sleeps = is_stopped;
    return 0;
}

int replicas_teardown(void **state)
{
    (void)state;
    for (int i = 0; i < REPLICAS; i++) {
        replica_kill(i);
    }
    fake_stop();
    log_flush();
    log_open(2, LOG_FORMAT_TEXT);
    close(nowhere);
    sys = &sys_real;
    return 0;
}
