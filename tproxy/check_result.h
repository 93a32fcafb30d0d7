/* What `tproxy check` has found. All texts belong to others and live as long as the check. */
#ifndef TPROXY_TPROXY_CHECK_RESULT_H
#define TPROXY_TPROXY_CHECK_RESULT_H

#include <stddef.h>

#include "lib/json.h"
#include "lib/list.h"

struct destination;

/* In this order: the verdict on several things is the greatest one. */
enum check_verdict {
    CHECK_IGNORED, /* it has no effect */
    CHECK_OK,
    CHECK_UNKNOWN, /* only the Destination service knows, or a configuration is missing */
    CHECK_WRONG,
    CHECK_VERDICTS
};

/* A mailbox that would be served, or not. */
struct check_target {
    struct list link;
    enum check_verdict verdict;
    const char *name;
    const char *destination;        /* the name of its destination; "": it is not known */
    const char *reason, *message;   /* of the condition Available */
    const struct destination *dest; /* NULL: not known */
    const char *remark;             /* a part of its CR that has no effect; NULL: none */
};

/* A file, or the directory itself when something is wrong with it. */
struct check_file {
    enum check_verdict verdict;
    const char *path;
    const char *kind; /* "destination" for a plain one; NULL: the file has nothing that counts */
    const char *namespace, *name;   /* namespace NULL: a plain destination has none */
    const char *remark;             /* why the file is wrong, or has no effect; NULL: it is fine */
    struct json_value status;       /* of a TransparentProxy object; JSON_NONE: none was written */
    const struct destination *dest; /* of a plain destination that has no target of its own */
    struct list *targets;           /* struct check_target */
};

#endif
