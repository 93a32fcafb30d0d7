/* Writes the configuration in force as a record for the next start of the program, and reads it.
 * The record holds the known values and not the text of the object, so that unknown text, above all
 * a secret, does not get into it. Pure. */
#ifndef TPROXY_CONFIGURATION_CONFIG_RECORD_H
#define TPROXY_CONFIGURATION_CONFIG_RECORD_H

#include <stdbool.h>

#include "configuration/config.h"
#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"
#include "lib/text.h"

/* CONFIG_RECORD_MAX is the maximum length of a record in octets. 256 instances with the longest
 * names fit, and a record that is quoted once more stays below the API server's limit for one
 * object (1 MiB). */
enum { CONFIG_RECORD_MAX = 640 * 1024, CONFIG_SINCE_SIZE = 40 };

struct config_record {
    struct config *config;
    char *object; /* name of the TransparentProxy object; NULL: there was no object */
    char since[CONFIG_SINCE_SIZE]; /* the time when it came into force, RFC 3339 */
};

/* Appends the record as JSON. Returns ERR when it does not fit. */
int config_record_put(struct buf *out, const struct config_record *record) warn_unused;

/* Reads a record. Somebody may have changed it since config_record_put, so every value is checked
 * like those of a TransparentProxy object in namespace `home`. On OK the caller clears *record; on
 * ERR it is empty and *err says what is wrong. */
int config_record_parse(struct config_record *record, struct str text, const char *home,
                        struct error *err) warn_unused;

/* Frees the contents of *record and leaves it empty. May be called more than once. */
void config_record_clear(struct config_record *record);

/* Tells whether two records are equal apart from `since`. Returns false when one does not fit into
 * CONFIG_RECORD_MAX. */
bool config_record_same(const struct config_record *a, const struct config_record *b);

#endif
