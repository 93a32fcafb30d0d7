/* Tests k8s/proto: how refusals, events and pages of the Kubernetes API are read. */
#include "k8s/proto.h"

#include "tests/unit/check.h"

static enum k8s_failure failure_of(int status, const char *body)
{
    struct k8s_refusal r;
    k8s_refusal_of_answer(&r, &(struct http_head){.status = status}, str_of(body));
    assert_true(r.err.text[0]);
    return r.failure;
}

static void test_status_codes(void **state)
{
    static const struct {
        int status;
        enum k8s_failure failure;
    } codes[] = {
        {301, K8S_BROKEN},  {400, K8S_INVALID}, {401, K8S_UNAUTHORIZED}, {403, K8S_FORBIDDEN},
        {404, K8S_ABSENT},  {405, K8S_INVALID}, {408, K8S_BUSY},         {409, K8S_CONFLICT},
        {410, K8S_EXPIRED}, {413, K8S_INVALID}, {415, K8S_INVALID},      {422, K8S_INVALID},
        {429, K8S_BUSY},    {499, K8S_INVALID}, {500, K8S_BROKEN},       {502, K8S_BROKEN},
        {503, K8S_BUSY},    {504, K8S_BROKEN},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        assert_int_equal(failure_of(codes[i].status, ""), codes[i].failure);
        assert_int_equal(failure_of(codes[i].status, "{\"reason\":\"NotFound\"}"),
                         codes[i].failure);
        assert_int_equal(failure_of(codes[i].status, "{\"kind\":\"Status\",\"reason\":\"New\"}"),
                         codes[i].failure);
    }
}

static void test_reasons(void **state)
{
    static const struct {
        const char *reason;
        enum k8s_failure failure;
    } reasons[] = {
        {"AlreadyExists", K8S_EXISTS},
        {"Conflict", K8S_CONFLICT},
        {"NotFound", K8S_ABSENT},
        {"Expired", K8S_EXPIRED},
        {"Gone", K8S_EXPIRED},
        {"Unauthorized", K8S_UNAUTHORIZED},
        {"Forbidden", K8S_FORBIDDEN},
        {"Invalid", K8S_INVALID},
        {"BadRequest", K8S_INVALID},
        {"MethodNotAllowed", K8S_INVALID},
        {"NotAcceptable", K8S_INVALID},
        {"RequestEntityTooLarge", K8S_INVALID},
        {"UnsupportedMediaType", K8S_INVALID},
        {"TooManyRequests", K8S_BUSY},
        {"ServiceUnavailable", K8S_BUSY},
        {"InternalError", K8S_BROKEN},
        {"ServerTimeout", K8S_BROKEN},
        {"Timeout", K8S_BROKEN},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        char body[128];
        text_fmt(body, sizeof(body), "{\"kind\":\"Status\",\"reason\":\"%s\"}", reasons[i].reason);
        assert_int_equal(failure_of(418, body), reasons[i].failure);
    }
}

/* The texts are those of a real API server when a patch has the uid of another object. */
static void test_foreign_uid(void **state)
{
    (void)state;
    assert_int_equal(
        failure_of(422, "{\"kind\":\"Status\",\"reason\":\"Invalid\",\"details\":{\"causes\":["
                        "{\"field\":\"spec.ports\"},{\"reason\":\"FieldValueInvalid\","
                        "\"message\":\"field is immutable\",\"field\":\"metadata.uid\"}]}}"),
        K8S_CONFLICT);
    assert_int_equal(
        failure_of(422, "{\"kind\":\"Status\",\"reason\":\"Invalid\",\"details\":{\"causes\":["
                        "{\"field\":\"metadata.name\"},1]}}"),
        K8S_INVALID);
}

static void check_text(int status, const char *body, const char *text)
{
    struct k8s_refusal r;
    k8s_refusal_of_answer(&r, &(struct http_head){.status = status}, str_of(body));
    assert_string_equal(r.err.text, text);
    assert_int_equal(r.err.fail, status == 401 ? FAIL_AUTH : FAIL_REMOTE);
}

