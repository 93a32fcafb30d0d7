/* The POP3 proxy: targets, their listeners, limits and figures. session.c serves one client. */
#include "pop3.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "core/destination.h"
#include "lib/addr.h"
#include "lib/conn.h"
#include "lib/linger.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/sys.h"
#include "lib/tls.h"
#include "lib/tls_roots.h"
#include "pop3/client.h"
#include "pop3/probe.h"
#include "pop3/session.h"
#include "pop3/state.h"
#include "pop3/target.h"

enum {
    KEEPALIVE_S = 60, /* how long a client may be silent before it is asked whether it is still
                         there */
    END_A_TURN = 64,  /* listeners that are closed, or sessions that are cut, in one turn */
    REFUSED_MAX = 64, /* clients that were turned away and are given time to read why */
};

/* How long sessions of a target that is gone may go on. */
#define LAST_SESSIONS SECONDS(60)

/* Closes a client that was turned away before, or else a silent one, for its descriptor. A silent
 * one is closed at once, so that it does not keep its descriptor by lingering. */
static bool free_descriptor(void *arg)
{
    struct pop3 *pop3 = arg;
    if (linger_group_drop(&pop3->refused)) {
        return true;
    }
    if (pop3_session_give_way(pop3, NULL)) {
        linger_group_drop(&pop3->refused);
        return true;
    }
    return false;
}

struct pop3 *pop3_new(struct loop *loop, struct dns *dns, struct tls_roots *roots,
                      const struct pop3_settings *settings, struct error *err)
{
    int reserve = listener_reserve();
    if (reserve < 0) {
        error_set(err, FAIL_INTERNAL, "socket: %s", strerror(errno));
        return NULL;
    }
    struct pop3 *pop3 = mem_zalloc(sizeof(*pop3));
    pop3->loop = loop;
    pop3->dns = dns;
    pop3->roots = roots ? tls_roots_ref(roots) : NULL;
    pop3->settings = *settings;
    pop3->reserve = reserve;
    list_init(&pop3->targets);
    map_init(&pop3->owners);
    task_init(&pop3->ending);
    list_init(&pop3->silent);
    linger_group_init(&pop3->refused, REFUSED_MAX);
    sys_on_full(free_descriptor, pop3);
    log_limits_init(&pop3->limits, loop, "pop3", NULL);
    uint64_t id;
    sys->random(&id, sizeof(id));
    text_fmt(pop3->installation_id, sizeof(pop3->installation_id), "%016llx",
             (unsigned long long)id);
    return pop3;
}

void pop3_free(struct pop3 *pop3)
{
    sys_on_full(NULL, NULL);
    map_free(&pop3->owners);
    log_limits_close(&pop3->limits);
    linger_group_close(&pop3->refused);
    sys->close(pop3->reserve);
    tls_roots_unref(pop3->roots);
    free(pop3);
}

void pop3_set_roots(struct pop3 *pop3, struct tls_roots *roots)
{
    struct tls_roots *old = pop3->roots;
    pop3->roots = roots ? tls_roots_ref(roots) : NULL;
    tls_roots_unref(old);
    LIST_EACH (it, &pop3->targets) {
        struct mailbox *mailbox = container_of(it, struct target, link)->mailbox;
        if (mailbox) {
            tls_client_unref(mailbox->tls);
            mailbox->tls = NULL;
        }
    }
}

size_t pop3_sessions(const struct pop3 *pop3)
{
    return pop3->sessions;
}

/* ---- targets ---- */

void pop3_change(struct target *target, const struct dest_ref *ref, const struct destination *dest)
{
    pop3_target_refer(target, ref);
    if (dest) {
        pop3_target_adopt(target, dest);
    }
}

uint16_t pop3_port(const struct target *target)
{
    return target->port;
}

static void cut_sessions(struct target *target)
{
    while (!list_empty(&target->silent)) {
        pop3_session_abort(target->silent.next);
    }
    while (!list_empty(&target->members)) {
        pop3_session_abort(target->members.next);
    }
}

static void on_last_call(struct timer *t)
{
    struct target *target = container_of(t, struct target, timer);
    pop3_target_ref(target);
    cut_sessions(target);
    pop3_target_unref(target);
}

void pop3_close(struct target *target)
{
    struct loop *loop = target->pop3->loop;
    listener_close(&target->listener);
    target->closed = true;
    timer_set(loop, &target->timer, loop_now(loop) + LAST_SESSIONS, on_last_call);
    pop3_target_unref(target);
}

/* Ends one session, a silent one first. Returns false when the target has no sessions. */
static bool cut_session(struct target *target)
{
    struct list *sessions = list_empty(&target->silent) ? &target->members : &target->silent;
    bool one = !list_empty(sessions);
    if (one) {
        pop3_session_abort(sessions->next);
    }
    return one;
}

/* Ends one session of the target, or else its listener: then another target becomes the first. */
static void end_first(struct pop3 *pop3, struct target *target)
{
    pop3_target_ref(target);
    if (pop3->end != TARGET_CUT || !cut_session(target)) {
        listener_close(&target->listener);
        target->end = pop3->end;
        list_remove(&target->link);
        list_append(&pop3->targets, &target->link);
    }
    pop3_target_unref(target);
}

