/* tproxy: flags, wiring, signals, drain. What belongs to the whole process is in `struct process`.
 */
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "admin.h"
#include "admin_socket.h"
#include "core/destination.h"
#include "dest_source.h"
#include "lib/addr.h"
#include "lib/conn.h"
#include "lib/dns.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/pipes.h"
#include "lib/text.h"
#include "lib/tls.h"
#include "local.h"
#include "pop3.h"

#ifndef TPROXY_VERSION
#define TPROXY_VERSION "unknown"
#endif

/* Descriptors for everything that is no session, and for one: a client, its backend, and a client
 * of an earlier session that lingers. */
enum { SPARE_DESCRIPTORS = 128, DESCRIPTORS_PER_SESSION = 3, LINGERING_LEAST = 64 };

/* Memory likewise, of the limit of the control group. */
#define BASE_MEMORY (16ull << 20)
#define SESSION_MEMORY (64ull << 10) /* with TLS, and with a queue on one side now and then */

/* How long connections have after the grace period, or the second signal, to take what is left. */
#define LAST_BYTES SECONDS(2)

/* When a reader of the log that takes nothing is tried again. */
#define LOG_RETRY MILLIS(200)

/* ---- flags ---- */

struct options {
    const char *local_dir;
    const char *listen_text;
    union addr listen;              /* the same */
    uint16_t first_port, last_port; /* 0, 0: any */
    const char *admin;
    const char *control;
    enum log_level log_level;
    enum log_format log_format;
    const char *ca_file, *resolv_conf, *hosts;
    int64_t drain_delay, grace;
    struct pop3_config pop3;
};

static const struct options defaults = {
    .listen_text = "127.0.0.1",
    .first_port = 1110,
    .last_port = 2109,
    .admin = "127.0.0.1:9494",
    .control = "tproxy",
    .log_level = LOG_INFO,
    .log_format = LOG_FORMAT_JSON,
    .resolv_conf = "/etc/resolv.conf",
    .hosts = "/etc/hosts",
    .drain_delay = 0,
    .grace = SECONDS(60),
    .pop3 = {.login_timeout = SECONDS(60),
             .answer_timeout = SECONDS(30),
             .idle_timeout = SECONDS(600),
             .allow_local = true},
};

static const char usage[] =
    "tproxy - a POP3 proxy that logs in for its clients\n"
    "\n"
    "  tproxy --local DIR [OPTION...]      serve the destinations in DIR/*.json\n"
    "  tproxy log-level [LEVEL]            show or change the log level of the running tproxy\n"
    "\n"
    "  --local DIR            directory of destinations as exported from the BTP cockpit\n"
    "  --listen ADDRESS       address of the targets (127.0.0.1)\n"
    "  --target-ports A-B     their ports (1110-2109); 0: whichever is free\n"
    "  --admin ADDRESS:PORT   /healthz, /readyz, /metrics (127.0.0.1:9494); off: none\n"
    "  --control NAME         name of the control socket (tproxy); off: none\n"
    "  --log-level LEVEL      trace, debug, info, warn, error or fatal (info)\n"
    "  --log-format FORMAT    json or text (json)\n"
    "  --ca-file FILE         trusted certificates, PEM (SSL_CERT_FILE, or the system's)\n"
    "  --resolv-conf FILE     name servers (/etc/resolv.conf)\n"
    "  --hosts FILE           names that are not asked for (/etc/hosts)\n"
    "  --login-timeout S      from the greeting to the login (60)\n"
    "  --answer-timeout S     for one answer of the mail server during the login (30)\n"
    "  --idle-timeout S       of a session without a byte (600)\n"
    "  --max-sessions N       at most half of them for one target (what descriptors and memory "
    "allow)\n"
    "  --drain-delay S        after SIGTERM, accept for so long (0)\n"
    "  --grace S              then wait so long for sessions to end (60)\n"
    "  --version, --help\n";

