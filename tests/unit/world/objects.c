/* Parses and frees the objects of tests. */
#include "tests/unit/world/objects.h"

#include "lib/mem.h"

struct object object_of(const char *text)
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

void object_free(struct object *o)
{
    json_free(o->doc);
    free(o->text);
}
