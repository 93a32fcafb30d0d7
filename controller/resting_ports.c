/* The record of resting ports: an object with a member for each minute in which rests end.
 *
 *     {"2026-01-31T10:15Z":"20000-20003,20010", ...}
 *
 *   leave(port) --> rests --> asked for --> written with all others that rest --> recorded
 *
 * Only one text is on its way at a time; ports that are left during that time come with the next
 * text, so many deletions cost few writes. Nothing is written when a rest ends. */
#include "controller/resting_ports.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/config_map.h"
#include "controller/ports.h"
#include "lib/buf.h"
#include "lib/json.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/stamp.h"
#include "lib/text.h"

#define MINUTE SECONDS(60)

/* The shortest time between two texts. */
#define PAUSE MILLIS(50)

/* A record is still good if a rest ends at most this many minutes earlier in it than it would
 * now. */
enum { LATE_MINUTES = 2 };

/* 65536 ports of up to six characters each, with room for the times. */
enum { PORTS = 65536, RECORD_MAX = 400 * 1024 };

struct resting_ports {
    struct loop *loop;
    struct ports *ports;
    struct config_map *map;
    struct resting_ports_handler handler;
    int64_t rest;
    int64_t began;
    bool read;           /* the ports of the record rest */
    bool asked;          /* there is more to write */
    bool writing;        /* a text is on its way */
    struct timer writer; /* writes the next text */
    int64_t not_before;  /* the earliest time for the next text */

    /* By port: the minute of the calendar in which its rest ends, in the text that is on its way
     * and in the one in the ConfigMap; 0: the port is not in the text. */
    uint32_t written[PORTS], recorded[PORTS];
};

/* ---- writing ---- */

/* Appends the ports whose rest ends in that minute, as ranges. */
static int put_ports(struct buf *out, const uint32_t *minutes, uint32_t minute)
{
    const char *comma = "";
    for (unsigned port = 1, last; port < PORTS; port = last + 1) {
        last = port;
        if (minutes[port] != minute) {
            continue;
        }
        while (last + 1 < PORTS && minutes[last + 1] == minute) {
            last++;
        }
        if (buf_fmt(out, last > port ? "%s%u-%u" : "%s%u", comma, port, last) < 0) {
            return ERR;
        }
        comma = ",";
    }
    return OK;
}

static int put_record(const struct resting_ports *r, struct buf *out)
{
    const char *comma = "";
    int rc = buf_fmt(out, "{");
    uint32_t last = stamp_minute_in(r->rest);
    for (uint32_t minute = stamp_minute_in(0); minute <= last && rc == OK; minute++) {
        char end[STAMP_SIZE];
        struct buf ports;
        buf_init(&ports, RECORD_MAX);
        stamp_minute(end, minute);
        rc = put_ports(&ports, r->written, minute);
        if (rc == OK && buf_len(&ports)) {
            rc = buf_fmt(out, "%s\"%s\":\"%.*s\"", comma, end, STR_ARG(buf_str(&ports)));
            comma = ",";
        }
        buf_free(&ports);
    }
    return rc == OK ? buf_fmt(out, "}") : rc;
}

static void written(struct resting_ports *r)
{
    r->writing = false;
    for (unsigned port = 1; port < PORTS; port++) {
        if (r->recorded[port] != r->written[port]) {
            r->recorded[port] = r->written[port];
        }
    }
}

/* Writes the ports that rest now, unless a text is on its way. */
static void write_record(struct resting_ports *r)
{
    struct buf text;
    if (!r->asked || r->writing || !r->read) {
        return;
    }
    for (unsigned port = 1; port < PORTS; port++) {
        int64_t left = ports_rests_until(r->ports, (uint16_t)port) - loop_now(r->loop);
        if (left > 0 && ports_carried(r->ports, (uint16_t)port)) {
            left = r->rest; /* its Service still has to go */
            ports_rest(r->ports, (uint16_t)port);
        }
        if (left > 0 || r->written[port]) { /* pages that are all zero stay unused */
            r->written[port] = left > 0 ? stamp_minute_in(left) : 0;
        }
    }
    r->asked = false;
    r->writing = true;
    r->not_before = loop_now(r->loop) + PAUSE;
    buf_init(&text, RECORD_MAX);
    int rc = put_record(r, &text);
    assert(rc == OK);
    config_map_keep(r->map, buf_str(&text));
    buf_free(&text);
    if (config_map_kept(r->map)) { /* the ConfigMap had this text already */
        written(r);
        r->handler.changed(r->handler.arg);
    }
}