enum flag {
    FLAG_LOCAL = 256,
    FLAG_LISTEN,
    FLAG_TARGET_PORTS,
    FLAG_ADMIN,
    FLAG_CONTROL,
    FLAG_LOG_LEVEL,
    FLAG_LOG_FORMAT,
    FLAG_CA_FILE,
    FLAG_RESOLV_CONF,
    FLAG_HOSTS,
    FLAG_LOGIN_TIMEOUT,
    FLAG_ANSWER_TIMEOUT,
    FLAG_IDLE_TIMEOUT,
    FLAG_MAX_SESSIONS,
    FLAG_DRAIN_DELAY,
    FLAG_GRACE,
    FLAG_VERSION,
    FLAG_HELP,
};

static const struct option flags[] = {
    {"local", required_argument, NULL, FLAG_LOCAL},
    {"listen", required_argument, NULL, FLAG_LISTEN},
    {"target-ports", required_argument, NULL, FLAG_TARGET_PORTS},
    {"admin", required_argument, NULL, FLAG_ADMIN},
    {"control", required_argument, NULL, FLAG_CONTROL},
    {"log-level", required_argument, NULL, FLAG_LOG_LEVEL},
    {"log-format", required_argument, NULL, FLAG_LOG_FORMAT},
    {"ca-file", required_argument, NULL, FLAG_CA_FILE},
    {"resolv-conf", required_argument, NULL, FLAG_RESOLV_CONF},
    {"hosts", required_argument, NULL, FLAG_HOSTS},
    {"login-timeout", required_argument, NULL, FLAG_LOGIN_TIMEOUT},
    {"answer-timeout", required_argument, NULL, FLAG_ANSWER_TIMEOUT},
    {"idle-timeout", required_argument, NULL, FLAG_IDLE_TIMEOUT},
    {"max-sessions", required_argument, NULL, FLAG_MAX_SESSIONS},
    {"drain-delay", required_argument, NULL, FLAG_DRAIN_DELAY},
    {"grace", required_argument, NULL, FLAG_GRACE},
    {"version", no_argument, NULL, FLAG_VERSION},
    {"help", no_argument, NULL, FLAG_HELP},
    {0},
};

static void die(const char *fmt, ...) printf_like(1, 2) __attribute__((noreturn));

static void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("tproxy: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(2);
}

static uint64_t number(const char *flag, const char *value, uint64_t least, uint64_t most)
{
    uint64_t n;
    if (text_number(str_of(value), most, &n) != OK || n < least) {
        die("--%s %s: a number from %llu to %llu is needed", flag, value, (unsigned long long)least,
            (unsigned long long)most);
    }
    return n;
}

static int64_t seconds(const char *flag, const char *value, uint64_t least)
{
    return SECONDS(number(flag, value, least, 24 * 3600));
}

static void parse_ports(struct options *o, const char *value)
{
    struct str rest = str_of(value);
    struct str first = str_cut(&rest, '-');
    uint64_t a, b;
    if (str_eq(first, "0") && rest.n == 0) {
        o->first_port = o->last_port = 0;
        return;
    }
    if (text_number(first, 65535, &a) != OK || text_number(rest, 65535, &b) != OK || a == 0 ||
        b < a) {
        die("--target-ports %s: two ports A-B are needed, A not above B, or 0", value);
    }
    o->first_port = (uint16_t)a;
    o->last_port = (uint16_t)b;
}

static void parse_flag(struct options *o, int flag, const char *name, const char *value)
{
    switch ((enum flag)flag) {
    case FLAG_LOCAL:
        o->local_dir = value;
        break;
    case FLAG_LISTEN:
        o->listen_text = value;
        break;
    case FLAG_TARGET_PORTS:
        parse_ports(o, value);
        break;
    case FLAG_ADMIN:
        o->admin = strcmp(value, "off") == 0 ? NULL : value;
        break;
    case FLAG_CONTROL:
        o->control = strcmp(value, "off") == 0 ? NULL : value;
        break;
    case FLAG_LOG_LEVEL:
        if (log_level_parse(str_of(value), &o->log_level) != OK) {
            die("--log-level %s: trace, debug, info, warn, error or fatal", value);
        }
        break;
    case FLAG_LOG_FORMAT:
        if (strcmp(value, "json") != 0 && strcmp(value, "text") != 0) {
            die("--log-format %s: json or text", value);
        }
        o->log_format = value[0] == 'j' ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT;
        break;
    case FLAG_CA_FILE:
        o->ca_file = value;
        break;
    case FLAG_RESOLV_CONF:
        o->resolv_conf = value;
        break;
    case FLAG_HOSTS:
        o->hosts = value;
        break;
    case FLAG_LOGIN_TIMEOUT:
        o->pop3.login_timeout = seconds(name, value, 1);
        break;
    case FLAG_ANSWER_TIMEOUT:
        o->pop3.answer_timeout = seconds(name, value, 1);
        break;
    case FLAG_IDLE_TIMEOUT:
        o->pop3.idle_timeout = seconds(name, value, 1);
        break;
    case FLAG_MAX_SESSIONS:
        o->pop3.max_sessions = number(name, value, 2, 1000000);
        break;
    case FLAG_DRAIN_DELAY:
        o->drain_delay = seconds(name, value, 0);
        break;
    case FLAG_GRACE:
        o->grace = seconds(name, value, 0);
        break;
    case FLAG_VERSION:
        puts("tproxy " TPROXY_VERSION);
        exit(0);
    case FLAG_HELP:
        fputs(usage, stdout);
        exit(0);
    }
}

