/* Helpers for several unit tests. */
#ifndef TPROXY_TESTS_CHECK_H
#define TPROXY_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/text.h"

/* Checks that the slice holds exactly this text. */
#define assert_str(s, text) check_str(s, text, __FILE__, __LINE__)

static inline void check_str(struct str s, const char *text, const char *file, int line)
{
    if (s.n != strlen(text) || memcmp(s.p, text, s.n) != 0) {
        print_error("\"%.*s\" is not \"%s\"\n", STR_ARG(s), text);
        _fail(file, line);
    }
}

/* Returns a copy in a block of exactly its size, so that the sanitizer sees a read beyond it. The
 * caller frees `p`. */
static inline struct str exact_copy(const void *p, size_t n)
{
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, p, n);
    return (struct str){copy, n};
}

#endif
