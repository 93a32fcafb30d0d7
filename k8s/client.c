/* Requests to the API server: paths, headers, what an answer says about the server, figures. */
#include "k8s/client.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/proto.h"
#include "k8s/credentials.h"
#include "lib/backoff.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/text.h"
#include "lib/tls.h"
#include "lib/url.h"

enum {
    STREAMS_MAX = 512, /* watches at a time */
    REQUESTS_MAX = 16, /* other requests at a time */
    URGENT_MAX = 2,    /* urgent ones */
    ANSWER_MAX = 4 * 1024 * 1024,
};

#define CONNECT_TIME SECONDS(10)
#define ANSWER_TIME SECONDS(60) /* as long as the API server itself lets a request last */

/* Delays after failures. */
#define DELAY_FIRST MILLIS(800)
#define DELAY_MAX SECONDS(30)

/* ---- requests ---- */

int k8s_client_path(const struct k8s *k8s, struct buf *out, const struct cluster_kind *kind,
                    const char *namespace, const char *name, const char *subresource)
{
    int res = kind->group[0] ? buf_fmt(out, "%s/apis/%s/%s", k8s->base, kind->group, kind->version)
                             : buf_fmt(out, "%s/api/%s", k8s->base, kind->version);
    if (res == OK && namespace) {
        res = buf_fmt(out, "/namespaces/");
        res = res == OK ? url_encode_segment(out, str_of(namespace)) : res;
    }
    if (res == OK) {
        res = buf_fmt(out, "/%s", kind->plural);
    }
    if (res == OK && name) {
        res = buf_fmt(out, "/");
        res = res == OK ? url_encode_segment(out, str_of(name)) : res;
    }
    if (res == OK && subresource) {
        res = buf_fmt(out, "/%s", subresource);
    }
    return res;
}

int64_t k8s_client_delay(unsigned failures, int64_t retry_after)
{
    int64_t delay = backoff_delay(failures, DELAY_FIRST, DELAY_MAX, 50);
    return delay > retry_after ? delay : retry_after;
}

static void put_headers(struct k8s *k8s, struct buf *out, const char *content_type)
{
    int res = buf_fmt(out, "Accept: application/json\r\n");
    if (res == OK && content_type) {
        res = buf_fmt(out, "Content-Type: %s\r\n", content_type);
    }
    if (res == OK && k8s->credentials) {
        const struct secret *token = k8s_credentials_token(k8s->credentials, loop_now(k8s->loop));
        res = buf_fmt(out, "Authorization: Bearer %s\r\n", token->p);
    }
    assert(res == OK); /* there is no maximum */
    (void)res;
}

/* Levels of lib/json_cutter: members of metadata, spec and status of an object, and of an object in
 * an event. */
enum { OBJECT_LEVEL = 2, EVENT_LEVEL = 3 };

/* Returns which parts of an object of the kind are left out. */
static struct json_cutter_rules rules_of(const struct k8s *k8s, const struct cluster_kind *kind,
                                         unsigned level)
{
    const struct cluster_bounds *b = k8s->cluster.bounds;
    struct json_cutter_rules rules = {.level = level, .value_max = CLUSTER_VALUE_MAX};
    while (b && b->kind && b->kind != kind) {
        b++;
    }
    if (b && b->kind) {
        rules.unread = b->unread;
        rules.value_max = b->value_max;
    }
    return rules;
}

static void begin_cutter(const struct k8s *k8s, const struct k8s_request *request,
                         struct json_cutter *cutter)
{
    unsigned level = request->verb == K8S_WATCH ? EVENT_LEVEL : OBJECT_LEVEL;
    json_cutter_free(cutter);
    json_cutter_init(cutter, request->verb == K8S_LIST ? JSON_CUTTER_LIST : JSON_CUTTER_STREAM,
                     rules_of(k8s, request->kind, level));
}

