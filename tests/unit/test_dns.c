/* Tests lib/dns with scripted name servers on loopback, which run in the same loop. Time stands
 * still unless a test moves it. */
#include "lib/dns.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/loop.h"
#include "lib/sys.h"

enum { PATIENCE_MS = 10000 };

static struct sys test_sys;
static int64_t clock_now;
static int open_sockets; /* the resolver's */

static struct loop *loop;
static struct dns *dns;
static char dir[] = "/tmp/test_dns.XXXXXX";
static char conf_path[64], hosts_path[64];

/* ---- the world ---- */

static int64_t fake_now(void)
{
    return clock_now;
}

/* Waits for an event, however short the loop's timeout is. */
static int patient_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
    int n = epoll_wait(epfd, events, max, timeout ? PATIENCE_MS : 0);
    if (timeout && n == 0) {
        fail_msg("nothing happened");
    }
    return n;
}

static bool no_sockets;

static int counting_socket(int domain, int type, int protocol)
{
    if (no_sockets) {
        errno = EMFILE;
        return -1;
    }
    int fd = socket(domain, type, protocol);
    open_sockets += fd >= 0;
    return fd;
}

static int counting_close(int fd)
{
    open_sockets--;
    return close(fd);
}

static void turn(void)
{
    loop_turn(loop, false);
}

static void advance(int64_t us)
{
    clock_now += us;
    turn();
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* ---- name servers ---- */

enum how { REPLY, SILENT, TRUNCATE, GARBAGE, FALSE_FIRST, SHUT, LATER };

/* A rule says what a server does with a question; the first that fits counts. Without a rule the
 * answer is NXDOMAIN. */
struct rule {
    const char *name; /* NULL: any */
    unsigned type;    /* 0: any */
    const char *addr; /* NULL: no address */
    unsigned rcode;
    uint32_t ttl; /* the TTL of the address or of the SOA record; 0: no SOA record */
    enum how how;
    enum how how_tcp;
};

struct server {
    struct io udp, listener, tcp;
    uint16_t port;
    const struct rule *rules;
    char asked[4096]; /* "A mail.test, AAAA mail.test, TCP A mail.test" */
    size_t count;
    unsigned ids[16], ports[16]; /* those of the first questions over UDP */
    struct {
        struct sockaddr_in to;
        unsigned char p[1024];
        size_t n;
    } later; /* the answer that was last held back */
};

static struct server servers[2];

enum { A = 1, AAAA = 28 };

static const struct rule *rule_for(const struct server *s, const char *name, unsigned type)
{
    static const struct rule no_such_name = {.rcode = 3};
    for (const struct rule *r = s->rules; r->name || r->type || r->addr || r->how; r++) {
        if ((!r->name || strcmp(r->name, name) == 0) && (!r->type || r->type == type)) {
            return r;
        }
    }
    return &no_such_name;
}

static size_t put(unsigned char *p, uint32_t value, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (unsigned char)(value >> 8 * (n - 1 - i));
    }
    return n;
}

/* Writes a record for the name of the question. */
static size_t put_record(unsigned char *p, unsigned type, uint32_t ttl, const void *data,
                         size_t length)
{
    size_t n = put(p, 0xC00C, 2);
    n += put(p + n, type, 2);
    n += put(p + n, 1, 2);
    n += put(p + n, ttl, 4);
    n += put(p + n, (uint32_t)length, 2);
    memcpy(p + n, data, length);
    return n + length;
}

/* Turns a question into its answer. Returns the new length. */
static size_t make_answer(unsigned char *p, size_t n, const struct rule *r, unsigned type,
                          enum how how)
{
    union addr addr;
    put(p + 2, 0x8180 | r->rcode | (how == TRUNCATE ? 0x0200u : 0), 2);
    if (how == TRUNCATE) {
        return n;
    }
    if (r->addr && addr_parse(str_of(r->addr), &addr) == OK) {
        bool four = addr.sa.sa_family == AF_INET;
        if (four == (type == A)) {
            put(p + 6, 1, 2);
            return n + (four ? put_record(p + n, A, r->ttl, &addr.v4.sin_addr, 4)
                             : put_record(p + n, AAAA, r->ttl, &addr.v6.sin6_addr, 16));
        }
    }
    if (r->ttl) {
        unsigned char soa[22] = {0};
        put(soa + 18, r->ttl, 4);
        put(p + 8, 1, 2);
        n += put_record(p + n, 6, 86400, soa, sizeof(soa));
    }
    return n;
}

