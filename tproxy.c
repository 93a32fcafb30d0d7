/* tproxy: flags, wiring, signals, drain. The state of the whole process is in `struct process`. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "admin/control_socket.h"
#include "admin/pages.h"
#include "btp/connectivity.h"
#include "cluster/cluster.h"
#include "cluster/lease.h"
#include "configuration/config.h"
#include "controller/controller.h"
#include "controller/health.h"
#include "controller/plan.h"
#include "core/dest_source.h"
#include "core/destination.h"
#include "dest.h"
#include "k8s.h"
#include "lib/addr.h"
#include "lib/dns.h"
#include "lib/linger.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/pipes.h"
#include "lib/text.h"
#include "lib/tls_bundle.h"
#include "lib/tls_roots.h"
#include "local/cluster.h"
#include "local/directory.h"
#include "oauth.h"
#include "pop3.h"
#include "tproxy/commands.h"
#include "tproxy/domain.h"
#include "tproxy/limits.h"
#include "tproxy/local_feed.h"
#include "tproxy/options.h"
#include "tproxy/probe_server.h"
#include "tproxy/terminal.h"

/* How long connections have after the grace period, or the second signal, to take what is left. */
#define LAST_BYTES SECONDS(2)

/* The time after which a reader of the log that takes nothing is tried again. */
#define LOG_RETRY MILLIS(200)

/* ---- the process ---- */

enum phase {
    PHASE_SERVING,
    PHASE_LEAVING,  /* not ready any more, but clients that do not know yet are served */
    PHASE_DRAINING, /* no client is accepted; sessions go on */
    PHASE_CUT,      /* sessions are over; their last bytes leave */
};

struct process {
    struct options options;
    struct loop *loop;
    struct dns *dns;
    struct tls_roots *roots;
    struct oauth *oauth;
    struct connectivity *connectivity;
    struct dest *dest;
    struct pop3 *pop3;
    struct k8s *k8s;                     /* in a cluster */
    struct local_directory *local;       /* in local mode */
    struct local_cluster *local_objects; /* in local mode, too */
    struct local_feed local_feed;
    struct controller *controller;
    struct lease *lease; /* NULL: this is the only replica */
    const char *home;    /* namespace of the installation */
    struct admin *admin;
    struct control_socket *control_socket;
    bool metrics;                    /* metrics are to be served */
    enum log_level configured_level; /* the level of the configuration in force */
    enum phase phase;
    struct timer timer;
    struct timer log_timer;
};

/* ---- reports of the controller ---- */

/* Takes over a configuration. The log level that somebody has set at run time stays until that of
 * the configuration changes. */
static void on_configured(const struct config *config, void *arg)
{
    struct process *p = arg;
    enum log_level level = LOG_INFO;
    p->metrics = p->local || config->metrics;
    int rc = config->log_level ? log_level_parse(str_of(config->log_level), &level) : OK;
    if (!p->options.log_level_given && rc == OK && level != p->configured_level) {
        p->configured_level = level;
        log_set_level(level);
        log_line(LOG_INFO, "tproxy", "log level %s", log_level_name(level));
    }
}

/* Logs a condition. In local mode people look at the terminal; in a cluster they see the
 * condition. */
static void on_condition(const struct controller_report *report, void *arg)
{
    struct process *p = arg;
    const struct condition *c = report->condition;
    union addr at = p->options.listen;
    addr_set_port(&at, report->port);
    struct addr_text address = addr_text(&at);
    log_line(c->available ? LOG_INFO : LOG_WARN, "control", "%s/%s: %s: %s", report->namespace,
             report->name, c->reason, c->message);
    if (p->local) {
        terminal_row(report->name, report->port ? address.s : "-",
                     c->available ? "ready" : c->message);
    }
}

static void on_resource_gone(const char *namespace, const char *name, void *arg)
{
    struct process *p = arg;
    log_line(LOG_INFO, "control", "%s/%s: gone", namespace, name);
    if (p->local) {
        terminal_row(name, "-", "gone");
    }
}

/* ---- reports of the election ---- */

static void on_elected(void *arg)
{
    struct process *p = arg;
    controller_lead(p->controller, true);
}

static void on_term_lost(const char *why, void *arg)
{
    struct process *p = arg;
    (void)why; /* the log has it */
    controller_lead(p->controller, false);
}

/* ---- health, figures ---- */

