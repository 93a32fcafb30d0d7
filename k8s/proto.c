/* Reads refusals, events and pages of the Kubernetes API. */
#include "k8s/proto.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "http/peer_words.h"

/* ---- requests that did not succeed ---- */

static const char *const failure_names[] = {
    [K8S_UNREACHED] = "unreached",
    [K8S_CUT] = "cut",
    [K8S_EXISTS] = "exists",
    [K8S_CONFLICT] = "conflict",
    [K8S_ABSENT] = "absent",
    [K8S_EXPIRED] = "expired",
    [K8S_UNAUTHORIZED] = "unauthorized",
    [K8S_FORBIDDEN] = "forbidden",
    [K8S_INVALID] = "invalid",
    [K8S_BUSY] = "busy",
    [K8S_BROKEN] = "broken",
};
static_assert(ARRAY_LEN(failure_names) == K8S_FAILURES, "every failure has a name");

const char *k8s_failure_name(enum k8s_failure failure)
{
    return failure_names[failure];
}

/* The values of StatusReason in meta/v1. */
static const struct {
    const char *reason;
    enum k8s_failure failure;
} reasons[] = {
    {"AlreadyExists", K8S_EXISTS},
    {"BadRequest", K8S_INVALID},
    {"Conflict", K8S_CONFLICT},
    {"Expired", K8S_EXPIRED},
    {"Forbidden", K8S_FORBIDDEN},
    {"Gone", K8S_EXPIRED},
    {"InternalError", K8S_BROKEN},
    {"Invalid", K8S_INVALID},
    {"MethodNotAllowed", K8S_INVALID},
    {"NotAcceptable", K8S_INVALID},
    {"NotFound", K8S_ABSENT},
    {"RequestEntityTooLarge", K8S_INVALID},
    {"ServerTimeout", K8S_BROKEN},
    {"ServiceUnavailable", K8S_BUSY},
    {"Timeout", K8S_BROKEN},
    {"TooManyRequests", K8S_BUSY},
    {"Unauthorized", K8S_UNAUTHORIZED},
    {"UnsupportedMediaType", K8S_INVALID},
};

static enum k8s_failure failure_of_code(int64_t code)
{
    switch (code) {
    case 401:
        return K8S_UNAUTHORIZED;
    case 403:
        return K8S_FORBIDDEN;
    case 404:
        return K8S_ABSENT;
    case 408:
    case 429:
    case 503:
        return K8S_BUSY;
    case 409:
        return K8S_CONFLICT;
    case 410:
        return K8S_EXPIRED;
    default:
        return code >= 400 && code < 500 ? K8S_INVALID : K8S_BROKEN;
    }
}

static enum k8s_failure failure_of(struct json_value reason, int64_t code)
{
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        if (json_is(reason, reasons[i].reason)) {
            return reasons[i].failure;
        }
    }
    return failure_of_code(code);
}

/* Tells whether the refusal blames metadata.uid: the API server calls the uid of another object in
 * a patch a field that cannot be changed. */
static bool blames_uid(struct json_value status)
{
    struct json_value causes = json_get(json_get(status, "details"), "causes");
    for (struct json_value c = json_first(causes); json_exists(c); c = json_next(c)) {
        if (json_is(json_get(c, "field"), "metadata.uid")) {
            return true;
        }
    }
    return false;
}

/* Writes the string v for people. Writes "" when v is not a string. */
static void print(char *out, size_t cap, struct json_value v)
{
    size_t n = 0;
    char *s = json_strdup(v, &n);
    text_printable(out, cap, (struct str){s ? s : "", n});
    free(s);
}

static void set_refusal(struct k8s_refusal *r, struct json_value status, int64_t code)
{
    char reason[64], message[FAIL_TEXT_MAX];
    int64_t seconds;
    r->failure = failure_of(json_get(status, "reason"), code);
    r->retry_after = 0;
    if (r->failure == K8S_INVALID && blames_uid(status)) {
        r->failure = K8S_CONFLICT;
    }
    if (json_int64(json_get(json_get(status, "details"), "retryAfterSeconds"), &seconds) == OK &&
        seconds > 0) {
        bool long_wait = seconds > K8S_RETRY_AFTER_MAX / SECONDS(1);
        r->retry_after = long_wait ? K8S_RETRY_AFTER_MAX : SECONDS(seconds);
    }
    print(reason, sizeof(reason), json_get(status, "reason"));
    print(message, sizeof(message), json_get(status, "message"));
    if (reason[0] == '\0') {
        text_fmt(reason, sizeof(reason), "status %lld", (long long)code);
    }
    error_set(&r->err, r->failure == K8S_UNAUTHORIZED ? FAIL_AUTH : FAIL_REMOTE, "%s%s%s", reason,
              message[0] ? ": " : "", message);
}

