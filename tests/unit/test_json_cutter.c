/* Tests lib/json_cutter: objects cut out of streams and lists, whole, octet by octet, and split at
 * every place. */
#include "lib/json_cutter.h"

#include "lib/json.h"
#include "lib/mem.h"
#include "tests/unit/check.h"

static const enum json_cutter_form stream = JSON_CUTTER_STREAM, list = JSON_CUTTER_LIST;
static const struct json_cutter_rules nothing = {.level = 2, .value_max = JSON_CUTTER_MAX};

/* The objects that came out, each with a line end, and then the result: "done" (with the metadata),
 * "more", "malformed" or "too large". */
struct outcome {
    struct json_cutter cutter;
    struct buf text;
    const char *end;
};

static void outcome_start(struct outcome *o, enum json_cutter_form form,
                          struct json_cutter_rules rules)
{
    *o = (struct outcome){.end = NULL};
    buf_init(&o->text, SIZE_MAX);
    json_cutter_init(&o->cutter, form, rules);
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

/* Returns the outcome as text, which is valid until outcome_free. */
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

static void check_rules(enum json_cutter_form form, struct json_cutter_rules rules,
                        const char *text, const char *wanted)
{
    struct str in = str_of(text);
    struct outcome o;
    for (size_t cut = 0; cut <= in.n; cut++) {
        outcome_start(&o, form, rules);
        feed(&o, (struct str){in.p, cut});
        feed(&o, (struct str){in.p + cut, in.n - cut});
        assert_str(outcome_text(&o), wanted);
        outcome_free(&o);
    }
    outcome_start(&o, form, rules);
    for (size_t i = 0; i < in.n; i++) {
        feed(&o, (struct str){in.p + i, 1});
    }
    assert_str(outcome_text(&o), wanted);
    outcome_free(&o);
}

static void check(enum json_cutter_form form, const char *text, const char *wanted)
{
    check_rules(form, nothing, text, wanted);
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

/* The cutter only finds where objects end; json_parse refuses the rest. */
static void test_trusts_depth_alone(void **state)
{
    (void)state;
    check(stream, "{]{}", "{]\n{}\ndone");
    check(stream, "{nonsense}", "{nonsense}\ndone");
}

/* ---- what is left out ---- */

static const char *const unread[] = {"spec.a", "spec.labels", "kind", NULL};
static const struct json_cutter_rules few = {.level = 2, .value_max = 8, .unread = unread};

static void test_large_values(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        /* a value at the third level counts as a whole */
        {"{\"m\":{\"n\":\"123456\",\"o\":\"1234567\"}}", "{\"m\":{\"n\":\"123456\",\"o\":~}}"},
        {"{\"m\":{\"n\":[1,2,34],\"o\":[1,2,345]},\"s\":{}}",
         "{\"m\":{\"n\":[1,2,34],\"o\":~},\"s\":{}}"},
        {"{\"m\":{\"o\":{\"p\":[{}]},\"q\":12345678,\"r\":123456789}}",
         "{\"m\":{\"o\":~,\"q\":12345678,\"r\":~}}"},
        /* and so does a value at the levels above it that is not an object */
        {"{\"a\":\"1234567\",\"b\":[1,2,345],\"c\":12345678,\"d\":{}}",
         "{\"a\":~,\"b\":~,\"c\":12345678,\"d\":{}}"},
        /* ends and brackets in strings, blanks */
        {"{\"m\":{\"n\":\"},]\\\"}\"},\"o\":\"1234567\\\"},\"}",
         "{\"m\":{\"n\":\"},]\\\"}\"},\"o\":~}"},
        {" { \"m\" : { \"n\" : \"12345678\" , \"o\" : 1 } } ",
         "{ \"m\" : { \"n\" : ~, \"o\" : 1 } }"},
        {"{\"m\":{\"a name that is longer than what is kept\":\"1\",\"n\":\"12345678\"}}",
         "{\"m\":{\"a name that is longer than what is kept\":\"1\",\"n\":~}}"},
        /* members that are not read */
        {"{\"kind\":1,\"spec\":{\"a\":[[[]]],\"b\":1,\"labels\":{}},\"m\":{\"labels\":{}}}",
         "{\"kind\":~,\"spec\":{\"a\":~,\"b\":1,\"labels\":~},\"m\":{\"labels\":{}}}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[512], wanted[512];
        text_fmt(wanted, sizeof(wanted), "%s\ndone", rows[i][1]);
        check_rules(stream, few, rows[i][0], wanted);
        text_fmt(text, sizeof(text), "{\"items\":[%s]}", rows[i][0]);
        check_rules(list, few, text, wanted);
    }
}

/* In an event the object is one level deeper. */
static void test_large_values_of_events(void **state)
{
    (void)state;
    struct json_cutter_rules rules = {.level = 3, .value_max = 8, .unread = unread};
    check_rules(
        stream, rules,
        "{\"type\":\"ADDED\",\"object\":{\"kind\":\"K\",\"spec\":{\"a\":{},\"b\":[1,2,345]}}}\n"
        "{\"spec\":{\"a\":{}}}",
        "{\"type\":\"ADDED\",\"object\":{\"kind\":~,\"spec\":{\"a\":~,\"b\":~}}}\n"
        "{\"spec\":{\"a\":{}}}\ndone");
}

static void test_deep_values(void **state)
{
    (void)state;
    for (unsigned more = 0; more < 2; more++) {
        char deep[2 * JSON_CUTTER_DEPTH + 3], text[512], wanted[512];
        unsigned n = JSON_CUTTER_DEPTH + more;
        memset(deep, '[', n);
        memset(deep + n, ']', n);
        deep[2 * (size_t)n] = '\0';
        text_fmt(text, sizeof(text), "{\"m\":{\"n\":%s,\"o\":1}}{}", deep);
        text_fmt(wanted, sizeof(wanted), "{\"m\":{\"n\":%s,\"o\":1}}\n{}\ndone", more ? "~" : deep);
        check(stream, text, wanted);
    }
}

static void test_counts(void **state)
{
    (void)state;
    struct json_cutter c;
    struct str in = str_of("{\"kind\":\"12345678\",\"a\":\"12345678\",\"b\":[1,2,3,4]}{\"a\":1}");
    struct str object;
    struct error err;
    json_cutter_init(&c, stream, few);
    assert_int_equal(json_cutter_next(&c, &in, &object, &err), OK);
    assert_int_equal(json_cutter_left_out(&c), 2);
    assert_int_equal(json_cutter_next(&c, &in, &object, &err), OK);
    assert_int_equal(json_cutter_left_out(&c), 0);
    json_cutter_free(&c);
}

/* Names and short values are kept, however large the other values are. */
static void test_full_object(void **state)
{
    (void)state;
    struct json_cutter_rules rules = {.level = 2, .value_max = 1000 * 1000};
    struct buf text;
    buf_init(&text, SIZE_MAX);
    assert_int_equal(buf_fmt(&text, "{\"m\":{"), OK);
    for (int i = 0; i < 10; i++) {
        size_t filling = 900 * 1000;
        assert_int_equal(buf_fmt(&text, "\"v%d\":\"", i), OK);
        memset(buf_room(&text, filling), 'x', filling);
        buf_added(&text, filling);
        assert_int_equal(buf_fmt(&text, "\",\"n%d\":\"short\",", i), OK);
    }
    assert_int_equal(buf_fmt(&text, "\"last\":1}}"), OK);
    for (size_t piece = 1000; piece < 100 * (size_t)JSON_CUTTER_MAX; piece *= 100) {
        struct outcome o;
        outcome_start(&o, stream, rules);
        for (struct str rest = buf_str(&text); rest.n;) {
            size_t n = rest.n < piece ? rest.n : piece;
            feed(&o, (struct str){rest.p, n});
            rest.p += n;
            rest.n -= n;
        }
        struct str out = outcome_text(&o);
        static const char end[] = "\"v9\":~,\"n9\":\"short\",\"last\":1}}\ndone";
        assert_in_range(out.n, 2700 * 1000, JSON_CUTTER_MAX);
        assert_str(((struct str){out.p + out.n - strlen(end), strlen(end)}), end);
        outcome_free(&o);
    }
    buf_free(&text);
}

/* Names are always kept, so more names than fit are an error. */
static void test_too_many_names(void **state)
{
    (void)state;
    struct outcome o;
    outcome_start(&o, stream, few);
    feed(&o, str_of("{\"m\":{\"\":0"));
    for (size_t n = 0; n < JSON_CUTTER_MAX; n += 50) {
        feed(&o, str_of(",\"1234567890123456789012345678901234567890123456\":0"));
    }
    assert_str(outcome_text(&o), "too large");
    outcome_free(&o);
}

/* Between objects a cutter has no memory; inside an object it has about as much as has arrived. */
static void test_memory(void **state)
{
    (void)state;
    struct json_cutter c;
    struct str in = str_of("{\"a\":1} {\"b"), object;
    struct error err;
    json_cutter_init(&c, stream, nothing);
    assert_int_equal(json_cutter_next(&c, &in, &object, &err), OK);
    assert_str(object, "{\"a\":1}");
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
        cmocka_unit_test(test_large_values),    cmocka_unit_test(test_large_values_of_events),
        cmocka_unit_test(test_deep_values),     cmocka_unit_test(test_counts),
        cmocka_unit_test(test_full_object),     cmocka_unit_test(test_too_many_names),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
