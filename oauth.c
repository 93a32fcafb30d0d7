/* Access tokens. lib/cache does the waiting, sharing and refreshing; a fetch is one POST:
 *
 *     oauth_get --> cache --> fetch() --> POST to the token endpoint --> on_token_answer()
 *                     ^                                                     |
 *                     '------------- cache_fetched, cache_failed -----------'
 */
#include "oauth.h"

#include <stdbool.h>
#include <stdlib.h>

#include "core/token.h"
#include "http.h"
#include "http/origins.h"
#include "http/proto.h"
#include "lib/cache.h"
#include "lib/digest.h"
#include "lib/log.h"
#include "lib/log_limit.h"
#include "lib/loop.h"
#include "lib/metric.h"
#include "lib/url.h"
#include "oauth/answer.h"
#include "oauth/refresh_tokens.h"

enum { TOKENS_MAX = 4096, FORM_MAX = 64 * 1024, CREDENTIALS_MAX = 32 * 1024 };

/* A NUL between the parts of a grant that are digested. */
static const struct str separator = {"", 1};

/* How long a failure is remembered: at least, and at most. */
#define RETRY_MIN SECONDS(1)
#define RETRY_MAX SECONDS(30)

/* How long before its expiry a token is renewed: the larger of these, but not in the first half of
 * its life. */
#define RENEW_BEFORE SECONDS(30)
enum { RENEW_BEFORE_PART = 10 };

struct oauth {
    struct loop *loop;
    struct http_origins *origins;
    struct cache *cache;
    struct refresh_tokens *refresh_tokens; /* by the key of the grant */
    int64_t connect_timeout, answer_timeout;
    uint64_t results[FAIL_COUNT];
    struct metric_histogram latency;
    struct log_limits limits; /* by class of failure */
};

struct oauth_wait {
    struct cache_wait *wait;
    struct oauth_handler handler;
};

/* A grant by its digest. */
struct grant_key {
    unsigned char digest[DIGEST_SHA256_SIZE];
};

/* A request under way. */
struct job {
    struct oauth *oauth;
    struct cache_entry *entry;
    struct http_origin *origin;
    struct http_call *call;
    int64_t started;
    struct grant_key key;
    enum oauth_grant_type type;
    bool tunnelled;
    char host[128];                   /* of the server, for messages */
    const char *property;             /* the property that names the URL */
    struct secret secret, user_token; /* those that were sent; no message may show them */

    struct error err; /* without a call: why it could not be started */
    struct task task; /* reports `err` */
};

/* ---- values of the cache ---- */

static void *ref_value(void *value)
{
    return token_ref(value);
}

static void unref_value(void *value)
{
    token_unref(value);
}

/* ---- one request ---- */

static void job_free(struct job *job)
{
    task_cancel(&job->task);
    http_cancel(job->call);
    http_origin_release(job->origin);
    secret_clear(&job->secret);
    secret_clear(&job->user_token);
    free(job);
}

static void abandon(void *job, void *arg)
{
    (void)arg;
    job_free(job);
}

static void note(struct job *job, const struct error *err)
{
    struct oauth *oauth = job->oauth;
    oauth->results[err ? err->fail : FAIL_NONE]++;
    metric_observe(&oauth->latency, loop_now(oauth->loop) - job->started);
    if (err) {
        log_limited(&oauth->limits, err->fail, LOG_WARN, NULL, 0, "no access token: %s", err->text);
    } else {
        log_line(LOG_DEBUG, "oauth", "authorization server %s has given an access token",
                 job->host);
    }
}

static void job_failed(struct job *job, const struct error *err, int64_t retry_after)
{
    struct cache_entry *entry = job->entry;
    note(job, err);
    job_free(job);
    cache_failed(entry, err, retry_after);
}

static void job_fetched(struct job *job, struct token *token, int64_t lifetime)
{
    struct cache_entry *entry = job->entry;
    int64_t renew_before = lifetime / RENEW_BEFORE_PART;
    renew_before = renew_before > RENEW_BEFORE ? renew_before : RENEW_BEFORE;
    renew_before = renew_before < lifetime / 2 ? renew_before : lifetime / 2;
    struct cache_life life = {
        .fresh = lifetime - renew_before,
        .valid = lifetime - TOKEN_MARGIN,
        .spare = lifetime - TOKEN_MARGIN,
    };
    if (job->type == OAUTH_AUTHORIZATION_CODE) {
        life.fresh = life.valid; /* a refresh would redeem the code a second time */
    }
    note(job, NULL);
    job_free(job);
    cache_fetched(entry, token, life);
}

