/* Reads the properties of a Destination as names and texts. core/destination.c gives them their
 * meaning. */
#ifndef TPROXY_CORE_PROPERTIES_H
#define TPROXY_CORE_PROPERTIES_H

#include <stddef.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/json.h"
#include "lib/text.h"

enum { PROPERTIES_MAX = 1024 };

/* Any value may be a secret. Both texts are NUL-terminated; a value may also contain NUL. */
struct property {
    char *name;
    char *value;
    size_t n; /* length of the value */
};

/* Properties in the order of the text, and the certificate files that came with them: the name of
 * each, and its contents in base64. */
struct properties {
    struct property *list, *certificates;
    size_t n, n_certificates;
};

/* Adds a property. *props takes over its texts, also on ERR, which frees them. Returns ERR and *err
 * (FAIL_LIMIT) when there are too many properties. */
int properties_add(struct properties *props, struct property p, struct error *err) warn_unused;

/* Makes the properties from a JSON object whose values are strings, numbers, booleans or null,
 * which counts as absent. Such an object may also be the member "destinationConfiguration" of
 * another, as in answers of the Destination service. A member whose name begins with '$' is not a
 * property and is skipped. The array "certificates" of the outer object has the certificate files,
 * {Name, Content} each; elements of another form are skipped. The document may be freed afterwards.
 * Returns NULL and *err (FAIL_CONFIG with the name of the property, or FAIL_LIMIT) when it is
 * anything else. */
struct properties *properties_from_json(struct json_value v, struct error *err);

/* Wipes and frees the properties. NULL is allowed. */
void properties_free(struct properties *props);

/* Returns the value, NUL-terminated and valid until properties_free, with its length in *n unless n
 * is NULL. Returns NULL when there is no such property. Names are case-sensitive. */
const char *properties_get(const struct properties *props, const char *name, size_t *n);

/* Returns the contents of the certificate file of that name, in base64, with the length in *n;
 * valid until properties_free. Returns NULL when no such file came with the properties. Names are
 * case-sensitive. */
const char *properties_certificate(const struct properties *props, struct str name, size_t *n);

#endif
