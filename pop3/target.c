/* Targets and their mailboxes are counted by reference. A destination that changes gets a new
 * mailbox, so all that was learned about the old one is forgotten. */
#include "pop3/target.h"

#include <stdlib.h>

#include "core/destination.h"
#include "lib/mem.h"
#include "lib/tls.h"
#include "pop3/state.h"

/* ---- owners ---- */

void pop3_target_give_to(struct target *target, const char *owner)
{
    struct map *owners = &target->pop3->owners;
    if (!owner) {
        return;
    }
    struct map_entry *e = map_find(owners, owner);
    struct target_owner *o = e ? container_of(e, struct target_owner, by_name) : NULL;
    if (!o) {
        o = mem_zalloc(sizeof(*o));
        o->name = mem_strdup(owner);
        map_add(owners, &o->by_name, o->name);
    }
    o->targets++;
    target->owner = o;
}

static void leave_owner(struct target *target)
{
    struct target_owner *o = target->owner;
    if (o && --o->targets == 0) {
        map_remove(&target->pop3->owners, &o->by_name);
        free(o->name);
        free(o);
    }
}

void pop3_target_count_session(struct target *target, bool begins)
{
    size_t change = begins ? 1 : (size_t)-1;
    target->sessions += change;
    target->pop3->sessions += change;
    if (target->owner) {
        target->owner->sessions += change;
    }
}

bool pop3_target_owner_is_full(const struct target *target)
{
    const struct pop3 *pop3 = target->pop3;
    size_t most = pop3->settings.max_sessions;
    return target->owner && pop3->owners.n > 1 && target->owner->sessions >= most - most / 4;
}

/* ---- life ---- */

struct target *pop3_target_ref(struct target *target)
{
    target->refs++;
    return target;
}

static void free_target(struct task *t)
{
    struct target *target = container_of(t, struct target, task);
    leave_owner(target);
    log_limits_close(&target->limits);
    pop3_mailbox_unref(target->mailbox);
    dest_ref_clear(&target->ref);
    free(target->name);
    free(target);
}

void pop3_target_unref(struct target *target)
{
    if (--target->refs == 0) {
        timer_cancel(target->pop3->loop, &target->timer);
        list_remove(&target->link);
        loop_bury(target->pop3->loop, &target->task, free_target);
    }
}

struct mailbox *pop3_mailbox_ref(struct mailbox *mailbox)
{
    mailbox->refs++;
    return mailbox;
}

void pop3_mailbox_unref(struct mailbox *mailbox)
{
    if (mailbox && --mailbox->refs == 0) {
        destination_unref(mailbox->dest);
        tls_client_unref(mailbox->tls);
        pop3_trials_clear(&mailbox->trials);
        free(mailbox);
    }
}

void pop3_target_refer(struct target *target, const struct dest_ref *ref)
{
    struct dest_ref copy = dest_ref_copy(ref); /* first, because `ref` may be part of what is
                                                  replaced */
    dest_ref_clear(&target->ref);
    target->ref = copy;
}

void pop3_target_adopt(struct target *target, const struct destination *dest)
{
    if (target->mailbox && destination_equal(target->mailbox->dest, dest)) {
        return;
    }
    pop3_mailbox_unref(target->mailbox);
    target->mailbox = mem_zalloc(sizeof(*target->mailbox));
    target->mailbox->refs = 1;
    target->mailbox->dest = destination_ref(dest);
    bool users = dest->auth == AUTH_REFRESH_TOKEN || dest->auth == AUTH_AUTHORIZATION_CODE;
    pop3_trials_init(&target->mailbox->trials, users ? TRIALS_USERS : TRIALS_OWN);
}
