/* One entry of a Secret as the Kubernetes API has it: `data` in base64; `stringData`, as files have
 * it, wins. Pure. */
#ifndef TPROXY_CORE_SECRET_ENTRY_H
#define TPROXY_CORE_SECRET_ENTRY_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/json.h"
#include "lib/mem.h"

/* Octets of an entry, the most that the API server lets a Secret have. */
enum { SECRET_ENTRY_MAX = 1024 * 1024 };

/* Is there one of that name? */
bool secret_entry_given(struct json_value secret, const char *name);

/* Reads the entry `name` of the Secret into an empty *value, which stays empty when the entry is
 * missing. Base64 may have line ends, as the API server takes it; a byte order mark of UTF-8 is
 * dropped. Returns ERR when the entry is not a string, not base64, is UTF-16, or has more than
 * `max` octets; *err (FAIL_CONFIG) is a clause that names the entry and what is wrong with it,
 * never its value. */
int secret_entry_read(struct json_value secret, const char *name, size_t max, struct secret *value,
                      struct error *err) warn_unused;

/* Sets *err (FAIL_CONFIG): "the entry "NAME" ..."; returns ERR. */
int secret_entry_refuse(struct error *err, const char *name, const char *wrong);

#endif
