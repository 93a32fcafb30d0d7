/* Objects for tests, written as JSON in which apostrophes stand for quotation marks. */
#ifndef TPROXY_TESTS_OBJECTS_H
#define TPROXY_TESTS_OBJECTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/json.h"
#include "lib/mem.h"

struct object {
    char *text;
    struct json *doc;
    struct json_value root;
};

/* The caller frees it; a text that is no JSON fails the test. */
static inline struct object object_of(const char *text)
{
    struct error err;
    struct object o = {.text = mem_strdup(text)};
    for (char *p = o.text; *p; p++) {
        *p = *p == '\'' ? '"' : *p;
    }
    o.doc = json_parse(str_of(o.text), &err);
    if (!o.doc) {
        fail_msg("%s: %s", err.text, o.text);
    }
    o.root = json_root(o.doc);
    return o;
}

static inline void object_free(struct object *o)
{
    json_free(o->doc);
    free(o->text);
}

#endif
