/* Fuzzes the reading of a Destination object. The result is either a projection that keeps its
 * promises or an error that names the field. The status that is written about the object is JSON
 * and says what it should. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "controller/plan.h"
#include "core/custom_resource.h"
#include "core/tenant.h"
#include "lib/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void one_line(const char *text, size_t max)
{
    struct str s = str_of(text);
    must(s.n <= max && !text_has_control(s));
}

static struct json *parse(const struct buf *out)
{
    struct json *doc = json_parse(buf_str(out), NULL);
    must(doc != NULL);
    return doc;
}

/* Gives the object the patch of its status as its status, and checks that it then shows the
 * condition. */
static void check_status(const struct cr *cr, const struct condition *c)
{
    struct buf out;
    buf_init(&out, PLAN_OBJECT_MAX);
    must(json_fmt(&out,
                  "{'metadata':{'name':%s,'namespace':%s},'spec':{'destinationRef':{"
                  "'name':%s}},",
                  cr->name, cr->namespace, cr->ref.name) == OK);
    size_t brace = buf_len(&out);
    struct cr unversioned = *cr; /* a patch has only a status */
    unversioned.version = 0;
    must(plan_status(&out, &unversioned, c, NULL, "2025-11-03T08:00:00Z") == OK);
    out.data[out.start + brace] = ' ';
    struct json *doc = parse(&out);
    struct cr again;
    must(cr_parse(&again, json_root(doc), "tproxy", NULL) == OK);
    must(plan_shown(&again, c, NULL, true) == PLAN_SHOWN);
    must((again.other_conditions != NULL) == (cr->other_conditions != NULL));
    must(!cr->other_conditions || strcmp(again.other_conditions, cr->other_conditions) == 0);
    cr_clear(&again);
    json_free(doc);
    buf_free(&out);
}

static void check_event(const struct cr *cr, const struct condition *c)
{
    struct buf out;
    buf_init(&out, PLAN_OBJECT_MAX);
    must(plan_event(&out, cr, "name", "instance", !c->available, c->reason, c->message,
                    "2025-11-03T08:00:00.000000Z") == OK);
    json_free(parse(&out));
    buf_free(&out);
}

static void check_services(const struct cr *cr)
{
    struct plan_service s = {.home = "home",
                             .domain = "cluster.local",
                             .cr = cr,
                             .name = "mail",
                             .port = 110,
                             .target_port = 16400};
    for (int alias = 0; alias < 2; alias++) {
        struct buf out;
        struct service service;
        buf_init(&out, PLAN_OBJECT_MAX);
        must((alias ? plan_alias_service(&out, &s) : plan_home_service(&out, &s)) == OK);
        struct json *doc = parse(&out);
        must(service_parse(&service, json_root(doc), "home") == OK);
        must(alias || strcmp(service.cr_name, cr->name) == 0);
        must(alias || strcmp(service.cr_namespace, cr->namespace) == 0);
        must(service.target_port == (alias ? 0 : 16400));
        service_clear(&service);
        json_free(doc);
        buf_free(&out);
    }
}

static void check(const struct cr *cr)
{
    one_line(cr->namespace, CR_NAMESPACE_MAX);
    one_line(cr->name, CR_NAME_MAX);
    one_line(cr->uid, CR_NAME_MAX);
    one_line(cr->created, CR_NAME_MAX);
    one_line(cr->ref.name, CR_NAME_MAX);
    must(cr->namespace[0] && cr->name[0] && !cr->ref.name[0] == (cr->wrong != NULL));
    if (cr->wrong) {
        one_line(cr->wrong, FAIL_TEXT_MAX);
        must(cr->n_tenants == 0 && !cr->tenants_wrong && cr->scope == CR_SCOPE_DEFAULT);
    }
    if (cr->ref.instance) {
        one_line(cr->ref.instance, CR_NAME_MAX);
        must(cr->ref.instance[0] != '\0');
    }
    for (size_t i = 0; i < cr->ref.n_variables; i++) {
        one_line(cr->ref.variables[i].name, CR_NAME_MAX);
        one_line(cr->ref.variables[i].value, CR_VALUE_MAX);
    }
    must(!cr->ref.fragment_level || cr->ref.fragment);
    must(cr->n_tenants <= CR_TENANTS_MAX && (!cr->tenants_wrong || cr->n_tenants == 0));
    for (size_t i = 0; i < cr->n_tenants; i++) {
        must(tenant_is_valid(cr->tenants[i]));
        must(i == 0 || strcmp(cr->tenants[i - 1], cr->tenants[i]) < 0);
    }
    must(!cr->conditions_unread || !cr->other_conditions);
    bool conditions = cr->available.status || cr->other_conditions || cr->conditions_unread;
    must(conditions == (cr->status_owner != CR_STATUS_NONE));
    must(cr_same_spec(cr, cr));

    struct condition c;
    plan_success(&c, cr->name);
    check_status(cr, &c);
    for (int v = VERDICT_OK + 1; v < VERDICT_COUNT; v++) {
        plan_verdict(&c, cr, NULL, (enum verdict)v, cr->ref.name);
        one_line(c.message, PLAN_MESSAGE_MAX - 1);
    }
    check_status(cr, &c);
    check_event(cr, &c);
    check_services(cr);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {.fail = FAIL_NONE};
    struct json *doc = json_parse((struct str){(const char *)data, size}, NULL);
    struct cr cr;
    if (doc && cr_parse(&cr, json_root(doc), "tproxy", &err) == OK) {
        check(&cr);
        cr_clear(&cr);
    } else if (doc) {
        must(err.fail == FAIL_CONFIG && cr.name == NULL);
        one_line(err.text, FAIL_TEXT_MAX);
        must(strncmp(err.text, "Destination ", 12) == 0);
    }
    json_free(doc);
    return 0;
}
