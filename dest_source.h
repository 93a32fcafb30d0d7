/* Where sessions get destinations from: local mode's table of files, or the Destination service. An
 * interface and nothing else. */
#ifndef TPROXY_DEST_SOURCE_H
#define TPROXY_DEST_SOURCE_H

#include "lib/fail.h"

struct destination;

/* One question under way; what is in it is the source's. */
struct dest_request;

/* The answer: a destination, which the callee may keep beyond the call with destination_ref, or
 * NULL and *err (FAIL_CONFIG: there is no such destination, or it cannot be used). The request is
 * gone when it is called. */
struct dest_handler {
    void (*done)(const struct destination *dest, const struct error *err, void *arg);
    void *arg;
};

/* Embedded in who fills it. */
struct dest_source {
    /* Asks for the destination called `key` (only read during the call). `done` is called exactly
     * once, never from inside find; until then, or until cancel, the request is valid. Never NULL.
     */
    struct dest_request *(*find)(struct dest_source *source, const char *key,
                                 struct dest_handler handler);

    /* Silence: done will not be called, the request is gone. NULL is allowed. */
    void (*cancel)(struct dest_source *source, struct dest_request *request);
};

static inline struct dest_request *dest_find(struct dest_source *source, const char *key,
                                             struct dest_handler handler)
{
    return source->find(source, key, handler);
}

static inline void dest_cancel(struct dest_source *source, struct dest_request *request)
{
    source->cancel(source, request);
}

#endif
