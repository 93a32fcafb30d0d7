/* Objects cut out of streams and lists: whole, octet by octet, and split at every place. */
#include "lib/json_cutter.h"

#include "lib/json.h"
#include "lib/mem.h"
#include "tests/unit/check.h"

static const enum json_cutter_form stream = JSON_CUTTER_STREAM, list = JSON_CUTTER_LIST;

/* What came out: the objects, each with a line end, and how it ended: "done" (with the metadata),
 * "more", "malformed" or "too large". */
struct outcome {
    struct json_cutter cutter;
    struct buf text;
    const char *end;
};

static void outcome_start(struct outcome *o, enum json_cutter_form form)
{
    *o = (struct outcome){.end = NULL};
    buf_init(&o->text, SIZE_MAX);
    json_cutter_init(&o->cutter, form);
}

static void feed(struct outcome *o, struct str in)
{
    struct str copy = exact_copy(in.p, in.n), rest = copy, object;
    struct error err;
    int res;
    if (o->end) {
        free((char *)copy.p);
        return;
    }
    while ((res = json_cutter_next(&o->cutter, &rest, &object, &err)) == OK) {
        assert_int_equal(buf_add(&o->text, object.p, object.n), OK);
        assert_int_equal(buf_add(&o->text, "\n", 1), OK);
    }
    if (res == ERR) {
        assert_true(err.text[0]);
        o->end = err.fail == FAIL_LIMIT ? "too large" : "malformed";
    } else {
        assert_int_equal(rest.n, 0);
    }
    free((char *)copy.p);
}

/* The outcome as text, which is valid until outcome_free. */
static struct str outcome_text(struct outcome *o)
{
    struct str metadata = json_cutter_metadata(&o->cutter);
    if (o->end) {
        assert_int_equal(buf_fmt(&o->text, "%s", o->end), OK);
    } else if (json_cutter_done(&o->cutter)) {
        assert_int_equal(buf_fmt(&o->text, "done%.*s", STR_ARG(metadata)), OK);
    } else {
        assert_int_equal(buf_fmt(&o->text, "more"), OK);
    }
    return buf_str(&o->text);
}

static void outcome_free(struct outcome *o)
{
    json_cutter_free(&o->cutter);
    buf_free(&o->text);
}

static void check(enum json_cutter_form form, const char *text, const char *wanted)
{
    struct str in = str_of(text);
    struct outcome o;
    for (size_t cut = 0; cut <= in.n; cut++) {
        outcome_start(&o, form);
        feed(&o, (struct str){in.p, cut});
        feed(&o, (struct str){in.p + cut, in.n - cut});
        assert_str(outcome_text(&o), wanted);
        outcome_free(&o);
    }
    outcome_start(&o, form);
    for (size_t i = 0; i < in.n; i++) {
        feed(&o, (struct str){in.p + i, 1});
    }
    assert_str(outcome_text(&o), wanted);
    outcome_free(&o);
}

static void test_stream(void **state)
{
    (void)state;
    check(stream, "", "done");
    check(stream, " \r\n\t", "done");
    check(stream, "{}", "{}\ndone");
    check(stream, "{\"type\":\"ADDED\",\"object\":{\"a\":[1,{}]}}\n{\"b\":2}\n",
          "{\"type\":\"ADDED\",\"object\":{\"a\":[1,{}]}}\n{\"b\":2}\ndone");
    check(stream, "{}{}\n\n{ }", "{}\n{}\n{ }\ndone");
    check(stream, "{\"a\":1}\n{\"b\"", "{\"a\":1}\nmore");
    check(stream, "{\"a\":[", "more");
}

static void test_strings(void **state)
{
    (void)state;
    check(stream, "{\"}{][\":\"}\"} {\"a\":\"\\\"}\"}",
          "{\"}{][\":\"}\"}\n{\"a\":\"\\\"}\"}\ndone");
    check(stream, "{\"a\":\"\\\\\"}{}", "{\"a\":\"\\\\\"}\n{}\ndone");
    check(stream, "{\"a\":\"\\\\\\\"}\"}", "{\"a\":\"\\\\\\\"}\"}\ndone");
    check(stream, "{\"a\":\"\\u007d\\\\", "more");
    check(list, "{\"a\":\"}\\\"]\",\"items\":[{\"]\":\"\\\"}]\"}]}", "{\"]\":\"\\\"}]\"}\ndone");
}

static void test_stream_refused(void **state)
{
    (void)state;
    check(stream, "[]", "malformed");
    check(stream, "null", "malformed");
    check(stream, "{},{}", "{}\nmalformed");
    check(stream, "{}]", "{}\nmalformed");
    check(stream, "404 page not found\n", "malformed");
    check(stream, "\xEF\xBB\xBF{}", "malformed");
}

static void test_list(void **state)
{
    (void)state;
    check(list, "{\"items\":[]}", "done");
    check(list, "{\"kind\":\"List\",\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[{},{}]}\n",
          "{}\n{}\ndone{\"resourceVersion\":\"7\"}");
    check(list, " { \"items\" : [ {\"a\":1} , {\"b\":[2]} ] , \"metadata\" : {\"c\":{}} } ",
          "{\"a\":1}\n{\"b\":[2]}\ndone{\"c\":{}}");
    check(list, "{\"items\":[{\"items\":[{}]}]", "{\"items\":[{}]}\nmore");
    check(list, "{\"items\":[{}", "{}\nmore");
    check(list, "", "more");
}

static void test_list_of_nothing(void **state)
{
    (void)state;
    check(list, "{\"items\":null}", "done");
    check(list, "{\"items\" : null , \"metadata\":{}}", "done{}");
    check(list, "{\"items\":nul}", "malformed");
    check(list, "{\"items\":nullnullnullnull}", "malformed");
    check(list, "{\"items\":0}", "malformed");
    check(list, "{\"items\":null", "more");
}