static void parse_flags(struct options *o, int argc, char **argv)
{
    int flag, index = 0;
    while ((flag = getopt_long(argc, argv, "", flags, &index)) != -1) {
        if (flag == '?') {
            die("see tproxy --help");
        }
        parse_flag(o, flag, flags[index].name, optarg);
    }
    if (optind < argc) {
        die("unknown command %s; see tproxy --help", argv[optind]);
    }
    if (addr_parse(str_of(o->listen_text), &o->listen) != OK) {
        die("--listen %s: an IP address is needed", o->listen_text);
    }
    if (!o->local_dir) {
        die("what shall be served? tproxy --local DIR; see tproxy --help");
    }
}

/* `tproxy log-level [LEVEL] [--control NAME]`, and change-log-level LEVEL. */
static int log_level_command(int argc, char **argv)
{
    const char *control = defaults.control, *level = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--control") == 0 && i + 1 < argc) {
            control = argv[++i];
        } else if (!level) {
            level = argv[i];
        } else {
            die("usage: tproxy log-level [LEVEL] [--control NAME]");
        }
    }
    return admin_socket_log_level(control, level);
}

/* ---- the process ---- */

enum phase {
    PHASE_SERVING,
    PHASE_LEAVING,  /* not ready any more, but clients that do not know yet are served */
    PHASE_DRAINING, /* nobody is accepted; sessions go on */
    PHASE_CUT,      /* sessions are over; their last bytes leave */
};

/* A target of local mode: the name that its listener belongs to. */
struct entry {
    struct list link;
    char *name;
    struct target *target;
};

struct process {
    struct options options;
    struct loop *loop;
    struct dns *dns;
    struct tls_roots *roots;
    struct pop3 *pop3;
    struct admin *admin;
    struct admin_socket *control;
    struct local *local;
    struct list entries;
    uint32_t next_port; /* all target ports below are taken */
    bool settled;       /* the directory has been read */
    enum phase phase;
    struct timer timer;
    struct timer log_timer;
};

/* A line for the person at the terminal; a terminal that is stopped must not stop us. */
static void tell(const char *fmt, ...) printf_like(1, 2);

static void tell(const char *fmt, ...)
{
    char line[1024];
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line) - 1, fmt, ap);
    va_end(ap);
    text_sanitize(line);
    size_t n = strlen(line);
    line[n] = '\n';
    if (poll(&p, 1, 0) == 1 && p.revents & POLLOUT) {
        ssize_t ignored = write(STDOUT_FILENO, line, n + 1);
        (void)ignored;
    }
}

static struct entry *find_entry(struct process *p, const char *name)
{
    LIST_EACH (it, &p->entries) {
        struct entry *e = container_of(it, struct entry, link);
        if (strcmp(e->name, name) == 0) {
            return e;
        }
    }
    return NULL;
}

static void drop_entry(struct process *p, struct entry *e)
{
    uint16_t port = pop3_port(e->target);
    p->next_port = port < p->next_port ? port : p->next_port;
    pop3_close(e->target);
    list_remove(&e->link);
    free(e->name);
    free(e);
}

