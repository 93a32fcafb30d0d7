/* The admin port: health, readiness, metrics, and the state in SAP's form.
 *
 *   /healthz          200 "ok": the loop turns
 *   /readyz           200 "ok", or 503 and the reason
 *   /status           {"Status":"ok|warning|critical","Components":{"sap-transp-proxy-tcp":...}}
 *   /destinationCRs   {"Status":"ok","CustomResources":[...]}
 *   /metrics          Prometheus text format 0.0.4; 404 while they are switched off */
#ifndef TPROXY_ADMIN_PAGES_H
#define TPROXY_ADMIN_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"

struct admin;
struct loop;

enum admin_level { ADMIN_OK, ADMIN_WARNING, ADMIN_CRITICAL };

/* The health of the two parts that SAP's product runs as separate pods. Messages are valid until
 * the next turn. */
struct admin_health {
    enum admin_level proxy, manager;
    const char *proxy_message, *manager_message;
};

/* Functions of the rest of the program that fill the pages. They are called from within the loop
 * and answer at once. */
struct admin_sources {
    bool (*ready)(const char **why, void *arg);  /* false: *why says what is missing, in words */
    bool (*metrics)(struct buf *out, void *arg); /* appends complete families (lib/metric.h);
                                                    false: they are switched off */
    struct admin_health (*health)(void *arg);
    int (*resources)(struct buf *out, void *arg); /* appends the JSON of /destinationCRs; ERR when
                                                     it does not fit */
    void *arg;
    const char *version; /* version of the program; static storage */
};

/* Listens on `address` ("127.0.0.1:9494", "[::]:9494"; port 0: any free one). Returns NULL and sets
 * *err as http_server_new does. */
struct admin *admin_new(struct loop *loop, const char *address, struct admin_sources sources,
                        struct error *err);

/* Closes the port with its connections and frees the object. NULL is allowed. */
void admin_free(struct admin *admin);

/* Returns the port that it listens on. */
uint16_t admin_port(const struct admin *admin);

#endif
