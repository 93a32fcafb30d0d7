/* The structs that the files of the controller share: its stores, a CR and all that belongs to it,
 * the operations under way. */
#ifndef TPROXY_CONTROLLER_STATE_H
#define TPROXY_CONTROLLER_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/cluster.h"
#include "cluster/follower.h"
#include "cluster/store.h"
#include "controller/network_policies.h"
#include "controller/plan.h"
#include "controller/settings.h"
#include "core/custom_resource.h"
#include "core/dest_source.h"
#include "core/repairs.h"
#include "lib/heap.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "lib/map.h"
#include "lib/turns.h"

struct ports;
struct resting_ports;

/* How long nothing is withdrawn of a CR that was deleted with its definition, after the definition
 * has come back. */
#define CONTROLLER_GRACE SECONDS(120)

/* For the log and /status. */
#define CONTROLLER_TENANTS_PRUNED                                                                  \
    "The CRD of Destinations does not have the field status.tenants, so the API server drops it: " \
    "apply tproxy's CRD (manifests/crds)."

#define CONTROLLER_STATUS_MISSING                                                                  \
    "The CRD of Destinations does not have the subresource status, so no condition can be shown: " \
    "apply tproxy's CRD (manifests/crds)."

/* ---- what is followed ---- */

enum followed_kind {
    FOLLOW_RESOURCES,
    FOLLOW_NAMESPACES,
    FOLLOW_SERVICES, /* ours */
    FOLLOW_POLICIES, /* ours */
    FOLLOW_COUNT
};

/* A Namespace. */
struct held_namespace {
    struct stored stored;
    bool labelled; /* as one that this installation manages */
};

struct places; /* precedence.c's: the places of a namespace, and the endpoints that want them */

/* A namespace that resources live in, whether its Namespace has been seen or not. Namespaces take
 * turns, so the resources of one do not delay those of another. */
struct space {
    struct map_entry by_name;
    struct list resources;
    size_t running; /* number of operations under way */
    size_t reading; /* number of destinations that are being read */
    struct turns_group woken, waiting, unread;

    struct places *places; /* NULL: no endpoint wants one */
    int64_t events_full;   /* as in struct resource, for the Events about all its resources */
    char name[];
};

/* The progress of the removal of a Service. */
struct removal {
    bool failed;    /* the last DELETE has failed */
    bool cut;       /* an alias: it was made to lead nowhere, so it does not count any more */
    unsigned tries; /* number of attempts that failed */
    int64_t due;    /* nothing is tried before */
};

/* Kept about a Service that nobody wants any more and that has not gone. */
struct leftover {
    int64_t since;
    char *words; /* why the API server did not delete it; NULL: not known */
    bool told;   /* people have been told */
};

/* A Service of ours that exists. */
struct held_service {
    struct map_entry by_key; /* "namespace/name" */
    struct list link;        /* on its resource's list */
    struct resource *resource;
    uint64_t round;
    int64_t since; /* when it was seen first; 0: it was there at the start */
    struct policy_port policy_port;
    bool checked; /* it is as its endpoint wants it, and neither has changed since */
    struct removal removal;
    struct leftover *leftover; /* NULL: it is wanted */
    struct service service;
    char key[];
};

/* ---- a CR and all that belongs to it ---- */

struct wanted_name; /* precedence.c's: a name of Services, and the endpoints that want it */

/* Whether a CR wants the names of its Services. */
enum stance {
    STANCE_NONE,    /* no: it is gone, not managed, or another proxy's */
    STANCE_UNKNOWN, /* its destinations have yet to be read */
    STANCE_WANTS,
};

/* How an endpoint can use the name that it wants. */
enum use {
    USE_HAS,    /* it has the listener or the home Service already */
    USE_CAN,    /* it can have them, or may turn out to: its destination has yet to be read, or is
                   read again */
    USE_CANNOT, /* its destination is of no use now, or the places of its namespace are taken */
};

/* One exposed mailbox of a CR: its only one in dedicated mode, that of a tenant in shared mode. */
struct endpoint {
    struct resource *resource;
    struct list link;    /* on its resource's list */
    const char *tenant;  /* its name; NULL in dedicated mode */
    const char *service; /* name of its Services: "<cr>", "<cr>-<tenant>" */

    /* Several CRs may want one Service. These members are precedence.c's. */
    struct wanted_name *wanted;
    struct list same_name;
    struct heap_node contender;
    struct heap_node place; /* in its space's places */
    enum stance stance;
    enum use use; /* unless the stance is STANCE_NONE */
    bool placed;
    bool name_taken; /* its home Service became somebody else's */

