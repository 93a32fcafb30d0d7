/* Tests admin/pages: the pages of the admin port, as a client gets them. */
#include "admin/pages.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/loop.h"
#include "lib/metric.h"
#include "lib/sys.h"

static struct loop *loop;
static struct admin *admin;
static const char *missing;
static bool metrics_on;
static enum admin_level manager;
static bool too_large;
static char page[65536];
static bool costly; /* the page of metrics takes 100 ms */
static int64_t clock_now;

static int64_t stopped_now(void)
{
    return clock_now;
}

static bool ready(const char **why, void *arg)
{
    assert_ptr_equal(arg, &missing);
    if (missing) {
        *why = missing;
    }
    return !missing;
}

static bool metrics(struct buf *out, void *arg)
{
    assert_ptr_equal(arg, &missing);
    clock_now += costly ? MILLIS(100) : 0;
    if (metrics_on) {
        metric_gauge(out, "tp_open_tcp_connections", "Open.", 3);
    }
    return metrics_on;
}

static struct admin_health health_of(void *arg)
{
    assert_ptr_equal(arg, &missing);
    return (struct admin_health){.proxy = ADMIN_OK,
                                 .proxy_message = "fine",
                                 .manager = manager,
                                 .manager_message = "say \"what\""};
}

static int resources(struct buf *out, void *arg)
{
    assert_ptr_equal(arg, &missing);
    int rc = buf_fmt(out, "{\"Status\":\"ok\",\"CustomResources\":[%s", too_large ? "" : "]}");
    return too_large ? ERR : rc;
}

static int setup(void **state)
{
    (void)state;
    struct error err;
    missing = NULL;
    loop = loop_new(&err);
    metrics_on = true;
    too_large = false;
    manager = ADMIN_OK;
    struct admin_sources sources = {.ready = ready,
                                    .metrics = metrics,
                                    .health = health_of,
                                    .resources = resources,
                                    .arg = &missing,
                                    .version = "1.2\"3"};
    admin = admin_new(loop, "127.0.0.1:0", sources, &err);
    assert_non_null(admin);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sys = &sys_real;
    costly = false;
    admin_free(admin);
    loop_turn(loop, false);
    loop_free(loop);
    return 0;
}

/* Fetches a page over a connection of its own and stores the whole answer in `page`. */
static void get(const char *path)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(admin_port(admin)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char request[128];
    size_t len = 0;
    ssize_t n = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    snprintf(request, sizeof(request), "GET %s HTTP/1.0\r\n\r\n", path);
    assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
    int64_t until = sys_real.now() + SECONDS(60);
    while (n > 0 && sys_real.now() < until) {
        struct pollfd can = {.fd = fd, .events = POLLIN};
        loop_turn(loop, false);
        if (poll(&can, 1, 1) > 0) {
            n = recv(fd, page + len, sizeof(page) - 1 - len, 0);
            len += n > 0 ? (size_t)n : 0;
        }
    }
    assert_int_equal(n, 0);
    page[len] = '\0';
    close(fd);
}

static void expect(const char *status, const char *body)
{
    assert_non_null(strstr(page, status));
    const char *end = strstr(page, "\r\n\r\n");
    assert_non_null(end);
    assert_string_equal(end + 4, body);
}

static void health(void **state)
{
    (void)state;
    get("/healthz");
    expect("HTTP/1.1 200 OK\r\n", "ok\n");
    get("/healthz?verbose");
    expect("HTTP/1.1 200 OK\r\n", "ok\n");
    get("/healthz/x");
    expect("HTTP/1.1 404 Not Found\r\n", "not found\n");
    get("/");
    expect("HTTP/1.1 404 Not Found\r\n", "not found\n");
}

static void readiness(void **state)
{
    (void)state;
    get("/readyz");
    expect("HTTP/1.1 200 OK\r\n", "ok\n");
    missing = "draining";
    get("/readyz");
    expect("HTTP/1.1 503 Service Unavailable\r\n", "draining\n");
    get("/healthz");
    expect("HTTP/1.1 200 OK\r\n", "ok\n");
}

