/* The way to on-premise systems.
 *
 *     connectivity_get --> key? -- yes --> oauth_get --> route with the token
 *                            '---- no ----------------> route
 *
 *     source: find --> inner --> on-premise, and to log in? -- yes --> connectivity_get --> answer
 *                                            '-- no --> answer
 */
#include "btp/connectivity.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "btp/service_grant.h"
#include "core/service_key.h"
#include "core/token.h"
#include "core/token_refusals.h"
#include "lib/buf.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "oauth.h"

struct connectivity {
    struct loop *loop;
    struct oauth *oauth;
    char *host;
    uint16_t port;
    int64_t timeout;
    const struct service_key *key;
    enum verdict verdict;
    char *problem;
    struct token_refusals refusals;
    struct dest_source source, *inner;
};

struct connectivity_wait {
    struct connectivity *connectivity;
    struct connectivity_handler handler;
    struct oauth_wait *token;
    struct task task;     /* used instead of `token` when no server has to be asked */
    struct refused_at at; /* the proxy and the tenant of the token */
    enum verdict verdict;
    struct error err; /* not set when the verdict is VERDICT_OK */
};

/* ---- settings ---- */

static void forget_settings(struct connectivity *c)
{
    free(c->host);
    service_key_unref(c->key);
    free(c->problem);
}

const struct connectivity_settings connectivity_none = {
    .verdict = VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED,
    .problem = "ProxyType OnPremise needs a Connectivity Proxy: name its Service in "
               "config.integration.connectivityProxy.serviceName of the TransparentProxy object",
};

static bool same_key(const struct service_key *a, const struct service_key *b)
{
    return a && b ? service_key_equal(a, b) : a == b;
}

bool connectivity_set(struct connectivity *c, const struct connectivity_settings *settings)
{
    assert(settings->verdict == VERDICT_OK ? settings->host != NULL : settings->problem != NULL);
    if (c->verdict == settings->verdict && c->port == settings->port &&
        c->timeout == settings->timeout && text_same(c->host, settings->host) &&
        text_same(c->problem, settings->problem) && same_key(c->key, settings->key)) {
        return false;
    }
    forget_settings(c);
    token_refusals_clear(&c->refusals); /* the proxy may be another one now */
    c->host = settings->host ? mem_strdup(settings->host) : NULL;
    c->port = settings->port;
    c->timeout = settings->timeout;
    c->key = settings->key ? service_key_ref(settings->key) : NULL;
    c->verdict = settings->verdict;
    c->problem = settings->problem ? mem_strdup(settings->problem) : NULL;
    return true;
}

const char *connectivity_problem(const struct connectivity *c)
{
    return c->problem;
}

int connectivity_check(const struct connectivity *c, enum verdict *verdict, struct error *err)
{
    *verdict = c->verdict;
    return c->verdict == VERDICT_OK ? OK : error_set(err, FAIL_CONFIG, "%s", c->problem);
}

struct connectivity *connectivity_new(struct loop *loop, struct oauth *oauth)
{
    struct connectivity *c = mem_zalloc(sizeof(*c));
    c->loop = loop;
    c->oauth = oauth;
    connectivity_set(c, &connectivity_none);
    return c;
}

void connectivity_free(struct connectivity *c)
{
    if (c) {
        forget_settings(c);
        token_refusals_clear(&c->refusals);
        free(c);
    }
}

/* ---- the route of a tenant ---- */

static void wait_free(struct connectivity_wait *wait)
{
    oauth_cancel(wait->token);
    task_cancel(&wait->task);
    free(wait);
}

/* Ends the wait. The settings may have changed since it began; the present ones count. */
static void end(struct connectivity_wait *wait, struct token *token)
{
    const struct connectivity *c = wait->connectivity;
    struct connectivity_handler handler = wait->handler;
    struct error err = wait->err;
    enum verdict verdict = wait->verdict;
    if (verdict == VERDICT_OK && connectivity_check(c, &verdict, &err) == OK) {
        struct dest_route route = {
            .host = c->host, .port = c->port, .timeout = c->timeout, .token = token};
        wait_free(wait);
        handler.done(&route, VERDICT_OK, NULL, handler.arg);
    } else {
        wait_free(wait);
        handler.done(NULL, verdict, &err, handler.arg);
    }
}

