/* Memory: allocation that cannot fail half-way, and secrets that do not linger. */
#ifndef TPROXY_LIB_MEM_H
#define TPROXY_LIB_MEM_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"

/* Like malloc, calloc, realloc, strdup, strndup, but never NULL: out of memory ends the process
 * with a message. All sizes that depend on a peer are bounded before they get here. The caller
 * frees with free(). */
void *mem_alloc(size_t n);
void *mem_zalloc(size_t n);
void *mem_realloc(void *p, size_t n);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);

/* Overwrites n bytes in a way that the compiler keeps. */
void mem_wipe(void *p, size_t n);

/* Compares n bytes in a time that does not depend on them. 0 when equal. */
int mem_compare_secret(const void *a, const void *b, size_t n);

/* A password, token or key: bytes that are wiped when dropped and that no function formats. `p` is
 * NUL-terminated for convenience; it is NULL when there is none. Owns its memory. */
struct secret {
    char *p;
    size_t n;
};

/* Takes a copy of n bytes; what *s held before is wiped. */
void secret_set(struct secret *s, const char *p, size_t n);

/* In a time that depends on their lengths only. */
bool secret_equal(const struct secret *a, const struct secret *b);

/* Wipes and frees; *s is empty afterwards. Idempotent. */
void secret_clear(struct secret *s);

#endif
