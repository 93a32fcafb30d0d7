/* One ConfigMap of ours in the home namespace: followed, written, and restored when somebody else
 * changes or deletes it. Only users who may write ConfigMaps in that namespace can change it. */
#ifndef TPROXY_CLUSTER_CONFIG_MAP_H
#define TPROXY_CLUSTER_CONFIG_MAP_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"
#include "lib/text.h"

struct cluster;
struct config_map;
struct loop;

/* `changed` is called when the ConfigMap was listed, written or changed, or when its problem has
 * changed. It is also called from inside config_map_keep, so it must not call that function. */
struct config_map_settings {
    const char *name;    /* of the ConfigMap; static storage */
    const char *entry;   /* of its data; static storage */
    const char *what;    /* the subject of log lines; static storage */
    const char *problem; /* a sentence that begins the text of a problem; static storage */
    size_t max;          /* bound of the text, octets */
    void (*changed)(void *arg);
    void *arg;
};

/* Starts to follow the ConfigMap in namespace `home`. Nothing is written before config_map_lead. */
struct config_map *config_map_new(struct loop *loop, struct cluster *cluster, const char *home,
                                  const struct config_map_settings *settings);

/* Cancels the watch and the call under way and frees the object. NULL is allowed. */
void config_map_free(struct config_map *map);

/* Says whether this process may write. When it begins to, the ConfigMap is listed afresh, because
 * another process may have written it: until that list has ended nothing is written, and
 * config_map_listed returns false. When it ends, the write under way is given up, and no text is to
 * be kept any more. Does not call `changed`. */
void config_map_lead(struct config_map *map, bool leads);

/* Tells whether a list of it has ended, with success or not. */
bool config_map_listed(const struct config_map *map);

/* Tells whether the last list has succeeded. */
bool config_map_readable(const struct config_map *map);

/* Returns its text; NULL: there is no such ConfigMap, or none has been read. */
const char *config_map_text(const struct config_map *map);

/* Keeps this text in the ConfigMap as long as this process may write, which it has to. Failed
 * writes are tried again. */
void config_map_keep(struct config_map *map, struct str text);

/* Tells whether the ConfigMap holds the text that is to be kept. */
bool config_map_kept(const struct config_map *map);

/* Tells whether the last write, or the last list, has failed. */
bool config_map_failed(const struct config_map *map);

/* Returns why the API server does not let us keep the text: a sentence, valid until the next turn;
 * or NULL. */
const char *config_map_problem(const struct config_map *map);

#endif
