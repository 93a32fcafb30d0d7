/* The structs that pop3.c and its rooms share: the proxy, its targets, and the facts known about
 * their mailboxes. No functions. */
#ifndef TPROXY_POP3_STATE_H
#define TPROXY_POP3_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/dest_ref.h"
#include "lib/fail.h"
#include "lib/linger.h"
#include "lib/list.h"
#include "lib/listener.h"
#include "lib/log_limit.h"
#include "lib/loop.h"
#include "lib/map.h"
#include "lib/metric.h"
#include "pop3/login.h"
#include "pop3/settings.h"
#include "pop3/trials.h"

struct dest_source;
struct destination;
struct dns;
struct tls_client;
struct tls_roots;

enum { INSTALLATION_ID_LEN = 16 };

/* Kinds of log lines that clients cause, for lib/log_limit: they are counted for each target. */
enum target_line {
    LINE_NO_DESCRIPTOR,
    LINE_REFUSED,
    LINE_GAVE_WAY,
    LINE_LOOP,
    LINE_HTTP,
    LINE_TLS,
    LINE_OTHER_USER,
    LINE_TOKEN_RENEWED,
    LINE_PROXY_TOKEN_RENEWED,
    LINE_CLEAR_TEXT,
    LINE_SESSION_FAILED,
    LINE_LOGIN_FAILED, /* the last kind: the class of the failure is added to it */
};

struct pop3_stats {
    uint64_t accepted, refused;
    uint64_t logins[FAIL_COUNT];    /* by result; FAIL_NONE: logged in */
    uint64_t fast_refusals;         /* logins refused without asking the backend again */
    uint64_t renewals;              /* tokens that were refused, for which another was asked */
    uint64_t foreign;               /* clients that spoke something else than POP3 */
    uint64_t to_client, to_backend; /* bytes of ended sessions */
    uint64_t tls_full, tls_resumed;
    struct metric_histogram latency; /* of successful logins at the backend */
};

/* How far a target has come at the end of the program. */
enum target_end { TARGET_GOES_ON, TARGET_DRAINED, TARGET_CUT };

struct pop3 {
    struct loop *loop;
    struct dns *dns;
    struct tls_roots *roots;
    struct pop3_settings settings;
    char installation_id[INSTALLATION_ID_LEN + 1];
    struct list targets;
    struct map owners;
    struct task ending;  /* brings targets to the end that is wanted, from the first one on */
    enum target_end end; /* the end that all targets have to reach */
    bool drained;        /* `ending` has nothing to do */
    struct list silent;  /* sessions without a login or mailbox command, oldest first */
    struct linger_group refused; /* clients that were turned away and may still read why */
    struct log_limits limits;
    size_t sessions;
    uint64_t next_id;
    int reserve; /* a spare descriptor, given up when no other is free, so that a client can be
                    told */
    struct pop3_stats stats;
};

/* A destination and all that was learned about it. When a target's destination changes it gets
 * another mailbox, and logins under way keep theirs; two tenants never share one.
 * Reference-counted. */
struct mailbox {
    unsigned refs;
    const struct destination *dest;
    struct pop3_memory memory;
    struct tls_client *tls; /* made when first needed */
    struct trials trials;
};

/* The namespace that targets belong to. The number of their sessions together is bounded. */
struct target_owner {
    struct map_entry by_name; /* in pop3->owners */
    size_t targets, sessions;
    char *name;
};

struct target {
    struct pop3 *pop3;
    struct target_owner *owner; /* NULL: no owner */
    struct list link;
    unsigned refs; /* one until pop3_close, and one for each session */
    bool closed;
    enum target_end end;
    char *name;
    struct dest_ref ref; /* its texts are the target's */
    uint16_t port;
    struct listener listener;
    struct task task;
    struct timer timer;  /* when the target is closed: cuts the sessions that are left */
    struct list silent;  /* sessions without a login or mailbox command, oldest first */
    struct list members; /* the other sessions */
    struct log_limits limits;
    size_t sessions;
    struct dest_source *source;
    struct mailbox *mailbox; /* NULL: not known yet */
};

#endif
