/* Names and their values as text: a Destination as it comes, before anybody asks what it means. */
#ifndef TPROXY_CORE_PROPERTIES_H
#define TPROXY_CORE_PROPERTIES_H

#include <stddef.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/json.h"

enum { PROPERTIES_MAX = 1024 };

/* Any value may be a secret. Both texts are NUL-terminated; a value may also contain NUL. */
struct property {
    char *name;
    char *value;
    size_t n; /* length of the value */
};

/* In the order of the text. */
struct properties {
    struct property *list;
    size_t n;
};

/* Adds a property. *props owns its texts from now on, also after ERR. ERR and *err (FAIL_LIMIT)
 * when there are too many. */
int properties_add(struct properties *props, struct property p, struct error *err) warn_unused;

/* From a JSON object whose values are strings, numbers or booleans (null: as if absent), or such an
 * object as the member "destinationConfiguration" of another, the way the Destination service
 * answers. Members whose name begins with '$' are no properties and passed over. The document may
 * be freed afterwards. NULL and *err (FAIL_CONFIG, naming the property; FAIL_LIMIT) when it is
 * anything else. */
struct properties *properties_from_json(struct json_value v, struct error *err);

/* Wipes and frees. NULL is allowed. */
void properties_free(struct properties *props);

/* The value, NUL-terminated, its length in *n (n may be NULL); NULL when there is no such property.
 * Names are case-sensitive. Valid until properties_free. */
const char *properties_get(const struct properties *props, const char *name, size_t *n);

#endif
