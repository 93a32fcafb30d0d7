/* The last good configuration, kept in the cluster for the next start: a ConfigMap of ours in the
 * home namespace. Whoever may write ConfigMaps there could change it, and nobody in any other
 * namespace. It holds names of Secrets and never what is in them. */
#ifndef TPROXY_LAST_CONFIG_H
#define TPROXY_LAST_CONFIG_H

#include "core/config_record.h"
#include "lib/base.h"

struct cluster;
struct last_config;
struct loop;

#define LAST_CONFIG_NAME "tproxy-last-configuration"
#define LAST_CONFIG_ENTRY "configuration.json"

/* What the ConfigMap says. */
enum last_config_state {
    LAST_CONFIG_UNKNOWN, /* it has not been listed yet, or may not be read */
    LAST_CONFIG_NONE,    /* it is not there */
    LAST_CONFIG_WRONG,   /* it makes no sense */
    LAST_CONFIG_GOOD,
};

/* It was listed, it has changed, or there is another problem with it. Also called from inside
 * last_config_keep: the handler takes note and calls nothing of this. */
struct last_config_handler {
    void (*changed)(void *arg);
    void *arg;
};

/* Follows it in namespace `home`. */
struct last_config *last_config_new(struct loop *loop, struct cluster *cluster, const char *home,
                                    struct last_config_handler handler);

/* Ends all that is under way. NULL is allowed. */
void last_config_free(struct last_config *last);

/* Has it been listed, whatever came of that? */
bool last_config_listed(const struct last_config *last);

/* Reads it. GOOD: the caller clears *record. WRONG: *err says what is wrong. */
enum last_config_state last_config_read(const struct last_config *last,
                                        struct config_record *record, struct error *err);

/* Has it hold this record from now on, whoever changes or deletes it. What fails is tried again. */
void last_config_keep(struct last_config *last, const struct config_record *record);

/* Why the API server does not let us keep it: a sentence, valid until the next turn; or NULL. */
const char *last_config_problem(const struct last_config *last);

#endif
