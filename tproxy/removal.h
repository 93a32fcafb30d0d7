/* Removes everything that an installation has made, and nothing else. */
#ifndef TPROXY_TPROXY_REMOVAL_H
#define TPROXY_TPROXY_REMOVAL_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"

struct cluster;
struct loop;
struct removal;

/* The most requests that change something and are under way at a time, and the most errors about
 * objects of one kind that are told one by one. */
enum { REMOVAL_CALLS_MAX = 16, REMOVAL_ERRORS_MAX = 10 };

/* The outcome for the objects. */
struct removal_sum {
    size_t removed; /* or would be removed */
    size_t gone;    /* went by themselves after they were listed */
    size_t failed;  /* of what was tried, of kinds that could not be listed, of what came back */
};

struct removal_settings {
    const char *home;  /* namespace of the installation; lives as long as the removal */
    const char *lease; /* name of its Lease; likewise */
    bool dry_run;      /* tell what would be done, and do nothing */
};

/* The functions are called from the loop, never from inside removal_new. Texts are one line without
 * an end of line, valid during the call. */
struct removal_handler {
    /* An object was removed, or would be. In a dry run and otherwise the order is the same. */
    void (*line)(const char *text, void *arg);

    /* Something stays: what, why, and what to do. */
    void (*error)(const char *text, void *arg);

    /* Something that looks like ours stays, because nothing proves that it is. */
    void (*note)(const char *text, void *arg);

    /* Everything has been tried. May free the removal. */
    void (*over)(const struct removal_sum *sum, void *arg);

    void *arg;
};

/* Begins to remove what the installation has made. The cluster must have no other user. */
struct removal *removal_new(struct loop *loop, struct cluster *cluster,
                            const struct removal_settings *settings,
                            struct removal_handler handler);

/* Ends all requests and frees the removal; what was not removed stays. NULL is allowed. */
void removal_free(struct removal *removal);

/* Returns what has become of the objects so far. */
struct removal_sum removal_sum(const struct removal *removal);

#endif