static struct refused_at tenant_at(const char *tenant)
{
    struct refused_at at;
    const struct str parts[] = {str_of(tenant ? "t" : "p"), str_of(tenant ? tenant : "")};
    digest_sha256(at.digest, parts, ARRAY_LEN(parts));
    return at;
}

/* Fails the wait if the proxy has refused this token a short time ago, so that no connection is
 * tried with it. */
static void check_token(struct connectivity_wait *wait, const struct token *token)
{
    struct connectivity *c = wait->connectivity;
    int64_t now = loop_now(c->loop);
    const struct token_refusal *refusal =
        token_refusals_ask(&c->refusals, &wait->at, secret_str(&token->value), now);
    if (refusal) {
        wait->verdict = VERDICT_UNREADABLE;
        error_set(
            &wait->err, FAIL_TOKEN,
            "the Connectivity Proxy %.100s:%u has refused the access token, and a new one (it is "
            "not asked again for %lld s)",
            c->host, c->port, (long long)((refusal->until - now + SECONDS(1) - 1) / SECONDS(1)));
    }
}

static void on_proxy_token(struct token *token, const struct error *err, void *arg)
{
    struct connectivity_wait *wait = arg;
    wait->token = NULL;
    if (token && wait->connectivity->host) {
        check_token(wait, token);
    }
    if (!token) {
        wait->verdict = fail_may_pass(err->fail) ? VERDICT_UNREADABLE
                                                 : VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED;
        error_set(&wait->err, err->fail, "no access token for the Connectivity Proxy: %s",
                  err->text);
    }
    end(wait, token);
}

static void on_soon(struct task *t)
{
    end(container_of(t, struct connectivity_wait, task), NULL);
}

struct connectivity_wait *connectivity_get(struct connectivity *c, const char *tenant,
                                           struct connectivity_handler handler)
{
    struct connectivity_wait *wait = mem_zalloc(sizeof(*wait));
    struct oauth_grant grant;
    struct buf url;
    wait->connectivity = c;
    wait->handler = handler;
    wait->at = tenant_at(tenant);
    task_init(&wait->task);
    buf_init(&url, 0);
    if (connectivity_check(c, &wait->verdict, &wait->err) == OK && c->key) {
        if (service_grant(c->key, tenant, &url, &grant, &wait->err) == OK) {
            wait->token = oauth_get(c->oauth, &grant, (struct oauth_handler){on_proxy_token, wait});
        } else {
            wait->verdict = VERDICT_CONFIGURATION_FAILED;
        }
    }
    if (!wait->token) {
        loop_soon(c->loop, &wait->task, on_soon);
    }
    buf_free(&url);
    return wait;
}

void connectivity_cancel(struct connectivity_wait *wait)
{
    if (wait) {
        wait_free(wait);
    }
}

/* Forgets a refused token, so that it is not handed out again. */
static void forget_token(struct connectivity *c, const char *tenant, const struct token *token)
{
    struct oauth_grant grant;
    struct buf url;
    struct error ignored;
    if (c->key) {
        if (service_grant(c->key, tenant, &url, &grant, &ignored) == OK) {
            oauth_refused(c->oauth, &grant, token);
        }
        buf_free(&url);
    }
}

bool connectivity_tried(struct connectivity *c, const char *tenant, const struct token *token,
                        const struct error *err, bool renewable)
{
    struct refused_at at = tenant_at(tenant);
    int64_t now = loop_now(c->loop);
    if (!err) {
        token_refusals_accepted(&c->refusals, &at);
    } else if (err->fail != FAIL_TOKEN) {
        token_refusals_undecided(&c->refusals, &at, now);
    } else if (token_refusals_add(&c->refusals, &at, secret_str(&token->value), renewable, now,
                                  err->text)) {
        forget_token(c, tenant, token);
        return true;
    }
    return false;
}