static bool ready(const char **why, void *arg)
{
    static char text[128];
    struct process *p = arg;
    const char *missing;
    if (p->phase != PHASE_SERVING) {
        *why = "shutting down";
        return false;
    }
    if (controller_ready(p->controller, &missing)) {
        return true;
    }
    text_fmt(text, sizeof(text), "waiting for %s", missing);
    *why = text;
    return false;
}

static bool metrics(struct buf *out, void *arg)
{
    struct process *p = arg;
    if (!p->metrics) {
        return false;
    }
    pop3_metrics(p->pop3, out);
    controller_metrics(p->controller, out);
    dest_metrics(p->dest, out);
    oauth_metrics(p->oauth, out);
    if (p->k8s) {
        k8s_metrics(p->k8s, out);
    }
    if (p->lease) {
        lease_metrics(p->lease, out);
    }
    return true;
}

/* Adds to what the controller says which replica leads. Returns false if none is known to. */
static bool describe_leader(const struct process *p, struct admin_health *h)
{
    static char text[1024];
    char holder[160];
    struct lease_view view = lease_view(p->lease);
    text_printable(holder, sizeof(holder), str_of(view.holder));
    const char *who = view.held ? "This replica" : view.holder[0] ? holder : "No replica";
    text_fmt(text, sizeof(text), "%s %s leads.%s%s", h->manager_message, who,
             view.problem ? " " : "", view.problem ? view.problem : "");
    h->manager_message = text;
    return !view.problem && (view.held || view.holder[0]);
}

static struct admin_health health(void *arg)
{
    struct process *p = arg;
    struct controller_health c = controller_health(p->controller);
    struct admin_health h = {.proxy = ADMIN_OK,
                             .proxy_message = "Sessions are accepted.",
                             .manager = ADMIN_OK,
                             .manager_message = c.message};
    if (p->phase != PHASE_SERVING) {
        h.proxy = ADMIN_WARNING;
        h.proxy_message = "Shutting down.";
    }
    if (!c.listed) {
        h.manager = ADMIN_CRITICAL;
    } else if (!c.configured || c.not_available || c.stuck || c.unheld) {
        h.manager = ADMIN_WARNING;
    }
    if (p->lease && !describe_leader(p, &h) && h.manager == ADMIN_OK) {
        h.manager = ADMIN_WARNING;
    }
    return h;
}

static int resources(struct buf *out, void *arg)
{
    struct process *p = arg;
    return controller_resources_json(p->controller, out);
}

/* ---- end ---- */

static void on_last_bytes_due(struct timer *t)
{
    (void)t;
    linger_close_all();
}

/* Ends all sessions and targets, which the controller must not touch any more. */
static void cut(struct process *p)
{
    p->phase = PHASE_CUT;
    controller_stop(p->controller);
    pop3_cut(p->pop3);
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
    controller_stop(p->controller);
    pop3_drain(p->pop3);
    log_line(LOG_INFO, "tproxy", "draining: %zu sessions are left", pop3_sessions(p->pop3));
    timer_set(p->loop, &p->timer, loop_now(p->loop) + p->options.grace, on_grace_over);
}

/* Lets another replica lead, which takes over at once. This one goes on as a follower. */
static void resign(struct process *p)
{
    if (p->lease) {
        controller_lead(p->controller, false);
        lease_release(p->lease);
    }
}

static void on_terminate(int signo, void *arg)
{
    struct process *p = arg;
    log_line(LOG_INFO, "tproxy", "%s", strsignal(signo));
    switch (p->phase) {
    case PHASE_SERVING:
        p->phase = PHASE_LEAVING;
        resign(p);
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
        cut(p); /* the second signal */
        break;
    case PHASE_CUT:
        linger_close_all();
        break;
    }
}

/* Does nothing: the turn that the timer makes writes the log. */
static void on_log_retry(struct timer *t)
{
    (void)t;
}

/* Runs at the end of every turn of the loop. */
static void on_turn(void *arg)
{
    struct process *p = arg;
    bool leaving = p->phase == PHASE_DRAINING || p->phase == PHASE_CUT;
    leaving = leaving && (!p->lease || lease_is_over(p->lease));
    if (leaving && pop3_is_drained(p->pop3) && pop3_sessions(p->pop3) == 0 && linger_count() == 0) {
        loop_stop(p->loop);
    }
    if (log_flush() == AGAIN) {
        timer_set(p->loop, &p->log_timer, loop_now(p->loop) + LOG_RETRY, on_log_retry);
    }
}

