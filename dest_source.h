/* Where destinations come from: local mode's files, or the Destination service. An interface and
 * nothing else. */
#ifndef TPROXY_DEST_SOURCE_H
#define TPROXY_DEST_SOURCE_H

#include "core/destination.h"
#include "lib/fail.h"

struct token;

/* Which destination. Only read during the call. */
struct dest_ref {
    const char *name;
    const char *instance;    /* of the Destination service; NULL: none is named and there is no
                                default */
    const char *unsupported; /* a field of the CR that no source honours: without it the mailbox may
                                be another one, so sessions are refused. NULL: there is none */
};

/* What for. */
enum dest_purpose {
    DEST_TO_CHECK,  /* is it usable? No token is asked for: the controller asks so, in rounds */
    DEST_TO_LOG_IN, /* with the token for the mail server, if it takes one */
};

/* The answer; valid during the call. */
struct dest_answer {
    const struct destination *dest; /* destination_ref keeps it; NULL: see `err` */
    struct token *token;            /* token_ref keeps it; NULL unless dest->auth needs one and it
                                       was asked for to log in */
    enum verdict verdict;           /* VERDICT_OK; or what is wrong with the destination */
    struct error err;               /* without dest: one sentence, which names field and remedy */
};

/* One question under way; what is in it is the source's. */
struct dest_request;

/* The request is gone when it is called. */
struct dest_handler {
    void (*done)(const struct dest_answer *answer, void *arg);
    void *arg;
};

/* Embedded in who fills it. */
struct dest_source {
    /* Asks for a destination. `done` is called exactly once, never from inside find; until then, or
     * until cancel, the request is valid. Never NULL. */
    struct dest_request *(*find)(struct dest_source *source, const struct dest_ref *ref,
                                 enum dest_purpose purpose, struct dest_handler handler);

    /* Silence: done will not be called, the request is gone. NULL is allowed. */
    void (*cancel)(struct dest_source *source, struct dest_request *request);
};

static inline struct dest_request *dest_find(struct dest_source *source, const struct dest_ref *ref,
                                             enum dest_purpose purpose, struct dest_handler handler)
{
    return source->find(source, ref, purpose, handler);
}

static inline void dest_cancel(struct dest_source *source, struct dest_request *request)
{
    source->cancel(source, request);
}

#endif