static void on_writer(struct timer *t)
{
    t->due = 0;
    write_record(container_of(t, struct resting_ports, writer));
}

static void write_soon(struct resting_ports *r)
{
    int64_t now = loop_now(r->loop);
    if (!r->writer.due) {
        timer_set(r->loop, &r->writer, now > r->not_before ? now : r->not_before, on_writer);
    }
}

/* ---- reading ---- */

/* Takes one member of the record. Ranges that make no sense are ignored. */
static void take_ports(struct resting_ports *r, struct json_value member)
{
    int64_t most = r->rest + MINUTE; /* even if clocks differ, a rest ends */
    char *end = json_strdup(json_key(member), NULL), *text = json_strdup(member, NULL);
    int64_t left = end ? stamp_left(end) : 0;
    for (struct str rest = str_of(text ? text : ""); rest.n && left > 0;) {
        uint64_t first, last = 0;
        struct str range = str_cut(&rest, ','), from = str_cut(&range, '-');
        if (text_number(from, PORTS - 1, &first) != OK ||
            (range.n && text_number(range, PORTS - 1, &last) != OK)) {
            continue;
        }
        last = range.n ? last : first;
        for (uint64_t port = first; port <= last; port++) {
            ports_rest_until(r->ports, (uint16_t)port,
                             loop_now(r->loop) + (left < most ? left : most));
        }
    }
    free(end);
    free(text);
}

static void take_record(struct resting_ports *r, const char *text)
{
    struct json *doc = json_parse(str_of(text), NULL);
    struct json_value record = doc ? json_root(doc) : (struct json_value){0};
    for (struct json_value m = json_first(record); json_exists(m); m = json_next(m)) {
        take_ports(r, m);
    }
    json_free(doc);
}

static void on_changed(void *arg)
{
    struct resting_ports *r = arg;
    if (!r->read && config_map_listed(r->map) && config_map_readable(r->map)) {
        const char *text = config_map_text(r->map);
        take_record(r, text ? text : "{}");
        r->read = true;
    }
    if (r->writing && config_map_kept(r->map)) {
        written(r);
    }
    r->handler.changed(r->handler.arg);
    write_soon(r);
}

/* ---- the face ---- */

bool resting_ports_listed(const struct resting_ports *r)
{
    return config_map_listed(r->map);
}

bool resting_ports_known(const struct resting_ports *r, int64_t *until)
{
    *until = r->began + r->rest;
    return r->read || *until <= loop_now(r->loop);
}

int resting_ports_leave(struct resting_ports *r, uint16_t port)
{
    ports_rest(r->ports, port);
    if (r->recorded[port] + LATE_MINUTES >= stamp_minute_in(r->rest)) {
        return OK;
    }
    r->asked = true;
    write_soon(r);
    return config_map_failed(r->map) ? OK : AGAIN;
}

static void stop_writer(struct resting_ports *r)
{
    timer_cancel(r->loop, &r->writer);
    r->writer.due = 0;
    r->asked = r->writing = false;
}

/* Forgets which ports are recorded: another process may have written a record without them. */
static void forget_record(struct resting_ports *r)
{
    for (unsigned port = 1; port < PORTS; port++) {
        if (r->written[port] || r->recorded[port]) { /* pages that are all zero stay unused */
            r->written[port] = r->recorded[port] = 0;
        }
    }
}

void resting_ports_lead(struct resting_ports *r, bool leads)
{
    stop_writer(r);
    if (leads) {
        r->read = false;
        forget_record(r);
    }
    config_map_lead(r->map, leads);
}

const char *resting_ports_problem(const struct resting_ports *r)
{
    return config_map_problem(r->map);
}

struct resting_ports *resting_ports_new(struct loop *loop, struct cluster *cluster,
                                        const char *home, struct ports *ports, int64_t rest,
                                        struct resting_ports_handler handler)
{
    struct resting_ports *r = mem_zalloc(sizeof(*r));
    struct config_map_settings settings = {
        .name = RESTING_PORTS_NAME,
        .entry = RESTING_PORTS_ENTRY,
        .what = "target ports",
        .problem = "The target ports that rest cannot be kept for the next start",
        .max = RECORD_MAX,
        .changed = on_changed,
        .arg = r};
    r->loop = loop;
    r->ports = ports;
    r->handler = handler;
    r->rest = rest;
    r->began = loop_now(loop);
    r->map = config_map_new(loop, cluster, home, &settings);
    return r;
}

void resting_ports_free(struct resting_ports *r)
{
    if (r) {
        stop_writer(r);
        config_map_free(r->map);
        free(r);
    }
}
