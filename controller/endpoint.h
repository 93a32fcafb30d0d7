/* One target of a CR: what its destination is, its listener and port, its Services. */
#ifndef TPROXY_CONTROLLER_ENDPOINT_H
#define TPROXY_CONTROLLER_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"

struct condition;
struct held_service;
struct resource;
struct tenant;

/* Tenants come and go as CR and configuration say. Those that go have no listener any more; their
 * Services are not wanted then. */
void tenants_update(struct resource *r);
void tenants_free(struct resource *r);

/* Begins to read the destinations that are due, side by side, as far as the bounds READING_..._MAX
 * allow; the resource is woken for the others. Returns when the next one will be due; INT64_MAX:
 * none. */
int64_t tenants_read(struct resource *r);

/* Cancels these readings. Their destinations are due again. */
void tenants_stop_reading(struct resource *r);

/* Is its destination about to be read, or being read? The decision about it follows afterwards. */
bool tenant_is_unread(const struct tenant *t);

/* Has each been read once? */
bool tenants_known(const struct resource *r);

/* Its Service in the home namespace; NULL: there is none. */
struct held_service *tenant_service(const struct tenant *t);

/* Opens the listener of a Service that is there. */
void tenant_hold(struct tenant *t);

/* Listener and Services, as they should be. OK: they are. AGAIN: not yet, or there is trouble. ERR:
 * a Service does not stay as it is written; *why says so. */
int tenant_serve(struct tenant *t, struct condition *why) warn_unused;

/* Takes them back: the listener is closed at once. AGAIN: a Service is being taken back. OK: what
 * is left is being deleted, or its removal has failed and is tried again later. */
int tenant_withdraw(struct tenant *t) warn_unused;

/* Is it too early to try its Services again? The resource is woken when it is not. The trouble, if
 * it is to be shown by now, is in t->trouble. */
bool tenant_is_put_off(struct tenant *t);

/* The same for all of a resource, with Services that nobody wants any more. */
int tenants_withdraw(struct resource *r) warn_unused;

/* Takes back a Service that no tenant wants. True: one is being taken back. */
bool tenants_clean(struct resource *r);

#endif
