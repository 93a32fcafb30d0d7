/* Brings one question to the Destination service to its answer. */
#ifndef TPROXY_DEST_LOOKUP_H
#define TPROXY_DEST_LOOKUP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/dest_ref.h"
#include "core/destination.h"
#include "core/token_refusals.h"
#include "dest/trust_stores.h"
#include "lib/fail.h"
#include "lib/mem.h"
#include "lib/metric.h"

struct connectivity;
struct dest_lookup;
struct http_origins;
struct loop;
struct oauth;
struct refresh_tokens;
struct service_key;
struct token;

/* The kinds of questions; each kind has answers of its own. */
enum dest_kind {
    DEST_KIND_CHECK,  /* the destination alone, for DEST_TO_CHECK */
    DEST_KIND_CONFIG, /* the destination alone, for a client that brings a token */
    DEST_KIND_LOG_IN, /* with the token, if no client has to bring one */
    DEST_KIND_USER,   /* with the token that the client's token or code is exchanged for */
};

/* An answer that counts (see dest.c), shared by reference count. */
struct dest_result {
    unsigned refs;
    const struct destination *dest; /* NULL: refused */
    struct token *token;
    int64_t received;
    enum verdict verdict;
    char *refusal; /* the reason, in words */
};

/* Creates a refusal with one reference; `words` are copied. */
struct dest_result *dest_refusal(enum verdict verdict, const char *words);

struct dest_result *dest_result_ref(struct dest_result *result);
void dest_result_unref(struct dest_result *result); /* takes NULL */

/* The objects that all lookups work with, and their figures. */
struct dest_lookups {
    struct loop *loop;
    struct oauth *oauth;
    struct connectivity *connectivity; /* token servers may be behind it */
    struct http_origins *origins;
    struct refresh_tokens *refresh_tokens;
    /* access tokens that the service refused, kept separately for each tenant */
    struct token_refusals refusals;
    struct dest_trust_stores trust_stores;
    bool allow_loopback;
    int64_t connect_timeout, answer_timeout;
    uint64_t results[FAIL_COUNT];
    struct metric_histogram latency;
};

/* The question of a lookup. Only read during the call. */
struct dest_wanted {
    const char *instance;          /* its name, for messages */
    const struct service_key *key; /* its key */
    const struct dest_ref *ref;    /* one that dest_request_check accepts */
    struct str ref_key;            /* see dest_ref_key */
    enum dest_kind kind;

    /* only for DEST_KIND_USER */
    const struct destination *config; /* says which values are shown to the service */
    const struct secret *user_token;
};

/* The state of the service itself, as the lookup found it. */
enum dest_service_state { DEST_SERVICE_UNKNOWN, DEST_SERVICE_SERVES, DEST_SERVICE_FAILS };

struct dest_lookup_end {
    struct dest_result *result; /* takes the place of the known answer; the reference is the
                                   handler's */
    struct error err;           /* without a result: a failure that may pass */
    int64_t retry_after;        /* microseconds; 0: the service has not said */
    enum dest_service_state service;
};

/* Called exactly once, never from inside dest_lookup_start; the lookup is gone by then. */
struct dest_lookup_handler {
    void (*done)(const struct dest_lookup_end *end, void *arg);
    void *arg;
};

/* Starts a lookup. The lookups stay the caller's. Never returns NULL. */
struct dest_lookup *dest_lookup_start(struct dest_lookups *lookups,
                                      const struct dest_wanted *wanted,
                                      struct dest_lookup_handler handler);

/* Cancels the lookup: `done` will not be called. NULL is allowed. */
void dest_lookup_cancel(struct dest_lookup *lookup);

/* Notes that the mail server refused this token of the destination. A token that we have got from
 * the token server ourselves is not used again. */
void dest_lookup_refused(struct dest_lookups *lookups, const struct service_key *key,
                         const struct dest_ref *ref, const struct destination *dest,
                         const struct token *token);

#endif