    /* Its destination, as read last. */
    bool read;
    bool read_again; /* it has to be read again at once */
    bool doubted;    /* it was of no use, and is read again because the cause may have gone */
    unsigned unread; /* number of readings in a row without a usable destination */
    int64_t read_due;
    struct dest_request *request;   /* set while it is being read */
    const struct destination *dest; /* NULL: see verdict */
    char *verdict_text;
    enum verdict verdict;

    uint16_t port; /* taken for it; 0: none */
    struct target *target;

    /* Following: the port of its home Service cannot be listened on. It is tried again. */
    bool unheld;
    unsigned unheld_tries;
    int64_t unheld_until;
    int64_t service_went; /* when its home Service went; 0: it is there, or never was */

    int64_t waits_since; /* for another CR to give the name back; 0: it does not wait */

    /* Its Services are not tried again before trouble_until: the API server has refused one, or
     * put it off, or the name is taken. The other endpoints go on. */
    int64_t trouble_until;
    struct condition *trouble; /* shown until then; NULL: nothing is shown yet */
    unsigned troubles;         /* number of troubles in a row */
    bool trouble_silent;       /* only an Event says it: the status is another manager's */

    struct condition *failure; /* its part of the status that is being written; NULL: it works */

    struct repairs home_repairs, alias_repairs; /* of its Services */
};

/* The operation of a resource that is under way. */
enum operation {
    OPERATION_NONE,
    OPERATION_CREATE,
    OPERATION_LOOK, /* reads the Service that has the wanted name */
    OPERATION_APPLY,
    OPERATION_DELETE,
    OPERATION_CUT, /* an alias is made to lead nowhere */
    OPERATION_STATUS,
    OPERATION_REREAD, /* the CR, whose status could not be written */
    OPERATION_EVENT,
    OPERATION_CONFIRM, /* reads the CRD, to see whether the CR went or its CRD */
    OPERATION_RECORD,  /* the port of a Service that goes is recorded as resting */
};

/* The reason to tell people of a status once it has been written. */
enum telling {
    TELL_NOTHING,   /* others have changed the status */
    TELL_WORDS,     /* nothing: only the words of another server are new */
    TELL_CONDITION, /* it is another condition */
    TELL_CONTEST,   /* others change the status again and again */
};

/* An Event that was sent; events.c's. */
struct told_event {
    uint64_t digest; /* of what it says */
    uint64_t id;     /* the end of its name */
    int64_t time;    /* when it was said last */
    unsigned count;  /* how often; 0: there is none */
};

struct new_event; /* events.c's: an Event to create */

/* The Events about one object. */
struct told_events {
    struct told_event last[2]; /* a condition often goes to and fro */
    struct new_event *spare;   /* it is created if an earlier one cannot be continued; NULL: the
                                  call under way does not continue one */
};

/* How the metrics count a resource. CRs of other proxies are not counted. */
enum counted { COUNTED_NOT, COUNTED_UNAVAILABLE, COUNTED_AVAILABLE, COUNTED_KINDS };

/* A CR. It exists also without its CR as long as there is a Service that was made for it. */
struct resource {
    struct controller *controller;
    struct map_entry by_key; /* "namespace/name" */
    struct list link;        /* on controller->resources */
    struct space *space;
    struct list in_space;
    struct list queued; /* in woken or waiting of controller->queue */
    struct list unread; /* in controller->queue.unread, while it may not read another destination */
    char *texts;        /* owns the texts of the next line */
    const char *key, *namespace, *name;

    uint64_t round;
    struct cr cr;
    bool present;          /* the CR exists */
    bool gone_confirmed;   /* the CR has gone by itself, and not with its CRD */
    bool crd_went;         /* its CRD was seen to go, too */
    bool crd_renewed;      /* it was deleted with its CRD, and the CRD has come back */
    unsigned crd_refusals; /* number of refusals in a row to show its CRD */
    enum counted counted;
    bool settled;      /* it has been given its target or its condition once, or waits too long */
    bool outdated;     /* the same, for the configuration in force, has not happened yet */
    bool tell_ignored; /* an annotation that has no effect has come */
    int64_t settle_by; /* then it waits too long; 0: not known yet */

    struct list endpoints; /* as CR and configuration want them since they were seen first */
    size_t n_endpoints;
    size_t reading; /* destinations */
    struct list services;

