/* Tells people of Services of ours that nobody wants any more and that do not go. */
#ifndef TPROXY_CONTROLLER_LEFTOVERS_H
#define TPROXY_CONTROLLER_LEFTOVERS_H

#include <stdbool.h>

struct condition;
struct held_service;
struct resource;

/* Notes that a Service exists that nobody wants. When that has lasted for a while, begins to send
 * an Event about it; until then the resource is woken in time. */
void leftover_note(struct held_service *held);

/* Notes why the API server did not delete the Service. Returns true the first time. */
bool leftover_failed(struct held_service *held, const char *words);

/* Forgets what is kept about it: the Service is wanted, or about to be freed. */
void leftover_forget(struct held_service *held);

/* Appends a sentence to the message of a condition when people have been told of a Service of the
 * resource. */
void resource_say_leftover(const struct resource *r, struct condition *condition);

#endif
