/* Says how a mailbox is reached and logged in to: in sentences for people, and in JSON. Neither has
 * a secret in it. Pure. */
#ifndef TPROXY_TPROXY_MAILBOX_TEXT_H
#define TPROXY_TPROXY_MAILBOX_TEXT_H

#include "lib/base.h"
#include "lib/buf.h"

struct destination;

/* Calls `line` with one sentence after the other: server, TLS, login, token, warnings. A sentence
 * is valid during the call. */
void mailbox_text_tell(const struct destination *dest, void (*line)(const char *text, void *arg),
                       void *arg);

/* Appends a JSON object that says the same; docs/operations.md describes its members. ERR when it
 * does not fit. */
int mailbox_text_json(const struct destination *dest, struct buf *out) warn_unused;

#endif