    int64_t retry_at;   /* after a failed call: nothing is tried before */
    unsigned retries;   /* number of failed calls since it was at rest */
    unsigned conflicts; /* in a row: others changed the object before our change came */

    enum operation operation;
    bool again;            /* something has happened during the operation */
    struct list recording; /* on controller->recording */
    struct cluster_call *call;
    void (*done)(struct resource *r, const struct cluster_answer *answer); /* takes its answer in */
    struct endpoint *operand; /* the one whose Service is written; NULL: it is gone */
    char *operand_namespace;  /* of the Service that is created, looked at, applied or deleted */
    char *operand_name;
    struct condition *pending_condition; /* the condition that is being written; NULL: none is */
    enum telling telling;                /* of the status that is being written */
    bool status_absent;                  /* the API server says that there is no such status */
    bool shows_tenants;                  /* that status names tenants */
    bool tenants_lost;                   /* the API server did not store those of the last status */
    struct repairs status_repairs;
    int64_t events_full; /* from then on as many Events may be sent again as at the start */
    int64_t words_due;   /* the words of another server are not written again before */
    const char *last_event_reason; /* the reason that the last Event told of; static storage */
    struct told_events told;
    struct timer timer;
};

/* ---- the controller ---- */

/* A walk through all resources; sweep.c's. */
struct sweep {
    struct task task;
    unsigned flags; /* SWEEP_...; 0: no sweep is under way */
    size_t left;    /* number of resources still to visit, from the first one on */
    void (*visit)(struct resource *r, unsigned flags);
    void (*over)(struct controller *controller, unsigned flags);
};

/* Resources that want to run; queue.c's. */
struct queue {
    struct turns woken;
    struct turns waiting; /* until an operation of another resource is over */
    struct turns unread;  /* wait until a destination of another resource has been read */
    size_t running;       /* operations */
    size_t reading;       /* destinations */
    struct task pump;
    int64_t since; /* when the first resource ran; 0: none has */
    bool (*may_run)(const struct controller *controller);
    void (*run)(struct resource *r);
};

struct configuration; /* configuration/configuration.c */

struct controller {
    struct loop *loop;
    struct controller_parts parts;
    struct controller_settings settings;
    char writer[PLAN_WRITER_SIZE]; /* field manager of what we write */
    struct controller_handler handler;
    bool elected; /* this process is to lead */
    bool leads;   /* it writes to the cluster: it is elected, and knows what was written before */
    bool stopped;
    bool ready; /* it has been ready, and stays so */

    char ours[256]; /* label selector of what this installation writes */
    struct follower followers[FOLLOW_COUNT];
    struct store namespaces;
    unsigned doubts;              /* number of lists of Namespaces in a row that do not count */
    struct timer list_namespaces; /* lists them again after such a list */

    struct map by_key;     /* resources */
    struct list resources; /* all of them */
    size_t n_resources;
    struct map spaces; /* namespaces that have resources */
    struct sweep sweep;
    struct map wanted_names; /* names of Services that endpoints want */
    struct list names_changed;
    struct timer tell_names; /* wakes those that wait for a name */
    struct map services;     /* that exist, of all resources */
    size_t unsettled;        /* number of present resources that have not settled yet */
    size_t outdated;         /* number of resources that are outdated */
    size_t leftovers; /* number of Services that do not go, and of which people have been told */
    size_t unheld;    /* number of endpoints whose listener cannot be opened, while following */
    int64_t unheld_since;
    size_t counts[COUNTED_KINDS];
    struct queue queue;

    struct ports *ports;
    struct resting_ports *resting;  /* NULL in local mode: ports do not rest */
    bool resting_listed;            /* their record has been listed */
    struct list recording;          /* resources whose operation is OPERATION_RECORD */
    struct endpoint **port_holders; /* by port: the endpoint that has it */

    bool crd_hidden;        /* we may not read the CRD of Destinations */
    bool tenants_pruned;    /* the API server drops status.tenants: the CRD does not have it */
    bool status_missing;    /* the CRD does not have the subresource status */
    int64_t status_retried; /* no status is written before */

    struct configuration *configuration;
    const struct config *config; /* in force; NULL: no configuration is */
    struct cluster_call *event;  /* about the TransparentProxy object, under way; NULL: none is */
    struct told_events told;     /* about that object */
    int64_t series_due;          /* no Event is continued before */
    struct network_policies *network_policies;
    struct controller_stats {
        uint64_t reconciles, writes, errors, events_left_out;
    } stats;
};

#endif
