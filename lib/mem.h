/* Memory: allocation that cannot fail half-way, and secrets that do not linger. */
#ifndef TPROXY_LIB_MEM_H
#define TPROXY_LIB_MEM_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"
#include "lib/text.h"

/* Work like malloc, calloc, realloc, strdup and strndup, but never return NULL: out of memory ends
 * the process with a message. All sizes that depend on a peer are bounded before they get here. The
 * caller frees with free(). */
void *mem_alloc(size_t n);
void *mem_zalloc(size_t n);
void *mem_realloc(void *p, size_t n);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);

/* Moves texts that were allocated one by one into one allocation, which takes less memory, and
 * returns it. *texts[i] then points into it; NULL stays NULL. The caller frees it together with the
 * last of them. */
char *mem_join(const char **const texts[], size_t n);

/* Overwrites n bytes in a way that the compiler does not remove. */
void mem_wipe(void *p, size_t n);

/* Compares n bytes in a time that does not depend on them. Returns 0 when they are equal. */
int mem_compare_secret(const void *a, const void *b, size_t n);

/* A password, token or key: bytes that are wiped when dropped and that no function formats. `p` is
 * NUL-terminated for convenience, or NULL when there is no secret. Owns its memory. */
struct secret {
    char *p;
    size_t n;
};

/* Copies n bytes to *s; what *s held before is wiped. */
void secret_set(struct secret *s, const char *p, size_t n);

/* Returns the bytes of a secret, which stays the owner; "" for NULL and for an empty one. */
struct str secret_str(const struct secret *s);

/* Compares two secrets in a time that depends on their lengths only. */
bool secret_equal(const struct secret *a, const struct secret *b);

/* Wipes and frees; *s is empty afterwards. Idempotent. */
void secret_clear(struct secret *s);

#endif
