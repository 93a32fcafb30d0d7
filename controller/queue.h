/* Runs resources one by one: those that have been woken, and those that wait until fewer operations
 * or readings are under way. One operation of a resource is under way at a time; its end wakes the
 * resource. */
#ifndef TPROXY_CONTROLLER_QUEUE_H
#define TPROXY_CONTROLLER_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "controller/state.h"

struct cluster_answer;
struct cluster_request;

/* The most operations under way at a time, and the most destinations that are read at a time: of
 * all resources, of those in one namespace, and of one resource. k8s/client.c sends 16 requests at
 * a time. More operations than keep it busy would only wait there, one behind the other. */
enum { RUNNING_MAX = 24, RUNNING_OF_SPACE_MAX = 4 };
enum { READING_MAX = 64, READING_OF_SPACE_MAX = 16, READING_OF_ONE_MAX = 8 };

/* Prepares the queue of a controller. `run` decides about one resource and may begin one operation
 * of it; it is called from the loop, and only while `may_run` returns true. */
void queue_init(struct controller *controller, bool (*may_run)(const struct controller *controller),
                void (*run)(struct resource *r));

/* Has the queue run again, because may_run may return true now. */
void queue_resume(struct controller *controller);

/* Runs nothing any more. */
void queue_stop(struct controller *controller);

/* Returns the time of this turn. */
int64_t resource_now(const struct resource *r);

/* Has the resource run: soon, or once more when its operation is over. */
void resource_wake(struct resource *r);

/* Wakes the resource at `due`, or earlier if that was planned already. */
void resource_wake_at(struct resource *r, int64_t due);

/* Tells whether an operation of the resource may begin: fewer than the most are under way, of all
 * resources and of its namespace. */
bool resource_may_run(const struct resource *r);

/* Runs the resource again when fewer operations are under way. */
void resource_wait(struct resource *r);

/* The same for the destinations that are being read. */
bool resource_may_read(const struct resource *r);
void resource_wait_to_read(struct resource *r);

/* Begins an operation that is not a call of the cluster. */
void resource_begin(struct resource *r, enum operation operation);

/* Begins an operation that is a call of the cluster. `done` takes the answer in and may begin the
 * next operation; if it does not, the operation is over. NULL: the answer does not matter. */
void resource_call(struct resource *r, enum operation operation,
                   const struct cluster_request *request,
                   void (*done)(struct resource *r, const struct cluster_answer *answer));

/* Ends the operation and wakes the resource. */
void resource_over(struct resource *r);

/* Gives up the operation under way and wakes the resource: this process does not lead any more. */
void resource_give_up(struct resource *r);

/* Gives up the call under way, for a resource whose CR goes: its listeners do not wait for an
 * answer that may take a minute. The API server may have carried the call out, which the watches
 * tell. */
void resource_give_up_call(struct resource *r);

/* Cancels the operation under way, for the end of the program. */
void resource_cancel(struct resource *r);

/* Notes that the API server has failed or refused a call: nothing of the resource is tried for a
 * while, longer each time. */
void resource_failed(struct resource *r, const struct cluster_answer *answer);

/* Notes that others changed or deleted an object before our change came, so that it is read again.
 * From the second time in a row nothing is tried for a while. */
void resource_conflicted(struct resource *r);

#endif
