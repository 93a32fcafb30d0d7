/* The resources and our Services that exist, by namespace and name; and the namespaces that
 * resources live in. */
#ifndef TPROXY_CONTROLLER_RESOURCES_H
#define TPROXY_CONTROLLER_RESOURCES_H

#include "controller/state.h"

/* The length of "namespace/name" with its NUL. */
enum { RESOURCE_KEY_MAX = 2 * (CR_NAME_MAX + 1) };

/* Writes "namespace/name" and returns it. */
const char *resource_key(char key[RESOURCE_KEY_MAX], const char *namespace, const char *name);

/* Returns the resource of that name; NULL: there is none. */
struct resource *find_resource(const struct controller *controller, const char *namespace,
                               const char *name);

/* Returns the resource of that name, a new one if need be. */
struct resource *get_resource(struct controller *controller, const char *namespace,
                              const char *name);

/* Frees a resource that has no endpoints and no Services any more, and no operation. */
void resource_free(struct resource *r);

/* Returns the namespace of that name; NULL: no resource lives in it. */
struct space *find_space(const struct controller *controller, const char *name);

/* Returns the Service of ours of that name; NULL: there is none. */
struct held_service *find_service(const struct controller *controller, const char *namespace,
                                  const char *name);

/* Returns the Service of that name if it is the resource's; or else NULL. */
struct held_service *resource_service(const struct resource *r, const char *namespace,
                                      const char *name);

/* Returns the resource that has the Service of that name, if that is another one; or else NULL. */
struct resource *resource_rival(const struct resource *r, const char *namespace, const char *name);

/* Returns the Service of the endpoint in the home namespace; NULL: there is none. */
struct held_service *endpoint_service(const struct endpoint *e);

#endif