/* Keeps a new refresh token, and forgets one that was refused. The new one is kept also when its
 * access token is of no use: the old one may be worth nothing any more. */
static void note_refresh_token(struct job *job, const struct token_answer *read, enum fail result)
{
    if (job->type != OAUTH_REFRESH_TOKEN) {
        return;
    }
    if (read->refresh_token.n) {
        oauth_refresh_tokens_keep(job->oauth->refresh_tokens, job->key.digest,
                                  &read->refresh_token);
    } else if (result == FAIL_AUTH) {
        oauth_refresh_tokens_drop(job->oauth->refresh_tokens, job->key.digest);
    }
}

static void on_token_answer(const struct http_answer *answer, const struct error *err, void *arg)
{
    struct job *job = arg;
    struct token_answer read = {0};
    struct token *token = NULL;
    struct error why, sentence;
    job->call = NULL;
    if (!answer) {
        error_set(&why, err->fail, "authorization server%s %s", job->tunnelled ? ":" : "",
                  err->text);
        /* a connection fails with FAIL_TOKEN only because of the proxy */
        why.on_the_way = err->fail == FAIL_TOKEN;
        job_failed(job, &why, 0);
        return;
    }
    const struct str known[] = {secret_str(&job->secret), secret_str(&job->user_token)};
    const struct token_question question = {.property = job->property,
                                            .secrets = {known, ARRAY_LEN(known)}};
    int rc = oauth_answer_read(&question, answer->head, answer->body, &read, &sentence);
    if (rc == OK) {
        struct str value = secret_str(&read.access_token);
        int64_t now = loop_now(job->oauth->loop);
        token = token_new(value, now + read.lifetime, &sentence);
        if (token) {
            token->received = now;
        }
    }
    note_refresh_token(job, &read, rc == OK ? FAIL_NONE : sentence.fail);
    oauth_answer_clear(&read);
    if (token) {
        job_fetched(job, token, read.lifetime);
    } else {
        error_set(&why, sentence.fail, "authorization server %s%s %s", job->host,
                  rc == OK ? ":" : "", sentence.text);
        job_failed(job, &why, http_retry_after(answer->head));
    }
}

static void on_not_started(struct task *t)
{
    struct job *job = container_of(t, struct job, task);
    struct error err = job->err;
    job_failed(job, &err, 0);
}

static int add_field(struct buf *form, const char *name, struct str value)
{
    if (buf_fmt(form, "%s%s=", buf_len(form) ? "&" : "", name) == ERR) {
        return ERR;
    }
    return url_encode_form(form, value);
}

/* Adds the fields of the grant, besides the client's own credentials. */
static int add_grant(struct buf *form, const struct job *job)
{
    struct str token = secret_str(&job->user_token);
    switch (job->type) {
    case OAUTH_CLIENT_CREDENTIALS:
        return add_field(form, "grant_type", str_of("client_credentials"));
    case OAUTH_REFRESH_TOKEN:
        return add_field(form, "grant_type", str_of("refresh_token")) == OK
                   ? add_field(form, "refresh_token", token)
                   : ERR;
    case OAUTH_AUTHORIZATION_CODE:
        return add_field(form, "grant_type", str_of("authorization_code")) == OK
                   ? add_field(form, "code", token)
                   : ERR;
    }
    return ERR;
}

static int write_form(struct buf *form, const struct job *job, const struct oauth_grant *grant)
{
    struct str secret = secret_str(&job->secret);
    bool fits = add_grant(form, job) == OK;
    if (fits && !(grant->basic && grant->client_secret)) {
        fits = add_field(form, "client_id", str_of(grant->client_id)) == OK;
    }
    if (fits && !grant->basic && grant->client_secret) {
        fits = add_field(form, "client_secret", secret) == OK;
    }
    if (fits && grant->form.n) {
        fits = buf_add(form, "&", 1) == OK && buf_add(form, grant->form.p, grant->form.n) == OK;
    }
    return fits ? OK : ERR;
}

/* Adds the client's credentials as a header field. RFC 6749 section 2.3.1: both are encoded as in a
 * form, then joined. SAP's servers (UAA) decode them only when they are told so. */