struct http_call *k8s_client_send(struct k8s *k8s, const struct k8s_request *request,
                                  struct json_cutter *cutter, struct http_handler handler)
{
    begin_cutter(k8s, request, cutter);
    if (k8s->credentials && k8s_credentials_ca_changed(k8s->credentials)) {
        http_set_tls(k8s->streams, k8s_credentials_tls(k8s->credentials));
        http_set_tls(k8s->requests, k8s_credentials_tls(k8s->credentials));
        http_set_tls(k8s->urgent, k8s_credentials_tls(k8s->credentials));
    }
    struct buf headers;
    buf_init(&headers, SIZE_MAX);
    put_headers(k8s, &headers, request->content_type);
    struct http_message message = {
        .method = request->method,
        .target = str_of(request->target),
        .headers = buf_str(&headers),
        .body = request->body,
        .has_body = request->content_type,
        .answer_timeout = ANSWER_TIME,
        .silence_timeout = request->silence,
        .body_max = ANSWER_MAX,
    };
    struct http *pool = request->urgent              ? k8s->urgent
                        : request->verb == K8S_WATCH ? k8s->streams
                                                     : k8s->requests;
    struct http_call *call = http_start(pool, &message, handler);
    buf_wipe(&headers);
    return call;
}

/* ---- results of requests ---- */

static void note_answer(struct k8s *k8s)
{
    if (k8s->troubles) {
        log_line(LOG_INFO, "k8s", "%s answers again", k8s->url);
        k8s->troubles = 0;
        k8s->reachable_again(k8s);
    }
}

/* Logs each reason once, until the API server can be reached again. */
static void note_failure(struct k8s *k8s, enum k8s_failure failure, const struct error *err)
{
    bool away = failure == K8S_UNREACHED || err->fail == FAIL_TIMEOUT;
    unsigned bit = 1U << err->fail;
    if (away && !(k8s->troubles & bit)) {
        log_line(LOG_WARN, "k8s", "the API server cannot be reached: %s", err->text);
        k8s->troubles |= bit;
    }
}

/* Keeps our token out of the log and out of conditions, even if the API server repeats it. */
void k8s_client_conceal(struct k8s *k8s, struct k8s_refusal *refusal)
{
    if (k8s->credentials) {
        const struct secret *token = k8s_credentials_token(k8s->credentials, loop_now(k8s->loop));
        text_conceal(refusal->err.text, secret_str(token));
    }
}

bool k8s_client_succeeded(struct k8s *k8s, enum k8s_verb verb, int64_t since,
                          const struct http_answer *answer, const struct error *err,
                          struct k8s_refusal *refusal)
{
    bool ok = answer && answer->head->status / 100 == 2;
    if (verb != K8S_WATCH) {
        metric_observe(&k8s->latency, loop_now(k8s->loop) - since);
    }
    if (ok) {
        k8s->ok[verb]++;
        note_answer(k8s);
        return true;
    }
    if (answer) {
        k8s_refusal_of_answer(refusal, answer->head, answer->body);
        k8s_client_conceal(k8s, refusal);
        int64_t retry_after = http_retry_after(answer->head);
        if (retry_after) {
            refusal->retry_after =
                retry_after < K8S_RETRY_AFTER_MAX ? retry_after : K8S_RETRY_AFTER_MAX;
        }
        note_answer(k8s);
    } else {
        k8s_refusal_of_error(refusal, err);
        note_failure(k8s, refusal->failure, err);
    }
    if (refusal->failure == K8S_UNAUTHORIZED && k8s->credentials) {
        k8s_credentials_token_refused(k8s->credentials);
    }
    k8s->failed[verb][refusal->failure]++;
    return false;
}

/* ---- objects that are not read as a whole ---- */

static void tell_cut(struct k8s *k8s, const struct cluster_kind *kind, struct json_value root)
{
    char text[2][254];
    struct json_value object = json_get(root, "object"); /* of an event */
    struct json_value metadata = json_get(json_exists(object) ? object : root, "metadata");
    for (size_t i = 0; i < 2; i++) {
        char *name = json_strdup(json_get(metadata, i ? "name" : "namespace"), NULL);
        text_printable(text[i], sizeof(text[i]), str_of(name ? name : ""));
        free(name);
    }
    struct k8s_kind_figures *figures = k8s_client_figures(k8s, kind);
    figures->cut++;
    log_limited(&k8s->limits, (unsigned)(figures - k8s->kinds), LOG_WARN, NULL, 0,
                "%s: %s%s%s is not read as a whole: what is larger than %zu octets or nested too "
                "deeply is left out",
                kind->plural, text[0], text[0][0] ? "/" : "", text[1],
                rules_of(k8s, kind, OBJECT_LEVEL).value_max);
}

