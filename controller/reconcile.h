/* One CR, brought to what it should be. */
#ifndef TPROXY_CONTROLLER_RECONCILE_H
#define TPROXY_CONTROLLER_RECONCILE_H

#include <stdbool.h>
#include <stdint.h>

#include "controller/state.h"

struct cluster_answer;
struct cluster_request;
struct condition;

/* Does what is to be done next for a resource: once it returns, either r->operation is under way,
 * or the resource is as it should be until something happens, or it has been freed. */
void reconcile(struct resource *r);

/* Cancels everything under way, for the end of the program. pop3_abort ends the targets. */
void reconcile_stop(struct resource *r);

/* Is the CR one that we give a condition? */
bool resource_claimed(const struct resource *r);

/* Is it for all destinations, which POP3 knows no way to name? */
bool resource_is_gateway(const struct resource *r);

/* An operation begins, or is over. */
void resource_begin(struct resource *r, enum operation operation);
void resource_over(struct resource *r);

/* Begins an operation that is a call of the cluster. `done` takes the answer in and may begin the
 * next operation; if it does not, the operation is over. NULL: the answer does not matter. */
void resource_call(struct resource *r, enum operation operation,
                   const struct cluster_request *request,
                   void (*done)(struct resource *r, const struct cluster_answer *answer));

/* Others changed or deleted an object before our change came, so it is read again. From the second
 * time in a row nothing is tried for a while. */
void resource_conflicted(struct resource *r);

/* Gives up the call under way, for a resource whose CR goes: its listeners do not wait for an
 * answer that may take a minute. The API server may have carried the call out, which the watches
 * tell. */
void resource_give_up_call(struct resource *r);

/* Has it looked at again at `due`, or earlier if that was planned already. */
void resource_wake_at(struct resource *r, int64_t due);

/* Has an Event tell of it. */
void resource_send_event(struct resource *r, const struct condition *condition);

#endif
