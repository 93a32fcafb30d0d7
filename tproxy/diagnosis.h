/* What a failure means for people, and what to do about it, in the words of
 * docs/troubleshooting.md. Pure. */
#ifndef TPROXY_TPROXY_DIAGNOSIS_H
#define TPROXY_TPROXY_DIAGNOSIS_H

#include "lib/fail.h"
#include "lib/text.h"

struct diagnosis {
    enum fail fail;
    int code;            /* exit code of `tproxy probe` */
    const char *meaning; /* "the name did not resolve" */
    const char *remedy;  /* an imperative */
};

/* Returns the diagnosis of a class of failure, by its name (fail_name); static storage. NULL: there
 * is no class of that name. */
const struct diagnosis *diagnosis_of(struct str class);

#endif
