/* Reads one entry of a Secret of the Kubernetes API: from `stringData`, which files may have, or
 * else from `data`, which is in base64. Pure. */
#ifndef TPROXY_CORE_SECRET_ENTRY_H
#define TPROXY_CORE_SECRET_ENTRY_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/json.h"
#include "lib/mem.h"

/* Maximum length of an entry in octets. The API server allows no larger Secret. */
enum { SECRET_ENTRY_MAX = 1024 * 1024 };

/* Tells whether the Secret has an entry of that name. */
bool secret_entry_given(struct json_value secret, const char *name);

/* Reads the entry `name` of the Secret into an empty *value, which stays empty when the entry is
 * missing. The caller clears *value, also on ERR. Base64 may have line ends, which the API server
 * accepts; a byte order mark of UTF-8 is dropped. Returns ERR when the entry is not a string, not
 * base64, is UTF-16, or has more than `max` octets; *err (FAIL_CONFIG) is a clause that names the
 * entry and its error, never its value. */
int secret_entry_read(struct json_value secret, const char *name, size_t max, struct secret *value,
                      struct error *err) warn_unused;

/* Sets *err (FAIL_CONFIG): "the entry "NAME" ...". Returns ERR. */
int secret_entry_refuse(struct error *err, const char *name, const char *wrong);

#endif
