/* Counts the repairs of one object in a row, and computes the time of the next one. */
#include "core/repairs.h"

#include <string.h>

#include "lib/digest.h"

/* An object is contested after this number of repairs in a row. */
enum { CONTESTED = 2 };

uint64_t repairs_digest(struct str text)
{
    unsigned char digest[DIGEST_SHA256_SIZE];
    uint64_t first;
    digest_sha256(digest, &text, 1);
    memcpy(&first, digest, sizeof(first));
    return first;
}

static int64_t pause_after(unsigned repairs)
{
    int64_t pause = REPAIRS_FIRST;
    for (unsigned i = 0; i < repairs && pause < REPAIRS_MOST; i++) {
        pause *= 2;
    }
    return pause < REPAIRS_MOST ? pause : REPAIRS_MOST;
}

int64_t repairs_due(const struct repairs *r, uint64_t wish)
{
    return r->wish == wish ? r->due : 0;
}

bool repairs_note(struct repairs *r, uint64_t wish, int64_t now)
{
    if (r->wish != wish || now > r->due + REPAIRS_FORGOTTEN) {
        *r = (struct repairs){.wish = wish, .due = now};
        return false;
    }
    r->due = now + pause_after(r->count++);
    return r->count == CONTESTED;
}

void repairs_failed(struct repairs *r, int64_t now)
{
    if (r->count > 0) {
        r->count--;
        r->due = now;
    } else {
        repairs_forget(r);
    }
}

void repairs_forget(struct repairs *r)
{
    *r = (struct repairs){0};
}

bool repairs_contested(const struct repairs *r, int64_t now)
{
    return r->count >= CONTESTED && now < r->due;
}
