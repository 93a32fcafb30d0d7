/* Growing buffers with a maximum: bytes go in at the end and leave at the start. */
#include "lib/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"

enum { FIRST_SIZE = 128 };

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_free(struct buf *b)
{
    free(b->data);
    buf_init(b, b->max);
}

void buf_wipe(struct buf *b)
{
    mem_wipe(b->data, b->cap);
    buf_free(b);
}

char *buf_room(struct buf *b, size_t n)
{
    size_t len = buf_len(b);
    if (n > b->max - len) {
        return NULL;
    }
    if (b->cap - b->end >= n) {
        return b->data + b->end;
    }
    if (b->cap - len >= n) {
        memmove(b->data, b->data + b->start, len);
    } else {
        size_t cap = b->cap ? b->cap : FIRST_SIZE;
        while (cap < len + n) {
            cap *= 2;
        }
        cap = cap < b->max ? cap : b->max;
        /* realloc is not used: the old block may hold a secret, which has to be wiped. */
        char *data = mem_alloc(cap);
        if (b->data) {
            memcpy(data, b->data + b->start, len);
            mem_wipe(b->data, b->cap);
            free(b->data);
        }
        b->data = data;
        b->cap = cap;
    }
    b->start = 0;
    b->end = len;
    return b->data + len;
}

void buf_added(struct buf *b, size_t n)
{
    assert(n <= b->cap - b->end);
    b->end += n;
}

int buf_add(struct buf *b, const void *p, size_t n)
{
    if (n == 0) {
        return OK;
    }
    char *room = buf_room(b, n);
    if (!room) {
        return ERR;
    }
    memcpy(room, p, n);
    buf_added(b, n);
    return OK;
}

int buf_fmt(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    /* One byte more than the text: vsnprintf terminates it. */
    char *room = n < 0 ? NULL : buf_room(b, (size_t)n + 1);
    if (!room) {
        return ERR;
    }
    va_start(ap, fmt);
    vsnprintf(room, (size_t)n + 1, fmt, ap);
    va_end(ap);
    buf_added(b, (size_t)n);
    return OK;
}

void buf_drop(struct buf *b, size_t n)
{
    b->start += n < buf_len(b) ? n : buf_len(b);
    if (b->start == b->end) {
        b->start = b->end = 0;
    }
}
