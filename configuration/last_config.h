/* The last good configuration, kept in the cluster for the next start: a ConfigMap of ours in the
 * home namespace. Only users who may write ConfigMaps in that namespace can change it. It holds
 * names of Secrets and never their contents. */
#ifndef TPROXY_CONFIGURATION_LAST_CONFIG_H
#define TPROXY_CONFIGURATION_LAST_CONFIG_H

#include "configuration/config_record.h"
#include "lib/base.h"

struct cluster;
struct last_config;
struct loop;

#define LAST_CONFIG_NAME "tproxy-last-configuration"
#define LAST_CONFIG_ENTRY "configuration.json"

/* The state of the ConfigMap. */
enum last_config_state {
    LAST_CONFIG_UNKNOWN, /* it has not been listed yet, or may not be read */
    LAST_CONFIG_NONE,    /* it does not exist */
    LAST_CONFIG_WRONG,   /* it cannot be read as a configuration */
    LAST_CONFIG_GOOD,
};

/* `changed` is called when the ConfigMap was listed or has changed, or its problem has changed. It
 * is also called from inside last_config_keep, so it must not call functions of this file. */
struct last_config_handler {
    void (*changed)(void *arg);
    void *arg;
};

/* Starts to follow the ConfigMap in namespace `home`. */
struct last_config *last_config_new(struct loop *loop, struct cluster *cluster, const char *home,
                                    struct last_config_handler handler);

/* Cancels the watch and the call under way and frees the object. NULL is allowed. */
void last_config_free(struct last_config *last);

/* Says whether this process keeps the record; at the beginning it does not. When it begins to, the
 * ConfigMap is listed afresh before anything is written. When it ends, what last_config_keep has
 * asked for is forgotten. */
void last_config_lead(struct last_config *last, bool leads);

/* Tells whether a list of it has ended, with success or not. */
bool last_config_listed(const struct last_config *last);

/* Reads the ConfigMap. GOOD: the caller clears *record. WRONG: *err says what is wrong. */
enum last_config_state last_config_read(const struct last_config *last,
                                        struct config_record *record, struct error *err);

/* Keeps this record in the ConfigMap while this process leads, which it has to, and restores it
 * when somebody changes or deletes it. Failed writes are tried again. */
void last_config_keep(struct last_config *last, const struct config_record *record);

/* Returns why the API server does not let us keep the record: a sentence, valid until the next
 * turn; or NULL. */
const char *last_config_problem(const struct last_config *last);

#endif
