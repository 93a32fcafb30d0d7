/* Records the way of a login through several tproxies, to recognise a loop. Pure.
 *
 * A tproxy recognises another one behind it by its greeting, and sends before it logs in:
 *
 *     XTPROXY 00c7ff26d6f4e3a1 9be0147fa6c2d853
 *
 * These are the ids of the tproxies that the login has come through, itself last. The other one
 * refuses when its own id is among them. When the list is full the login is refused. Ordinary mail
 * servers never see the command, and a client that forges a list, or a server that forges a
 * greeting, only gets its own login refused. */
#ifndef TPROXY_POP3_HOPS_H
#define TPROXY_POP3_HOPS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/text.h"

enum {
    HOPS_ID_LEN = 16, /* lower-case hexadecimal digits */
    HOPS_MAX = 5,
    HOPS_TEXT_MAX = HOPS_MAX * (HOPS_ID_LEN + 1),
};

/* Zero-initialise for an empty list. */
struct hops {
    uint64_t ids[HOPS_MAX];
    unsigned char n;
};

/* Tells whether this line, without its end, is the greeting of a tproxy. */
bool pop3_hops_greeting(struct str line);

/* Reads ids that are separated by one blank each. Returns ERR and leaves *hops unchanged when the
 * list is empty, has more than HOPS_MAX ids or contains anything else. */
int pop3_hops_read(struct hops *hops, struct str list) warn_unused;

/* Returns how many ids follow this one: the number of other tproxies through which the login has
 * come back. Returns -1 when the id is not in the list. */
int pop3_hops_since(const struct hops *hops, const char *id);

/* Appends an id. Returns ERR when the list has HOPS_MAX ids already or the text is not an id. */
int pop3_hops_add(struct hops *hops, const char *id) warn_unused;

/* Writes the ids as pop3_hops_read reads them. */
void pop3_hops_text(const struct hops *hops, char out[HOPS_TEXT_MAX]);

#endif
