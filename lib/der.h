/* Reads DER, the encoding of certificates (ITU-T X.690 section 10). Nothing is copied: results are
 * slices of the input. */
#ifndef TPROXY_LIB_DER_H
#define TPROXY_LIB_DER_H

#include <stddef.h>

#include "lib/base.h"
#include "lib/text.h"

enum {
    DER_BOOLEAN = 0x01,
    DER_INTEGER = 0x02,
    DER_OCTETS = 0x04,
    DER_OID = 0x06,
    DER_SEQUENCE = 0x30,
    DER_SET = 0x31,
};

struct der_item {
    unsigned tag;        /* the identifier octet, class and form included */
    struct str whole;    /* with tag and length */
    struct str contents; /* without */
};

/* Takes the next item off *in. ERR when *in is empty, cut off, or not DER: the tag has more than
 * one octet, or the length is indefinite, has more than four octets or more octets than it needs.
 */
int der_next(struct str *in, struct der_item *item) warn_unused;

/* Takes the next item off *in, which has to have this tag, and stores its contents. Returns ERR
 * where der_next does, and for another tag, which may then be gone from *in. */
int der_take(struct str *in, unsigned tag, struct str *contents) warn_unused;

/* Writes an object identifier in dots ("2.5.29.30") into out[cap], cut at the end; `oid` is the
 * contents of the item. Returns out. */
char *der_oid_text(char *out, size_t cap, struct str oid);

#endif
