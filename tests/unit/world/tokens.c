/* The world of tests of tokens: the log, servers, time. */
#include "tests/unit/world/tokens.h"

struct loop *loop;
struct dns *dns;
struct oauth *oauth;

static struct {
    struct http_peer *peers[2];
    size_t n_peers;
    const char *const *secrets; /* NULL-terminated */
    FILE *log;
} world;

/* Returns the smallest random numbers, so that delays are the shortest. */
static void no_chance(void *out, size_t n)
{
    memset(out, 0, n);
}

void world_open(const char *const *secrets, const char *hosts)
{
    test_sys_init();
    test_sys.random = no_chance;
    world.n_peers = 0;
    world.secrets = secrets;
    world.log = tmpfile();
    log_open(fileno(world.log), LOG_FORMAT_JSON);
    log_set_level(LOG_TRACE);
    loop = loop_new(NULL);
    dns = dns_new(loop, "/nonexistent", hosts);
    oauth = oauth_new(loop, dns, NULL);
}

void world_add(struct http_peer *peer)
{
    world.peers[world.n_peers++] = peer;
    peer_open(peer, 0);
}

void expect_no_secret(const char *text)
{
    for (size_t i = 0; world.secrets[i]; i++) {
        if (strstr(text, world.secrets[i])) {
            fail_msg("%s in: %s", world.secrets[i], text);
        }
    }
}

/* Returns everything that was logged; valid until the next call. */
static const char *world_log(void)
{
    static char text[1 << 20];
    log_flush_wait();
    fseek(world.log, 0, SEEK_SET);
    size_t n = fread(text, 1, sizeof(text) - 1, world.log);
    text[n] = '\0';
    return text;
}

int logged(const char *what)
{
    int n = 0;
    for (const char *p = world_log(); (p = strstr(p, what)) != NULL; p++) {
        n++;
    }
    return n;
}

void world_close(void)
{
    oauth_free(oauth);
    dns_free(dns);
    for (size_t i = 0; i < world.n_peers; i++) {
        peer_close(world.peers[i]);
    }
    turn_quietly(loop);
    assert_int_equal(conn_count(), 0);
    loop_free(loop);
    expect_no_secret(world_log());
    log_open(2, LOG_FORMAT_TEXT);
    fclose(world.log);
    sys = &sys_real;
}

bool settle_once(void)
{
    bool busy = false;
    loop_turn(loop, false);
    for (size_t i = 0; i < world.n_peers; i++) {
        busy |= peer_run(world.peers[i]);
    }
    return busy;
}

void settle(void)
{
    for (int quiet = 0; quiet < 20; quiet++) {
        if (settle_once()) {
            quiet = 0;
        }
    }
}

void pass(int64_t time)
{
    test_now += time;
    settle();
}

void await(const int *answers)
{
    int64_t until = sys_real.now() + SECONDS(60);
    while (!*answers) {
        settle();
        if (sys_real.now() > until) {
            fail_msg("no answer");
        }
    }
    assert_int_equal(*answers, 1);
}
