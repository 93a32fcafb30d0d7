/* Reads DER: one item after the other. */
#include "lib/der.h"

#include <stdbool.h>
#include <stdint.h>

enum { LENGTH_OCTETS_MAX = 4, LONG_FORM = 0x80, MULTI_OCTET_TAG = 0x1f };

/* Takes the length octets off *in. */
static int read_length(struct str *in, size_t *length)
{
    if (in->n == 0) {
        return ERR;
    }
    unsigned char first = (unsigned char)in->p[0];
    size_t octets = first & LONG_FORM ? first & ~(unsigned)LONG_FORM : 0;
    size_t value = octets ? 0 : first;
    if (in->n - 1 < octets || octets > LENGTH_OCTETS_MAX || first == LONG_FORM) {
        return ERR;
    }
    for (size_t i = 1; i <= octets; i++) {
        value = value << 8 | (unsigned char)in->p[i];
    }
    bool needed = octets == 0 || (value >= LONG_FORM && in->p[1] != 0);
    in->p += 1 + octets;
    in->n -= 1 + octets;
    *length = value;
    return needed ? OK : ERR;
}

int der_next(struct str *in, struct der_item *item)
{
    struct str rest = *in;
    size_t length;
    if (rest.n == 0) {
        return ERR;
    }
    item->tag = (unsigned char)rest.p[0];
    rest.p++;
    rest.n--;
    if ((item->tag & MULTI_OCTET_TAG) == MULTI_OCTET_TAG || read_length(&rest, &length) != OK ||
        length > rest.n) {
        return ERR;
    }
    item->contents = (struct str){rest.p, length};
    item->whole = (struct str){in->p, (size_t)(rest.p + length - in->p)};
    in->n -= item->whole.n;
    in->p += item->whole.n;
    return OK;
}

int der_take(struct str *in, unsigned tag, struct str *contents)
{
    struct der_item item;
    if (der_next(in, &item) != OK || item.tag != tag) {
        return ERR;
    }
    *contents = item.contents;
    return OK;
}

char *der_oid_text(char *out, size_t cap, struct str oid)
{
    uint64_t arc = 0; /* an arc of more than 64 bits is shown by its low 64 bits */
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < oid.n; i++) {
        unsigned char c = (unsigned char)oid.p[i];
        arc = arc << 7 | (c & 0x7f);
        if (c & 0x80) {
            continue;
        }
        if (n == 0) { /* X.690 section 8.19.4: the first two arcs share one number */
            uint64_t top = arc < 80 ? arc / 40 : 2;
            n = text_fmt(out, cap, "%u.%llu", (unsigned)top, (unsigned long long)(arc - top * 40));
        } else {
            n += text_fmt(out + n, cap - n, ".%llu", (unsigned long long)arc);
        }
        arc = 0;
    }
    return out;
}
