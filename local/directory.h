/* Local mode: a directory of files, followed while the program runs. A file is a plain destination
 * as exported from the BTP cockpit, known by its property "Name", or a Kubernetes object. Its file
 * name tells its form (local/file.h) and stands in complaints.
 *
 * Files *.json and properties files are read. Other files that may be destinations get a complaint.
 * Files that surely are not destinations are ignored: hidden files, editors' temporaries, README,
 * subdirectories. Files may be written in place, renamed over others, deleted, or swapped as
 * Kubernetes swaps mounted ones; the directory itself may go and come back. When a file cannot be
 * read, its last good version stays in force; readable JSON that is not a usable destination or
 * object ends it. */
#ifndef TPROXY_LOCAL_DIRECTORY_H
#define TPROXY_LOCAL_DIRECTORY_H

#include "core/destination.h"
#include "lib/base.h"
#include "lib/fail.h"

struct connectivity;
struct dest_source;
struct local_directory;
struct local_object;
struct loop;
struct oauth;

/* The largest numbers of files that are read, and of files that only get a complaint. */
enum { LOCAL_FILES_MAX = 1024, LOCAL_OTHERS_MAX = 64 };

/* Reports to the user of the directory. The functions are called from the loop, never from inside a
 * call of local_*. They may ask local_directory_source, and must not call local_directory_free. */
struct local_directory_handler {
    /* A destination, or an object, is new or has changed. It belongs to the directory; a reference
     * keeps it. */
    void (*destination_changed)(const struct destination *dest, void *arg);
    void (*object_changed)(const struct local_object *object, void *arg);

    /* A destination, or an object, that was reported does not exist any more. */
    void (*destination_gone)(const char *name, void *arg);
    void (*object_gone)(const struct local_object *object, void *arg);

    /* Something is wrong with `path`, a file or the directory: the text says what, where, and the
     * remedy, on one line. It is reported once; text is NULL when all is in order again, or the
     * file is gone. */
    void (*complaint)(const char *path, const char *text, void *arg);

    /* Everything has been reported. Called after the start, and after every burst of changes. */
    void (*settled)(void *arg);

    void *arg;
};

/* Starts to follow `dir`. Returns NULL and sets *err (FAIL_CONFIG, FAIL_INTERNAL), which names it,
 * when it cannot be watched. */
struct local_directory *local_directory_new(struct loop *loop, const char *dir,
                                            struct local_directory_handler handler,
                                            struct error *err);

/* Reads the files at these paths once and does not follow them. Each counts as in a directory.
 * Complaints name the paths as they are given. Returns NULL and sets *err (FAIL_LIMIT) when there
 * are more than LOCAL_FILES_MAX. */
struct local_directory *local_directory_of(struct loop *loop, char *const *paths, size_t n,
                                           struct local_directory_handler handler,
                                           struct error *err);

/* What was last reported of a file, or of the directory itself. */
struct local_report {
    const char *path;
    const char *complaint; /* NULL: nothing is wrong with it */
    enum verdict verdict;  /* on a destination that cannot be used; else VERDICT_OK */
    /* Its contents; both NULL: it has none that count. */
    const struct destination *dest;
    const struct local_object *object;
};

/* Calls `each` for the directory, if something is wrong with it, and then for its files, in the
 * order of their names. The report is valid during the call. */
void local_directory_each(const struct local_directory *local,
                          void (*each)(const struct local_report *report, void *arg), void *arg);

/* Stops following the directory and frees the object. No request to its source may be under way.
 * NULL is allowed. */
void local_directory_free(struct local_directory *local);

/* Returns the source of its destinations, valid until local_directory_free. Destinations are found
 * by name, whatever instance a reference names. */
struct dest_source *local_directory_source(struct local_directory *local);

/* Sets where its source gets tokens for destinations in files, and the route to token servers. Both
 * objects stay the caller's. */
void local_directory_set_oauth(struct local_directory *local, struct oauth *oauth,
                               struct connectivity *connectivity);

/* Sets the source that is asked for a destination that no file describes, if the reference names an
 * instance. It stays the caller's. */
void local_directory_set_service(struct local_directory *local, struct dest_source *service);

/* Lets the files stand for what the service has, as in a cluster: it is asked first, and where it
 * would have to ask a server, a file answers. Hosts that are this machine are not allowed then.
 * Called before the first turn of the loop. */
void local_directory_stand_in(struct local_directory *local);

#endif
