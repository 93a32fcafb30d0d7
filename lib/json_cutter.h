/* Single objects cut out of JSON that comes in pieces, without waiting for its end: memory is one
 * object, not the whole. Only ends are found here (strings, escapes, depth); what is cut out may
 * still be no JSON, and goes through json_parse_cut. Pure.
 *
 * What nobody reads, what is too large and what is nested too deeply is left out while it comes:
 * JSON_OMISSION takes its place, and json_parse_cut makes a JSON_OMITTED of it. So the names and
 * short values of an object arrive whatever else is in it. */
#ifndef TPROXY_LIB_JSON_CUTTER_H
#define TPROXY_LIB_JSON_CUTTER_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"
#include "lib/text.h"

/* Of an object when all is left out that can be: the largest one, octets. Where half of that has
 * come, values of more than JSON_CUTTER_SHORT octets are left out. */
enum { JSON_CUTTER_MAX = 4 * 1024 * 1024, JSON_CUTTER_SHORT = 1024 };

/* Containers in each other in a value that is kept. */
enum { JSON_CUTTER_DEPTH = 48 };

enum { JSON_CUTTER_LEVEL_MAX = 3 };

/* What of an object is left out. Copied; the names stay the caller's. */
struct json_cutter_rules {
    /* Values are left out as a whole: those of members of objects that have so many objects around
     * them. 2: "metadata" is never left out, "metadata.labels" may be. 3: the same inside of a
     * wrapper, {"type":"ADDED","object":{...}}. What is no object further outside is left out
     * likewise. */
    unsigned level;
    size_t value_max;          /* octets */
    const char *const *unread; /* members that nobody needs, "spec.actions"; NULL at the end.
                                  NULL: none */
};

enum json_cutter_form {
    JSON_CUTTER_STREAM, /* objects one after the other, blanks and line ends between them */
    JSON_CUTTER_LIST,   /* one object, whose member `items` must be there and is an array of
                           objects, or null; the text of its member `metadata`, an object, is kept,
                           all others are dropped */
};

/* Position in the text. It owns memory while an object has come in part. */
struct json_cutter {
    enum json_cutter_form form;
    int state;
    int member;     /* of the list, whose value comes */
    unsigned seen;  /* members that have come */
    unsigned depth; /* in a value */
    bool in_string, escaped;
    struct json_cutter_rules rules;
    bool value_due;        /* a colon has come, and no value yet */
    bool in_member;        /* in a value that is kept or left out as a whole, */
    unsigned member_depth; /* which began at this depth */
    size_t member_start;   /* and at this place of `object` */
    bool leaving_out;
    unsigned left_out;                        /* values of this object, unread ones apart */
    char path[128];                           /* of the member: "spec.actions" */
    size_t path_n;                            /* what is longer fills it */
    size_t prefix[JSON_CUTTER_LEVEL_MAX + 1]; /* of that, the part of an object at each depth */
    char word[12];                            /* a name or a scalar; what is longer fills it */
    size_t word_n;
    struct buf object, metadata;
};

/* Initialises; json_cutter_free is due. */
void json_cutter_init(struct json_cutter *c, enum json_cutter_form form,
                      struct json_cutter_rules rules);

/* Frees the memory. Idempotent. */
void json_cutter_free(struct json_cutter *c);

/* Takes octets off *in. OK: *object is the next object, valid until the next call. AGAIN: *in is
 * used up, more must come, or nothing if json_cutter_done. ERR: it is not of the form
 * (FAIL_PROTOCOL), or an object is too large (FAIL_LIMIT); stays so. */
int json_cutter_next(struct json_cutter *c, struct str *in, struct str *object,
                     struct error *err) warn_unused;

/* How many values of the object that came last were too large or nested too deeply. */
unsigned json_cutter_left_out(const struct json_cutter *c);

/* May the text end here? */
bool json_cutter_done(const struct json_cutter *c);

/* Of a list that is done: the text of its metadata; empty when it has none. Valid until
 * json_cutter_free. */
struct str json_cutter_metadata(const struct json_cutter *c);

#endif
