/* The admin port: health, readiness, metrics.
 *
 *   /healthz  200 "ok": the loop turns
 *   /readyz   200 "ok", or 503 and the reason
 *   /metrics  Prometheus text format 0.0.4 */
#ifndef TPROXY_ADMIN_H
#define TPROXY_ADMIN_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"

struct admin;
struct loop;

/* What the rest of the program contributes. All of it is called from within the loop and answers at
 * once. */
struct admin_sources {
    bool (*ready)(const char **why, void *arg);  /* false: *why says what is missing, in words */
    void (*metrics)(struct buf *out, void *arg); /* appends complete families (lib/metric.h) */
    void *arg;
    const char *version; /* of the program; static storage */
};

/* Listens on `address` ("127.0.0.1:9494", "[::]:9494"; port 0: any). NULL and *err as
 * http_server_new. */
struct admin *admin_new(struct loop *loop, const char *address, struct admin_sources sources,
                        struct error *err);

/* NULL is allowed. */
void admin_free(struct admin *admin);

/* The port it listens on. */
uint16_t admin_port(const struct admin *admin);

#endif