static struct target *open_at(struct process *p, const char *name, const struct destination *dest,
                              uint16_t port, struct error *err)
{
    union addr at = p->options.listen;
    struct dest_ref ref = {.name = name};
    struct pop3_target what = {
        .name = name, .source = local_source(p->local), .ref = &ref, .dest = dest};
    addr_set_port(&at, port);
    return pop3_open(p->pop3, &what, &at, err);
}

/* The first free port of the range. */
static struct target *open_target(struct process *p, const char *name,
                                  const struct destination *dest, struct error *err)
{
    const struct options *o = &p->options;
    struct target *target = NULL;
    if (o->first_port == 0) {
        return open_at(p, name, dest, 0, err);
    }
    err->fail = FAIL_LIMIT;
    while (!target && err->fail == FAIL_LIMIT && p->next_port <= o->last_port) {
        target = open_at(p, name, dest, (uint16_t)p->next_port++, err);
    }
    if (!target && err->fail == FAIL_LIMIT) {
        error_set(err, FAIL_LIMIT, "no port is left in --target-ports %u-%u", o->first_port,
                  o->last_port);
    }
    return target;
}

/* Does this version serve it? If not, `why` names the property and the remedy. */
static bool served(const struct destination *dest, char *why, size_t cap)
{
    if (dest->proxy == PROXY_ON_PREMISE) {
        text_fmt(
            why, cap,
            "ProxyType: OnPremise needs a Connectivity Proxy, which local mode does not reach; "
            "use Internet");
        return false;
    }
    if (dest->auth != AUTH_BASIC && dest->auth != AUTH_NONE) {
        text_fmt(why, cap,
                 "Authentication: %s is not served yet; use BasicAuthentication or "
                 "NoAuthentication",
                 mail_auth_name(dest->auth));
        return false;
    }
    return true;
}

static void on_changed(const char *name, const struct destination *dest, void *arg)
{
    struct process *p = arg;
    struct entry *e = find_entry(p, name);
    struct error err;
    char why[FAIL_TEXT_MAX];
    for (size_t i = 0; i < dest->n_warnings; i++) {
        log_line(LOG_WARN, "local", "%s: %s", name, dest->warnings[i]);
    }
    if (!served(dest, why, sizeof(why))) {
        log_line(LOG_ERROR, "local", "%s: %s", name, why);
        tell("%-24s  %-21s  %s", name, "-", why);
        if (e) {
            drop_entry(p, e);
        }
        return;
    }
    if (e) {
        pop3_change(e->target, &(struct dest_ref){.name = name}, dest);
        log_line(LOG_INFO, "local", "%s: changed", name);
        return;
    }
    if (p->phase == PHASE_DRAINING || p->phase == PHASE_CUT) {
        return;
    }
    struct target *target = open_target(p, name, dest, &err);
    if (!target) {
        log_line(LOG_ERROR, "local", "%s: %s", name, err.text);
        tell("%-24s  %-21s  %s", name, "-", err.text);
        return;
    }
    e = mem_zalloc(sizeof(*e));
    e->name = mem_strdup(name);
    e->target = target;
    list_append(&p->entries, &e->link);
    union addr at = p->options.listen;
    addr_set_port(&at, pop3_port(target));
    struct addr_text address = addr_text(&at);
    tell("%-24s  %-21s  ready", name, address.s);
    log_line(LOG_INFO, "local", "%s: %s ready, for %s:%u", name, address.s, dest->host, dest->port);
}

static void on_gone(const char *name, void *arg)
{
    struct process *p = arg;
    struct entry *e = find_entry(p, name);
    if (e) {
        drop_entry(p, e);
        tell("%-24s  %-21s  gone", name, "-");
        log_line(LOG_INFO, "local", "%s: gone", name);
    }
}

static void on_complaint(const char *path, const char *text, void *arg)
{
    (void)arg;
    tell("%s: %s", path, text ? text : "in order again");
    log_line(text ? LOG_ERROR : LOG_INFO, "local", "%s: %s", path, text ? text : "in order again");
}

static void on_settled(void *arg)
{
    struct process *p = arg;
    p->settled = true;
}

/* ---- health, figures ---- */

