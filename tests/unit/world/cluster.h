/* A cluster that a test plays: an object store that answers as the API server does, with uids,
 * versions, label selectors and finalizers. Reports and answers wait until fake_pick(), so that the
 * test decides their order. It may have several clients, each with a face of its own. Objects are
 * JSON in which apostrophes stand for quotation marks. */
#ifndef TPROXY_TESTS_WORLD_CLUSTER_H
#define TPROXY_TESTS_WORLD_CLUSTER_H

#include "cluster/cluster.h"
#include "lib/list.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "tests/unit/check.h"
#include "tests/unit/world/objects.h"

enum {
    FAKE_TEXT_MAX = 1 << 20,
    FAKE_KINDS = 16,
    FAKE_VERBS = CLUSTER_DELETE + 1,
    FAKE_CLIENTS = 3
};

/* An object in the store. */
struct item {
    struct list link;
    struct map_entry entry;
    char *key;                     /* "kind namespace name" */
    char *kind, *namespace, *name; /* "" without a namespace */
    char *text;
};

struct cluster_call {
    struct list link;
    size_t client; /* whose call it is */
    const struct cluster_kind *kind;
    enum cluster_verb verb;
    char *namespace, *name, *uid, *body;
    struct cluster_handler handler; /* done is NULL after a cancel */
    bool carried_out;
    enum cluster_result result;
    char *object; /* NULL: it does not exist */
};

/* The API server's behaviour for a kind: what a list returns. */
struct kind_state {
    const char *kind;
    enum cluster_presence presence;
    bool mute;               /* its watches report nothing for now */
    bool deaf[FAKE_CLIENTS]; /* those of this client do not */
    bool cut;                /* its lists break off before their end */
    bool empty;              /* they are complete and empty */
};

struct fake {
    struct cluster faces[FAKE_CLIENTS];
    struct list items, watches, calls;
    struct map by_key;
    struct kind_state kinds[FAKE_KINDS];
    uint64_t version, uids, created;
    bool answers_first; /* an answer comes before the reports of the same change */
    /* the result of a call; CLUSTER_DONE: it is carried out. NULL: all calls are */
    enum cluster_result (*fate)(const struct cluster_call *call);
    enum fail fail; /* the class of failures; FAIL_NONE: FAIL_REMOTE */
    bool (*loses)(const struct cluster_call *call); /* is its answer lost? NULL: no answer is */
    bool (*holds)(const struct cluster_call *call); /* is it left unanswered? NULL: no call is */
    bool (*sleeps)(size_t client); /* does it get no reports and answers? NULL: nobody sleeps */
    bool late_cancels; /* a cancelled call that was not carried out yet still is, later */
    bool (*reached)(const struct cluster_call *call); /* is it carried out when it is cancelled?
                                                         NULL: no call is */
    void (*called)(const struct cluster_call *call);  /* is told of each call; NULL: nobody is */
    /* A patch that changes everything that calls write, like an API server with other rules. */
    const char *prunes;

    struct buf journal; /* a line for each call */
    unsigned calls_made[FAKE_VERBS];
    uint64_t changes;             /* changes of objects by calls */
    size_t waiting, most_waiting; /* calls that wait for an answer */
};
extern struct fake fake;

/* ---- JSON ---- */

/* Returns `text` with the patch merged into it. The caller frees it. */
char *fake_merged(const char *text, const char *patch);

/* Returns the text at a path such as "metadata.uid". The caller frees it. */
char *fake_get(const char *text, const char *path);

bool fake_says(const char *text, const char *path, const char *value);

/* ---- the store ---- */

struct kind_state *fake_kind(const char *kind);

struct item *fake_find(const char *kind, const char *namespace, const char *name);

void fake_remove(struct item *i);

/* Stores `text` as the object, with a new version; deletes the object if only that was waited for.
 * Takes ownership of `text`. Returns false if nothing has changed. */
bool fake_store(struct item *i, char *text);

struct item *fake_create(const char *kind, const char *namespace, const char *name,
                         const char *text);

void fake_delete(struct item *i);

/* Writes as somebody else: creates the object, or merges a patch into it. */
void fake_put(const char *kind, const char *namespace, const char *name, const char *patch);

void fake_drop(const char *kind, const char *namespace, const char *name);

/* Makes all watches of a kind list it again. */
void fake_relist(const char *kind);

void fake_set_presence(const char *kind, enum cluster_presence presence);

/* ---- progress ---- */

/* Does the n-th of the possible things: a report, the execution of a call, or an answer. Returns
 * false if there is no n-th. */
bool fake_pick(size_t n);

/* Returns the number of possible things. */
size_t fake_choices(void);

/* Tells whether the client has a watch, or a call under way. */
bool fake_serves(size_t client);

void fake_start(void);

/* Frees the store after all watches and calls have ended. */
void fake_stop(void);

#endif