static void note_question(struct server *s, const unsigned char *p, const char *how, char *name,
                          unsigned *type)
{
    size_t at = 12, n = 0;
    while (p[at]) {
        n += text_fmt(name + n, 256 - n, "%s%.*s", n ? "." : "", p[at], p + at + 1);
        at += 1u + p[at];
    }
    *type = (unsigned)p[at + 1] << 8 | p[at + 2];
    size_t used = strlen(s->asked);
    text_fmt(s->asked + used, sizeof(s->asked) - used, "%s%s%s %s", used ? ", " : "", how,
             *type == A ? "A" : "AAAA", name);
    s->count++;
}

static void on_udp(struct io *io)
{
    struct server *s = container_of(io, struct server, udp);
    unsigned char p[1024];
    char name[256] = "";
    unsigned type;
    struct sockaddr_in from = {0};
    socklen_t from_n = sizeof(from);
    ssize_t got = recvfrom(io->fd, p, sizeof(p), MSG_DONTWAIT, (struct sockaddr *)&from, &from_n);
    if (got < 12) {
        return;
    }
    if (s->count < ARRAY_LEN(s->ids)) {
        s->ids[s->count] = (unsigned)p[0] << 8 | p[1];
        s->ports[s->count] = ntohs(from.sin_port);
    }
    note_question(s, p, "", name, &type);
    const struct rule *r = rule_for(s, name, type);
    if (r->how == SILENT) {
        return;
    }
    if (r->how == LATER) {
        s->later.to = from;
        s->later.n = make_answer(p, (size_t)got, r, type, REPLY);
        memcpy(s->later.p, p, s->later.n);
        return;
    }
    if (r->how == GARBAGE) {
        got = 5;
    } else {
        got = (ssize_t)make_answer(p, (size_t)got, r, type, r->how);
    }
    if (r->how == FALSE_FIRST) {
        p[0] ^= 1; /* another id */
        sendto(io->fd, p, (size_t)got, 0, (struct sockaddr *)&from, from_n);
        p[0] ^= 1;
        p[13] ^= 2; /* another name */
        sendto(io->fd, p, (size_t)got, 0, (struct sockaddr *)&from, from_n);
        p[13] ^= 2;
    }
    sendto(io->fd, p, (size_t)got, 0, (struct sockaddr *)&from, from_n);
}

static void send_later(const struct server *s)
{
    sendto(s->udp.fd, s->later.p, s->later.n, 0, (const struct sockaddr *)&s->later.to,
           sizeof(s->later.to));
}

static void close_tcp(struct server *s)
{
    if (s->tcp.fd >= 0) {
        int fd = s->tcp.fd;
        loop_forget(loop, &s->tcp);
        close(fd);
    }
}

static void on_tcp(struct io *io)
{
    struct server *s = container_of(io, struct server, tcp);
    unsigned char p[1024];
    char name[256] = "";
    unsigned type;
    ssize_t got = recv(io->fd, p, sizeof(p), MSG_DONTWAIT);
    if (got < 14) {
        close_tcp(s);
        return;
    }
    note_question(s, p + 2, "TCP ", name, &type);
    const struct rule *r = rule_for(s, name, type);
    if (r->how_tcp == SILENT) {
        return;
    }
    if (r->how_tcp == SHUT) {
        close_tcp(s);
        return;
    }
    size_t n = make_answer(p + 2, (size_t)got - 2, r, type, r->how_tcp);
    p[2] ^= r->how_tcp == GARBAGE;
    put(p, (uint32_t)n, 2);
    send(io->fd, p, 1, MSG_NOSIGNAL);
    send(io->fd, p + 1, 20, MSG_NOSIGNAL);
    send(io->fd, p + 21, n + 2 - 21, MSG_NOSIGNAL);
}

static void on_listener(struct io *io)
{
    struct server *s = container_of(io, struct server, listener);
    int fd = accept(io->fd, NULL, NULL);
    close_tcp(s);
    assert_int_equal(loop_add(loop, &s->tcp, fd, IO_KIND_LISTEN, on_tcp), OK);
}

/* Opens a UDP socket and a TCP listener on the same port. */
static void start_server(struct server *s)
{
    for (;;) {
        struct sockaddr_in addr = {.sin_family = AF_INET};
        socklen_t n = sizeof(addr);
        addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int udp = socket(AF_INET, SOCK_DGRAM, 0);
        int tcp = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(udp, (struct sockaddr *)&addr, n), 0);
        assert_int_equal(getsockname(udp, (struct sockaddr *)&addr, &n), 0);
        if (bind(tcp, (struct sockaddr *)&addr, n) == 0 && listen(tcp, 8) == 0) {
            s->port = ntohs(addr.sin_port);
            s->tcp.fd = -1;
            assert_int_equal(loop_add(loop, &s->udp, udp, IO_KIND_LISTEN, on_udp), OK);
            assert_int_equal(loop_add(loop, &s->listener, tcp, IO_KIND_LISTEN, on_listener), OK);
            return;
        }
        close(udp);
        close(tcp);
    }
}

