/* Objects for tests, written as JSON in which apostrophes stand for quotation marks. */
#ifndef TPROXY_TESTS_WORLD_OBJECTS_H
#define TPROXY_TESTS_WORLD_OBJECTS_H

#include "lib/json.h"
#include "tests/unit/check.h"

struct object {
    char *text;
    struct json *doc;
    struct json_value root;
};

/* The caller frees it; a text that is no JSON fails the test. */
struct object object_of(const char *text);

void object_free(struct object *o);

#endif