static int add_basic(struct buf *headers, const struct oauth_grant *grant)
{
    struct str secret = secret_str(grant->client_secret);
    struct buf pair;
    buf_init(&pair, CREDENTIALS_MAX);
    bool fits = url_encode_form(&pair, str_of(grant->client_id)) == OK &&
                buf_add(&pair, ":", 1) == OK && url_encode_form(&pair, secret) == OK;
    size_t n = TEXT_BASE64_SIZE(buf_len(&pair));
    char *base64 = mem_alloc(n);
    text_base64(base64, buf_str(&pair).p, buf_len(&pair));
    fits = fits && buf_fmt(headers, "X-CF-ENCODED-CREDENTIALS: true\r\nAuthorization: Basic %s\r\n",
                           base64) == OK;
    mem_wipe(base64, n);
    free(base64);
    buf_wipe(&pair);
    return fits ? OK : ERR;
}

static int write_headers(struct buf *headers, const struct oauth_grant *grant)
{
    static const char usual[] = "Accept: application/json\r\n"
                                "Content-Type: application/x-www-form-urlencoded\r\n";
    if (buf_add(headers, usual, strlen(usual)) == ERR ||
        (grant->headers.n && buf_add(headers, grant->headers.p, grant->headers.n) == ERR)) {
        return ERR;
    }
    return grant->basic && grant->client_secret ? add_basic(headers, grant) : OK;
}

/* Starts the request. ERR: job->err says why that is impossible. */
static int start(struct job *job, const struct oauth_grant *grant)
{
    struct oauth *oauth = job->oauth;
    struct url url;
    const char *wrong;
    if (url_parse(str_of(grant->url), &url, &wrong) == ERR) {
        return error_set(&job->err, FAIL_CONFIG, "the URL of the authorization server %s", wrong);
    }
    text_fmt(job->host, sizeof(job->host), "%.*s", STR_ARG(url.host));
    const struct http_way way = {
        .connect_timeout = grant->connect_timeout ? grant->connect_timeout : oauth->connect_timeout,
        .allow_local = grant->allow_local,
        .via = grant->via,
        .certificate = grant->certificate,
        .key = grant->key,
    };
    job->origin = http_origin_use(oauth->origins, &url, &way, &job->err);
    if (!job->origin) {
        return ERR;
    }
    struct buf form, target, headers;
    buf_init(&form, FORM_MAX);
    buf_init(&target, FORM_MAX);
    buf_init(&headers, FORM_MAX);
    int rc = OK;
    if (write_form(&form, job, grant) == ERR || write_headers(&headers, grant) == ERR ||
        buf_fmt(&target, "%.*s%.*s", STR_ARG(url.path), STR_ARG(url.query)) == ERR) {
        rc = error_set(&job->err, FAIL_CONFIG,
                       "URL or credentials of authorization server %s are longer than %d octets",
                       job->host, FORM_MAX);
    } else {
        const struct http_message message = {
            .method = "POST",
            .target = buf_str(&target),
            .headers = buf_str(&headers),
            .body = buf_str(&form),
            .has_body = true,
            .once = job->type == OAUTH_AUTHORIZATION_CODE,
            .answer_timeout = grant->answer_timeout ? grant->answer_timeout : oauth->answer_timeout,
            .body_max = TOKEN_ANSWER_MAX,
        };
        struct http_handler handler = {.done = on_token_answer, .arg = job};
        job->call = http_start(http_origin_client(job->origin), &message, handler);
    }
    buf_wipe(&form);
    buf_wipe(&target);
    buf_wipe(&headers);
    return rc;
}

static void *fetch(struct cache_entry *entry, struct str key, const void *request, void *arg)
{
    const struct oauth_grant *grant = request;
    struct job *job = mem_zalloc(sizeof(*job));
    job->oauth = arg;
    job->entry = entry;
    job->started = loop_now(job->oauth->loop);
    job->type = grant->type;
    job->property = grant->property;
    job->tunnelled = grant->via != NULL;
    memcpy(job->key.digest, key.p, sizeof(job->key.digest));
    if (grant->client_secret) {
        secret_set(&job->secret, grant->client_secret->p, grant->client_secret->n);
    }
    if (grant->user_token) {
        const struct secret *newer =
            oauth_refresh_tokens_find(job->oauth->refresh_tokens, job->key.digest);
        const struct secret *token = newer ? newer : grant->user_token;
        secret_set(&job->user_token, token->p, token->n);
    }
    task_init(&job->task);
    if (start(job, grant) == ERR) {
        loop_soon(job->oauth->loop, &job->task, on_not_started);
    }
    return job;
}

