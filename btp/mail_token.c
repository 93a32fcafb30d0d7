/* Makes a grant of a destination, and asks the server that it is for.
 *
 *     mail_token_get --> on-premise? -- yes --> ROUTE: connectivity_get --.
 *                              |                       ^                  |
 *                              |                       '- the proxy -.    |
 *                              '------ no ------.         refuses    |    |
 *                                               v         its token, |    |
 *                                             TOKEN: oauth_get       |    |
 *                                               |   ^   '- once -----'    |
 *                                               v   '---------------------'
 *                                             the end */
#include "btp/mail_token.h"

#include <assert.h>
#include <stdlib.h>

#include "btp/connectivity.h"
#include "core/destination.h"
#include "core/token.h"
#include "core/token_service.h"
#include "lib/buf.h"
#include "lib/dial.h"
#include "lib/mem.h"

enum { URL_MAX = 48 * 1024 };

struct mail_token_wait {
    struct oauth *oauth;
    struct connectivity *connectivity;
    struct oauth_handler handler;
    struct connectivity_wait *route; /* ROUTE */
    struct oauth_wait *token;        /* TOKEN */
    struct token *proxy_token;       /* the token that was shown to the proxy */
    bool again;                      /* the route is asked for the second time */

    const struct destination *dest;
    char *tenant, *subscriber;
    struct secret *user_token;
};

static enum oauth_grant_type grant_type(enum mail_auth auth)
{
    switch (auth) {
    case AUTH_REFRESH_TOKEN:
        return OAUTH_REFRESH_TOKEN;
    case AUTH_AUTHORIZATION_CODE:
        return OAUTH_AUTHORIZATION_CODE;
    case AUTH_NONE:
    case AUTH_BASIC:
    case AUTH_CLIENT_CREDENTIALS:
        break;
    }
    return OAUTH_CLIENT_CREDENTIALS;
}

/* Makes a grant. `url` gets the URL with its NUL, to which the grant refers; it has to be wiped in
 * any case. ERR: the destination does not say where to ask. */
static int make_grant(const struct mail_token_of *of, struct buf *url, struct oauth_grant *grant)
{
    const struct token_service *service = of->dest->tokens;
    buf_init(url, URL_MAX);
    if (token_service_url(service, of->tenant, url) == ERR || buf_add(url, "", 1) == ERR) {
        return ERR;
    }
    *grant = (struct oauth_grant){
        .url = buf_str(url).p,
        .property = "tokenServiceURL",
        .allow_local = service->allow_local,
        .client_id = service->client_id,
        .client_secret = &service->client_secret,
        .type = grant_type(of->dest->auth),
        .user_token = of->user_token,
        .basic = service->basic,
        .headers = secret_str(&service->headers),
        .form = secret_str(&service->form),
        .connect_timeout = service->connect_timeout,
        .answer_timeout = service->answer_timeout,
        .tenant = of->tenant,
        .location = service->on_premise ? of->dest->location_id : NULL,
    };
    return OK;
}

/* ---- the two steps ---- */

static struct mail_token_of of_wait(const struct mail_token_wait *wait)
{
    return (struct mail_token_of){.dest = wait->dest,
                                  .tenant = wait->tenant,
                                  .subscriber = wait->subscriber,
                                  .user_token = wait->user_token};
}

static void wait_free(struct mail_token_wait *wait)
{
    connectivity_cancel(wait->route);
    oauth_cancel(wait->token);
    token_unref(wait->proxy_token);
    destination_unref(wait->dest);
    free(wait->tenant);
    free(wait->subscriber);
    if (wait->user_token) {
        secret_clear(wait->user_token);
        free(wait->user_token);
    }
    free(wait);
}

static void end(struct mail_token_wait *wait, struct token *token, const struct error *err)
{
    struct oauth_handler handler = wait->handler;
    wait_free(wait);
    handler.done(token, err, handler.arg);
}

static void ask_route(struct mail_token_wait *wait);

/* Reports how the proxy took the route's token. Returns true when the route has to be asked for
 * again. A mail token from the cache says nothing about the route. A code is never sent twice. */