/* ---- start ---- */

static struct cluster *open_cluster(struct process *p, struct error *err)
{
    const struct options *o = &p->options;
    if (o->local_dir) {
        struct local_cluster_handler handler = {.status = terminal_status};
        p->local_objects = local_cluster_new(p->loop, handler);
        return local_cluster_face(p->local_objects);
    }
    struct k8s_settings settings = {.url = o->kube_url, .credentials = o->credentials};
    p->k8s = k8s_new(p->loop, p->dns, &settings, err);
    return p->k8s ? k8s_cluster(p->k8s) : NULL;
}

static int open_local(struct process *p, struct error *err)
{
    p->local_feed =
        (struct local_feed){.objects = p->local_objects, .without_effect = terminal_without_effect};
    p->local = local_directory_new(p->loop, p->options.local_dir,
                                   local_feed_handler(&p->local_feed, terminal_complaint), err);
    if (!p->local) {
        return ERR;
    }
    local_directory_set_oauth(p->local, p->oauth, p->connectivity);
    local_directory_set_service(p->local, dest_service(p->dest));
    return OK;
}

/* Has the controller lead: at once, or whenever this replica is elected. */
static void start_election(struct process *p, struct cluster *cluster, const char *instance)
{
    const struct options *o = &p->options;
    struct lease_settings settings = {.namespace = p->home,
                                      .name = o->lease_name,
                                      .instance = instance,
                                      .duration = o->lease_duration,
                                      .deadline = o->renew_deadline,
                                      .retry = o->retry_period};
    struct lease_handler handler = {.acquired = on_elected, .lost = on_term_lost, .arg = p};
    if (o->leader_elect) {
        p->lease = lease_new(p->loop, cluster, &settings, handler);
    } else {
        controller_lead(p->controller, true);
    }
}

static int start_control(struct process *p, struct error *err)
{
    const struct options *o = &p->options;
    char domain[256], host[256] = "tproxy";
    struct controller_parts parts = {.cluster = open_cluster(p, err),
                                     .dest = p->dest,
                                     .oauth = p->oauth,
                                     .connectivity = p->connectivity,
                                     .pop3 = p->pop3,
                                     .roots = p->roots};
    if (!parts.cluster || (o->local_dir && open_local(p, err) != OK)) {
        return ERR;
    }
    p->home = options_home(o->namespace, p->k8s);
    domain_find(o->resolv_conf, domain, sizeof(domain));
    gethostname(host, sizeof(host) - 1);
    parts.source = connectivity_source(p->connectivity, p->local ? local_directory_source(p->local)
                                                                 : dest_service(p->dest));
    struct controller_settings settings = {.home = p->home,
                                           .domain = o->domain ? o->domain : domain,
                                           .instance = host,
                                           .listen = o->listen,
                                           .first_port = o->first_port,
                                           .last_port = o->last_port,
                                           .namespace_targets = o->namespace_targets,
                                           .service_delay = o->service_delay,
                                           .claim_all = o->claim_all,
                                           .in_cluster = !p->local,
                                           .cluster_rules = !p->local};
    struct controller_handler handler = {
        .configured = on_configured, .changed = on_condition, .gone = on_resource_gone, .arg = p};
    p->controller = controller_new(p->loop, &parts, &settings, handler);
    p->local_feed.controller = p->controller;
    p->local_feed.home = p->home;
    start_election(p, parts.cluster, host);
    return OK;
}

static int start_admin(struct process *p, struct error *err)
{
    const struct options *o = &p->options;
    if (o->admin) {
        struct admin_sources sources = {.ready = ready,
                                        .metrics = metrics,
                                        .health = health,
                                        .resources = resources,
                                        .arg = p,
                                        .version = options_version};
        p->admin = admin_new(p->loop, o->admin, sources, err);
        if (!p->admin) {
            return ERR;
        }
        log_line(LOG_INFO, "tproxy", "admin port %u", admin_port(p->admin));
        char port[16];
        text_fmt(port, sizeof(port), "port %u", admin_port(p->admin));
        terminal_row("(admin)", port, "/healthz /readyz /metrics");
    }
    if (o->control) {
        p->control_socket = control_socket_new(p->loop, o->control, err);
        if (!p->control_socket) {
            return ERR;
        }
        control_socket_set_handler(p->control_socket, probe_server_handler(p->pop3));
    }
    return OK;
}