void k8s_refusal_of_status(struct k8s_refusal *r, struct json_value status)
{
    int64_t code = 0;
    if (json_int64(json_get(status, "code"), &code) == ERR) {
        code = 0;
    }
    set_refusal(r, status, code);
}

/* Fills *r from an answer that is not a Status: by its code alone, with the first line of its text.
 */
static void refuse_plain(struct k8s_refusal *r, int status, struct str body)
{
    char line[200];
    text_printable(line, sizeof(line), str_trim(str_cut(&body, '\n')));
    set_refusal(r, (struct json_value){0}, status);
    if (line[0]) {
        error_set(&r->err, r->err.fail, "status %d: %s", status, line);
    }
}

void k8s_refusal_of_answer(struct k8s_refusal *r, const struct http_head *head, struct str body)
{
    char text[160];
    const struct peer_secrets none = {0};
    struct json *doc = json_parse(http_peer_body(body), NULL);
    struct json_value root = json_root(doc);
    if (json_is(json_get(root, "kind"), "Status")) {
        set_refusal(r, root, head->status);
    } else {
        refuse_plain(r, head->status, body);
    }
    if (http_peer_redirects(head, text, sizeof(text), none)) {
        error_set(&r->err, r->err.fail,
                  "status %d: it redirects %s, which is not followed: --kube-url has to name that "
                  "address",
                  head->status, text);
    } else if (http_peer_coding(text, sizeof(text), head)[0]) {
        error_set(&r->err, r->err.fail, "status %d%s", head->status, text);
    }
    json_free(doc);
}

static bool before_the_request(enum fail fail)
{
    return fail == FAIL_DNS || fail == FAIL_CONNECT || fail == FAIL_TLS || fail == FAIL_CERT;
}

void k8s_refusal_of_error(struct k8s_refusal *r, const struct error *err)
{
    *r = (struct k8s_refusal){.failure = before_the_request(err->fail) ? K8S_UNREACHED : K8S_CUT,
                              .err = *err};
}

/* ---- watches and lists ---- */

static int parse_version(char version[static K8S_VERSION_SIZE], struct json_value metadata,
                         struct error *err)
{
    struct buf out = {.data = version, .cap = K8S_VERSION_SIZE - 1, .max = K8S_VERSION_SIZE - 1};
    int res = json_string(json_get(metadata, "resourceVersion"), &out);
    version[out.end] = '\0';
    if (res == ERR || out.end == 0 || strlen(version) != out.end) {
        version[0] = '\0';
        return error_set(err, FAIL_PROTOCOL, "no usable metadata.resourceVersion");
    }
    return OK;
}

int k8s_event_parse(struct k8s_event *event, struct json_value root, struct error *err)
{
    static const struct {
        const char *name;
        enum k8s_event_type type;
    } types[] = {
        {"ADDED", K8S_EVENT_OBJECT}, {"MODIFIED", K8S_EVENT_OBJECT},
        {"DELETED", K8S_EVENT_GONE}, {"BOOKMARK", K8S_EVENT_BOOKMARK},
        {"ERROR", K8S_EVENT_ERROR},
    };
    struct json_value type = json_get(root, "type");
    size_t i = 0;
    while (i < ARRAY_LEN(types) && !json_is(type, types[i].name)) {
        i++;
    }
    *event = (struct k8s_event){.object = json_get(root, "object")};
    if (i == ARRAY_LEN(types) || json_type(event->object) != JSON_OBJECT) {
        return error_set(err, FAIL_PROTOCOL, "the message is not an event of a watch");
    }
    event->type = types[i].type;
    if (event->type == K8S_EVENT_ERROR) {
        return OK;
    }
    return parse_version(event->version, json_get(event->object, "metadata"), err);
}

int k8s_page_parse(struct k8s_page *page, struct str metadata, struct error *err)
{
    struct json *doc = json_parse(metadata, err);
    if (!doc) {
        *page = (struct k8s_page){.next = NULL};
        return ERR;
    }
    struct json_value root = json_root(doc), next = json_get(root, "continue");
    *page = (struct k8s_page){.next = json_strdup(next, NULL)};
    int res = parse_version(page->version, root, err);
    bool usable =
        json_type(next) <= JSON_NULL || (page->next && strlen(page->next) <= K8S_CONTINUE_MAX);
    if (res == OK && !usable) {
        res = error_set(err, FAIL_PROTOCOL, "no usable metadata.continue");
    }
    if (res == ERR || (page->next && page->next[0] == '\0')) {
        free(page->next);
        page->next = NULL;
    }
    json_free(doc);
    return res;
}
