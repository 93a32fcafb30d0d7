/* A cluster of objects as the controller sees it: kinds that are followed, objects that are
 * written. An interface and nothing else; the Kubernetes API fills it, and a directory of files.
 *
 * Objects are JSON as the Kubernetes API has it. Times, names and verbs are the API's. */
#ifndef TPROXY_CLUSTER_CLUSTER_H
#define TPROXY_CLUSTER_CLUSTER_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/json.h"
#include "lib/text.h"

/* Where a kind is found: group ("" for the core group), version and plural make its path. Static
 * storage, all of it. */
struct cluster_kind {
    const char *group, *version, *plural;
    const char *kind;
};

/* What of the objects of a kind is not handed on, but is of type JSON_OMITTED. Static storage. */
struct cluster_bounds {
    const struct cluster_kind *kind; /* NULL: the end of an array of these */
    const char *const *unread; /* members that nobody reads, "spec.actions"; NULL at the end */
    size_t value_max;          /* of a value like "spec.x", octets of JSON */
};

/* The same for all other kinds: only administrators write them. */
enum { CLUSTER_VALUE_MAX = 2 * 1024 * 1024 };

/* ---- following a kind ---- */

/* Which objects. Only read during the call; NULL: all. */
struct cluster_selection {
    const struct cluster_kind *kind;
    const char *namespace;
    const char *name;
    const char *labels; /* a label selector: "a=b,c=d" */
};

/* What a complete list found out about the kind. */
enum cluster_presence {
    CLUSTER_PRESENT,
    CLUSTER_UNKNOWN,   /* the API server does not know it (404): its CRD is not installed */
    CLUSTER_FORBIDDEN, /* we may not read it (403) */
};

/* What is told of a selection, from the loop, never from inside `watch`:
 *
 *    (listing  object*  listed  (object | gone)*)*
 *
 * A list replaces everything that was told before: what it does not name between `listing` and
 * `listed` is not there. A list that breaks off is never ended by `listed`; another one begins.
 * With a presence other than CLUSTER_PRESENT nothing is known, which is not the same as nothing
 * being there. Documents are valid during the call; what is too large
 * in them or nested too deeply is of type JSON_OMITTED, and metadata.name and the like are always
 * there. The handlers may call anything, unwatch of this
 * watch included. */
struct cluster_watch_handler {
    void (*listing)(void *arg);
    void (*object)(struct json_value object, void *arg); /* it is there, perhaps as before */
    void (*gone)(struct json_value object, void *arg);   /* its last state */
    void (*listed)(enum cluster_presence presence, void *arg);
    void *arg;
};

/* One watch; what is in it is the cluster's. */
struct cluster_watch;

/* ---- reading and writing one object ---- */

enum cluster_verb {
    CLUSTER_GET,
    CLUSTER_CREATE,       /* POST: never touches an object that is there */
    CLUSTER_APPLY,        /* merge patch (RFC 7396) of an object that is there, arrays as a whole:
                             body carries its uid in metadata.uid, so that no other one of that name
                             is changed */
    CLUSTER_PATCH_STATUS, /* merge patch of the subresource status */
    CLUSTER_DELETE,       /* only the object with `uid` */
};

/* Only read during the call. */
struct cluster_request {
    enum cluster_verb verb;
    const struct cluster_kind *kind;
    const char *namespace; /* NULL: the kind has none */
    const char *name;
    const char *uid; /* CLUSTER_DELETE */
    struct str body; /* JSON */
};

enum cluster_result {
    CLUSTER_DONE,
    CLUSTER_EXISTS,   /* CREATE: an object of that name is there already (409) */
    CLUSTER_CONFLICT, /* it is not the object that was meant, or changed meanwhile (409) */
    CLUSTER_ABSENT,   /* there is no such object, or no such kind (404) */
    CLUSTER_REFUSED,  /* the API server will refuse it until somebody changes something */
    CLUSTER_LATER,    /* may pass: the API server is away, busy, or broken */
};

/* Valid during the call. */
struct cluster_answer {
    enum cluster_result result;
    /* DONE: the object as it is now. JSON_NONE where none came, and after a DELETE that removed it.
     * After a DELETE an object means that a finalizer keeps it. */
    struct json_value object;
    struct error err; /* otherwise: one sentence, naming verb and object */
};

struct cluster_handler {
    void (*done)(const struct cluster_answer *answer, void *arg);
    void *arg;
};

/* One request under way; what is in it is the cluster's. */
struct cluster_call;

/* Embedded in who fills it. */
struct cluster {
    /* Names who writes in metadata.managedFields, by which one knows one's own. Whoever uses the
     * cluster sets it before the first call. */
    const char *writer;

    /* Of kinds that anybody may write; set likewise. NULL: of none. */
    const struct cluster_bounds *bounds;

    /* Follows a selection until unwatch. Never NULL. */
    struct cluster_watch *(*watch)(struct cluster *cluster,
                                   const struct cluster_selection *selection,
                                   struct cluster_watch_handler handler);

    /* Silence. NULL is allowed. */
    void (*unwatch)(struct cluster *cluster, struct cluster_watch *watch);

    /* One request. `done` is called exactly once, never from inside call; the call is gone by then.
     * Requests that fail before the API server can have seen them, or that it turns away with 429
     * or 503, are repeated a few times before they end with LATER. Never NULL. */
    struct cluster_call *(*call)(struct cluster *cluster, const struct cluster_request *request,
                                 struct cluster_handler handler);

    /* Silence; the request may have been carried out. NULL is allowed. */
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