static void stop_server(struct server *s)
{
    int udp = s->udp.fd, tcp = s->listener.fd;
    close_tcp(s);
    loop_forget(loop, &s->udp);
    loop_forget(loop, &s->listener);
    close(udp);
    close(tcp);
}

/* Runs until this server has been asked n questions. */
static void until_asked(struct server *s, size_t n)
{
    while (s->count < n) {
        loop_turn(loop, true);
    }
    assert_int_equal(s->count, n);
}

/* Checks the questions so far. Two that are sent together may arrive in either order. */
static void expect_asked(const struct server *s, const char *one, const char *other)
{
    if (strcmp(s->asked, one) != 0) {
        assert_string_equal(s->asked, other);
    }
}

static void clear(struct server *s)
{
    s->asked[0] = '\0';
    s->count = 0;
}

/* ---- queries ---- */

struct outcome {
    struct dns_query *query;
    int calls;
    struct dns_result result;
};

static void on_done(const struct dns_result *result, void *arg)
{
    struct outcome *o = arg;
    o->calls++;
    o->result = *result;
}

static void start(struct outcome *o, const char *name)
{
    memset(o, 0, sizeof(*o));
    o->query = dns_resolve(dns, name, (struct dns_handler){.done = on_done, .arg = o});
    assert_non_null(o->query);
    assert_int_equal(o->calls, 0);
}

static void until_done(struct outcome *o)
{
    while (o->calls == 0) {
        loop_turn(loop, true);
    }
    turn();
    assert_int_equal(o->calls, 1);
}

static struct outcome last;

static void resolve(const char *name)
{
    start(&last, name);
    until_done(&last);
}

/* Checks the addresses, separated by blanks, or the text of the failure. */
static void expect(const struct outcome *o, const char *expected)
{
    char got[FAIL_TEXT_MAX] = "";
    size_t n = 0;
    for (size_t i = 0; i < o->result.n; i++) {
        n += text_fmt(got + n, sizeof(got) - n, "%s%s", n ? " " : "",
                      addr_text(&o->result.addrs[i]).s);
    }
    if (o->result.n == 0) {
        text_fmt(got, sizeof(got), "%s", o->result.err.text);
        assert_true(o->result.err.fail == FAIL_DNS || o->result.err.fail == FAIL_CONFIG);
    } else {
        assert_int_equal(o->result.err.fail, FAIL_NONE);
    }
    assert_string_equal(got, expected);
}

/* Checks the text of the failure, which names the first server and its port between `before` and
 * `after`. */
static void expect_failure(const struct outcome *o, const char *before, const char *after)
{
    char text[FAIL_TEXT_MAX];
    text_fmt(text, sizeof(text), "%s127.0.0.1:%u%s", before, servers[0].port, after);
    expect(o, text);
    assert_int_equal(o->result.err.fail, FAIL_DNS);
}

/* Writes a resolv.conf with the first `count` servers and more lines; the next query reads it. */
static void configure(size_t count, const char *more)
{
    char text[512];
    size_t n = text_fmt(text, sizeof(text), "%s\n", more);
    for (size_t i = 0; i < count; i++) {
        n += text_fmt(text + n, sizeof(text) - n, "nameserver 127.0.0.1#%u\n", servers[i].port);
    }
    write_file(conf_path, text);
    advance(SECONDS(3));
}

