/* The way to on-premise systems: SAP's Connectivity Proxy, a SOCKS5 proxy in the cluster, and the
 * access token that it may ask for (help.sap.com, "Using the Connectivity Proxy", SOCKS5).
 *
 *     struct dest_source *source = connectivity_source(connectivity, inner);
 *
 * is a source of destinations that asks the inner one and adds to its answers how the mail server
 * of an on-premise destination is reached. */
#ifndef TPROXY_BTP_CONNECTIVITY_H
#define TPROXY_BTP_CONNECTIVITY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/dest_source.h"
#include "core/destination.h"
#include "lib/base.h"
#include "lib/fail.h"

struct connectivity;
struct connectivity_wait;
struct loop;
struct oauth;
struct service_key;
struct token;

/* Creates an object with the settings connectivity_none. The loop and oauth stay the caller's. */
struct connectivity *connectivity_new(struct loop *loop, struct oauth *oauth);

/* Frees the object. No request and no wait may be under way any more. NULL is allowed. */
void connectivity_free(struct connectivity *connectivity);

/* The settings; connectivity_set copies them and references the key. */
struct connectivity_settings {
    const char *host; /* of the proxy: name or literal */
    uint16_t port;
    int64_t timeout;               /* to connect to it, microseconds */
    const struct service_key *key; /* the key whose token is shown to the proxy; NULL: it wants no
                                      token */
    enum verdict verdict; /* other than VERDICT_OK: there is no route, only `problem` counts */
    const char *problem;  /* why there is no route, a sentence */
};

/* Settings without a route, because the Connectivity Proxy is not configured. They are in force
 * before the first call of connectivity_set. */
extern const struct connectivity_settings connectivity_none;

/* Sets how questions are answered from now on. Returns false if nothing has changed. */
bool connectivity_set(struct connectivity *connectivity,
                      const struct connectivity_settings *settings);

/* Checks whether there is a route at all, without asking a server. Returns OK; or ERR, *verdict and
 * *err (FAIL_CONFIG). */
int connectivity_check(const struct connectivity *connectivity, enum verdict *verdict,
                       struct error *err) warn_unused;

/* Returns why there is no route, a sentence valid until connectivity_set; NULL: there is a
 * route. */
const char *connectivity_problem(const struct connectivity *connectivity);

/* Called exactly once, never from inside connectivity_get; the wait is gone by then. The route is
 * valid during the call (token_ref keeps its token). NULL: *err is FAIL_CONFIG when no route is
 * configured, FAIL_AUTH when the authorization server refuses the key or the tenant, FAIL_TOKEN
 * when the proxy has refused the tenant's tokens just now, else a failure that may pass; *verdict
 * says the same for a condition (VERDICT_UNREADABLE for a failure that may pass). */
struct connectivity_handler {
    void (*done)(const struct dest_route *route, enum verdict verdict, const struct error *err,
                 void *arg);
    void *arg;
};

/* Asks for the route for a tenant (NULL: the provider's own). Never returns NULL. */
struct connectivity_wait *connectivity_get(struct connectivity *connectivity, const char *tenant,
                                           struct connectivity_handler handler);

/* Cancels the wait: `done` will not be called. NULL is allowed. */
void connectivity_cancel(struct connectivity_wait *wait);

/* Reports how the proxy took this token: err NULL: accepted; FAIL_TOKEN: refused; else unknown.
 * renewable: the caller has not asked again for that reason yet. Returns true if the caller shall
 * ask again: the token is not handed out any more then. Otherwise a refusal begins a pause, in
 * which the tenant's routes fail with FAIL_TOKEN (core/token_refusals.h). */
bool connectivity_tried(struct connectivity *connectivity, const char *tenant,
                        const struct token *token, const struct error *err, bool renewable);

/* Returns the source described above, valid until connectivity_free. `inner` stays the caller's.
 * May be called only once. */
struct dest_source *connectivity_source(struct connectivity *connectivity,
                                        struct dest_source *inner);

#endif
