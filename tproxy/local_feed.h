/* Local mode's wiring: hands what its directory reports to the cluster in memory and to the
 * controller. */
#ifndef TPROXY_TPROXY_LOCAL_FEED_H
#define TPROXY_TPROXY_LOCAL_FEED_H

#include <stdbool.h>

#include "local/directory.h"

struct controller;
struct local_cluster;
struct local_object;

/* Everything stays the caller's. */
struct local_feed {
    struct local_cluster *objects;
    struct controller *controller; /* set before the first turn of the loop */
    const char *home;              /* the installation's namespace; set like `controller` */
    bool cluster; /* as in a cluster: a destination has no CR of its own, but those in files */

    /* An object has no effect, for the reason in `text`, a sentence. Called from the loop. */
    void (*without_effect)(const struct local_object *object, const char *text, void *arg);
    void *arg;
};

/* Returns the handler for local_directory_new. `feed` must outlive the directory; it is the `arg`
 * that `complaint` gets. */
struct local_directory_handler local_feed_handler(struct local_feed *feed,
                                                  void (*complaint)(const char *path,
                                                                    const char *text, void *arg));

#endif