/* ---- asking ---- */

static struct str part_of(const char *text)
{
    return str_of(text ? text : "");
}

/* Returns the key of a grant. No part contains a NUL, so NUL separates them. Timeouts and routes
 * are not part of the key. */
static struct grant_key key_of(const struct oauth_grant *grant)
{
    struct grant_key key;
    const char kind[] = {(char)('0' + grant->type),        grant->basic ? 'b' : 'f',
                         grant->client_secret ? 's' : 'c', grant->tenant ? 't' : 'p',
                         grant->location ? 'l' : 'i',      grant->allow_local ? 'a' : 'n'};
    const struct str parts[] = {
        {kind, sizeof(kind)},
        str_of(grant->url),
        separator,
        str_of(grant->client_id),
        separator,
        secret_str(grant->client_secret),
        separator,
        part_of(grant->certificate),
        separator,
        secret_str(grant->key),
        separator,
        part_of(grant->tenant),
        separator,
        part_of(grant->location),
        separator,
        secret_str(grant->user_token),
        separator,
        grant->headers,
        separator,
        grant->form,
    };
    digest_sha256(key.digest, parts, ARRAY_LEN(parts));
    return key;
}

static struct str key_str(const struct grant_key *key)
{
    return (struct str){(const char *)key->digest, sizeof(key->digest)};
}

static void on_cached_token(void *value, const struct error *err, void *arg)
{
    struct oauth_wait *wait = arg;
    struct oauth_handler handler = wait->handler;
    free(wait);
    handler.done(value, err, handler.arg);
}

struct oauth_wait *oauth_get(struct oauth *oauth, const struct oauth_grant *grant,
                             struct oauth_handler handler)
{
    struct oauth_wait *wait = mem_zalloc(sizeof(*wait));
    struct grant_key key = key_of(grant);
    wait->handler = handler;
    wait->wait = cache_get(oauth->cache, key_str(&key), grant,
                           (struct cache_handler){.done = on_cached_token, .arg = wait});
    return wait;
}

void oauth_cancel(struct oauth_wait *wait)
{
    if (wait) {
        cache_cancel(wait->wait);
        free(wait);
    }
}

void oauth_refused(struct oauth *oauth, const struct oauth_grant *grant, const struct token *token)
{
    struct grant_key key = key_of(grant);
    cache_drop(oauth->cache, key_str(&key), token);
}

/* ---- life ---- */

struct oauth *oauth_new(struct loop *loop, struct dns *dns, struct tls_roots *roots)
{
    struct oauth *oauth = mem_zalloc(sizeof(*oauth));
    const struct cache_settings settings = {
        .max_entries = TOKENS_MAX,
        .retry_min = RETRY_MIN,
        .retry_max = RETRY_MAX,
        .fetch = fetch,
        .abandon = abandon,
        .ref = ref_value,
        .unref = unref_value,
        .arg = oauth,
    };
    oauth->loop = loop;
    oauth->origins = http_origins_new(loop, dns, roots);
    oauth->cache = cache_new(loop, &settings);
    oauth->refresh_tokens = oauth_refresh_tokens_new();
    log_limits_init(&oauth->limits, loop, "oauth", NULL);
    oauth_set_timeouts(oauth, SECONDS(5), SECONDS(10));
    return oauth;
}

void oauth_free(struct oauth *oauth)
{
    if (oauth) {
        cache_free(oauth->cache);
        oauth_refresh_tokens_free(oauth->refresh_tokens);
        http_origins_free(oauth->origins);
        log_limits_close(&oauth->limits);
        free(oauth);
    }
}

void oauth_set_roots(struct oauth *oauth, struct tls_roots *roots)
{
    http_origins_set_roots(oauth->origins, roots);
}

void oauth_set_timeouts(struct oauth *oauth, int64_t connect, int64_t answer)
{
    oauth->connect_timeout = connect;
    oauth->answer_timeout = answer;
}

void oauth_metrics(const struct oauth *oauth, struct buf *out)
{
    metric_results(out, "tproxy_token_requests_total",
                   "Requests to authorization servers for access tokens by result.",
                   oauth->results);
    metric_head(out, "tproxy_token_request_seconds", METRIC_HISTOGRAM,
                "Time of a request to an authorization server.");
    metric_histogram(out, "tproxy_token_request_seconds", NULL, &oauth->latency);
}
