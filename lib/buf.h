/* Growing buffers with a maximum: bytes go in at the end and leave at the start. */
#ifndef TPROXY_LIB_BUF_H
#define TPROXY_LIB_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"
#include "lib/text.h"

/* Owns `data`; an empty buffer may own nothing. Zero-initialise with `max` set, or use buf_init. */
struct buf {
    char *data;
    size_t start, end; /* the contents are data[start, end) */
    size_t cap, max;
};

/* Makes *b an empty buffer that will hold at most max bytes. Allocates nothing. */
void buf_init(struct buf *b, size_t max);

/* Evaluates to an empty buffer on the caller's array. It neither grows nor is freed. */
#define BUF_ON(array) ((struct buf){.data = (array), .cap = sizeof(array), .max = sizeof(array)})

/* Frees the memory; the buffer is empty and may be used again. Idempotent. */
void buf_free(struct buf *b);

/* Wipes the memory, then frees it as buf_free does. */
void buf_wipe(struct buf *b);

static inline size_t buf_len(const struct buf *b)
{
    return b->end - b->start;
}

static inline struct str buf_str(const struct buf *b)
{
    return (struct str){b->data ? b->data + b->start : "", b->end - b->start};
}

/* Appends all n bytes. ERR, with nothing appended: the maximum would be passed. */
int buf_add(struct buf *b, const void *p, size_t n) warn_unused;

/* Appends formatted text. ERR, with nothing appended: the text does not fit. */
int buf_fmt(struct buf *b, const char *fmt, ...) warn_unused printf_like(2, 3);

/* Drops n bytes from the start, or all when there are fewer. Keeps the memory. */
void buf_drop(struct buf *b, size_t n);

/* Drops all but the first n bytes; the buffer must have at least n. Keeps the memory. */
static inline void buf_truncate(struct buf *b, size_t n)
{
    b->end = b->start + n;
}

/* Returns a place with room for at least n more bytes, or NULL when the maximum would be passed.
 * buf_added then tells how many of them were used. */
char *buf_room(struct buf *b, size_t n);
void buf_added(struct buf *b, size_t n);

#endif
