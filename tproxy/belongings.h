/* Decides what of an object an installation has made. Each installation has its home namespace and
 * its field manager (plan_writer), and knows its objects by them as the controller does. Pure. */
#ifndef TPROXY_TPROXY_BELONGINGS_H
#define TPROXY_TPROXY_BELONGINGS_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"
#include "lib/json.h"

enum belonging {
    BELONGS_TO_OTHERS,
    BELONGS_PERHAPS, /* it looks like ours, but nothing proves it: only a person can decide */
    BELONGS_TO_US,
};

/* Judges a Service. Labels are believed in the namespace `home` only; elsewhere the field manager
 * and the owner reference have to agree (service_parse). */
enum belonging belongs_service(struct json_value object, const char *home);

/* Judges an object of the home namespace by its labels. */
enum belonging belongs_labelled(struct json_value object, const char *home);

/* Judges the condition Available of a Destination by the last writer of the conditions. Where the
 * writer is not known the condition belongs to us perhaps. */
enum belonging belongs_condition(struct json_value object, const char *home);

/* Judges the status of a TransparentProxy object by the last writer of its conditions. */
enum belonging belongs_status(struct json_value object, const char *home);

/* Append the merge patch that removes our condition from a Destination, or our part of the status
 * of a TransparentProxy object. The patch applies only to this version of the object. OK: appended.
 * AGAIN: nothing there is ours (any more). ERR: it cannot be removed; *err (FAIL_CONFIG) says why
 * and what to do. */
int belongs_condition_removal(struct buf *out, struct json_value object, const char *home,
                              struct error *err) warn_unused;
int belongs_status_removal(struct buf *out, struct json_value object, const char *home,
                           struct error *err) warn_unused;

#endif
