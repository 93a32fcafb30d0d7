/* Cuts single objects out of JSON that comes in pieces, without waiting for its end: memory is one
 * object, not the whole. Only ends are found here (strings, escapes, depth). An object that is cut
 * out may still not be JSON; json_parse_cut decides that. Pure.
 *
 * Values that nobody reads, that are too large or nested too deeply are left out while they come:
 * JSON_OMISSION takes their place, and json_parse_cut makes a JSON_OMITTED of it. The names and
 * short values of an object therefore arrive whatever else is in it. */
#ifndef TPROXY_LIB_JSON_CUTTER_H
#define TPROXY_LIB_JSON_CUTTER_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"
#include "lib/text.h"

/* JSON_CUTTER_MAX: the largest object once everything is left out that can be, octets. When half of
 * that has come, values of more than JSON_CUTTER_SHORT octets are left out. */
enum { JSON_CUTTER_MAX = 4 * 1024 * 1024, JSON_CUTTER_SHORT = 1024 };

/* Maximum nesting of containers in a value that is kept. */
enum { JSON_CUTTER_DEPTH = 48 };

enum { JSON_CUTTER_LEVEL_MAX = 3 };

/* Rules that say which values of an object are left out. Copied; the names stay the caller's. */
struct json_cutter_rules {
    /* Values are left out as a whole: those of members of objects that are nested this deeply. 2:
     * "metadata" is never left out, "metadata.labels" may be. 3: the same inside of a wrapper,
     * {"type":"ADDED","object":{...}}. Values of outer members may be left out too, unless they are
     * objects. */
    unsigned level;
    size_t value_max;          /* the longest value that is kept, octets */
    const char *const *unread; /* members that nobody reads ("spec.actions"), then NULL; or NULL */
};

enum json_cutter_form {
    JSON_CUTTER_STREAM, /* objects one after the other, blanks and line ends between them */
    JSON_CUTTER_LIST,   /* one object. Its member `items` must be there and be an array of objects,
                           or null. The text of its member `metadata`, an object, is kept; all
                           others are dropped */
};

/* Position in the text. Owns memory while an object has come in part. */
struct json_cutter {
    enum json_cutter_form form;
    int state;
    int member;     /* the member of the list whose value comes */
    unsigned seen;  /* members of the list that have come */
    unsigned depth; /* in a value */
    bool in_string, escaped;
    struct json_cutter_rules rules;
    bool value_due;        /* a colon has come, and no value yet */
    bool in_member;        /* in a value that is kept or left out as a whole */
    unsigned member_depth; /* the depth at which that value began */
    size_t member_start;   /* the place in `object` where it began */
    bool leaving_out;
    unsigned left_out;                        /* values left out; unread ones do not count */
    char path[128];                           /* path of the member: "spec.actions" */
    size_t path_n;                            /* a longer path is cut to fill `path` */
    size_t prefix[JSON_CUTTER_LEVEL_MAX + 1]; /* path length of the object, at each depth */
    char word[12];                            /* a name or a scalar, cut if it is longer */
    size_t word_n;
    struct buf object, metadata;
};

/* Initialises a cutter, which json_cutter_free has to free. */
void json_cutter_init(struct json_cutter *c, enum json_cutter_form form,
                      struct json_cutter_rules rules);

/* Frees the memory. Idempotent. */
void json_cutter_free(struct json_cutter *c);

/* Takes octets off *in. OK: *object is the next object, valid until the next call. AGAIN: *in is
 * used up, more must come, or nothing if json_cutter_done. ERR: the text is not of the form
 * (FAIL_PROTOCOL), or an object is too large (FAIL_LIMIT); every later call fails, too. */
int json_cutter_next(struct json_cutter *c, struct str *in, struct str *object,
                     struct error *err) warn_unused;

/* Returns how many values of the last object were too large or nested too deeply. */
unsigned json_cutter_left_out(const struct json_cutter *c);

/* Tells whether the text may end here. */
bool json_cutter_done(const struct json_cutter *c);

/* Returns the text of the metadata of a list that is done; empty when it has none. Valid until
 * json_cutter_free. */
struct str json_cutter_metadata(const struct json_cutter *c);

#endif
