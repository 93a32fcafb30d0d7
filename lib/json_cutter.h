/* Single objects cut out of JSON that comes in pieces, without waiting for its end: memory is one
 * object, not the whole. Only ends are found here (strings, escapes, depth); what is cut out may
 * still be no JSON, and goes through json_parse. Pure. */
#ifndef TPROXY_LIB_JSON_CUTTER_H
#define TPROXY_LIB_JSON_CUTTER_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"
#include "lib/text.h"

/* The largest object, octets. */
enum { JSON_CUTTER_MAX = 4 * 1024 * 1024 };

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
    char word[12]; /* a name or a scalar; what is longer fills it */
    size_t word_n;
    struct buf object, metadata;
};

/* Initialises; json_cutter_free is due. */
void json_cutter_init(struct json_cutter *c, enum json_cutter_form form);

/* Frees the memory. Idempotent. */
void json_cutter_free(struct json_cutter *c);

/* Takes octets off *in. OK: *object is the next object, valid until the next call and as long as
 * the octets of `in`. AGAIN: *in is used up, more must come, or nothing if json_cutter_done. ERR:
 * it is not of the form (FAIL_PROTOCOL), or an object is too large (FAIL_LIMIT); stays so. */
int json_cutter_next(struct json_cutter *c, struct str *in, struct str *object,
                     struct error *err) warn_unused;

/* May the text end here? */
bool json_cutter_done(const struct json_cutter *c);

/* Of a list that is done: the text of its metadata; empty when it has none. Valid until
 * json_cutter_free. */
struct str json_cutter_metadata(const struct json_cutter *c);

#endif
