/* A cluster of objects as the controller sees it: kinds that are followed, objects that are
 * written. This is only an interface: k8s.c implements it with the Kubernetes API, local/cluster.c
 * with a directory of files.
 *
 * Objects are JSON as the Kubernetes API has it. Times, names and verbs are the API's. */
#ifndef TPROXY_CLUSTER_CLUSTER_H
#define TPROXY_CLUSTER_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/json.h"
#include "lib/text.h"

/* Says where the API has a kind: group ("" for the core group), version and plural make its path.
 * All strings are in static storage. */
struct cluster_kind {
    const char *group, *version, *plural;
    const char *kind;
};

/* Says which parts of the objects of a kind are not handed on: they are of type JSON_OMITTED. All
 * of it is in static storage. */
struct cluster_bounds {
    const struct cluster_kind *kind; /* NULL: the end of an array of these */
    const char *const *unread; /* members that nobody reads, "spec.actions"; NULL ends the list */
    size_t value_max;          /* the largest value like "spec.x", octets of JSON */
};

/* The value_max of all other kinds: only administrators write them. */
enum { CLUSTER_VALUE_MAX = 2 * 1024 * 1024 };

/* ---- following a kind ---- */

/* Selects objects of a kind. Only read during the call. A namespace, name or selector that is NULL
 * selects all. */
struct cluster_selection {
    const struct cluster_kind *kind;
    const char *namespace;
    const char *name;
    const char *labels; /* a label selector: "a=b,c=d" */
};

/* The result of a complete list about its kind. */
enum cluster_presence {
    CLUSTER_PRESENT,
    CLUSTER_UNKNOWN,   /* the API server does not know it (404): its CRD is not installed */
    CLUSTER_FORBIDDEN, /* we may not read it (403) */
};

/* Reports a selection. The functions are called from the loop, never from inside `watch`, in the
 * order:
 *
 *    (listing  object*  listed  (object | gone)*)*
 *
 * A list replaces everything that was reported before: an object that it does not name between
 * `listing` and `listed` does not exist. A list that breaks off is never ended by `listed`; another
 * one begins. With a presence other than CLUSTER_PRESENT nothing is known, which is not the same as
 * an empty list. Documents are valid during the call; a part that is too large or nested too deeply
 * is of type JSON_OMITTED, but metadata.name and the like are always there. The handlers may call
 * anything, including unwatch of this watch. */
struct cluster_watch_handler {
    void (*listing)(void *arg);
    void (*object)(struct json_value object, void *arg); /* it exists, perhaps unchanged */
    void (*gone)(struct json_value object, void *arg);   /* its last state */
    void (*listed)(enum cluster_presence presence, void *arg);
    /* Brings the words of the API server before `listed` is called with another presence than
     * CLUSTER_PRESENT; one sentence, valid during the call. It must not end the watch. NULL: nobody
     * wants them. */
    void (*refused)(const char *words, void *arg);
    void *arg;
};

/* One watch. Its contents belong to the implementation. */
struct cluster_watch;

/* ---- reading and writing one object ---- */

enum cluster_verb {
    CLUSTER_GET,
    CLUSTER_CREATE,       /* POST: never changes an object that exists */
    CLUSTER_APPLY,        /* merge patch (RFC 7396) of an existing object, arrays as a whole: body
                             carries its uid in metadata.uid, so that no other object of that name
                             is changed, unless the name is one that nobody else gives */
    CLUSTER_PATCH_STATUS, /* merge patch of the subresource status */
    CLUSTER_DELETE,       /* only the object with `uid` */
};

/* One request. Only read during the call. */
struct cluster_request {
    enum cluster_verb verb;
    const struct cluster_kind *kind;
    const char *namespace; /* NULL: the kind has none */
    const char *name;
    const char *uid; /* CLUSTER_DELETE */
    struct str body; /* JSON */
    bool urgent;     /* it does not wait behind other requests, and the gate is not asked: for the
                        object that decides who may write */
};