struct json *k8s_client_parse_cut(struct k8s *k8s, const struct cluster_kind *kind,
                                  const struct json_cutter *cutter, struct str text,
                                  struct error *err)
{
    struct json *doc = json_parse_cut(text, err);
    if (doc && json_cutter_left_out(cutter)) {
        tell_cut(k8s, kind, json_root(doc));
    }
    return doc;
}

/* ---- figures ---- */

struct k8s_kind_figures *k8s_client_figures(struct k8s *k8s, const struct cluster_kind *kind)
{
    size_t i = 0;
    while (i < K8S_KINDS_MAX - 1 && k8s->kinds[i].kind && k8s->kinds[i].kind != kind) {
        i++;
    }
    k8s->kinds[i].kind = kind;
    return &k8s->kinds[i];
}

/* ---- life ---- */

static void open_pools(struct k8s *k8s, struct dns *dns, const char *host, const struct url *url)
{
    char *authority = mem_strndup(url->authority.p, url->authority.n);
    struct http_settings settings = {
        .host = host,
        .port = url->port,
        .allow_local = true,
        .authority = authority,
        .tls = url->https ? k8s_credentials_tls(k8s->credentials) : NULL,
        .max_connections = STREAMS_MAX,
        .connect_timeout = CONNECT_TIME,
        .keep_alive = true,
    };
    k8s->streams = http_new(k8s->loop, dns, &settings);
    settings.max_connections = REQUESTS_MAX;
    k8s->requests = http_new(k8s->loop, dns, &settings);
    settings.max_connections = URGENT_MAX;
    k8s->urgent = http_new(k8s->loop, dns, &settings);
    free(authority);
}

/* Removes slashes at the end of k8s->url and parses it. */
static int parse_url(struct k8s *k8s, struct url *url, struct error *err)
{
    const char *wrong = NULL;
    for (size_t n = strlen(k8s->url); n > 0 && k8s->url[n - 1] == '/'; n--) {
        k8s->url[n - 1] = '\0';
    }
    int res = url_parse(str_of(k8s->url), url, &wrong);
    if (res == OK && url->query.n) {
        res = ERR;
        wrong = "has a query";
    }
    if (res == ERR) {
        return error_set(err, FAIL_CONFIG, "the API server's URL \"%s\" %s; check --kube-url",
                         k8s->url, wrong);
    }
    k8s->base = mem_strndup(url->path.p, str_eq(url->path, "/") ? 0 : url->path.n);
    return OK;
}

int k8s_client_open(struct k8s *k8s, struct loop *loop, struct dns *dns, const char *server,
                    const char *credentials, struct error *err)
{
    struct url url;
    k8s->loop = loop;
    k8s->url = mem_strdup(server);
    log_limits_init(&k8s->limits, loop, "k8s", NULL);
    if (parse_url(k8s, &url, err) == ERR) {
        return ERR;
    }
    if (url.https && !credentials) {
        return error_set(err, FAIL_CONFIG,
                         "%s needs the directory of a service account; name it with "
                         "--kube-credentials DIR",
                         k8s->url);
    }
    char *host = mem_strndup(url.host.p, url.host.n);
    if (credentials) {
        k8s->credentials =
            k8s_credentials_new(credentials, url.https ? host : NULL, loop_now(k8s->loop), err);
    }
    bool ok = k8s->credentials || !credentials;
    if (ok) {
        open_pools(k8s, dns, host, &url);
    }
    free(host);
    return ok ? OK : ERR;
}

void k8s_client_close(struct k8s *k8s)
{
    log_limits_close(&k8s->limits);
    http_free(k8s->streams);
    http_free(k8s->requests);
    http_free(k8s->urgent);
    k8s_credentials_free(k8s->credentials);
    free(k8s->base);
    free(k8s->url);
}