static bool may_try_again(const struct mail_token_wait *wait, const struct error *err)
{
    static const struct error nothing = {.fail = FAIL_NONE};
    const struct error *said = err && err->on_the_way ? err : &nothing;
    bool renew = wait->proxy_token && connectivity_tried(wait->connectivity, wait->subscriber,
                                                         wait->proxy_token, said, !wait->again);
    return renew && wait->dest->auth != AUTH_AUTHORIZATION_CODE;
}

static void on_granted(struct token *token, const struct error *err, void *arg)
{
    struct mail_token_wait *wait = arg;
    wait->token = NULL;
    if (!may_try_again(wait, err)) {
        end(wait, token, err);
        return;
    }
    struct mail_token_of of = of_wait(wait);
    mail_token_refused(wait->oauth, &of, NULL);
    wait->again = true;
    ask_route(wait);
}

static int ask_server(struct mail_token_wait *wait, const struct dial_via *via)
{
    struct mail_token_of of = of_wait(wait);
    struct oauth_grant grant;
    struct buf url;
    int rc = make_grant(&of, &url, &grant);
    if (rc == OK) {
        grant.via = via;
        wait->token = oauth_get(wait->oauth, &grant, (struct oauth_handler){on_granted, wait});
    }
    buf_wipe(&url);
    return rc;
}

static void on_proxy_route(const struct dest_route *route, enum verdict verdict,
                           const struct error *err, void *arg)
{
    struct mail_token_wait *wait = arg;
    (void)verdict;
    wait->route = NULL;
    if (!route) {
        end(wait, NULL, err);
        return;
    }
    const struct dial_via via = {.host = route->host,
                                 .port = route->port,
                                 .timeout = route->timeout,
                                 .token = route->token ? &route->token->value : NULL,
                                 .location = wait->dest->location_id};
    token_unref(wait->proxy_token);
    wait->proxy_token = route->token ? token_ref(route->token) : NULL;
    int rc = ask_server(wait, &via);
    assert(rc == OK); /* check() has tried the same */
    (void)rc;
}

static void ask_route(struct mail_token_wait *wait)
{
    wait->route = connectivity_get(wait->connectivity, wait->subscriber,
                                   (struct connectivity_handler){on_proxy_route, wait});
}

/* ---- the face ---- */

/* Checks that there will be a grant once the route is known. */
static int check(const struct mail_token_of *of)
{
    struct oauth_grant grant;
    struct buf url;
    int rc = make_grant(of, &url, &grant);
    buf_wipe(&url);
    return rc;
}

static struct mail_token_wait *wait_new(const struct mail_token_of *of)
{
    struct mail_token_wait *wait = mem_zalloc(sizeof(*wait));
    wait->dest = destination_ref(of->dest);
    wait->tenant = of->tenant ? mem_strdup(of->tenant) : NULL;
    wait->subscriber = of->subscriber ? mem_strdup(of->subscriber) : NULL;
    if (of->user_token) {
        wait->user_token = mem_zalloc(sizeof(*wait->user_token));
        secret_set(wait->user_token, of->user_token->p, of->user_token->n);
    }
    return wait;
}

struct mail_token_wait *mail_token_get(struct oauth *oauth, struct connectivity *connectivity,
                                       const struct mail_token_of *of, struct oauth_handler handler,
                                       struct error *err)
{
    bool on_premise = of->dest->tokens->on_premise;
    struct mail_token_wait *wait = wait_new(of);
    wait->oauth = oauth;
    wait->connectivity = connectivity;
    wait->handler = handler;
    if ((on_premise ? check(of) : ask_server(wait, NULL)) == ERR) {
        wait_free(wait);
        error_set(err, FAIL_CONFIG,
                  "tokenServiceURLType: Common needs a tenant, which becomes a part of the host of "
                  "tokenServiceURL, and there is no tenant; use Dedicated");
        return NULL;
    }
    if (on_premise) {
        ask_route(wait);
    }
    return wait;
}

void mail_token_cancel(struct mail_token_wait *wait)
{
    if (wait) {
        wait_free(wait);
    }
}

void mail_token_refused(struct oauth *oauth, const struct mail_token_of *of,
                        const struct token *token)
{
    struct oauth_grant grant;
    struct buf url;
    if (make_grant(of, &url, &grant) == OK) {
        oauth_refused(oauth, &grant, token);
    }
    buf_wipe(&url);
}