static void test_texts(void **state)
{
    (void)state;
    check_text(403, "{\"kind\":\"Status\",\"reason\":\"Forbidden\",\"message\":\"no\\u0007way\"}",
               "Forbidden: no?way");
    check_text(403, "{\"kind\":\"Status\",\"reason\":\"Forbidden\"}", "Forbidden");
    check_text(500, "{\"kind\":\"Status\",\"message\":\"etcd\"}", "status 500: etcd");
    check_text(500, "{\"kind\":\"Status\",\"message\":1,\"reason\":[]}", "status 500");
    check_text(404, "404 page not found\n", "status 404: 404 page not found");
    check_text(401, "", "status 401");
    check_text(502, "<html>\r\n<body>", "status 502: <html>?");
    check_text(500, "\xFF\x01{\"kind\":", "status 500: ??{\"kind\":");
}

static int64_t retry_after(const char *seconds)
{
    char body[128];
    struct k8s_refusal r;
    text_fmt(body, sizeof(body), "{\"kind\":\"Status\",\"details\":{\"retryAfterSeconds\":%s}}",
             seconds);
    k8s_refusal_of_answer(&r, &(struct http_head){.status = 429}, str_of(body));
    return r.retry_after;
}

static void test_retry_after(void **state)
{
    (void)state;
    assert_int_equal(retry_after("1"), SECONDS(1));
    assert_int_equal(retry_after("59"), SECONDS(59));
    assert_int_equal(retry_after("61"), SECONDS(60));
    assert_int_equal(retry_after("9223372036854775807"), SECONDS(60));
    assert_int_equal(retry_after("0"), 0);
    assert_int_equal(retry_after("-1"), 0);
    assert_int_equal(retry_after("1.5"), 0);
    assert_int_equal(retry_after("\"1\""), 0);
}

static void test_no_answer(void **state)
{
    (void)state;
    for (enum fail f = FAIL_CONFIG; f < FAIL_COUNT; f++) {
        struct error err = {.fail = f, .text = "text"};
        struct k8s_refusal r;
        bool before = f == FAIL_DNS || f == FAIL_CONNECT || f == FAIL_TLS || f == FAIL_CERT;
        k8s_refusal_of_error(&r, &err);
        assert_int_equal(r.failure, before ? K8S_UNREACHED : K8S_CUT);
        assert_int_equal(r.retry_after, 0);
        assert_int_equal(r.err.fail, f);
        assert_string_equal(r.err.text, "text");
    }
}

static void test_names(void **state)
{
    (void)state;
    for (enum k8s_failure a = 0; a < K8S_FAILURES; a++) {
        assert_true(k8s_failure_name(a)[0]);
        for (enum k8s_failure b = 0; b < a; b++) {
            assert_string_not_equal(k8s_failure_name(a), k8s_failure_name(b));
        }
    }
}

/* ---- events ---- */

static int parse_event(const char *text, struct json **doc, struct k8s_event *event)
{
    struct error err = {.fail = FAIL_NONE};
    *doc = json_parse(str_of(text), &err);
    assert_non_null(*doc);
    int res = k8s_event_parse(event, json_root(*doc), &err);
    assert_int_equal(err.fail, res == OK ? FAIL_NONE : FAIL_PROTOCOL);
    return res;
}

static void test_events(void **state)
{
    static const struct {
        const char *type;
        enum k8s_event_type wanted;
    } types[] = {
        {"ADDED", K8S_EVENT_OBJECT},
        {"MODIFIED", K8S_EVENT_OBJECT},
        {"DELETED", K8S_EVENT_GONE},
        {"BOOKMARK", K8S_EVENT_BOOKMARK},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct json *doc;
        struct k8s_event event;
        char text[128];
        text_fmt(text, sizeof(text),
                 "{\"object\":{\"metadata\":{\"resourceVersion\":\"1\\u0032\"}},\"type\":\"%s\"}",
                 types[i].type);
        assert_int_equal(parse_event(text, &doc, &event), OK);
        assert_int_equal(event.type, types[i].wanted);
        assert_string_equal(event.version, "12");
        assert_true(json_exists(json_get(event.object, "metadata")));
        json_free(doc);
    }
}

static void test_error_event(void **state)
{
    struct json *doc;
    struct k8s_event event;
    struct k8s_refusal r;
    (void)state;
    assert_int_equal(parse_event("{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,"
                                 "\"message\":\"old\"}}",
                                 &doc, &event),
                     OK);
    assert_int_equal(event.type, K8S_EVENT_ERROR);
    assert_string_equal(event.version, "");
    k8s_refusal_of_status(&r, event.object);
    assert_int_equal(r.failure, K8S_EXPIRED);
    assert_string_equal(r.err.text, "status 410: old");
    json_free(doc);

    assert_int_equal(parse_event("{\"type\":\"ERROR\",\"object\":{}}", &doc, &event), OK);
    k8s_refusal_of_status(&r, event.object);
    assert_int_equal(r.failure, K8S_BROKEN);
    json_free(doc);
}