static int setup(void **state)
{
    struct error err;
    (void)state;
    test_sys = sys_real;
    test_sys.now = fake_now;
    test_sys.epoll_wait = patient_wait;
    test_sys.socket = counting_socket;
    test_sys.close = counting_close;
    sys = &test_sys;
    clock_now = SECONDS(1000);
    loop = loop_new(&err);
    memset(servers, 0, sizeof(servers));
    for (size_t i = 0; i < ARRAY_LEN(servers); i++) {
        static const struct rule none[] = {{0}};
        start_server(&servers[i]);
        servers[i].rules = none;
    }
    text_fmt(dir, sizeof(dir), "/tmp/test_dns.XXXXXX");
    assert_non_null(mkdtemp(dir));
    text_fmt(conf_path, sizeof(conf_path), "%s/resolv.conf", dir);
    text_fmt(hosts_path, sizeof(hosts_path), "%s/hosts", dir);
    write_file(hosts_path, "10.9.9.9 known.test localhost\n");
    open_sockets = 0;
    no_sockets = false;
    dns = dns_new(loop, conf_path, hosts_path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dns_free(dns);
    turn();
    assert_int_equal(open_sockets, 0);
    stop_server(&servers[0]);
    stop_server(&servers[1]);
    turn();
    loop_free(loop);
    unlink(conf_path);
    unlink(hosts_path);
    rmdir(dir);
    sys = &sys_real;
    return 0;
}

/* ---- without a server ---- */

static void without_asking(void **state)
{
    (void)state;
    configure(1, "");
    resolve("10.0.0.1");
    expect(&last, "10.0.0.1");
    resolve("[fd00::1]");
    expect(&last, "fd00::1");
    resolve("LocalHost");
    expect(&last, "::1 127.0.0.1");
    resolve("a.b.localhost.");
    expect(&last, "::1 127.0.0.1");
    resolve("Known.test.");
    expect(&last, "10.9.9.9");
    resolve("127.1");
    expect(&last, "\"127.1\" is neither a host name nor an IP address");
    assert_int_equal(last.result.err.fail, FAIL_CONFIG);
    resolve("");
    assert_int_equal(last.result.err.fail, FAIL_CONFIG);
    resolve("a\r\nb");
    expect(&last, "\"a??b\" is neither a host name nor an IP address");
    char longest[400];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    resolve(longest);
    assert_int_equal(last.result.err.fail, FAIL_CONFIG);
    assert_int_equal(servers[0].count, 0);
}

static void hosts_file_changes(void **state)
{
    (void)state;
    configure(1, "");
    resolve("known.test");
    expect(&last, "10.9.9.9");
    write_file(hosts_path, "10.9.9.8 known.test\nfd00::8 known.test\n");
    resolve("known.test");
    expect(&last, "10.9.9.9");
    advance(SECONDS(3));
    resolve("known.test");
    expect(&last, "fd00::8 10.9.9.8");
    unlink(hosts_path);
    advance(SECONDS(3));
    resolve("known.test");
    expect(&last, "host \"known.test\" does not exist (NXDOMAIN)");
}

/* ---- answers ---- */

static void both_families(void **state)
{
    static const struct rule rules[] = {
        {.name = "mail.test", .type = A, .addr = "10.0.0.1", .ttl = 60},
        {.name = "mail.test", .type = AAAA, .addr = "fd00::1", .ttl = 60},
        {.name = "four.test", .addr = "10.0.0.4", .ttl = 60},
        {.name = "six.test", .addr = "fd00::6", .ttl = 60},
        {0}};
    (void)state;
    servers[0].rules = rules;
    configure(1, "");
    resolve("Mail.test");
    expect(&last, "fd00::1 10.0.0.1");
    expect_asked(&servers[0], "AAAA mail.test, A mail.test", "A mail.test, AAAA mail.test");
    assert_int_equal(open_sockets, 0);
    resolve("four.test");
    expect(&last, "10.0.0.4");
    resolve("six.test");
    expect(&last, "fd00::6");
    clear(&servers[0]);
    /* The absent family does not shorten the lifetime of the other one's addresses. */
    advance(SECONDS(59));
    resolve("four.test");
    assert_int_equal(servers[0].count, 0);
}

static void search_list(void **state)
{
    static const struct rule rules[] = {{.name = "mail.b.test", .addr = "10.0.0.1", .ttl = 60},
                                        {.name = "x.y.z", .addr = "10.0.0.2", .ttl = 60},
                                        {.name = "x.y.b.test", .addr = "10.0.0.3", .ttl = 60},
                                        {0}};
    (void)state;
    servers[0].rules = rules;
    configure(1, "search a.test b.test\noptions no-aaaa ndots:2");
    resolve("mail");
    expect(&last, "10.0.0.1");
    assert_string_equal(servers[0].asked, "A mail.a.test, A mail.b.test");
    clear(&servers[0]);
    resolve("x.y.z");
    expect(&last, "10.0.0.2");
    assert_string_equal(servers[0].asked, "A x.y.z");
    clear(&servers[0]);
    resolve("x.y");
    expect(&last, "10.0.0.3");
    assert_string_equal(servers[0].asked, "A x.y.a.test, A x.y.b.test");
    clear(&servers[0]);
    char longest[DNS_NAME_MAX];
    for (size_t i = 0; i < DNS_NAME_MAX - 5; i++) {
        longest[i] = i % 50 ? 'a' : '.';
    }
    longest[0] = 'a';
    longest[DNS_NAME_MAX - 5] = '\0';
    resolve(longest); /* too long for the search list */
    assert_int_equal(servers[0].count, 1);
    clear(&servers[0]);
    resolve("mail.");
    expect(&last, "host \"mail.\" does not exist (NXDOMAIN)");
    assert_string_equal(servers[0].asked, "A mail");
    clear(&servers[0]);
    resolve("p.q.r");
    expect(&last, "host \"p.q.r\" does not exist (NXDOMAIN)");
    assert_string_equal(servers[0].asked, "A p.q.r, A p.q.r.a.test, A p.q.r.b.test");
}

static void failures(void **state)
{
    static const struct rule rules[] = {{.name = "empty.test"},
                                        {.name = "half.test", .type = A, .rcode = 2},
                                        {.name = "half.test", .type = AAAA},
                                        {.name = "fail.test", .rcode = 2},
                                        {.name = "refused.test", .rcode = 5},
                                        {.how = SILENT, .name = "none"},
                                        {0}};
    (void)state;
    servers[0].rules = rules;
    configure(1, "");
    resolve("nobody.test");
    expect(&last, "host \"nobody.test\" does not exist (NXDOMAIN)");
    assert_int_equal(last.result.err.fail, FAIL_DNS);
    resolve("empty.test");
    expect(&last, "host \"empty.test\" has no address");
    resolve("half.test");
    expect_failure(&last, "name server ", " failed (SERVFAIL) for host \"half.test\"");
    clear(&servers[0]);
    resolve("fail.test");
    expect_failure(&last, "name server ", " failed (SERVFAIL) for host \"fail.test\"");
    assert_int_equal(servers[0].count, 4); /* two rounds */
    resolve("refused.test");
    expect_failure(&last, "name server ", " failed (REFUSED) for host \"refused.test\"");
}

static void next_server(void **state)
{
    static const struct rule bad[] = {{.name = "fail.test", .rcode = 2},
                                      {.name = "mute.test", .how = SILENT},
                                      {.name = "garbage.test", .how = GARBAGE},
                                      {0}};
    static const struct rule good[] = {{.addr = "10.0.0.1", .ttl = 60}, {0}};
    (void)state;
    servers[0].rules = bad;
    servers[1].rules = good;
    configure(2, "options no-aaaa");
    resolve("fail.test");
    expect(&last, "10.0.0.1");

    static const char *const silent[] = {"mute.test", "garbage.test"};
    for (size_t i = 0; i < ARRAY_LEN(silent); i++) {
        clear(&servers[0]);
        clear(&servers[1]);
        start(&last, silent[i]);
        until_asked(&servers[0], 1);
        advance(SECONDS(1) - 1);
        assert_int_equal(servers[1].count, 0);
        advance(1);
        until_done(&last);
        expect(&last, "10.0.0.1");
    }

    stop_server(&servers[0]); /* so that nobody listens there */
    resolve("dead.test");
    expect(&last, "10.0.0.1");
    start_server(&servers[0]);
}

/* A lost packet costs a second. A single server is asked again. */
static void lost_packet(void **state)
{
    static const struct rule mute[] = {{.how = SILENT}, {0}};
    static const struct rule good[] = {{.addr = "10.0.0.1", .ttl = 60}, {0}};
    (void)state;
    servers[0].rules = mute;
    configure(1, "options no-aaaa");
    start(&last, "mail.test");
    until_asked(&servers[0], 1);
    servers[0].rules = good;
    advance(SECONDS(1) - 1);
    assert_int_equal(servers[0].count, 1);
    advance(1);
    until_done(&last);
    expect(&last, "10.0.0.1");
    assert_int_equal(servers[0].count, 2);
    assert_int_not_equal(servers[0].ids[0], servers[0].ids[1]);
    assert_int_not_equal(servers[0].ports[0], servers[0].ports[1]);
    assert_int_equal(open_sockets, 0);
}

/* A slow server is asked again and then answers the first question. That answer counts. */
static void late_answer(void **state)
{
    static const struct rule late[] = {{.addr = "10.0.0.1", .ttl = 60, .how = LATER}, {0}};
    static const struct rule mute[] = {{.how = SILENT}, {0}};
    (void)state;
    servers[0].rules = late;
    servers[1].rules = mute;
    configure(2, "options no-aaaa");
    start(&last, "mail.test");
    until_asked(&servers[0], 1);
    advance(SECONDS(1));
    until_asked(&servers[1], 1);
    advance(SECONDS(1));
    assert_int_equal(last.calls, 0);
    send_later(&servers[0]);
    until_done(&last);
    expect(&last, "10.0.0.1");
    assert_int_equal(open_sockets, 0);

    /* Another server's failure does not end the wait for the slow server. */
    static const struct rule bad[] = {{.name = "other.test", .rcode = 2}, {0}};
    servers[1].rules = bad;
    configure(2, "options no-aaaa timeout:5 attempts:1");
    start(&last, "other.test");
    until_asked(&servers[0], 2);
    advance(SECONDS(1));
    until_asked(&servers[1], 2);
    for (int i = 0; i < 3; i++) {
        turn();
    }
    assert_int_equal(last.calls, 0);
    send_later(&servers[0]);
    until_done(&last);
    expect(&last, "10.0.0.1");
}

/* There are as many attempts as resolv.conf says. The pauses between them are 1 s, 2 s and then the
 * timeout; the last attempt also waits for the timeout. */
static void silence_everywhere(void **state)
{
    static const struct rule mute[] = {{.how = SILENT}, {0}};
    static const int64_t pauses[] = {SECONDS(1), SECONDS(2), SECONDS(3), SECONDS(3)};
    char text[200];
    (void)state;
    servers[0].rules = servers[1].rules = mute;
    configure(2, "search a.test\noptions timeout:3 attempts:2");
    start(&last, "mail.test");
    for (size_t i = 0; i < 4; i++) {
        until_asked(&servers[i % 2], 2 * (i / 2 + 1));
        advance(pauses[i] - 1);
        assert_int_equal(servers[0].count + servers[1].count, 2 * (i + 1));
        assert_int_equal(last.calls, 0);
        advance(1);
    }
    until_done(&last);
    text_fmt(text, sizeof(text),
             "no answer from name servers 127.0.0.1:%u, 127.0.0.1:%u for host \"mail.test\" "
             "within 9 s",
             servers[0].port, servers[1].port);
    expect(&last, text);
    assert_int_equal(open_sockets, 0);
}

/* A query ends after 30 s, whatever resolv.conf says. */
static void query_time_is_bounded(void **state)
{
    static const struct rule mute[] = {{.how = SILENT}, {0}};
    (void)state;
    servers[0].rules = mute;
    configure(1, "options timeout:30 attempts:5");
    start(&last, "mail.test");
    static const int64_t pauses[] = {1, 2, 4, 8};
    for (size_t i = 0; i < ARRAY_LEN(pauses); i++) {
        until_asked(&servers[0], 2 * (i + 1));
        advance(SECONDS(pauses[i]));
    }
    until_asked(&servers[0], 2 * 5);
    assert_int_equal(open_sockets, 2 * 5);
    advance(SECONDS(15) - 1);
    assert_int_equal(last.calls, 0);
    advance(1);
    until_done(&last);
    expect_failure(&last, "no answer from name server ", " for host \"mail.test\" within 30 s");
}

static void one_family_is_silent(void **state)
{
    static const struct rule rules[] = {{.name = "four.test", .type = AAAA, .how = SILENT},
                                        {.name = "four.test", .addr = "10.0.0.4", .ttl = 600},
                                        {.name = "six.test", .type = A, .how = SILENT},
                                        {.name = "six.test", .addr = "fd00::6", .ttl = 600},
                                        {.name = "gone.test", .type = A, .how = SILENT},
                                        {0}};
    (void)state;
    servers[0].rules = rules;
    configure(1, "options attempts:1");
    start(&last, "four.test");
    until_asked(&servers[0], 2);
    for (int i = 0; i < 3; i++) {
        turn(); /* enough for the answer to arrive */
    }
    assert_int_equal(last.calls, 0);
    advance(MILLIS(50));
    until_done(&last);
    expect(&last, "10.0.0.4");

    clear(&servers[0]);
    advance(SECONDS(29));
    resolve("four.test");
    assert_int_equal(servers[0].count, 0);
    advance(SECONDS(2)); /* an incomplete answer is remembered for less than its TTL */
    start(&last, "four.test");
    until_asked(&servers[0], 2);
    dns_cancel(last.query);

    clear(&servers[0]);
    start(&last, "six.test");
    until_asked(&servers[0], 2);
    for (int i = 0; i < 3; i++) {
        turn();
    }
    advance(MILLIS(999));
    assert_int_equal(last.calls, 0);
    advance(MILLIS(1));
    until_done(&last);
    expect(&last, "fd00::6");

    clear(&servers[0]);
    start(&last, "gone.test");
    until_asked(&servers[0], 2);
    turn();
    advance(SECONDS(5));
    until_done(&last);
    expect(&last, "host \"gone.test\" does not exist (NXDOMAIN)");
}

static void over_tcp(void **state)
{
    static const struct rule rules[] = {
        {.name = "big.test", .addr = "10.0.0.1", .ttl = 60, .how = TRUNCATE},
        {.name = "shut.test", .how = TRUNCATE, .how_tcp = SHUT},
        {.name = "garbage.test", .how = TRUNCATE, .how_tcp = GARBAGE},
        {.name = "again.test", .how = TRUNCATE, .how_tcp = TRUNCATE},
        {.name = "mute.test", .how = TRUNCATE, .how_tcp = SILENT},
        {0}};
    (void)state;
    servers[0].rules = rules;
    configure(1, "options no-aaaa attempts:1");
    resolve("big.test");
    expect(&last, "10.0.0.1");
    assert_string_equal(servers[0].asked, "A big.test, TCP A big.test");
    resolve("shut.test");
    expect_failure(&last, "name server ",
                   " failed over TCP, after a truncated answer (closed the connection) for host "
                   "\"shut.test\"");
    resolve("garbage.test");
    expect_failure(
        &last, "name server ",
        " failed over TCP, after a truncated answer (malformed answer) for host \"garbage.test\"");
    resolve("again.test");
    expect_failure(
        &last, "name server ",
        " failed over TCP, after a truncated answer (truncated again) for host \"again.test\"");
    clear(&servers[0]);
    start(&last, "mute.test");
    until_asked(&servers[0], 2);
    advance(SECONDS(5));
    until_done(&last);
    expect_failure(&last, "name server ",
                   " failed over TCP, after a truncated answer (no answer) for host \"mute.test\"");
    assert_int_equal(open_sockets, 0);

    clear(&servers[0]);
    configure(1, "options no-aaaa use-vc");
    resolve("big.test");
    assert_string_equal(servers[0].asked, "TCP A big.test");
}

static void no_connection(void **state)
{
    static const struct rule rules[] = {{.how = TRUNCATE}, {0}};
    (void)state;
    servers[0].rules = rules;
    configure(1, "");
    int listener = servers[0].listener.fd;
    loop_forget(loop, &servers[0].listener);
    close(listener);
    resolve("big.test");
    expect_failure(&last, "name server ",
                   " failed over TCP, after a truncated answer (Connection refused) for host "
                   "\"big.test\"");
    no_sockets = true;
    resolve("mail.test");
    expect_failure(&last, "name server ", " failed (Too many open files) for host \"mail.test\"");
    configure(1, "options use-vc");
    resolve("mail.test");
    expect_failure(&last, "name server ",
                   " failed over TCP (socket: Too many open files) for host \"mail.test\"");
}

static void false_answers_are_ignored(void **state)
{
    static const struct rule rules[] = {{.addr = "10.0.0.1", .ttl = 60, .how = FALSE_FIRST}, {0}};
    (void)state;
    servers[0].rules = rules;
    configure(1, "");
    resolve("mail.test");
    expect(&last, "10.0.0.1");
    assert_int_equal(servers[0].count, 2);
}

static void rotation(void **state)
{
    static const struct rule rules[] = {{.addr = "10.0.0.1", .ttl = 60}, {0}};
    (void)state;
    servers[0].rules = servers[1].rules = rules;
    configure(2, "options rotate no-aaaa");
    resolve("a.test");
    resolve("b.test");
    assert_int_equal(servers[0].count, 1);
    assert_int_equal(servers[1].count, 1);
}

/* ---- what is remembered ---- */

/* Resolves the name and returns whether a server was asked. */
static bool asks(const char *name)
{
    clear(&servers[0]);
    resolve(name);
    return servers[0].count > 0;
}

static void lifetimes(void **state)
{
    static const struct rule rules[] = {{.name = "mail.test", .addr = "10.0.0.1", .ttl = 60},
                                        {.name = "never.test", .addr = "10.0.0.1", .ttl = 0},
                                        {.name = "year.test", .addr = "10.0.0.1", .ttl = 31536000},
                                        {.name = "no.test", .rcode = 3, .ttl = 20},
                                        {.name = "no-year.test", .ttl = 31536000},
                                        {.name = "no-soa.test", .rcode = 3},
                                        {.name = "fail.test", .rcode = 2},
                                        {0}};
    (void)state;
    static const struct {
        const char *name;
        int64_t lifetime;
    } table[] = {{"mail.test", SECONDS(60)},
                 {"never.test", SECONDS(1)},
                 {"year.test", SECONDS(3600)},
                 {"no.test", SECONDS(20)},
                 {"no-year.test", SECONDS(60)},
                 {"no-soa.test", 0},
                 {"fail.test", 0}};
    servers[0].rules = rules;
    configure(1, "options no-aaaa");
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        assert_true(asks(table[i].name));
        if (table[i].lifetime) {
            char before[FAIL_TEXT_MAX];
            text_fmt(before, sizeof(before), "%s", last.result.err.text);
            size_t n = last.result.n;
            advance(table[i].lifetime - 1);
            assert_false(asks(table[i].name));
            assert_int_equal(last.result.n, n);
            assert_string_equal(last.result.err.text, before);
            advance(1);
        }
        assert_true(asks(table[i].name));
    }
    resolve("mail.test");
    assert_false(asks("MAIL.test"));
    /* A name with a final dot is another question, without the search list. */
    assert_true(asks("mail.test."));
}