static void end_some(struct task *t)
{
    struct pop3 *pop3 = container_of(t, struct pop3, ending);
    for (int i = 0; i < END_A_TURN; i++) {
        struct target *first = container_of(pop3->targets.next, struct target, link);
        if (list_empty(&pop3->targets) || first->end >= pop3->end) {
            pop3->drained = true;
            return;
        }
        end_first(pop3, first);
    }
    loop_next_turn(pop3->loop, &pop3->ending, end_some);
}

static void end_all(struct pop3 *pop3, enum target_end end)
{
    pop3->end = end;
    pop3->drained = false;
    end_some(&pop3->ending);
}

void pop3_drain(struct pop3 *pop3)
{
    end_all(pop3, TARGET_DRAINED);
}

void pop3_cut(struct pop3 *pop3)
{
    end_all(pop3, TARGET_CUT);
}

bool pop3_is_drained(const struct pop3 *pop3)
{
    return pop3->drained;
}

void pop3_abort(struct pop3 *pop3)
{
    task_cancel(&pop3->ending);
    LIST_EACH (it, &pop3->targets) {
        struct target *target = container_of(it, struct target, link);
        pop3_target_ref(target);
        cut_sessions(target);
        if (!target->closed) {
            pop3_close(target);
        }
        pop3_target_unref(target);
    }
}

/* ---- listener ---- */

/* Gives up the reserve to tell one client that no descriptor is left. */
static void refuse_for_descriptors(struct target *target)
{
    struct pop3 *pop3 = target->pop3;
    log_limited(&pop3->limits, LINE_NO_DESCRIPTOR, LOG_ERROR, NULL, 0,
                "too many open files: clients are refused (raise the limit with ulimit -n)");
    sys->close(pop3->reserve);
    int fd = listener_accept(&target->listener);
    if (fd >= 0) {
        sys->send(fd, pop3_too_many, strlen(pop3_too_many), MSG_NOSIGNAL);
        sys->close(fd);
        pop3->stats.refused++;
    }
    pop3->reserve = listener_reserve();
}

static bool on_starved(struct listener *l)
{
    struct target *target = container_of(l, struct target, listener);
    if (free_descriptor(target->pop3)) {
        return true;
    }
    refuse_for_descriptors(target);
    return false;
}

static void ignore_event(struct conn *c, enum conn_event event, void *arg)
{
    (void)c;
    (void)event;
    (void)arg;
}

/* Tells whether there is a place for one more session. A silent client may give way for it. */
static bool make_place(struct target *target)
{
    struct pop3 *pop3 = target->pop3;
    size_t most = pop3->settings.max_sessions;
    if (target->sessions >= (most + 1) / 2 || pop3_target_owner_is_full(target)) {
        return pop3_session_give_way(pop3, target);
    }
    return pop3->sessions < most || pop3_session_give_way(pop3, NULL);
}

static void refuse_client(struct target *target, int fd)
{
    struct pop3 *pop3 = target->pop3;
    struct conn *c = conn_new(pop3->loop, fd, (struct conn_handler){.event = ignore_event});
    pop3->stats.refused++;
    struct log_field field = LOG_STR("target", target->name);
    log_limited(&target->limits, LINE_REFUSED, LOG_WARN, &field, 1,
                "client refused: %zu sessions, %zu of them here; at most %zu, half of them for one "
                "target, three quarters for one namespace (--max-sessions)",
                pop3->sessions, target->sessions, pop3->settings.max_sessions);
    if (c) {
        conn_write(c, pop3_too_many, strlen(pop3_too_many));
        linger_close_among(c, &pop3->refused);
    }
}

static void on_accepted(struct listener *l, int fd, const union addr *peer)
{
    struct target *target = container_of(l, struct target, listener);
    target->pop3->stats.accepted++;
    if (make_place(target)) {
        pop3_session_start(target, fd, peer);
    } else {
        refuse_client(target, fd);
    }
}

/* TCP_USER_TIMEOUT is not among the options: it also breaks the connection of a client that is
 * alive and does not read for a while; the idle timeout finds dead connections. */
static const struct listener_option options[] = {
    {SOL_SOCKET, SO_KEEPALIVE, 1},
    {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_S},
    {IPPROTO_TCP, TCP_NODELAY, 1},
    {SOL_SOCKET, SO_SNDBUF, SOCKET_BULK_SMALL},
    {SOL_SOCKET, SO_RCVBUF, SOCKET_COMMANDS_SMALL},
};

static const struct listener_handler listener_handler = {
    .accepted = on_accepted,
    .starved = on_starved,
    .options = options,
    .n_options = ARRAY_LEN(options),
};

static int open_listener(struct target *target, const union addr *at, struct error *err)
{
    struct listener *l = &target->listener;
    if (target->pop3->settings.no_listeners) {
        target->port = addr_port(at);
        return OK;
    }
    if (listener_open(l, target->pop3->loop, &at->sa, addr_len(at), &listener_handler) != OK) {
        bool of_port = errno == EADDRINUSE || errno == EACCES;
        return error_set(err, of_port ? FAIL_LIMIT : FAIL_CONFIG, "%s: %s", addr_text(at).s,
                         strerror(errno));
    }
    target->port = listener_port(l);
    return OK;
}