/* ---- as a source of destinations ---- */

struct dest_request {
    struct connectivity *connectivity;
    struct dest_handler handler;
    enum dest_purpose purpose;
    char *tenant;
    struct dest_request *inner;
    struct connectivity_wait *route;

    /* The answer of the inner source, kept while the route is asked for. */
    const struct destination *dest;
    struct token *token;
    int64_t received;
};

static void request_free(struct dest_request *request)
{
    struct connectivity *c = request->connectivity;
    dest_cancel(c->inner, request->inner);
    connectivity_cancel(request->route);
    destination_unref(request->dest);
    token_unref(request->token);
    free(request->tenant);
    free(request);
}

static void tell(struct dest_request *request, const struct dest_answer *answer)
{
    struct dest_handler handler = request->handler;
    const struct destination *dest = request->dest;
    struct token *token = request->token;
    request->dest = NULL; /* both may be part of the answer, so they live until it is told */
    request->token = NULL;
    request_free(request);
    handler.done(answer, handler.arg);
    destination_unref(dest);
    token_unref(token);
}

static void on_route(const struct dest_route *route, enum verdict verdict, const struct error *err,
                     void *arg)
{
    struct dest_request *request = arg;
    struct dest_answer answer = {.verdict = verdict};
    request->route = NULL;
    if (route) {
        answer.dest = request->dest;
        answer.token = request->token;
        answer.received = request->received;
        answer.route = route;
    } else {
        answer.err = *err;
    }
    tell(request, &answer);
}

static void on_inner_answer(const struct dest_answer *found, void *arg)
{
    struct dest_request *request = arg;
    struct connectivity *c = request->connectivity;
    struct dest_answer refusal = {0};
    request->inner = NULL;
    if (!found->dest || found->dest->proxy != PROXY_ON_PREMISE) {
        tell(request, found);
    } else if (connectivity_check(c, &refusal.verdict, &refusal.err) == ERR) {
        tell(request, &refusal);
    } else if (request->purpose == DEST_TO_CHECK) {
        tell(request, found);
    } else {
        request->dest = destination_ref(found->dest);
        request->token = found->token ? token_ref(found->token) : NULL;
        request->received = found->received;
        request->route =
            connectivity_get(c, request->tenant, (struct connectivity_handler){on_route, request});
    }
}

static struct dest_request *find(struct dest_source *source, const struct dest_ref *ref,
                                 enum dest_purpose purpose, const struct dest_user *user,
                                 struct dest_handler handler)
{
    struct dest_request *request = mem_zalloc(sizeof(*request));
    request->connectivity = container_of(source, struct connectivity, source);
    request->handler = handler;
    request->purpose = purpose;
    request->tenant = ref->tenant ? mem_strdup(ref->tenant) : NULL;
    request->inner = dest_find(request->connectivity->inner, ref, purpose, user,
                               (struct dest_handler){on_inner_answer, request});
    return request;
}

static void cancel(struct dest_source *source, struct dest_request *request)
{
    (void)source;
    if (request) {
        request_free(request);
    }
}

static void pass_refusal_on(struct dest_source *source, const struct dest_ref *ref,
                            const struct dest_user *user, const struct token *token)
{
    dest_refused(container_of(source, struct connectivity, source)->inner, ref, user, token);
}

static bool tried(struct dest_source *source, const struct dest_ref *ref, const struct token *token,
                  const struct error *err, bool renewable)
{
    struct connectivity *c = container_of(source, struct connectivity, source);
    return connectivity_tried(c, ref->tenant, token, err, renewable);
}

struct dest_source *connectivity_source(struct connectivity *c, struct dest_source *inner)
{
    assert(!c->inner);
    c->inner = inner;
    c->source = (struct dest_source){
        .find = find, .refused = pass_refusal_on, .tried = tried, .cancel = cancel};
    return &c->source;
}
