/* A configuration in force, written down for the next start of the program: the values, not the
 * text that somebody wrote, so that nothing gets into it that the configuration does not know, a
 * secret above all. Pure. */
#ifndef TPROXY_CORE_CONFIG_RECORD_H
#define TPROXY_CORE_CONFIG_RECORD_H

#include <stdbool.h>

#include "core/config.h"
#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"
#include "lib/text.h"

/* The longest record, octets: 256 instances with the longest names fit. Quoted once more it stays
 * below what the API server stores in one object (1 MiB). */
enum { CONFIG_RECORD_MAX = 640 * 1024, CONFIG_SINCE_SIZE = 40 };

struct config_record {
    struct config *config;
    char *object;                  /* name of the TransparentProxy object; NULL: there was none */
    char since[CONFIG_SINCE_SIZE]; /* when it came into force, RFC 3339 */
};

/* Appends the record as JSON. ERR when it does not fit. */
int config_record_put(struct buf *out, const struct config_record *record) warn_unused;

/* Reads what config_record_put wrote, or what somebody made of it: every value is checked as those
 * of a TransparentProxy object in namespace `home` are. On OK the caller clears *record; on ERR it
 * is empty and *err says what is wrong. */
int config_record_parse(struct config_record *record, struct str text, const char *home,
                        struct error *err) warn_unused;
void config_record_clear(struct config_record *record);

/* Do two records say the same, the time apart? */
bool config_record_same(const struct config_record *a, const struct config_record *b);

#endif
