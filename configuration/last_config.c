/* The last good configuration as the text of a ConfigMap. */
#include "configuration/last_config.h"

#include <stdlib.h>

#include "cluster/config_map.h"
#include "lib/log.h"
#include "lib/mem.h"

struct last_config {
    char *home;
    struct config_map *map;
    struct last_config_handler handler;
    bool too_long;
};

#define TOO_LONG "It is too long to be kept for the next start."

static void on_changed(void *arg)
{
    struct last_config *last = arg;
    last->handler.changed(last->handler.arg);
}

void last_config_keep(struct last_config *last, const struct config_record *record)
{
    struct buf text;
    buf_init(&text, CONFIG_RECORD_MAX);
    last->too_long = config_record_put(&text, record) != OK;
    if (last->too_long) {
        log_line(LOG_WARN, "control", "configuration: " TOO_LONG);
    } else {
        config_map_keep(last->map, buf_str(&text));
    }
    buf_free(&text);
}

void last_config_lead(struct last_config *last, bool leads)
{
    config_map_lead(last->map, leads);
    last->too_long = false;
}

bool last_config_listed(const struct last_config *last)
{
    return config_map_listed(last->map);
}

enum last_config_state last_config_read(const struct last_config *last,
                                        struct config_record *record, struct error *err)
{
    const char *text = config_map_text(last->map);
    if (!config_map_listed(last->map) || (!config_map_readable(last->map) && !text)) {
        return LAST_CONFIG_UNKNOWN;
    }
    if (!text) {
        return LAST_CONFIG_NONE;
    }
    return config_record_parse(record, str_of(text), last->home, err) == OK ? LAST_CONFIG_GOOD
                                                                            : LAST_CONFIG_WRONG;
}

const char *last_config_problem(const struct last_config *last)
{
    return last->too_long ? TOO_LONG : config_map_problem(last->map);
}

struct last_config *last_config_new(struct loop *loop, struct cluster *cluster, const char *home,
                                    struct last_config_handler handler)
{
    struct last_config *last = mem_zalloc(sizeof(*last));
    struct config_map_settings settings = {.name = LAST_CONFIG_NAME,
                                           .entry = LAST_CONFIG_ENTRY,
                                           .what = "configuration",
                                           .problem = "It cannot be kept for the next start",
                                           .max = CONFIG_RECORD_MAX,
                                           .changed = on_changed,
                                           .arg = last};
    last->home = mem_strdup(home);
    last->handler = handler;
    last->map = config_map_new(loop, cluster, home, &settings);
    return last;
}

void last_config_free(struct last_config *last)
{
    if (last) {
        config_map_free(last->map);
        free(last->home);
        free(last);
    }
}
