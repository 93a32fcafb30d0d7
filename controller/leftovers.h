/* Services of ours that nobody wants any more and that have not gone. */
#ifndef TPROXY_CONTROLLER_LEFTOVERS_H
#define TPROXY_CONTROLLER_LEFTOVERS_H

#include <stdbool.h>

struct condition;
struct held_service;
struct resource;

/* Nobody wants the Service, and it is there. When that has lasted for a while, people are told: an
 * Event is under way then. Otherwise the resource is woken in time. */
void leftover_note(struct held_service *held);

/* The API server did not delete it. Returns true the first time. */
bool leftover_failed(struct held_service *held, const char *words);

/* It is wanted, or about to be freed. */
void leftover_forget(struct held_service *held);

/* Appends a sentence to the message about a Service of the resource of which people have been told.
 */
void resource_say_leftover(const struct resource *r, struct condition *condition);

#endif