/* Returns the value of the sample whose line begins with `name` and a blank. */
static double value(const char *name)
{
    char start[128];
    snprintf(start, sizeof(start), "\n%s ", name);
    const char *at = strstr(page, start);
    if (!at) {
        fail_msg("no %s in %s", name, page);
        return 0;
    }
    return strtod(at + strlen(start), NULL);
}

static void metrics_page(void **state)
{
    (void)state;
    get("/metrics");
    assert_non_null(strstr(page, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert_true(value("tp_open_tcp_connections") == 3);
    assert_true(value("tp_memory_bytes") > 100000);
    assert_true(value("tp_cpu_percent") >= 0);
    assert_true(value("tproxy_loop_turns_total") > 0);
    assert_true(value("tproxy_loop_turn_longest_seconds") >= 0);
    assert_true(value("tproxy_log_dropped_total") >= 0);
    assert_true(value("tproxy_build_info{version=\"1.2\\\"3\"}") == 1);
}

static void metrics_off(void **state)
{
    (void)state;
    metrics_on = false;
    get("/metrics");
    expect("HTTP/1.1 404 Not Found\r\n",
           "metrics are off: see spec.config.metrics.prometheus.enabled\n");
}

/* The overall status is the worst status of its parts. */
static void status_page(void **state)
{
    (void)state;
    static const char *const names[] = {"ok", "warning", "critical"};
    for (manager = ADMIN_OK; manager <= ADMIN_CRITICAL; manager++) {
        char body[512];
        snprintf(body, sizeof(body),
                 "{\"Status\":\"%s\",\"Components\":{\"sap-transp-proxy-manager\":"
                 "{\"Status\":\"%s\",\"Message\":\"say \\\"what\\\"\"},"
                 "\"sap-transp-proxy-tcp\":{\"Status\":\"ok\",\"Message\":\"fine\"}}}",
                 names[manager], names[manager]);
        get("/status");
        expect("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n", body);
    }
}

static void resources_page(void **state)
{
    (void)state;
    get("/destinationCRs");
    expect("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
           "{\"Status\":\"ok\",\"CustomResources\":[]}");
    too_large = true;
    get("/destinationCRs");
    expect("HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n",
           "the answer is too large\n");
}

/* The percentage covers the time since the previous scrape. */
static void cpu_between_scrapes(void **state)
{
    (void)state;
    volatile unsigned sum = 0;
    get("/metrics");
    for (unsigned i = 0; i < 30000000; i++) {
        sum += i;
    }
    (void)sum;
    get("/metrics");
    assert_true(value("tp_cpu_percent") > 0);
    assert_true(value("tp_cpu_percent") <= 100.0 * 16);
}

/* Endless requests of a crowd for costly pages are refused after a while. Probes and a client that
 * comes alone are never refused. The clock stands still except for the time that the pages take, so
 * that a busy machine does not add to it. */
static void crowd_gets_no_costly_pages(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(admin_port(admin)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fds[9];
    static struct sys table;
    table = sys_real;
    table.now = stopped_now;
    clock_now = sys_real.now();
    sys = &table;
    costly = true;
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fds[i], (struct sockaddr *)&at, sizeof(at)), 0);
    }
    for (int i = 0; i < 3; i++) {
        get("/metrics");
        assert_non_null(strstr(page, "HTTP/1.1 200 "));
    }
    get("/metrics");
    expect("HTTP/1.1 503 ", "too many requests: try again in a few seconds\n");
    get("/healthz");
    expect("HTTP/1.1 200 ", "ok\n");
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
    get("/healthz");
    get("/metrics");
    assert_non_null(strstr(page, "HTTP/1.1 200 "));
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
#define WITH_ADMIN(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_ADMIN(health),
        WITH_ADMIN(readiness),
        WITH_ADMIN(metrics_page),
        WITH_ADMIN(metrics_off),
        WITH_ADMIN(status_page),
        WITH_ADMIN(resources_page),
        WITH_ADMIN(cpu_between_scrapes),
        WITH_ADMIN(crowd_gets_no_costly_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
