/* One file of local mode: its form, which its name tells, and its contents. */
#ifndef TPROXY_LOCAL_FILE_H
#define TPROXY_LOCAL_FILE_H

#include <stdbool.h>

#include "core/destination.h"
#include "lib/base.h"
#include "lib/fail.h"

struct local_object;

/* The largest sizes of a complaint, which may name a path twice, and of a file, in bytes. */
enum { LOCAL_COMPLAINT_MAX = 10 * 1024, LOCAL_FILE_SIZE_MAX = 1024 * 1024 };

enum local_form {
    LOCAL_PASSED_OVER, /* ignored: hidden files, editors' backups, README, ... */
    LOCAL_JSON,        /* *.json */
    LOCAL_PROPERTIES,  /* *.properties, or no extension: JSON if it begins with '{' */
    LOCAL_YAML,        /* not read, but reported, as are the next two */
    LOCAL_ARCHIVE,
    LOCAL_UNKNOWN,
};

/* Returns the form that a file's name tells. */
enum local_form local_file_form(const char *name);

/* Tells whether files of that form are read. */
static inline bool local_form_is_read(enum local_form form)
{
    return form == LOCAL_JSON || form == LOCAL_PROPERTIES;
}

/* Why a destination that has a name cannot be used. */
struct local_refusal {
    char *name;
    enum verdict verdict;
    struct error err; /* names field and remedy */
};

/* The contents of a file: a destination, or an object, or nothing ({0}). */
struct local_content {
    char *key; /* the destination's name, or kind and name of the object; NULL: nothing */
    const struct destination *dest;
    const struct local_object *object;
    struct local_refusal *refusal; /* of what the file has had last; NULL: it was no destination, or
                                      a usable one */
};

/* Returns another reference to the same contents, without the refusal. */
struct local_content local_content_ref(const struct local_content *from);
void local_content_clear(struct local_content *content);

/* Tells whether two contents with the same key are equal. */
bool local_content_equal(const struct local_content *a, const struct local_content *b);

/* Reads the file at `path`, whose last part is `name`. stands_in: the file stands for what the
 * Destination service has, so secrets may be missing that an export leaves out, but hosts that are
 * this machine are not allowed. *content is the previous contents and
 * becomes the new ones. It stays if the file may be half written: if it cannot be read or parsed,
 * or is a properties file (which may end anywhere) without a usable destination. `complaint` says
 * what is wrong and what to do, or is "". It shows values only of fields that are not secret. */
void local_file_read(const char *path, const char *name, bool stands_in,
                     struct local_content *content, char complaint[static LOCAL_COMPLAINT_MAX]);

#endif
