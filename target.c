/* Targets and their mailboxes: who still needs them, and when what is known of them is
 * forgotten. */
#include "target.h"

#include <stdlib.h>

#include "core/destination.h"
#include "core/token.h"
#include "lib/mem.h"
#include "lib/tls.h"

struct target *target_ref(struct target *target)
{
    target->refs++;
    return target;
}

static void drop_ref(struct target *target)
{
    free((char *)target->ref.name);
    free((char *)target->ref.instance);
}

static void free_target(struct task *t)
{
    struct target *target = container_of(t, struct target, task);
    mailbox_unref(target->mailbox);
    drop_ref(target);
    free(target->name);
    free(target);
}

void target_unref(struct target *target)
{
    if (--target->refs == 0) {
        timer_cancel(target->pop3->loop, &target->timer);
        list_remove(&target->link);
        loop_bury(target->pop3->loop, &target->task, free_target);
    }
}

struct mailbox *mailbox_ref(struct mailbox *mailbox)
{
    mailbox->refs++;
    return mailbox;
}

void mailbox_unref(struct mailbox *mailbox)
{
    if (mailbox && --mailbox->refs == 0) {
        destination_unref(mailbox->dest);
        tls_client_unref(mailbox->tls);
        token_unref(mailbox->refused_token);
        free(mailbox->refusal);
        free(mailbox);
    }
}

void target_refer(struct target *target, const struct dest_ref *ref)
{
    struct dest_ref copy = {
        .name = mem_strdup(ref->name),
        .instance = ref->instance ? mem_strdup(ref->instance) : NULL,
        .unsupported = ref->unsupported,
    };
    drop_ref(target);
    target->ref = copy;
}

void target_adopt(struct target *target, const struct destination *dest)
{
    if (target->mailbox && destination_equal(target->mailbox->dest, dest)) {
        return;
    }
    mailbox_unref(target->mailbox);
    target->mailbox = mem_zalloc(sizeof(*target->mailbox));
    target->mailbox->refs = 1;
    target->mailbox->dest = destination_ref(dest);
}
