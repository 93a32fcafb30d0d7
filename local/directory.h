/* Local mode: a directory of files, followed while the program runs. Each is a plain destination as
 * exported from the BTP cockpit, known by its property "Name", or a Kubernetes object. File names
 * say in which form (file.h), and serve complaints.
 *
 * Files *.json and properties files are read. Other files that may be destinations get a complaint.
 * Files that surely are not are ignored: hidden files, editors' temporaries, README,
 * subdirectories. Files may be written in place, renamed over others, deleted, or swapped as
 * Kubernetes swaps mounted ones; the directory itself may go and come back. A file that cannot be
 * read keeps its last good version in force; readable JSON that is not a usable destination or
 * object ends it. */
#ifndef TPROXY_LOCAL_DIRECTORY_H
#define TPROXY_LOCAL_DIRECTORY_H

#include "lib/base.h"
#include "lib/fail.h"

struct connectivity;
struct dest_source;
struct destination;
struct local;
struct local_object;
struct loop;
struct oauth;

/* Bounds: files that are read, and files that are only complained about. */
enum { LOCAL_FILES_MAX = 1024, LOCAL_OTHERS_MAX = 64 };

/* What the user of the directory is told, from the loop, never from inside a call of local_*. The
 * callbacks may ask local_source, and must not call local_free. */
struct local_handler {
    /* A destination, or an object, is new or differs from before. It is local's; a reference keeps
     * it. */
    void (*destination_changed)(const struct destination *dest, void *arg);
    void (*object_changed)(const struct local_object *object, void *arg);

    /* One that was told of is no more. */
    void (*destination_gone)(const char *name, void *arg);
    void (*object_gone)(const struct local_object *object, void *arg);

    /* Something is wrong with `path`, a file or the directory: what, where, and the remedy, on one
     * line. Said once; text is NULL when it is in order again, or gone. */
    void (*complaint)(const char *path, const char *text, void *arg);

    /* All there is at the moment has been told: after the start, and after every burst of changes.
     */
    void (*settled)(void *arg);

    void *arg;
};

/* Starts to follow `dir`. NULL and *err (FAIL_CONFIG, FAIL_INTERNAL), naming it, when it cannot be
 * watched. */
struct local *local_new(struct loop *loop, const char *dir, struct local_handler handler,
                        struct error *err);

/* Silence. No request to its source may be under way. NULL is allowed. */
void local_free(struct local *local);

/* Its destinations by name, whatever instance a reference names. Valid until local_free. */
struct dest_source *local_source(struct local *local);

/* Whom its source asks for tokens of destinations in files, and for the way to token servers. They
 * stay the caller's. */
void local_set_oauth(struct local *local, struct oauth *oauth, struct connectivity *connectivity);

/* Whom its source asks for a destination that no file describes, if the reference names an
 * instance. It stays the caller's. */
void local_set_service(struct local *local, struct dest_source *service);

#endif
