/* Local mode's wiring. */
#include "tproxy/local_feed.h"

#include <string.h>

#include "controller/controller.h"
#include "core/destination.h"
#include "lib/text.h"
#include "local/cluster.h"
#include "local/object.h"

static void on_destination_changed(const struct destination *dest, void *arg)
{
    struct local_feed *feed = arg;
    if (!feed->cluster) {
        local_cluster_put_destination(feed->objects, dest->name);
    }
    controller_look_again(feed->controller, dest->name);
}

static void on_destination_gone(const char *name, void *arg)
{
    struct local_feed *feed = arg;
    if (!feed->cluster) {
        local_cluster_drop_destination(feed->objects, name);
    }
    controller_look_again(feed->controller, name);
}

static void on_object_changed(const struct local_object *object, void *arg)
{
    struct local_feed *feed = arg;
    char text[1024];
    local_cluster_put(feed->objects, object);
    if (strcmp(object->kind, "TransparentProxy") == 0 &&
        strcmp(object->namespace, feed->home) != 0) {
        text_fmt(text, sizeof(text),
                 "its namespace is \"%s\", but that of this installation is \"%s\"; change "
                 "metadata.namespace, or give --namespace",
                 object->namespace, feed->home);
        feed->without_effect(object, text, feed->arg);
    }
}

static void on_object_gone(const struct local_object *object, void *arg)
{
    struct local_feed *feed = arg;
    local_cluster_drop(feed->objects, object);
}

static void on_settled(void *arg)
{
    struct local_feed *feed = arg;
    local_cluster_settled(feed->objects);
}

struct local_directory_handler local_feed_handler(struct local_feed *feed,
                                                  void (*complaint)(const char *path,
                                                                    const char *text, void *arg))
{
    return (struct local_directory_handler){.destination_changed = on_destination_changed,
                                            .destination_gone = on_destination_gone,
                                            .object_changed = on_object_changed,
                                            .object_gone = on_object_gone,
                                            .complaint = complaint,
                                            .settled = on_settled,
                                            .arg = feed};
}
