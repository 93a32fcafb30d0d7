/* Follows the objects of a kind: one watch with its bookkeeping (which list, which versions, is the
 * kind there at all), and a store when objects are kept by name. */
#ifndef TPROXY_CLUSTER_FOLLOWER_H
#define TPROXY_CLUSTER_FOLLOWER_H

#include <stdbool.h>
#include <stdint.h>

#include "cluster/cluster.h"
#include "lib/base.h"
#include "lib/json.h"

struct store;
struct stored;

/* Says how the objects are kept, and whom the follower tells. The functions are called from the
 * loop and by follower_take, never from inside another function follower_*. They may stop the
 * follower. A function that is NULL is not called. */
struct follower_settings {
    const char *name;    /* of the objects, for the log: "Services"; static storage */
    bool optional;       /* most clusters do not have the kind, so only a refusal is logged */
    struct store *store; /* objects are kept in it; NULL: there is none */

    /* A list begins. */
    void (*listing)(void *arg);

    /* The object exists, perhaps unchanged. `stored` is its place in the store; NULL: there is no
     * store. Both are valid during the call. */
    void (*there)(struct json_value object, struct stored *stored, void *arg);

    /* The object does not exist any more. With a store the function is only called for an object
     * that was in it, after the store has dropped it. */
    void (*gone)(struct json_value object, void *arg);

    /* A complete list is at its end. Returns whether it counts; if not, the objects that it did not
     * name stay, and `listed` is not called. NULL: every list counts. */
    bool (*counts)(void *arg);

    /* A list has ended. complete: an object that it did not name does not exist; the store has
     * dropped it. Otherwise nothing is known of the objects, and the store keeps them. */
    void (*listed)(bool complete, void *arg);

    void *arg;
};

/* A follower, in the memory of its user, who reads the members from `watch` on and writes none. All
 * zero: nothing has been followed yet. */
struct follower {
    struct cluster *cluster;
    struct follower_settings set;

    struct cluster_watch *watch;    /* NULL: nothing is followed */
    bool listed;                    /* a list has ended, complete or not */
    bool known;                     /* a complete list has ended */
    bool fresh;                     /* a list has ended since the last follower_start */
    enum cluster_presence presence; /* the result of the last list */
    uint64_t round;   /* number of the last list; an object that a complete one did not name is
                         gone */
    uint64_t version; /* the newest that was reported since the last list began */
};

/* Starts to follow a selection, which begins with a list. The follower is all zero or was stopped;
 * in the second case it keeps what it knows. Texts of the settings are not copied. */
void follower_start(struct follower *follower, struct cluster *cluster,
                    const struct cluster_selection *selection,
                    const struct follower_settings *settings);

/* Ends the watch. The store keeps its objects. May be called more than once. */
void follower_stop(struct follower *follower);

/* Tells whether an object that an answer brings is newer than everything that the watch has
 * reported. If not, the watch has reported it already, and perhaps what came after it. */
bool follower_is_news(const struct follower *follower, struct json_value object);

/* Takes in an object that an answer brings, if it is news: stores it and calls `there`. */
void follower_take(struct follower *follower, struct json_value object);

#endif