static bool ready(const char **why, void *arg)
{
    struct process *p = arg;
    *why = p->phase != PHASE_SERVING ? "shutting down"
           : p->settled              ? NULL
                                     : "the directory has not been read yet";
    return !*why;
}

static void metrics(struct buf *out, void *arg)
{
    struct process *p = arg;
    pop3_metrics(p->pop3, out);
}

/* ---- end ---- */

static void on_last_bytes_due(struct timer *t)
{
    (void)t;
    conn_close_lingering();
}

/* Ends all sessions and forgets the targets, of which the directory must not talk any more. */
static void cut(struct process *p)
{
    p->phase = PHASE_CUT;
    LIST_EACH (it, &p->entries) {
        drop_entry(p, container_of(it, struct entry, link));
    }
    pop3_abort(p->pop3);
    timer_set(p->loop, &p->timer, loop_now(p->loop) + LAST_BYTES, on_last_bytes_due);
}

static void on_grace_over(struct timer *t)
{
    struct process *p = container_of(t, struct process, timer);
    log_line(LOG_WARN, "tproxy", "%zu sessions did not end within the grace period and are cut",
             pop3_sessions(p->pop3));
    cut(p);
}

static void drain(struct timer *t)
{
    struct process *p = container_of(t, struct process, timer);
    p->phase = PHASE_DRAINING;
    pop3_drain(p->pop3);
    log_line(LOG_INFO, "tproxy", "draining: %zu sessions are left", pop3_sessions(p->pop3));
    timer_set(p->loop, &p->timer, loop_now(p->loop) + p->options.grace, on_grace_over);
}

static void on_terminate(int signo, void *arg)
{
    struct process *p = arg;
    log_line(LOG_INFO, "tproxy", "%s", strsignal(signo));
    switch (p->phase) {
    case PHASE_SERVING:
        p->phase = PHASE_LEAVING;
        if (p->options.drain_delay) {
            timer_set(p->loop, &p->timer, loop_now(p->loop) + p->options.drain_delay, drain);
            break;
        }
        drain(&p->timer);
        break;
    case PHASE_LEAVING:
        drain(&p->timer);
        break;
    case PHASE_DRAINING:
        cut(p); /* asked a second time */
        break;
    case PHASE_CUT:
        conn_close_lingering();
        break;
    }
}

/* Nothing to do: the turn that the timer makes writes the log. */
static void on_log_retry(struct timer *t)
{
    (void)t;
}

/* The end of every turn. */
static void on_turn(void *arg)
{
    struct process *p = arg;
    bool leaving = p->phase == PHASE_DRAINING || p->phase == PHASE_CUT;
    if (leaving && pop3_sessions(p->pop3) == 0 && conn_lingering() == 0) {
        loop_stop(p->loop);
    }
    if (log_flush() == AGAIN) {
        timer_set(p->loop, &p->log_timer, loop_now(p->loop) + LOG_RETRY, on_log_retry);
    }
}

/* ---- start ---- */

/* Secrets do not go into core files. */
static void forbid_core_dumps(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
#ifndef __SANITIZE_ADDRESS__ /* its leak check has to trace the process */
    prctl(PR_SET_DUMPABLE, 0);
#endif
}

static uint64_t raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return 1024;
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

/* The memory limit of the control group, bytes; UINT64_MAX when there is none. */
static uint64_t memory_limit(void)
{
    static const char *const files[] = {"/sys/fs/cgroup/memory.max",
                                        "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    uint64_t limit = UINT64_MAX;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char line[32] = "";
        FILE *f = fopen(files[i], "r");
        if (!f) {
            continue;
        }
        char *got = fgets(line, sizeof(line), f);
        fclose(f);
        struct str text = str_of(line);
        if (got && text_number(str_cut(&text, '\n'), UINT64_MAX, &limit) == OK) {
            break;
        }
    }
    return limit;
}

static size_t session_limit(uint64_t descriptors)
{
    uint64_t memory = memory_limit();
    uint64_t by_memory = memory > BASE_MEMORY ? (memory - BASE_MEMORY) / SESSION_MEMORY : 2;
    uint64_t by_descriptors = descriptors > SPARE_DESCRIPTORS
                                  ? (descriptors - SPARE_DESCRIPTORS) / DESCRIPTORS_PER_SESSION
                                  : 2;
    uint64_t least = by_memory < by_descriptors ? by_memory : by_descriptors;
    return least < 2 ? 2 : (size_t)least;
}

