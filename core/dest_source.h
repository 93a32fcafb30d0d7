/* A source of destinations: local mode's files, or the Destination service. This is only an
 * interface. */
#ifndef TPROXY_CORE_DEST_SOURCE_H
#define TPROXY_CORE_DEST_SOURCE_H

#include "core/dest_ref.h"
#include "core/destination.h"
#include "lib/fail.h"

struct secret;
struct token;

/* Why a destination is looked up. */
enum dest_purpose {
    DEST_TO_CHECK,  /* to see whether it is usable. No token is asked for: the controller checks all
                       destinations in rounds */
    DEST_TO_LOG_IN, /* with the token for the mail server, if it takes one */
};

/* The user who logs in, where clients name themselves: a mail user, and a refresh token or an
 * authorization code. Only read during the call. */
struct dest_user {
    const char *name;
    const struct secret *secret;
};

/* The route to a server that only a Connectivity Proxy reaches. Valid as long as the answer. */
struct dest_route {
    const char *host; /* of the proxy */
    uint16_t port;
    int64_t timeout;     /* to connect to it, microseconds */
    struct token *token; /* shown to the proxy; NULL: it wants no token */
};

/* The answer; valid during the call. */
struct dest_answer {
    const struct destination *dest; /* destination_ref keeps it; NULL: see `err` */
    struct token *token;            /* token_ref keeps it; NULL unless dest->auth needs a token and
                                       the purpose is DEST_TO_LOG_IN */
    const struct dest_route *route; /* NULL: dest->host is reached directly */
    int64_t received; /* time on the monotonic clock at which a server gave dest; 0: it is from a
                         file */
    enum verdict verdict; /* VERDICT_OK; or what is wrong with the destination */
    struct error err;     /* without dest: one sentence that names field and remedy */
};

/* One question under way. Its contents belong to the source. */
struct dest_request;

/* Takes the answer. The request is freed before `done` is called. */
struct dest_handler {
    void (*done)(const struct dest_answer *answer, void *arg);
    void *arg;
};

/* Embedded in the implementation (struct dest, struct local_directory, struct connectivity). */
struct dest_source {
    /* Asks for a destination. `done` is called exactly once, never from inside find; until then, or
     * until cancel, the request is valid. `user` is given to log in where dest->auth takes one;
     * NULL: no user is known. Never returns NULL. */
    struct dest_request *(*find)(struct dest_source *source, const struct dest_ref *ref,
                                 enum dest_purpose purpose, const struct dest_user *user,
                                 struct dest_handler handler);

    /* Notes that the mail server refused this token, so that it is not handed out again. */
    void (*refused)(struct dest_source *source, const struct dest_ref *ref,
                    const struct dest_user *user, const struct token *token);

    /* Reports how the Connectivity Proxy took the token of a route: err NULL: accepted; FAIL_TOKEN:
     * refused. renewable: the caller has not asked again for that reason yet. Returns true if the
     * caller shall ask again, because it may get another token. The member is NULL when the source
     * has no routes. */
    bool (*tried)(struct dest_source *source, const struct dest_ref *ref, const struct token *token,
                  const struct error *err, bool renewable);

    /* Cancels the request: it is freed, and `done` will not be called. NULL is allowed. */
    void (*cancel)(struct dest_source *source, struct dest_request *request);
};

static inline struct dest_request *dest_find(struct dest_source *source, const struct dest_ref *ref,
                                             enum dest_purpose purpose,
                                             const struct dest_user *user,
                                             struct dest_handler handler)
{
    return source->find(source, ref, purpose, user, handler);
}

static inline void dest_refused(struct dest_source *source, const struct dest_ref *ref,
                                const struct dest_user *user, const struct token *token)
{
    source->refused(source, ref, user, token);
}

static inline bool dest_tried(struct dest_source *source, const struct dest_ref *ref,
                              const struct token *token, const struct error *err, bool renewable)
{
    return source->tried && source->tried(source, ref, token, err, renewable);
}

static inline void dest_cancel(struct dest_source *source, struct dest_request *request)
{
    source->cancel(source, request);
}

#endif