static void changed_configuration(void **state)
{
    static const struct rule old[] = {{.addr = "10.0.0.1", .ttl = 600}, {0}};
    static const struct rule new[] = {{.addr = "10.0.0.2", .ttl = 600}, {0}};
    (void)state;
    servers[0].rules = old;
    configure(1, "");
    resolve("mail.test");
    expect(&last, "10.0.0.1");
    servers[0].rules = new;
    configure(1, "# changed");
    resolve("mail.test");
    expect(&last, "10.0.0.2");

    /* An answer to a question from before the change is given to the caller but not remembered. */
    static const struct rule mute[] = {{.how = SILENT}, {0}};
    servers[0].rules = mute;
    clear(&servers[0]);
    configure(1, "options attempts:5");
    start(&last, "late.test");
    until_asked(&servers[0], 2);
    configure(1, "# changed again, longer\noptions attempts:5");
    struct outcome other;
    start(&other, "10.0.0.1");
    until_done(&other);
    servers[0].rules = old;
    advance(SECONDS(5));
    until_done(&last);
    expect(&last, "10.0.0.1");
    assert_true(asks("late.test"));
}

static void bound_of_memory(void **state)
{
    static const struct rule rules[] = {{.addr = "10.0.0.1", .ttl = 600}, {0}};
    char name[32];
    (void)state;
    servers[0].rules = rules;
    configure(1, "options no-aaaa");
    for (int i = 0; i < 1024; i++) {
        text_fmt(name, sizeof(name), "host%d.test", i);
        assert_true(asks(name));
    }
    assert_false(asks("host0.test")); /* so that it is the most recently used name */
    assert_true(asks("one-more.test"));
    assert_false(asks("host0.test"));
    assert_true(asks("host1.test"));
}