struct target *pop3_open(struct pop3 *pop3, const struct pop3_target *what, const union addr *at,
                         struct error *err)
{
    struct target *target = mem_zalloc(sizeof(*target));
    target->pop3 = pop3;
    if (open_listener(target, at, err) != OK) {
        free(target);
        return NULL;
    }
    target->refs = 1;
    target->name = mem_strdup(what->name);
    pop3_target_give_to(target, what->owner);
    target->source = what->source;
    list_init(&target->silent);
    list_init(&target->members);
    log_limits_init(&target->limits, pop3->loop, "pop3", target->name);
    task_init(&target->task);
    list_append(&pop3->targets, &target->link);
    pop3_change(target, what->ref, what->dest);
    return target;
}

/* ---- probes ---- */

static struct target *find_target(const struct pop3 *pop3, const char *name)
{
    LIST_EACH (it, &pop3->targets) {
        struct target *target = container_of(it, struct target, link);
        if (!target->closed && strcmp(target->name, name) == 0) {
            return target;
        }
    }
    return NULL;
}

/* Returns the last refusal of the destination's own password, if its pause is over, so that a login
 * would show the password again. */
static const struct trial *past_refusal(const struct target *target)
{
    const struct mailbox *m = target->mailbox;
    if (!m || m->dest->auth != AUTH_BASIC) {
        return NULL;
    }
    struct credential credential =
        pop3_trials_credential(m->dest->user, secret_str(&m->dest->password));
    bool pauses = pop3_trials_refusal(&m->trials, &credential, loop_now(target->pop3->loop));
    return pauses ? NULL : pop3_trials_refusal(&m->trials, &credential, 0);
}

struct pop3_probe *pop3_probe(struct pop3 *pop3, const char *name, bool again,
                              const struct pop3_probe_user *user,
                              const struct pop3_probe_handler *handler, struct error *err)
{
    struct target *target = find_target(pop3, name);
    const struct trial *refusal = target && !again ? past_refusal(target) : NULL;
    char shown[256];
    if (!target) {
        error_set(err, FAIL_CONFIG,
                  "no mailbox %s is served here; its condition or its file says why",
                  text_printable(shown, sizeof(shown), str_of(name)));
    } else if (refusal) {
        error_set(err, FAIL_AUTH,
                  "the mail server has refused this login (%s), and asking it again may lock the "
                  "account; add --again to do so",
                  refusal->text);
    } else if (!make_place(target)) {
        error_set(err, FAIL_LIMIT, "there are too many sessions (--max-sessions)");
    } else {
        return pop3_probe_new(target, user, *handler, err);
    }
    return NULL;
}

/* ---- figures ---- */

void pop3_metrics(const struct pop3 *pop3, struct buf *out)
{
    const struct pop3_stats *stats = &pop3->stats;
    metric_gauge(out, "tp_open_tcp_connections", "Client connections that are open.",
                 (double)pop3->sessions);
    metric_counter(out, "tp_tcp_connections_total", "Client connections accepted.",
                   stats->accepted);
    metric_counter(out, "tproxy_connections_refused_total",
                   "Client connections refused because a limit was reached.", stats->refused);
    metric_counter(out, "tproxy_connections_foreign_total",
                   "Client connections that spoke something else than POP3.", stats->foreign);
    metric_results(out, "tproxy_logins_total", "Attempts to log in at mail servers by result.",
                   stats->logins);
    metric_counter(out, "tproxy_logins_refused_fast_total",
                   "Logins refused without asking the mail server, which had just refused the same "
                   "credentials.",
                   stats->fast_refusals);
    metric_counter(out, "tproxy_mail_token_renewals_total",
                   "Access tokens that a mail server refused and that were renewed for one more "
                   "login.",
                   stats->renewals);
    metric_head(out, "tproxy_login_seconds", METRIC_HISTOGRAM,
                "Time from the client's first need to the mail server's +OK.");
    metric_histogram(out, "tproxy_login_seconds", NULL, &stats->latency);
    metric_head(out, "tproxy_bytes_total", METRIC_COUNTER, "Bytes relayed in sessions that ended.");
    metric_count(out, "tproxy_bytes_total", (struct metric_label[]){{"to", "client"}, {0}},
                 stats->to_client);
    metric_count(out, "tproxy_bytes_total", (struct metric_label[]){{"to", "backend"}, {0}},
                 stats->to_backend);
    metric_head(out, "tproxy_tls_handshakes_total", METRIC_COUNTER,
                "TLS handshakes with mail servers.");
    metric_count(out, "tproxy_tls_handshakes_total",
                 (struct metric_label[]){{"resumed", "no"}, {0}}, stats->tls_full);
    metric_count(out, "tproxy_tls_handshakes_total",
                 (struct metric_label[]){{"resumed", "yes"}, {0}}, stats->tls_resumed);
}
