/* The API server as the files of k8s/ use it: sends requests, takes in what their results say about
 * the server and our credentials, and counts them. */
#ifndef TPROXY_K8S_CLIENT_H
#define TPROXY_K8S_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/cluster.h"
#include "http.h"
#include "k8s/proto.h"
#include "lib/json_cutter.h"
#include "lib/list.h"
#include "lib/log_limit.h"
#include "lib/mem.h"
#include "lib/metric.h"

struct dns;
struct k8s_credentials;
struct loop;

/* The kinds of requests to the API server, for metrics. */
enum k8s_verb {
    K8S_GET,
    K8S_CREATE,
    K8S_APPLY,
    K8S_PATCH_STATUS,
    K8S_DELETE,
    K8S_LIST,
    K8S_WATCH,
    K8S_VERBS
};

/* Kinds whose figures are kept separately; the last place is for all others. */
enum { K8S_KINDS_MAX = 16 };

struct k8s_kind_figures {
    const struct cluster_kind *kind; /* NULL: not in use */
    uint64_t restarts;
    uint64_t cut; /* objects of which something was left out */
};

struct k8s {
    struct cluster cluster;
    struct loop *loop;
    char *url;                           /* of the API server, without a slash at its end */
    char *base;                          /* the path in it; "" when there is none */
    struct k8s_credentials *credentials; /* NULL: none */
    struct http *streams;                /* for watches: each keeps its connection */
    struct http *requests;               /* for all other requests */
    struct http *urgent;                 /* for those that do not wait behind others */
    struct list watches, calls;
    unsigned troubles; /* bits of enum fail: the logged reasons why it cannot be reached */

    /* Called when the API server answers again after it could not be reached. */
    void (*reachable_again)(struct k8s *k8s);

    uint64_t ok[K8S_VERBS], failed[K8S_VERBS][K8S_FAILURES];
    uint64_t held_back;              /* requests that the gate has stopped */
    struct metric_histogram latency; /* of all requests but watches */
    struct k8s_kind_figures kinds[K8S_KINDS_MAX];
    struct log_limits limits; /* of the lines about objects that are cut */
};

/* Prepares requests to the API server at the URL `server`; sends nothing yet. `credentials` is a
 * directory; NULL: none are sent. ERR and *err (FAIL_CONFIG): the URL or the credentials cannot be
 * used; k8s_client_close is to be called all the same. */
int k8s_client_open(struct k8s *k8s, struct loop *loop, struct dns *dns, const char *server,
                    const char *credentials, struct error *err) warn_unused;

/* Closes the connections. No request may be under way. */
void k8s_client_close(struct k8s *k8s);

/* Appends the path of a collection, or of an object when `name` is given, or of its subresource.
 * ERR: the namespace or the name cannot stand in a path. */
int k8s_client_path(const struct k8s *k8s, struct buf *out, const struct cluster_kind *kind,
                    const char *namespace, const char *name, const char *subresource) warn_unused;

struct k8s_request {
    enum k8s_verb verb;
    const struct cluster_kind *kind;
    const char *method, *target;
    const char *content_type; /* NULL: there is no body */
    struct str body;
    int64_t silence; /* between two pieces of the answer, microseconds */
    bool urgent;
};

/* Starts a request with http_start, with our credentials, over the connections for its verb. The
 * cutter begins anew, to cut the answer into the objects of a list, events, or one object; it is
 * all zero or was used before. */
struct http_call *k8s_client_send(struct k8s *k8s, const struct k8s_request *request,
                                  struct json_cutter *cutter, struct http_handler handler);

/* Parses an object, or an event with one, as the cutter has put it out. An object with parts left
 * out is counted, and logged once a minute for each kind. Returns NULL and sets *err when the text
 * is not JSON. */
struct json *k8s_client_parse_cut(struct k8s *k8s, const struct cluster_kind *kind,
                                  const struct json_cutter *cutter, struct str text,
                                  struct error *err);

/* Takes in the result of a request sent at `since`, as http_handler's `done` brought it: counts it,
 * and notes what it says about the API server and our credentials. Returns false when the request
 * did not succeed; *refusal is the reason. After K8S_UNAUTHORIZED the token is read again. */
bool k8s_client_succeeded(struct k8s *k8s, enum k8s_verb verb, int64_t since,
                          const struct http_answer *answer, const struct error *err,
                          struct k8s_refusal *refusal);

/* Masks our token where the server's words repeat it. k8s_client_succeeded does so itself. */
void k8s_client_conceal(struct k8s *k8s, struct k8s_refusal *refusal);

/* Returns how long to wait after a failure, microseconds: longer with each of the `failures` before
 * it, and at least retry_after, which the server asks for. */
int64_t k8s_client_delay(unsigned failures, int64_t retry_after);

/* Returns the figures of a kind; those of all others when there are too many kinds. */
struct k8s_kind_figures *k8s_client_figures(struct k8s *k8s, const struct cluster_kind *kind);

#endif