static int start(struct process *p, struct error *err)
{
    struct options *o = &p->options;
    uint64_t descriptors = raise_descriptor_limit();
    if (!o->pop3.max_sessions) {
        o->pop3.max_sessions = session_limit(descriptors);
    }
    conn_set_lingering_max(o->pop3.max_sessions < LINGERING_LEAST ? LINGERING_LEAST
                                                                  : o->pop3.max_sessions);
    list_init(&p->entries);
    p->next_port = o->first_port;
    p->loop = loop_new(err);
    if (!p->loop) {
        return ERR;
    }
    loop_set_hook(p->loop, on_turn, p);
    p->dns = dns_new(p->loop, o->resolv_conf, o->hosts);
    p->roots = tls_roots_load(o->ca_file, err);
    if (!p->roots && o->ca_file) {
        return ERR;
    }
    if (p->roots) {
        log_line(LOG_INFO, "tproxy", "%zu certificates are trusted, of %s",
                 tls_roots_count(p->roots), tls_roots_path(p->roots));
    } else {
        log_line(LOG_WARN, "tproxy", "no mail server's certificate will be trusted: %s", err->text);
    }
    p->pop3 = pop3_new(p->loop, p->dns, p->roots, &o->pop3, err);
    if (!p->pop3) {
        return ERR;
    }
    if (o->admin) {
        struct admin_sources sources = {
            .ready = ready, .metrics = metrics, .arg = p, .version = TPROXY_VERSION};
        p->admin = admin_new(p->loop, o->admin, sources, err);
        if (!p->admin) {
            return ERR;
        }
        log_line(LOG_INFO, "tproxy", "admin port %u", admin_port(p->admin));
        tell("%-24s  port %-16u  /healthz /readyz /metrics", "(admin)", admin_port(p->admin));
    }
    if (o->control) {
        p->control = admin_socket_new(p->loop, o->control, err);
        if (!p->control) {
            return ERR;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    if (loop_on_signal(p->loop, SIGTERM, on_terminate, p) != OK ||
        loop_on_signal(p->loop, SIGINT, on_terminate, p) != OK ||
        loop_on_signal(p->loop, SIGHUP, on_terminate, p) != OK) {
        return error_set(err, FAIL_INTERNAL, "signalfd");
    }
    struct local_handler handler = {.target_changed = on_changed,
                                    .target_gone = on_gone,
                                    .complaint = on_complaint,
                                    .settled = on_settled,
                                    .arg = p};
    p->local = local_new(p->loop, o->local_dir, handler, err);
    return p->local ? OK : ERR;
}

static void stop(struct process *p)
{
    cut(p);
    local_free(p->local);
    admin_socket_free(p->control);
    admin_free(p->admin);
    dns_free(p->dns);
    timer_cancel(p->loop, &p->timer);
    timer_cancel(p->loop, &p->log_timer);
    loop_turn(p->loop, false); /* frees what has died just now */
    pop3_free(p->pop3);
    loop_free(p->loop);
    tls_roots_unref(p->roots);
    pipes_close();
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    if (strcmp(slash ? slash + 1 : argv[0], "change-log-level") == 0) {
        return log_level_command(argc, argv);
    }
    if (argc > 1 && strcmp(argv[1], "log-level") == 0) {
        return log_level_command(argc - 1, argv + 1);
    }
    static struct process process;
    struct error err;
    process.options = defaults;
    parse_flags(&process.options, argc, argv);
    forbid_core_dumps();
    log_open(STDERR_FILENO, process.options.log_format);
    log_set_level(process.options.log_level);
    if (start(&process, &err) != OK) {
        die("%s", err.text);
    }
    log_line(LOG_INFO, "tproxy", "tproxy " TPROXY_VERSION " serves %s; at most %zu sessions",
             process.options.local_dir, process.options.pop3.max_sessions);
    loop_run(process.loop);
    stop(&process);
    log_line(LOG_INFO, "tproxy", "stopped");
    log_flush_wait();
    return 0;
}
