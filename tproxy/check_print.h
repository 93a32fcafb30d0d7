/* The output of `tproxy check`: lines for people, or JSON. Pure. */
#ifndef TPROXY_TPROXY_CHECK_PRINT_H
#define TPROXY_TPROXY_CHECK_PRINT_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "tproxy/check_result.h"

struct check_print {
    bool json;
    struct buf out;
    size_t counts[CHECK_VERDICTS]; /* files by verdict */
};

/* Begin the output, add one file after the other, and end it with the sum. The output is then in
 * `out`, which the caller frees. */
void check_print_begin(struct check_print *print, bool json);
void check_print_file(struct check_print *print, const struct check_file *file);
void check_print_end(struct check_print *print);

/* Returns the verdict on all files so far: the greatest one, but CHECK_OK at least. */
enum check_verdict check_print_verdict(const struct check_print *print);

#endif