enum cluster_result {
    CLUSTER_DONE,
    CLUSTER_EXISTS,   /* CREATE: an object of that name exists already (409) */
    CLUSTER_CONFLICT, /* another object has this name now, or it has changed since (409) */
    CLUSTER_ABSENT,   /* there is no such object, or no such kind (404) */
    CLUSTER_REFUSED,  /* the API server will refuse it until somebody changes something */
    CLUSTER_LATER,    /* the failure may pass: the API server is away, busy, or broken */
};

/* The answer to a request; valid during the call. */
struct cluster_answer {
    enum cluster_result result;
    /* DONE: the object as it is now; JSON_NONE when the server sent none, and after a DELETE that
     * removed it. After a DELETE an object means that a finalizer keeps it. */
    struct json_value object;
    struct error err; /* other results: one sentence that names verb and object */
};

struct cluster_handler {
    void (*done)(const struct cluster_answer *answer, void *arg);
    void *arg;
};

/* One request under way. Its contents belong to the implementation. */
struct cluster_call;

/* Decides whether this process may write. The functions must not call functions of the cluster. */
struct cluster_gate {
    /* Asked immediately before the octets of a request other than a GET are handed to the network,
     * whatever it has waited for before, and again when it is repeated. After false the request is
     * not sent and ends with CLUSTER_LATER. NULL: all requests are sent. */
    bool (*may_write)(void *arg);

    /* Called when `writes` becomes 0. NULL: nothing is called. */
    void (*answered)(void *arg);

    void *arg;
};

/* Embedded in the implementation (struct k8s, struct local_cluster). */
struct cluster {
    /* The name of the writer in metadata.managedFields, by which one knows one's own writes. The
     * user of the cluster sets it before the first call. */
    const char *writer;

    /* Bounds for the kinds that anybody may write; set before the first call, too. NULL: no
     * bounds. */
    const struct cluster_bounds *bounds;

    /* Set by its user at any time. Local mode does not ask it. */
    struct cluster_gate gate;

    /* Number of requests that the gate has let through and that have not been answered yet. A
     * cancelled one counts, too, because it may still be carried out. */
    size_t writes;

    /* Follows a selection until unwatch. Never returns NULL. */
    struct cluster_watch *(*watch)(struct cluster *cluster,
                                   const struct cluster_selection *selection,
                                   struct cluster_watch_handler handler);

    /* Ends a watch; its handlers are not called any more. NULL is allowed. */
    void (*unwatch)(struct cluster *cluster, struct cluster_watch *watch);

    /* Sends one request. `done` is called exactly once, never from inside `call`; the call is freed
     * before that. A request that fails before the API server can have seen it, or that it turns
     * away with 429 or 503, is repeated a few times before it ends with LATER. Never returns
     * NULL. */
    struct cluster_call *(*call)(struct cluster *cluster, const struct cluster_request *request,
                                 struct cluster_handler handler);

    /* Cancels a request: `done` will not be called. The request may have been carried out. NULL is
     * allowed. */
    void (*cancel)(struct cluster *cluster, struct cluster_call *call);
};

static inline struct cluster_watch *cluster_watch(struct cluster *cluster,
                                                  const struct cluster_selection *selection,
                                                  struct cluster_watch_handler handler)
{
    return cluster->watch(cluster, selection, handler);
}

static inline void cluster_unwatch(struct cluster *cluster, struct cluster_watch *watch)
{
    cluster->unwatch(cluster, watch);
}

static inline struct cluster_call *cluster_call(struct cluster *cluster,
                                                const struct cluster_request *request,
                                                struct cluster_handler handler)
{
    return cluster->call(cluster, request, handler);
}

static inline void cluster_cancel(struct cluster *cluster, struct cluster_call *call)
{
    cluster->cancel(cluster, call);
}

#endif
