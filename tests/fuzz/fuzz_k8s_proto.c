/* Fuzzes what an API server sends, on the path that list and watch use. The first octet chooses a
 * stream of events, a list, or a refusal and its status, and the length of pieces. Everything that
 * is accepted keeps the promises of the header. */
#include "k8s/proto.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json_cutter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void check_text(const char *text, size_t cap)
{
    must(memchr(text, '\0', cap) != NULL);
    for (; *text; text++) {
        must((unsigned char)*text >= ' ' && *text != 0x7F);
    }
}

static void check_refusal(const struct k8s_refusal *r)
{
    must(r->failure >= 0 && r->failure < K8S_FAILURES);
    must(r->retry_after >= 0 && r->retry_after <= K8S_RETRY_AFTER_MAX);
    must(r->err.fail != FAIL_NONE && r->err.text[0]);
    check_text(r->err.text, sizeof(r->err.text));
}

static void check_error(const struct error *err)
{
    must((err->fail == FAIL_PROTOCOL || err->fail == FAIL_LIMIT) && err->text[0]);
}

static void take_event(struct json_value root)
{
    struct k8s_event event;
    struct k8s_refusal r;
    struct error err = {.fail = FAIL_NONE};
    if (k8s_event_parse(&event, root, &err) == ERR) {
        check_error(&err);
    } else if (event.type == K8S_EVENT_ERROR) {
        must(event.version[0] == '\0');
        k8s_refusal_of_status(&r, event.object);
        check_refusal(&r);
    } else {
        must(event.version[0] && memchr(event.version, '\0', sizeof(event.version)));
        must(json_type(event.object) == JSON_OBJECT);
    }
}

static void take_page(struct str metadata)
{
    struct k8s_page page;
    struct error err = {.fail = FAIL_NONE};
    if (k8s_page_parse(&page, metadata, &err) == ERR) {
        check_error(&err);
        must(!page.next);
    } else {
        must(page.version[0] && memchr(page.version, '\0', sizeof(page.version)));
        must(!page.next || (page.next[0] && strlen(page.next) <= K8S_CONTINUE_MAX));
    }
    free(page.next);
}

static void follow(enum json_cutter_form form, struct str in, size_t piece)
{
    struct json_cutter c;
    struct error err;
    int res = AGAIN;
    const struct json_cutter_rules rules = {.level = form == JSON_CUTTER_STREAM ? 3 : 2,
                                            .value_max = JSON_CUTTER_MAX};
    json_cutter_init(&c, form, rules);
    while (in.n && res != ERR) {
        struct str part = {in.p, in.n < piece ? in.n : piece}, text;
        in.p += part.n;
        in.n -= part.n;
        while ((res = json_cutter_next(&c, &part, &text, &err)) == OK) {
            struct json *doc = json_parse_cut(text, &err);
            if (doc && form == JSON_CUTTER_STREAM) {
                take_event(json_root(doc));
            }
            json_free(doc);
        }
    }
    if (form == JSON_CUTTER_LIST && json_cutter_done(&c)) {
        take_page(json_cutter_metadata(&c));
    }
    json_cutter_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    struct str in = {(const char *)data + 1, size - 1};
    size_t piece = 1 + data[0] / 4 * 3;
    switch (data[0] % 4) {
    case 0:
        follow(JSON_CUTTER_STREAM, in, piece);
        break;
    case 1:
        follow(JSON_CUTTER_LIST, in, piece);
        break;
    default: {
        struct k8s_refusal r;
        k8s_refusal_of_answer(&r, &(struct http_head){.status = 300 + data[0]}, in);
        check_refusal(&r);
    }
    }
    return 0;
}