static void test_list_drops_members(void **state)
{
    (void)state;
    check(list,
          "{\"a\":1,\"b\":-1.5E+3,\"c\":true,\"d\":null,\"e\":\"items\",\"f\":[{\"items\":[{}]}],"
          "\"g\":{\"metadata\":{}},\"items\":[{\"h\":0}],\"i\":[[]]}",
          "{\"h\":0}\ndone");
    check(list,
          "{\"item\":[{}],\"itemsx\":[{}],\"metadata and more\":{},\"Items\":[{}],\"\":{},"
          "\"items\":[]}",
          "done");
    check(list, "{\"a\\\"\":1,\"items\\\\\":[{}],\"items\":[{}]}", "{}\ndone");
}

static void test_list_refused(void **state)
{
    (void)state;
    static const char *const refused[] = {
        "[]",
        "null",
        "{}",
        "{\"metadata\":{\"resourceVersion\":\"7\"}}",
        "{\"item\":[{}],\"itemsx\":[{}],\"Items\":[{}]}",
        "{\"items\":[1]}",
        "{\"items\":[null]}",
        "{\"items\":[[]]}",
        "{\"items\":{}}",
        "{\"items\":\"\"}",
        "{\"items\":[]}]",
        "{\"items\":[]},",
        "{\"items\":[}]",
        "{\"items\":[,{}]}",
        "{\"metadata\":null}",
        "{\"metadata\":[]}",
        "{\"metadata\":{},\"metadata\":{}}",
        "{\"items\":[],\"items\":[]}",
        "{,}",
        "{\"a\":}",
        "{\"a\":,\"b\":1}",
        "{\"a\":1,}",
        "{\"a\":1 2}",
        "{\"a\":1\"\"}",
        "{\"a\" 1}",
        "{\"a\"}",
        "{a:1}",
        "{\"a\":1;}",
        "{\"a\":{}{}}",
        "404 page not found",
    };
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        check(list, refused[i], "malformed");
    }
    check(list, "{\"items\":[{},]}", "{}\nmalformed");
    check(list, "{\"items\":[{}{}]}", "{}\nmalformed");
    check(list, "{\"items\":[{} {}]}", "{}\nmalformed");
}

/* Only ends are found: such a thing is for json_parse to refuse. */
static void test_trusts_depth_alone(void **state)
{
    (void)state;
    check(stream, "{]{}", "{]\n{}\ndone");
    check(stream, "{nonsense}", "{nonsense}\ndone");
}

static void check_bound(enum json_cutter_form form, const char *before, const char *after,
                        size_t size, const char *wanted)
{
    const char *edges = "{\"\":\"\"}";
    struct buf text;
    buf_init(&text, SIZE_MAX);
    assert_int_equal(buf_fmt(&text, "%s{\"\":\"", before), OK);
    size_t filling = size - strlen(edges);
    memset(buf_room(&text, filling), 'x', filling);
    buf_added(&text, filling);
    assert_int_equal(buf_fmt(&text, "\"}%s", after), OK);
    for (size_t piece = 1000; piece < 10 * (size_t)JSON_CUTTER_MAX; piece *= 100) {
        struct outcome o;
        outcome_start(&o, form);
        struct str rest = buf_str(&text);
        while (rest.n) {
            size_t n = rest.n < piece ? rest.n : piece;
            feed(&o, (struct str){rest.p, n});
            rest.p += n;
            rest.n -= n;
        }
        struct str out = outcome_text(&o);
        size_t end = strlen(wanted);
        assert_true(out.n >= end);
        assert_str(((struct str){out.p + out.n - end, end}), wanted);
        outcome_free(&o);
    }
    buf_free(&text);
}

static void test_bound(void **state)
{
    (void)state;
    check_bound(stream, "", "", JSON_CUTTER_MAX, "}\ndone");
    check_bound(stream, "", "", JSON_CUTTER_MAX + 1, "too large");
    check_bound(list, "{\"items\":[", "]}", JSON_CUTTER_MAX, "}\ndone");
    check_bound(list, "{\"items\":[", "]}", JSON_CUTTER_MAX + 1, "too large");
    check_bound(list, "{\"metadata\":", "}", JSON_CUTTER_MAX + 1, "too large");
    check_bound(list, "{\"items\":[],\"other\":", "}", 2 * (size_t)JSON_CUTTER_MAX, "done");
}

/* Between objects a cutter owns nothing; in the middle of one about as much as has come. */
static void test_memory(void **state)
{
    (void)state;
    struct json_cutter c;
    struct str in = str_of("{\"a\":1} {\"b"), object;
    struct error err;
    json_cutter_init(&c, stream);
    assert_int_equal(json_cutter_next(&c, &in, &object, &err), OK);
    assert_str(object, "{\"a\":1}");
    assert_null(c.object.data);
    assert_int_equal(json_cutter_next(&c, &in, &object, &err), AGAIN);
    assert_int_equal(buf_len(&c.object), 3);
    in = str_of("\":2} ");
    assert_int_equal(json_cutter_next(&c, &in, &object, &err), OK);
    assert_str(object, "{\"b\":2}");
    assert_int_equal(json_cutter_next(&c, &in, &object, &err), AGAIN);
    assert_null(c.object.data);
    json_cutter_free(&c);
    json_cutter_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream),          cmocka_unit_test(test_strings),
        cmocka_unit_test(test_stream_refused),  cmocka_unit_test(test_list),
        cmocka_unit_test(test_list_of_nothing), cmocka_unit_test(test_list_drops_members),
        cmocka_unit_test(test_list_refused),    cmocka_unit_test(test_trusts_depth_alone),
        cmocka_unit_test(test_bound),           cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