static void test_no_events(void **state)
{
    static const char *const texts[] = {
        "{}",
        "[]",
        "null",
        "{\"type\":\"ADDED\"}",
        "{\"type\":\"ADDED\",\"object\":null}",
        "{\"type\":\"ADDED\",\"object\":{}}",
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{}}}",
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"\"}}}",
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":7}}}",
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"a\\u0000\"}}}",
        "{\"type\":\"added\",\"object\":{\"metadata\":{\"resourceVersion\":\"7\"}}}",
        "{\"object\":{\"metadata\":{\"resourceVersion\":\"7\"}}}",
        "{\"type\":\"ERROR\"}",
        "{\"type\":\"ERROR\",\"object\":\"Status\"}",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct json *doc;
        struct k8s_event event;
        assert_int_equal(parse_event(texts[i], &doc, &event), ERR);
        json_free(doc);
    }
}

/* ---- pages ---- */

static void test_pages(void **state)
{
    struct k8s_page page;
    struct error err;
    (void)state;
    assert_int_equal(k8s_page_parse(&page, str_of("{\"resourceVersion\":\"7\"}"), &err), OK);
    assert_string_equal(page.version, "7");
    assert_null(page.next);
    assert_int_equal(
        k8s_page_parse(&page, str_of("{\"resourceVersion\":\"7\",\"continue\":\"\"}"), &err), OK);
    assert_null(page.next);
    assert_int_equal(
        k8s_page_parse(&page, str_of("{\"resourceVersion\":\"7\",\"continue\":null}"), &err), OK);
    assert_null(page.next);
    assert_int_equal(
        k8s_page_parse(&page, str_of("{\"continue\":\"a\\/b\",\"resourceVersion\":\"7\"}"), &err),
        OK);
    assert_string_equal(page.next, "a/b");
    free(page.next);
}

static void test_no_pages(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{}",
        "{\"continue\":\"a\"}",
        "{\"resourceVersion\":7}",
        "{\"resourceVersion\":\"7\",\"continue\":1}",
        "{\"resourceVersion\":\"7\",\"continue\":\"a\\u0000b\"}",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct k8s_page page;
        struct error err = {.fail = FAIL_NONE};
        assert_int_equal(k8s_page_parse(&page, str_of(texts[i]), &err), ERR);
        assert_int_equal(err.fail, FAIL_PROTOCOL);
        assert_null(page.next);
    }
}

static void test_bounds(void **state)
{
    struct k8s_page page;
    struct error err;
    struct buf text;
    (void)state;
    for (size_t over = 0; over < 2; over++) {
        char version[K8S_VERSION_SIZE + 1] = "", next[K8S_CONTINUE_MAX + 2] = "";
        memset(version, '1', K8S_VERSION_SIZE - 1 + over);
        buf_init(&text, SIZE_MAX);
        assert_int_equal(buf_fmt(&text, "{\"resourceVersion\":\"%s\"}", version), OK);
        assert_int_equal(k8s_page_parse(&page, buf_str(&text), &err), over ? ERR : OK);
        assert_string_equal(page.version, over ? "" : version);
        buf_free(&text);

        memset(next, 'a', K8S_CONTINUE_MAX + over);
        assert_int_equal(buf_fmt(&text, "{\"resourceVersion\":\"7\",\"continue\":\"%s\"}", next),
                         OK);
        assert_int_equal(k8s_page_parse(&page, buf_str(&text), &err), over ? ERR : OK);
        if (!over) {
            assert_string_equal(page.next, next);
        }
        free(page.next);
        buf_free(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_codes), cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_foreign_uid),  cmocka_unit_test(test_texts),
        cmocka_unit_test(test_retry_after),  cmocka_unit_test(test_no_answer),
        cmocka_unit_test(test_names),        cmocka_unit_test(test_events),
        cmocka_unit_test(test_error_event),  cmocka_unit_test(test_no_events),
        cmocka_unit_test(test_pages),        cmocka_unit_test(test_no_pages),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
