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
    size_t start, end; /* what is in it: data[start, end) */
    size_t cap, max;
};

/* An empty buffer that will hold at most max bytes. Allocates nothing. */
void buf_init(struct buf *b, size_t max);

/* An empty buffer in an array of the caller's, which neither grows nor is freed. */
#define BUF_ON(array) ((struct buf){.data = (array), .cap = sizeof(array), .max = sizeof(array)})

/* Frees the memory; the buffer is empty and may be used again. Idempotent. */
void buf_free(struct buf *b);

/* Like buf_free, but the memory is wiped first. */
void buf_wipe(struct buf *b);

static inline size_t buf_len(const struct buf *b)
{
    return b->end - b->start;
}

static inline struct str buf_str(const struct buf *b)
{
    return (struct str){b->data ? b->data + b->start : "", b->end - b->start};
}

/* Appends all n bytes, or nothing and ERR when the maximum would be passed. */
int buf_add(struct buf *b, const void *p, size_t n) warn_unused;

/* Appends formatted text; ERR and nothing appended when it does not fit. */
int buf_fmt(struct buf *b, const char *fmt, ...) warn_unused printf_like(2, 3);

/* Drops n bytes (at most what is there) from the start. The memory stays. */
void buf_drop(struct buf *b, size_t n);

/* Keeps the first n bytes, of as many at least. The memory stays. */
static inline void buf_truncate(struct buf *b, size_t n)
{
    b->end = b->start + n;
}

/* Room for at least n more bytes at the returned place, NULL beyond the maximum; buf_added says how
 * many of them were used. */
char *buf_room(struct buf *b, size_t n);
void buf_added(struct buf *b, size_t n);

#endif
