/* Memory: allocation that cannot fail half-way, and secrets that do not linger. */
#include "lib/mem.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Ends the process when p is NULL: it can do nothing useful without memory, and logging would need
 * some. */
static void *must(void *p)
{
    if (!p) {
        static const char msg[] = "tproxy: out of memory\n";
        ssize_t ignored = write(STDERR_FILENO, msg, sizeof(msg) - 1);
        (void)ignored;
        abort();
    }
    return p;
}

void *mem_alloc(size_t n)
{
    return must(malloc(n ? n : 1));
}

void *mem_zalloc(size_t n)
{
    return must(calloc(1, n ? n : 1));
}

void *mem_realloc(void *p, size_t n)
{
    return must(realloc(p, n ? n : 1));
}

char *mem_strdup(const char *s)
{
    return must(strdup(s));
}

char *mem_strndup(const char *s, size_t n)
{
    return must(strndup(s, n));
}

char *mem_join(const char **const texts[], size_t n)
{
    size_t size = 0;
    for (size_t i = 0; i < n; i++) {
        size += *texts[i] ? strlen(*texts[i]) + 1 : 0;
    }
    char *joined = mem_alloc(size), *to = joined;
    for (size_t i = 0; i < n; i++) {
        if (*texts[i]) {
            size_t len = strlen(*texts[i]) + 1;
            memcpy(to, *texts[i], len);
            free((char *)*texts[i]);
            *texts[i] = to;
            to += len;
        }
    }
    return joined;
}

void mem_wipe(void *p, size_t n)
{
    if (p) {
        explicit_bzero(p, n);
    }
}

int mem_compare_secret(const void *a, const void *b, size_t n)
{
    const unsigned char *x = a, *y = b;
    unsigned char differ = 0;
    for (size_t i = 0; i < n; i++) {
        differ |= x[i] ^ y[i];
    }
    return differ;
}

void secret_set(struct secret *s, const char *p, size_t n)
{
    char *copy = mem_alloc(n + 1);
    memcpy(copy, p, n);
    copy[n] = '\0';
    secret_clear(s);
    s->p = copy;
    s->n = n;
}

struct str secret_str(const struct secret *s)
{
    return s && s->p ? (struct str){s->p, s->n} : str_of("");
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
    return a->n == b->n && mem_compare_secret(a->p, b->p, a->n) == 0;
}

void secret_clear(struct secret *s)
{
    mem_wipe(s->p, s->n);
    free(s->p);
    s->p = NULL;
    s->n = 0;
}
