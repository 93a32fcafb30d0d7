/* Keeps targets and their mailboxes as long as they are needed, and counts their sessions. */
#ifndef TPROXY_POP3_TARGET_H
#define TPROXY_POP3_TARGET_H

#include <stdbool.h>

struct dest_ref;
struct destination;
struct mailbox;
struct target;

/* Take a reference to a mailbox, and give it back. The last one frees what is known of the mailbox;
 * NULL may be given back. */
struct mailbox *pop3_mailbox_ref(struct mailbox *mailbox);
void pop3_mailbox_unref(struct mailbox *mailbox);

/* Take a reference to a target, and give it back. The last one takes the target off the proxy's
 * list and frees it at the end of the turn. */
struct target *pop3_target_ref(struct target *target);
void pop3_target_unref(struct target *target);

/* Makes the target one of this owner's (NULL: it has no owner). Call it only once. */
void pop3_target_give_to(struct target *target, const char *owner);

/* Counts a session that begins, or ends. */
void pop3_target_count_session(struct target *target, bool begins);

/* Tells whether the targets of its owner together have as many sessions as they may have. */
bool pop3_target_owner_is_full(const struct target *target);

/* Makes its sessions ask for a copy of `ref`. */
void pop3_target_refer(struct target *target, const struct dest_ref *ref);

/* Gives the target another mailbox, for `dest` (referenced). Does nothing when the destination is
 * the same. */
void pop3_target_adopt(struct target *target, const struct destination *dest);

#endif
