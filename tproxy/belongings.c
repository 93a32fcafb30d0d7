/* The objects that an installation has made: its labels and its field manager tell. */
#include "tproxy/belongings.h"

#include "configuration/config.h"
#include "controller/plan.h"
#include "core/custom_resource.h"

enum belonging belongs_service(struct json_value object, const char *home)
{
    struct service service;
    if (service_parse(&service, object, home) != OK) {
        return BELONGS_TO_OTHERS;
    }
    bool ours = service.cr_name;
    service_clear(&service);
    return ours ? BELONGS_TO_US : plan_is_ours(object, home) ? BELONGS_PERHAPS : BELONGS_TO_OTHERS;
}

enum belonging belongs_labelled(struct json_value object, const char *home)
{
    return plan_is_ours(object, home) ? BELONGS_TO_US : BELONGS_TO_OTHERS;
}

/* Judges the condition of a CR that was read from the object. */
static enum belonging judge_condition(const struct cr *cr, struct json_value object,
                                      const char *writer)
{
    if (cr->status_owner != CR_STATUS_OURS || !cr->available.status) {
        return BELONGS_TO_OTHERS;
    }
    return object_status_is_by(object, "f:conditions", writer) ? BELONGS_TO_US : BELONGS_PERHAPS;
}

enum belonging belongs_condition(struct json_value object, const char *home)
{
    char writer[PLAN_WRITER_SIZE];
    struct cr cr;
    plan_writer(writer, sizeof(writer), home);
    if (cr_parse(&cr, object, writer, NULL) != OK) {
        return BELONGS_TO_OTHERS;
    }
    enum belonging belonging = judge_condition(&cr, object, writer);
    cr_clear(&cr);
    return belonging;
}

enum belonging belongs_status(struct json_value object, const char *home)
{
    struct buf patch;
    buf_init(&patch, 0);
    int rc = belongs_status_removal(&patch, object, home, NULL);
    buf_free(&patch);
    return rc == AGAIN ? BELONGS_TO_OTHERS : BELONGS_TO_US;
}

int belongs_condition_removal(struct buf *out, struct json_value object, const char *home,
                              struct error *err)
{
    char writer[PLAN_WRITER_SIZE];
    struct cr cr;
    plan_writer(writer, sizeof(writer), home);
    if (cr_parse(&cr, object, writer, NULL) != OK) {
        return AGAIN;
    }
    int rc = judge_condition(&cr, object, writer) == BELONGS_TO_US ? OK : AGAIN;
    if (rc == OK && cr.conditions_unread) {
        rc = error_set(err, FAIL_CONFIG,
                       "its conditions of other controllers take more than %d octets, and would be "
                       "lost; remove some of them",
                       CR_CONDITIONS_MAX);
    } else if (rc == OK) {
        rc = plan_status(out, &cr, NULL, NULL, "");
    }
    cr_clear(&cr);
    return rc;
}

int belongs_status_removal(struct buf *out, struct json_value object, const char *home,
                           struct error *err)
{
    char writer[PLAN_WRITER_SIZE];
    plan_writer(writer, sizeof(writer), home);
    int rc = config_status_remove(out, object, writer);
    return rc == ERR ? error_set(err, FAIL_CONFIG,
                                 "its conditions of other controllers are too large; remove some "
                                 "of them")
                     : rc;
}
