/* A cluster that a test plays: an object store that answers as the API server does, with uids,
 * versions, label selectors and finalizers. What it has to tell and to answer waits until
 * fake_pick(): the order is the test's. Objects are JSON in which apostrophes stand
 * for quotation marks. */
#ifndef TPROXY_TESTS_WORLD_CLUSTER_H
#define TPROXY_TESTS_WORLD_CLUSTER_H

#include "cluster/cluster.h"
#include "lib/list.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "tests/unit/check.h"
#include "tests/unit/world/objects.h"

enum { FAKE_TEXT_MAX = 1 << 20, FAKE_KINDS = 16, FAKE_VERBS = CLUSTER_DELETE + 1 };

/* An object that is there. */
struct item {
    struct list link;
    struct map_entry entry;
    char *key;                     /* "kind namespace name" */
    char *kind, *namespace, *name; /* "" without a namespace */
    char *text;
};

struct cluster_call {
    struct list link;
    const struct cluster_kind *kind;
    enum cluster_verb verb;
    char *namespace, *name, *uid, *body;
    struct cluster_handler handler;
    bool carried_out;
    enum cluster_result result;
    char *object; /* NULL: none */
};

/* How the API server is with a kind: what it says to who lists. */
struct kind_state {
    const char *kind;
    enum cluster_presence presence;
    bool mute;  /* its watches tell nothing for the time being */
    bool cut;   /* its lists break off before their end */
    bool empty; /* they are complete, and name nothing */
};

struct fake {
    struct cluster face;
    struct list items, watches, calls;
    struct map by_key;
    struct kind_state kinds[FAKE_KINDS];
    uint64_t version, uids, created;
    bool answers_first; /* an answer overtakes what the watches tell of it */
    /* What becomes of a call: CLUSTER_DONE: it is carried out. NULL: every one is. */
    enum cluster_result (*fate)(const struct cluster_call *call);
    bool (*loses)(const struct cluster_call *call); /* its answer; NULL: none */
    bool (*holds)(const struct cluster_call *call); /* it is not answered; NULL: all are */
    const char *prunes; /* a patch of what calls have written: an API server that knows better */

    struct buf journal; /* a line for each call */
    unsigned calls_made[FAKE_VERBS];
    uint64_t changes;             /* of objects, by calls */
    size_t waiting, most_waiting; /* calls */
};
extern struct fake fake;

/* ---- JSON ---- */

/* The caller frees it. */
char *fake_merged(const char *text, const char *patch);

/* The text at a path "metadata.uid"; the caller frees it. */
char *fake_get(const char *text, const char *path);

bool fake_says(const char *text, const char *path, const char *value);

/* ---- the store ---- */

struct kind_state *fake_kind(const char *kind);

struct item *fake_find(const char *kind, const char *namespace, const char *name);

void fake_remove(struct item *i);

/* The object becomes `text`, with a version of its own; gone, if that was all it waited for. Takes
 * `text`. False: nothing has changed. */
bool fake_store(struct item *i, char *text);

struct item *fake_create(const char *kind, const char *namespace, const char *name,
                         const char *text);

void fake_delete(struct item *i);

/* Somebody else writes: creates the object, or merges a patch into it. */
void fake_put(const char *kind, const char *namespace, const char *name, const char *patch);

void fake_drop(const char *kind, const char *namespace, const char *name);

/* Everything of a kind is to be listed anew. */
void fake_relist(const char *kind);

void fake_set_presence(const char *kind, enum cluster_presence presence);

/* ---- the world goes on ---- */

/* Does the n-th of what can be done now: something is told, carried out, or answered. False: there
 * is no n-th. */
bool fake_pick(size_t n);

/* How much of it there is. */
size_t fake_choices(void);

void fake_start(void);

/* Everybody has left. */
void fake_stop(void);

#endif