/* ---- several at once ---- */

static void one_question_for_all(void **state)
{
    static const struct rule rules[] = {{.addr = "10.0.0.1", .ttl = 60}, {0}};
    struct outcome o[5];
    (void)state;
    servers[0].rules = rules;
    configure(1, "");
    for (size_t i = 0; i < ARRAY_LEN(o); i++) {
        start(&o[i], i % 2 ? "mail.test" : "Mail.TEST");
    }
    dns_cancel(o[1].query); /* before the query has started */
    turn();
    dns_cancel(o[2].query); /* while the query waits */
    until_done(&o[0]);
    for (size_t i = 0; i < ARRAY_LEN(o); i++) {
        assert_int_equal(o[i].calls, i == 1 || i == 2 ? 0 : 1);
    }
    expect(&o[4], "10.0.0.1");
    assert_int_equal(servers[0].count, 2);
}

static void cancelled(void **state)
{
    static const struct rule rules[] = {{.how = SILENT}, {0}};
    struct outcome other;
    (void)state;
    servers[0].rules = rules;
    configure(1, "");
    start(&last, "mail.test");
    until_asked(&servers[0], 2);
    assert_int_equal(open_sockets, 2);
    dns_cancel(last.query);
    dns_cancel(NULL);
    assert_int_equal(open_sockets, 0);
    advance(SECONDS(60));
    assert_int_equal(last.calls, 0);

    start(&last, "mail.test");
    until_asked(&servers[0], 4);
    start(&other, "other.test");
    dns_free(dns);
    advance(SECONDS(60));
    assert_int_equal(last.calls, 0);
    assert_int_equal(other.calls, 0);
    dns = dns_new(loop, conf_path, hosts_path);
}

