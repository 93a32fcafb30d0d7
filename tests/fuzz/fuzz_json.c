/* Fuzzes the JSON parser. It refuses a text with a complaint, or the values written out again mean
 * the same as the text. Its two passes never disagree (FAIL_INTERNAL). */
#include "lib/json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void add(struct buf *out, const char *s)
{
    must(buf_add(out, s, strlen(s)) == OK);
}

static void rewrite_string(struct json_value v, struct buf *out)
{
    size_t n;
    char *s = json_strdup(v, &n);
    must(s != NULL && json_is(v, s) == (strlen(s) == n));
    must(json_quote(out, (struct str){s, n}) == OK);
    free(s);
}

static void rewrite(struct json_value v, struct buf *out);

static void rewrite_all(struct json_value container, struct buf *out)
{
    const char *comma = "";
    for (struct json_value v = json_first(container); json_exists(v); v = json_next(v)) {
        add(out, comma);
        comma = ",";
        if (json_type(container) == JSON_OBJECT) {
            rewrite_string(json_key(v), out);
            add(out, ":");
        }
        rewrite(v, out);
    }
}

static void rewrite(struct json_value v, struct buf *out)
{
    bool flag;
    int64_t number;
    struct str text = json_text(v);
    enum json_type type = json_type(v);
    must(json_bool(v, &flag) == (type == JSON_BOOL ? OK : ERR));
    must(json_int64(v, &number) == ERR || type == JSON_NUMBER);
    switch (type) {
    case JSON_NONE:
    case JSON_OMITTED:
        abort();
    case JSON_NULL:
    case JSON_BOOL:
    case JSON_NUMBER:
        must(buf_add(out, text.p, text.n) == OK);
        break;
    case JSON_STRING:
        rewrite_string(v, out);
        break;
    case JSON_ARRAY:
        add(out, "[");
        rewrite_all(v, out);
        add(out, "]");
        break;
    case JSON_OBJECT:
        add(out, "{");
        rewrite_all(v, out);
        add(out, "}");
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {.fail = FAIL_NONE};
    struct json *doc = json_parse((struct str){(const char *)data, size}, &err);
    if (!doc) {
        must((err.fail == FAIL_PROTOCOL || err.fail == FAIL_LIMIT) && err.text[0]);
        return 0;
    }
    struct buf once, twice;
    buf_init(&once, 6 * size + 16);
    buf_init(&twice, 6 * size + 16);
    rewrite(json_root(doc), &once);
    uint64_t digest = json_digest(json_root(doc));
    json_free(doc);
    doc = json_parse(buf_str(&once), &err);
    must(doc != NULL && json_digest(json_root(doc)) == digest);
    rewrite(json_root(doc), &twice);
    must(buf_len(&once) == buf_len(&twice) &&
         memcmp(buf_str(&once).p, buf_str(&twice).p, buf_len(&once)) == 0);
    json_free(doc);
    buf_free(&once);
    buf_free(&twice);
    return 0;
}