/* Follows the signals that end the program. SIGHUP and SIGINT stay ignored if whoever started it
 * ignores them: nohup, and shells for commands in the background. SIGTERM always counts. */
static int follow_signals(struct process *p)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        struct sigaction inherited;
        if (sigaction(signals[i], NULL, &inherited) < 0) {
            return ERR;
        }
        bool ignored = inherited.sa_handler == SIG_IGN && signals[i] != SIGTERM;
        if (!ignored && loop_on_signal(p->loop, signals[i], on_terminate, p) != OK) {
            return ERR;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    return OK;
}

static void load_roots(struct process *p, struct error *err)
{
    p->roots = tls_bundle_load(p->options.ca_file, err);
    if (p->roots) {
        log_line(LOG_INFO, "tproxy", "%zu certificates are trusted, of %s",
                 tls_roots_count(p->roots), tls_roots_path(p->roots));
        const char *clause;
        for (size_t i = 0; (clause = tls_roots_left_out(p->roots, i)); i++) {
            log_line(LOG_WARN, "tproxy", "%s: %s", tls_roots_path(p->roots), clause);
        }
    } else if (!p->options.ca_file) {
        log_line(LOG_WARN, "tproxy", "no mail server's certificate will be trusted: %s", err->text);
    }
}

static int start(struct process *p, struct error *err)
{
    struct options *o = &p->options;
    o->pop3.max_sessions = limits_set(o->pop3.max_sessions);
    p->metrics = o->local_dir != NULL;
    p->configured_level = o->log_level;
    p->loop = loop_new(err);
    if (!p->loop) {
        return ERR;
    }
    loop_set_hook(p->loop, on_turn, p);
    p->dns = dns_new(p->loop, o->resolv_conf, o->hosts);
    load_roots(p, err);
    if (!p->roots && o->ca_file) {
        return ERR;
    }
    p->oauth = oauth_new(p->loop, p->dns, p->roots);
    p->connectivity = connectivity_new(p->loop, p->oauth);
    p->dest = dest_new(p->loop, p->dns, p->oauth, p->connectivity, p->roots, o->pop3.allow_local);
    p->pop3 = pop3_new(p->loop, p->dns, p->roots, &o->pop3, err);
    if (!p->pop3) {
        return ERR;
    }
    if (follow_signals(p) != OK) {
        return error_set(err, FAIL_INTERNAL, "signalfd");
    }
    return start_control(p, err) == OK ? start_admin(p, err) : ERR;
}

static void stop(struct process *p)
{
    loop_set_hook(p->loop, NULL, NULL); /* it asks parts that are freed now */
    controller_stop(p->controller);
    pop3_abort(p->pop3);
    controller_free(p->controller);
    lease_free(p->lease);
    local_directory_free(p->local);
    local_cluster_free(p->local_objects);
    k8s_free(p->k8s);
    dest_free(p->dest);
    connectivity_free(p->connectivity);
    oauth_free(p->oauth);
    control_socket_free(p->control_socket);
    admin_free(p->admin);
    dns_free(p->dns);
    timer_cancel(p->loop, &p->timer);
    timer_cancel(p->loop, &p->log_timer);
    loop_turn(p->loop, false); /* frees the objects that have just died */
    pop3_free(p->pop3);
    loop_free(p->loop);
    tls_roots_unref(p->roots);
    pipes_close();
}

int main(int argc, char **argv)
{
    int code;
    if (commands_run(argc, argv, &code)) {
        return code;
    }
    static struct process process;
    struct error err;
    options_parse(&process.options, argc, argv);
    limits_forbid_core_dumps();
    log_open(STDERR_FILENO, process.options.log_format);
    log_set_level(process.options.log_level);
    if (start(&process, &err) != OK) {
        options_die("%s", err.text);
    }
    log_line(LOG_INFO, "tproxy", "tproxy %s serves %s; at most %zu sessions", options_version,
             process.options.local_dir ? process.options.local_dir : "a cluster",
             process.options.pop3.max_sessions);
    loop_run(process.loop);
    log_line(LOG_INFO, "tproxy", "the longest turn of the loop took %.2f ms",
             (double)loop_stats(process.loop).longest_turn / 1000);
    stop(&process);
    log_line(LOG_INFO, "tproxy", "stopped");
    log_flush_wait();
    return 0;
}
