/* The admin port: health, readiness, metrics. */
#include "admin/pages.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "http/server.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/metric.h"
#include "lib/sys.h"

/* While many clients are connected, costly pages may take a tenth of the processor's time, so that
 * strangers who ask for them without end do not slow the sessions down. Unused time is saved, up to
 * a bound. */
enum { SHARE = 10 };
#define CREDIT_MAX MILLIS(200)

struct admin {
    struct loop *loop;
    struct http_server *server;
    struct admin_sources sources;
    int64_t cpu, wall;  /* at the last scrape: processor time used, and the clock */
    int64_t credit, at; /* time that costly pages may take, and when that was computed */
};

/* ---- figures of the process ---- */

/* Returns the processor time of the process, user and system, in microseconds. */
static int64_t cpu_time(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return SECONDS(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

/* Returns the resident memory in bytes, or 0 when /proc does not tell it. It is the second field of
 * proc_pid_statm(5), in pages. */
static uint64_t resident_memory(void)
{
    char text[128];
    uint64_t pages;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t n = read(fd, text, sizeof(text));
    close(fd);
    struct str rest = {text, n > 0 ? (size_t)n : 0};
    str_word(&rest);
    if (text_number(str_word(&rest), INT64_MAX / 65536, &pages) == ERR) {
        return 0;
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Returns the processor time used since the previous scrape, in percent of one processor. */
static double cpu_percent(struct admin *a)
{
    int64_t cpu = cpu_time(), wall = sys->now();
    double percent = wall > a->wall ? 100.0 * (double)(cpu - a->cpu) / (double)(wall - a->wall) : 0;
    a->cpu = cpu;
    a->wall = wall;
    return percent;
}

static void process_metrics(struct admin *a, struct buf *out)
{
    struct loop_stats loop = loop_stats(a->loop);
    metric_gauge(out, "tp_cpu_percent",
                 "Processor time used since the last scrape, percent of one processor.",
                 cpu_percent(a));
    metric_gauge(out, "tp_memory_bytes", "Resident memory.", (double)resident_memory());
    metric_counter(out, "tproxy_loop_turns_total", "Turns of the event loop.", loop.turns);
    metric_gauge(out, "tproxy_loop_turn_longest_seconds",
                 "Longest turn of the event loop so far, without its wait.",
                 (double)loop.longest_turn / 1e6);
    metric_counter(out, "tproxy_log_dropped_total", "Log lines dropped because nobody read them.",
                   log_dropped());
    metric_head(out, "tproxy_build_info", METRIC_GAUGE, "The version that runs; always 1.");
    metric_count(out, "tproxy_build_info",
                 (struct metric_label[]){{"version", a->sources.version}, {0}}, 1);
}

/* ---- pages ---- */

static void say(struct http_reply *reply, int status, const char *text)
{
    reply->status = buf_fmt(&reply->body, "%s\n", text) == OK ? status : 500;
}

static void healthz(struct admin *a, struct http_reply *reply)
{
    (void)a;
    say(reply, 200, "ok");
}

static void readyz(struct admin *a, struct http_reply *reply)
{
    const char *why = "not ready";
    bool ready = a->sources.ready(&why, a->sources.arg);
    say(reply, ready ? 200 : 503, ready ? "ok" : why);
}

static void metrics(struct admin *a, struct http_reply *reply)
{
    if (!a->sources.metrics(&reply->body, a->sources.arg)) {
        say(reply, 404, "metrics are off: see spec.config.metrics.prometheus.enabled");
        return;
    }
    reply->status = 200;
    reply->content_type = "text/plain; version=0.0.4; charset=utf-8";
    process_metrics(a, &reply->body);
}

/* Replies with the JSON in the body. `rc` is the result of the function that wrote it. */
static void show_json(struct http_reply *reply, int rc)
{
    if (rc == OK) {
        reply->status = 200;
        reply->content_type = "application/json";
    } else {
        buf_free(&reply->body);
        say(reply, 500, "the answer is too large");
    }
}

static void status(struct admin *a, struct http_reply *reply)
{
    static const char *const levels[] = {
        [ADMIN_OK] = "ok", [ADMIN_WARNING] = "warning", [ADMIN_CRITICAL] = "critical"};
    struct admin_health h = a->sources.health(a->sources.arg);
    int rc = json_fmt(&reply->body,
                      "{'Status':%s,'Components':{"
                      "'sap-transp-proxy-manager':{'Status':%s,'Message':%s},"
                      "'sap-transp-proxy-tcp':{'Status':%s,'Message':%s}}}",
                      levels[h.proxy > h.manager ? h.proxy : h.manager], levels[h.manager],
                      h.manager_message, levels[h.proxy], h.proxy_message);
    show_json(reply, rc);
}

static void resources(struct admin *a, struct http_reply *reply)
{
    show_json(reply, a->sources.resources(&reply->body, a->sources.arg));
}

/* Shows a page whose cost grows with the number of targets and resources. */
static void show_costly(struct admin *a, struct http_reply *reply, bool crowded,
                        void (*show)(struct admin *a, struct http_reply *reply))
{
    int64_t now = sys->now(), credit = a->credit + (now - a->at) / SHARE;
    a->credit = credit < CREDIT_MAX ? credit : CREDIT_MAX;
    a->at = now;
    if (crowded && a->credit <= 0) {
        say(reply, 503, "too many requests: try again in a few seconds");
        return;
    }
    show(a, reply);
    if (crowded) {
        a->credit -= sys->now() - now;
    }
}

static void serve(const struct http_request *request, struct http_reply *reply, void *arg)
{
    static const struct {
        const char *path;
        void (*show)(struct admin *a, struct http_reply *reply);
        bool costly;
    } pages[] = {{"/healthz", healthz, false},
                 {"/readyz", readyz, false},
                 {"/status", status, true},
                 {"/destinationCRs", resources, true},
                 {"/metrics", metrics, true}};
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        if (!str_eq(request->path, pages[i].path)) {
            continue;
        }
        if (pages[i].costly) {
            show_costly(arg, reply, request->crowded, pages[i].show);
        } else {
            pages[i].show(arg, reply);
        }
        return;
    }
}

/* ---- life ---- */

struct admin *admin_new(struct loop *loop, const char *address, struct admin_sources sources,
                        struct error *err)
{
    struct admin *a = mem_zalloc(sizeof(*a));
    a->loop = loop;
    a->sources = sources;
    a->cpu = cpu_time();
    a->wall = a->at = sys->now();
    a->credit = CREDIT_MAX;
    a->server = http_server_new(loop, address, (struct http_server_handler){serve, a}, err);
    if (!a->server) {
        free(a);
        return NULL;
    }
    return a;
}

void admin_free(struct admin *a)
{
    if (a) {
        http_server_free(a->server);
        free(a);
    }
}

uint16_t admin_port(const struct admin *a)
{
    return http_server_port(a->server);
}