/* A callback may ask again and cancel others that wait for the same answer. */
static struct outcome victim, again;

static void on_done_busy(const struct dns_result *result, void *arg)
{
    on_done(result, arg);
    dns_cancel(victim.query);
    start(&again, "mail.test");
}

static void busy_callback(void **state)
{
    static const struct rule rules[] = {{.addr = "10.0.0.1", .ttl = 0}, {0}};
    (void)state;
    servers[0].rules = rules;
    configure(1, "");
    memset(&last, 0, sizeof(last));
    last.query = dns_resolve(dns, "mail.test", (struct dns_handler){on_done_busy, &last});
    start(&victim, "mail.test");
    until_done(&last);
    until_done(&again);
    assert_int_equal(victim.calls, 0);
    expect(&again, "10.0.0.1");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_asking),
        TEST(hosts_file_changes),
        TEST(both_families),
        TEST(search_list),
        TEST(failures),
        TEST(next_server),
        TEST(lost_packet),
        TEST(late_answer),
        TEST(silence_everywhere),
        TEST(query_time_is_bounded),
        TEST(one_family_is_silent),
        TEST(over_tcp),
        TEST(no_connection),
        TEST(false_answers_are_ignored),
        TEST(rotation),
        TEST(lifetimes),
        TEST(changed_configuration),
        TEST(bound_of_memory),
        TEST(one_question_for_all),
        TEST(cancelled),
        TEST(busy_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
