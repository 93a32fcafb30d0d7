/* What the files of the module dest share: instances and the cache (dest.c), one question brought
 * to its answer (lookup.c), how it is put on the wire (request.c). */
#ifndef TPROXY_DEST_LOOKUP_H
#define TPROXY_DEST_LOOKUP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/dest_ref.h"
#include "core/destination.h"
#include "core/token_refusals.h"
#include "lib/fail.h"
#include "lib/mem.h"
#include "lib/metric.h"

struct connectivity;
struct dest_lookup;
struct http_origins;
struct loop;
struct oauth;
struct rotations;
struct service_key;
struct token;

/* What is asked for; each has answers of its own. */
enum dest_kind {
    DEST_KIND_CHECK,  /* the destination alone: for DEST_TO_CHECK, */
    DEST_KIND_CONFIG, /* and for those who bring a token */
    DEST_KIND_LOG_IN, /* with the token, if it needs none of a client */
    DEST_KIND_USER,   /* with the token for what a client has sent */
};

/* ---- answers of the service that count ---- */

/* Shared by reference count. */
struct dest_result {
    unsigned refs;
    const struct destination *dest; /* NULL: refused */
    struct token *token;
    int64_t received;
    enum verdict verdict;
    char *refusal; /* FAIL_CONFIG, in words */
};

struct dest_result *dest_refusal(enum verdict verdict, const char *words);

struct dest_result *dest_result_ref(struct dest_result *result);
void dest_result_unref(struct dest_result *result); /* takes NULL */

/* ---- a lookup (lookup.c) ---- */

/* What all of them work with, and their figures. */
struct dest_lookups {
    struct loop *loop;
    struct oauth *oauth;
    struct connectivity *connectivity; /* token servers may be behind it */
    struct http_origins *origins;
    struct rotations *rotations;
    /* access tokens that the service refused, apart for each tenant */
    struct token_refusals refusals;
    bool allow_loopback;
    int64_t connect_timeout, answer_timeout;
    uint64_t results[FAIL_COUNT];
    struct metric_histogram latency;
};

/* Only read during the call. */
struct dest_wanted {
    const char *instance;          /* its name, for messages */
    const struct service_key *key; /* its key */
    const struct dest_ref *ref;    /* that dest_wire_check accepts */
    struct str ref_key;            /* see dest_ref_key */
    enum dest_kind kind;

    /* DEST_KIND_USER */
    const struct destination *config; /* which says what is to be shown to the service */
    const struct secret *user_token;
};

/* What a lookup tells of the service itself. */
enum dest_service_state { DEST_SERVICE_UNKNOWN, DEST_SERVICE_SERVES, DEST_SERVICE_FAILS };

struct dest_lookup_end {
    struct dest_result *result; /* takes the place of what was known; a reference for who is told */
    struct error err;           /* without: what may pass */
    int64_t retry_after;        /* microseconds; 0: not said */
    enum dest_service_state service;
};

/* Called exactly once, never from inside dest_lookup_start; the lookup is gone by then. */
struct dest_lookup_handler {
    void (*done)(const struct dest_lookup_end *end, void *arg);
    void *arg;
};

struct dest_lookup *dest_lookup_start(struct dest_lookups *lookups,
                                      const struct dest_wanted *wanted,
                                      struct dest_lookup_handler handler);

/* Silence. NULL is allowed. */
void dest_lookup_cancel(struct dest_lookup *lookup);

/* The token, which is that of this destination, was refused: one that we have got ourselves is not
 * used again. */
void dest_lookup_refused(struct dest_lookups *lookups, const struct service_key *key,
                         const struct dest_ref *ref, const struct destination *dest,
                         const struct token *token);

/* ---- on the wire (request.c) ---- */

/* Can the service be asked for this, with this key of the instance? ERR: *verdict and *err
 * (FAIL_CONFIG), a sentence that names the field. */
int dest_wire_check(const struct dest_ref *ref, const char *instance, const struct service_key *key,
                    enum verdict *verdict, struct error *err) warn_unused;

/* Of a reference that can be asked for: append the target of the request, below a path that ends
 * without a slash, and its header lines. ERR when it does not fit. */
int dest_wire_target(struct buf *out, struct str base, const struct dest_ref *ref,
                     bool with_tokens) warn_unused;
int dest_wire_headers(struct buf *out, const struct dest_ref *ref, const char *tenant) warn_unused;

/* Whose destination it is: the tenant that the reference names, or else the key's own; NULL: not
 * known. */
const char *dest_wire_tenant(const struct dest_ref *ref, const struct service_key *key);

#endif
