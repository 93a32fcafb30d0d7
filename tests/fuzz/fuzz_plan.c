/* Fuzzes a Service or a NetworkPolicy that the API server sends. Its projection keeps its promises,
 * and stays the same when the members of the object are written in another order. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "controller/plan.h"
#include "lib/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void reversed(struct json_value v, struct buf *out);

/* Writes `member` and the members behind it, the last one first. */
static void reversed_members(struct json_value member, struct buf *out)
{
    struct json_value next = json_next(member);
    if (json_exists(next)) {
        reversed_members(next, out);
        must(buf_add(out, ", ", 2) == OK);
    }
    struct str key = json_text(json_key(member));
    must(buf_add(out, key.p, key.n) == OK && buf_add(out, " : ", 3) == OK);
    reversed(member, out);
}

static void reversed(struct json_value v, struct buf *out)
{
    struct str text = json_text(v);
    if (json_type(v) == JSON_OBJECT && json_exists(json_first(v))) {
        must(buf_add(out, "{", 1) == OK);
        reversed_members(json_first(v), out);
        must(buf_add(out, "}", 1) == OK);
    } else if (json_type(v) == JSON_ARRAY) {
        must(buf_add(out, "[", 1) == OK);
        for (struct json_value e = json_first(v); json_exists(e); e = json_next(e)) {
            must(e.token == json_first(v).token || buf_add(out, ",", 1) == OK);
            reversed(e, out);
        }
        must(buf_add(out, "]", 1) == OK);
    } else {
        must(buf_add(out, text.p, text.n) == OK);
    }
}

/* The last of several members with one name counts, so another order changes the meaning. */
static bool has_twins(struct json_value v)
{
    bool object = json_type(v) == JSON_OBJECT;
    for (struct json_value a = json_first(v); json_exists(a); a = json_next(a)) {
        char *key = object ? json_strdup(json_key(a), NULL) : NULL;
        bool twin = object && (!key || json_get(v, key).token != a.token);
        free(key);
        if (twin || has_twins(a)) {
            return true;
        }
    }
    return false;
}

static bool same_text(const char *a, const char *b)
{
    return (a == NULL) == (b == NULL) && (!a || strcmp(a, b) == 0);
}

static void check_service(const struct service *s, struct json_value again)
{
    struct service other;
    must(s->name[0] && s->namespace[0] && s->uid && s->created);
    must((s->cr_name == NULL) == (s->cr_namespace == NULL));
    must(service_parse(&other, again, "home") == OK);
    must(same_text(s->name, other.name) && same_text(s->cr_name, other.cr_name));
    must(s->digest == other.digest && s->target_port == other.target_port);
    service_clear(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json *doc = json_parse((struct str){(const char *)data, size}, NULL);
    if (!doc || size > 4096 || has_twins(json_root(doc))) {
        json_free(doc);
        return 0;
    }
    struct service service;
    struct buf out;
    buf_init(&out, 8 * size + 16);
    reversed(json_root(doc), &out);
    struct json *again = json_parse(buf_str(&out), NULL);
    must(again != NULL);
    must(plan_policy_digest(json_root(doc)) == plan_policy_digest(json_root(again)));
    must(service_is_alias(json_root(doc), "home") == service_is_alias(json_root(again), "home"));
    if (service_parse(&service, json_root(doc), "home") == OK) {
        check_service(&service, json_root(again));
        service_clear(&service);
    } else {
        must(service.name == NULL);
    }
    json_free(again);
    json_free(doc);
    buf_free(&out);
    return 0;
}
