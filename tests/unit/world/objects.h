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

/* Parses an object; a text that is not JSON fails the test. The caller frees it with
 * object_free. */
struct object object_of(const char *text);

void object_free(struct object *o);

#endif
