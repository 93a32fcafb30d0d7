/* A Kubernetes object from a file of local mode: a Destination CR, a TransparentProxy object, or a
 * Secret, in the form that the API server would give it. */
#ifndef TPROXY_LOCAL_OBJECT_H
#define TPROXY_LOCAL_OBJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/json.h"

/* The namespaces of objects that name none: of CRs, and of objects of the installation. */
#define LOCAL_NAMESPACE "default"
#define LOCAL_HOME "sap-transp-proxy-system"

enum { LOCAL_OBJECT_MAX = 1024 * 1024 };

/* Immutable, shared by reference count. The text, which may hold secrets, is wiped when dropped. */
struct local_object {
    unsigned refs;
    const char *kind; /* static storage */
    char *namespace, *name;
    char *text;
    struct json *doc; /* of the text */
    uint64_t digest;  /* of its contents */
};

/* Tells whether the document is meant to be a Kubernetes object. */
bool local_object_is(struct json_value root);

/* Creates an object from a file's document, which may be freed afterwards. Returns NULL and sets
 * *err, which names the field and the remedy. */
const struct local_object *local_object_new(struct json_value root, struct error *err);

/* Creates the CR for a plain destination, with its name, in LOCAL_NAMESPACE. */
const struct local_object *local_object_of_destination(const char *name);

const struct local_object *local_object_ref(const struct local_object *object);
void local_object_unref(const struct local_object *object); /* NULL is allowed */

#endif
