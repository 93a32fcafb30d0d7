/* What tests of tokens and destinations share: servers that the test plays over loopback sockets,
 * and a log in which no secret may be. Time stands still unless the test moves it. */
#ifndef TPROXY_TESTS_TOKEN_WORLD_H
#define TPROXY_TESTS_TOKEN_WORLD_H

#include <stdio.h>

#include "lib/dns.h"
#include "lib/log.h"
#include "oauth.h"
#include "tests/unit/http_peer.h"

static struct loop *loop;
static struct dns *dns;
static struct oauth *oauth;

static struct {
    struct http_peer *peers[2];
    size_t n_peers;
    const char *const *secrets; /* NULL-terminated */
    FILE *log;
} world;

/* The shortest waits: no chance adds to them. */
static inline void no_chance(void *out, size_t n)
{
    memset(out, 0, n);
}

/* secrets: those of the test. hosts: the file with the names of its servers. */
static inline void world_open(const char *const *secrets, const char *hosts)
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

/* Opens it on a free port, and lets it answer until the end. */
static inline void world_add(struct http_peer *peer)
{
    world.peers[world.n_peers++] = peer;
    peer_open(peer, 0);
}

static inline void expect_no_secret(const char *text)
{
    for (size_t i = 0; world.secrets[i]; i++) {
        if (strstr(text, world.secrets[i])) {
            fail_msg("%s in: %s", world.secrets[i], text);
        }
    }
}

/* All that was logged; valid until the next call. */
static inline const char *world_log(void)
{
    static char text[1 << 20];
    log_flush_wait();
    fseek(world.log, 0, SEEK_SET);
    size_t n = fread(text, 1, sizeof(text) - 1, world.log);
    text[n] = '\0';
    return text;
}

/* How often the log says so. */
static inline int logged(const char *what)
{
    int n = 0;
    for (const char *p = world_log(); (p = strstr(p, what)) != NULL; p++) {
        n++;
    }
    return n;
}

/* Who works with oauth has been freed. */
static inline void world_close(void)
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

static inline bool settle_once(void)
{
    bool busy = false;
    loop_turn(loop, false);
    for (size_t i = 0; i < world.n_peers; i++) {
        busy |= peer_run(world.peers[i]);
    }
    return busy;
}

static inline void settle(void)
{
    for (int quiet = 0; quiet < 20; quiet++) {
        if (settle_once()) {
            quiet = 0;
        }
    }
}

static inline void pass(int64_t time)
{
    test_now += time;
    settle();
}

/* Until there is one answer. */
static inline void await(const int *answers)
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

#endif
