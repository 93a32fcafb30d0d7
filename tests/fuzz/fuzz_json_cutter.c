/* Fuzzes the JSON cutter. The first octet chooses the form and the length of pieces, the second
 * what is left out. The outcome is the same for the whole text and for pieces. If the text as a
 * whole is JSON, the cutter finds exactly the objects that the parser finds, without the values to
 * leave out. */
#include "lib/json_cutter.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 65536 };

static void must(bool condition)
{
    if (!condition) {
        abort();
    }
}

/* All objects that were cut out, with a line end behind each; the result; the metadata. */
struct outcome {
    int res;
    bool done;
    size_t n;
    struct buf objects, metadata;
};

static void add(struct buf *b, struct str s)
{
    must(buf_add(b, s.p, s.n) == OK && buf_add(b, "\n", 1) == OK);
}

static void cut(struct outcome *o, enum json_cutter_form form, struct json_cutter_rules rules,
                struct str in, size_t piece)
{
    struct json_cutter c;
    *o = (struct outcome){.res = AGAIN};
    buf_init(&o->objects, (size_t)2 * INPUT_MAX);
    buf_init(&o->metadata, (size_t)2 * INPUT_MAX);
    json_cutter_init(&c, form, rules);
    while (in.n && o->res != ERR) {
        struct str part = {in.p, in.n < piece ? in.n : piece}, object;
        struct error err;
        in.p += part.n;
        in.n -= part.n;
        while ((o->res = json_cutter_next(&c, &part, &object, &err)) == OK) {
            must(object.n >= 2 && object.p[0] == '{');
            add(&o->objects, object);
            o->n++;
        }
        must(o->res == ERR ? err.text[0] != '\0' : part.n == 0);
    }
    o->done = json_cutter_done(&c);
    add(&o->metadata, json_cutter_metadata(&c));
    json_cutter_free(&c);
}

static void outcome_free(struct outcome *o)
{
    buf_free(&o->objects);
    buf_free(&o->metadata);
}

static bool same(const struct buf *a, const struct buf *b)
{
    return buf_len(a) == buf_len(b) && memcmp(buf_str(a).p, buf_str(b).p, buf_len(a)) == 0;
}

static unsigned depth_of(struct json_value v)
{
    unsigned depth = 0;
    for (struct json_value e = json_first(v); json_exists(e); e = json_next(e)) {
        unsigned inside = depth_of(e);
        depth = inside > depth ? inside : depth;
    }
    return depth + (json_type(v) == JSON_OBJECT || json_type(v) == JSON_ARRAY);
}

/* Adds the text from `from` on up to the last value in v that is left out. `depth` is the number of
 * objects around v. Returns the end of what it has added. */
static const char *add_cut(struct buf *b, struct json_value v, unsigned depth,
                           struct json_cutter_rules rules, const char *from)
{
    for (struct json_value m = json_first(v); json_exists(m); m = json_next(m)) {
        struct str text = json_text(m);
        const char *end = text.p + text.n;
        if (depth < rules.level && json_type(m) == JSON_OBJECT) {
            from = add_cut(b, m, depth + 1, rules, from);
            continue;
        }
        end += strspn(end, " \t\r\n"); /* a brace follows */
        if ((size_t)(end - text.p) > rules.value_max || depth_of(m) > JSON_CUTTER_DEPTH) {
            must(buf_add(b, from, (size_t)(text.p - from)) == OK && buf_add(b, "~", 1) == OK);
            from = end;
        }
    }
    return from;
}

static void add_object(struct buf *b, struct json_value v, struct json_cutter_rules rules)
{
    struct str text = json_text(v);
    const char *from = add_cut(b, v, 1, rules, text.p);
    add(b, (struct str){from, (size_t)(text.p + text.n - from)});
}

/* Finds the same objects with the parser. Returns false if the form does not allow the text. */
static bool find(struct outcome *o, enum json_cutter_form form, struct json_cutter_rules rules,
                 struct json_value root)
{
    *o = (struct outcome){.done = true};
    buf_init(&o->objects, (size_t)2 * INPUT_MAX);
    buf_init(&o->metadata, (size_t)2 * INPUT_MAX);
    struct str metadata = {"", 0};
    bool items = false, once = true, plain = json_type(root) == JSON_OBJECT;
    if (form == JSON_CUTTER_STREAM) {
        add_object(&o->objects, root, rules);
        o->n = 1;
        items = plain;
        root = (struct json_value){0};
    }
    for (struct json_value m = json_first(root); plain && json_exists(m); m = json_next(m)) {
        struct str name = json_text(json_key(m));
        if (str_eq(name, "\"items\"")) {
            once = once && !items;
            items = true;
            plain = json_type(m) == JSON_ARRAY || json_type(m) == JSON_NULL;
            for (struct json_value e = json_first(m); json_exists(e); e = json_next(e), o->n++) {
                plain = plain && json_type(e) == JSON_OBJECT;
                add_object(&o->objects, e, rules);
            }
        } else if (str_eq(name, "\"metadata\"")) {
            once = once && metadata.n == 0;
            metadata = json_text(m);
            plain = json_type(m) == JSON_OBJECT;
        }
    }
    add(&o->metadata, metadata);
    return plain && items && once;
}

static void compare_with_parser(const struct outcome *o, enum json_cutter_form form,
                                struct json_cutter_rules rules, struct str in)
{
    struct error err;
    struct json *doc = json_parse(in, &err);
    if (!doc) {
        return;
    }
    struct outcome found;
    if (find(&found, form, rules, json_root(doc))) {
        must(o->res == AGAIN && o->done && o->n == found.n);
        must(same(&o->objects, &found.objects) && same(&o->metadata, &found.metadata));
    } else {
        must(o->res == ERR);
    }
    outcome_free(&found);
    json_free(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > INPUT_MAX) {
        return 0;
    }
    struct str in = {(const char *)data + 2, size - 2};
    struct json_cutter_rules rules = {.level = 1 + data[1] % JSON_CUTTER_LEVEL_MAX,
                                      .value_max = data[1] / JSON_CUTTER_LEVEL_MAX};
    enum json_cutter_form form = data[0] & 1 ? JSON_CUTTER_LIST : JSON_CUTTER_STREAM;
    struct outcome whole, pieces;
    cut(&whole, form, rules, in, in.n);
    cut(&pieces, form, rules, in, 1 + (data[0] >> 1) % 32);
    must(whole.res == pieces.res && whole.n == pieces.n && whole.done == pieces.done);
    must(same(&whole.objects, &pieces.objects));
    must(whole.res == ERR || same(&whole.metadata, &pieces.metadata));
    compare_with_parser(&whole, form, rules, in);
    outcome_free(&whole);
    outcome_free(&pieces);
    return 0;
}
