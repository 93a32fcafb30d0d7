/* Origins are on a list, the least recently used first. A task drops them, because the caller of
 * http_origin_use may be in a callback of another origin's client. */
#include "http/origins.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"
#include "lib/dial.h"
#include "lib/digest.h"
#include "lib/list.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/tls.h"
#include "lib/tls_roots.h"
#include "lib/url.h"

struct http_origin {
    struct http_origins *origins;
    struct list link;
    struct http *http;
    unsigned users;

    bool https;
    char *host;
    uint16_t port;
    unsigned char way[DIGEST_SHA256_SIZE]; /* a digest, because the way holds secrets */
    bool stale;                            /* made for roots that are not trusted any more */
};

struct http_origins {
    struct loop *loop;
    struct dns *dns;
    struct tls_roots *roots;
    struct list oldest_first;
    size_t count;
    struct task trim;
};

struct http_origins *http_origins_new(struct loop *loop, struct dns *dns, struct tls_roots *roots)
{
    struct http_origins *origins = mem_zalloc(sizeof(*origins));
    origins->loop = loop;
    origins->dns = dns;
    origins->roots = roots ? tls_roots_ref(roots) : NULL;
    list_init(&origins->oldest_first);
    task_init(&origins->trim);
    return origins;
}

static void origin_free(struct http_origin *o)
{
    assert(o->users == 0);
    http_free(o->http);
    list_remove(&o->link);
    o->origins->count--;
    free(o->host);
    free(o);
}

void http_origins_free(struct http_origins *origins)
{
    if (origins) {
        LIST_EACH (it, &origins->oldest_first) {
            origin_free(container_of(it, struct http_origin, link));
        }
        task_cancel(&origins->trim);
        tls_roots_unref(origins->roots);
        free(origins);
    }
}

static void on_trim(struct task *t)
{
    struct http_origins *origins = container_of(t, struct http_origins, trim);
    LIST_EACH (it, &origins->oldest_first) {
        struct http_origin *o = container_of(it, struct http_origin, link);
        if ((o->stale || origins->count > HTTP_ORIGINS_MAX) && o->users == 0) {
            origin_free(o);
        }
    }
}

void http_origins_set_roots(struct http_origins *origins, struct tls_roots *roots)
{
    struct tls_roots *old = origins->roots;
    origins->roots = roots ? tls_roots_ref(roots) : NULL;
    tls_roots_unref(old);
    LIST_EACH (it, &origins->oldest_first) {
        container_of(it, struct http_origin, link)->stale = true;
    }
    loop_soon(origins->loop, &origins->trim, on_trim);
}

static struct str part_of(const char *text)
{
    return str_of(text ? text : "");
}

static void way_digest(unsigned char digest[DIGEST_SHA256_SIZE], const struct http_way *way)
{
    static const struct dial_via straight;
    const struct dial_via *via = way->via ? way->via : &straight;
    char head[200];
    struct str parts[] = {
        {head, 0},
        part_of(via->host),
        part_of(via->location),
        secret_str(via->token),
        part_of(way->certificate),
        secret_str(way->key),
    };
    /* The lengths say where each part ends. */
    parts[0].n = text_fmt(head, sizeof(head), "%lld %d %u %lld %d %zu %zu %zu %zu ",
                          (long long)way->connect_timeout, way->allow_local, via->port,
                          (long long)via->timeout, via->token != NULL, parts[1].n, parts[2].n,
                          parts[3].n, parts[4].n);
    digest_sha256(digest, parts, ARRAY_LEN(parts));
}

static bool is_origin(const struct http_origin *o, const struct url *url,
                      const unsigned char way[DIGEST_SHA256_SIZE])
{
    return !o->stale && o->https == url->https && o->port == url->port &&
           str_ieq(url->host, o->host) && memcmp(o->way, way, DIGEST_SHA256_SIZE) == 0;
}

static struct http_origin *origin_new(struct http_origins *origins, const struct url *url,
                                      const struct http_way *way, struct error *err)
{
    struct tls_client *tls = NULL;
    char *host = mem_strndup(url->host.p, url->host.n);
    if (url->https) {
        struct tls_settings settings = {
            .host = host, .check_host = true, .certificate = way->certificate, .key = way->key};
        tls = tls_client_new(origins->roots, &settings, err);
        if (!tls) {
            free(host);
            return NULL;
        }
    } else {
        log_line(LOG_WARN, "http",
                 "%.*s is asked in clear text: anybody on the way can read the requests and their "
                 "answers",
                 STR_ARG(url->authority));
    }
    char *authority = mem_strndup(url->authority.p, url->authority.n);
    struct http_settings settings = {
        .host = host,
        .port = url->port,
        .allow_local = way->allow_local,
        .authority = authority,
        .tls = tls,
        .max_connections = HTTP_ORIGIN_CONNECTIONS,
        .connect_timeout = way->connect_timeout,
        .via = way->via,
    };
    struct http_origin *o = mem_zalloc(sizeof(*o));
    *o = (struct http_origin){
        .origins = origins,
        .http = http_new(origins->loop, origins->dns, &settings),
        .https = url->https,
        .host = host,
        .port = url->port,
    };
    way_digest(o->way, way);
    list_init(&o->link);
    tls_client_unref(tls);
    free(authority);
    if (++origins->count > HTTP_ORIGINS_MAX) {
        loop_soon(origins->loop, &origins->trim, on_trim);
    }
    return o;
}

struct http_origin *http_origin_use(struct http_origins *origins, const struct url *url,
                                    const struct http_way *way, struct error *err)
{
    struct http_origin *o = NULL;
    unsigned char digest[DIGEST_SHA256_SIZE];
    way_digest(digest, way);
    LIST_EACH (it, &origins->oldest_first) {
        struct http_origin *other = container_of(it, struct http_origin, link);
        if (is_origin(other, url, digest)) {
            o = other;
            break;
        }
    }
    if (!o) {
        o = origin_new(origins, url, way, err);
    }
    if (o) {
        o->users++;
        list_remove(&o->link);
        list_append(&origins->oldest_first, &o->link);
    }
    return o;
}

struct http *http_origin_client(const struct http_origin *origin)
{
    return origin->http;
}

void http_origin_release(struct http_origin *origin)
{
    if (origin) {
        assert(origin->users > 0);
        origin->users--;
        if (origin->stale) {
            loop_soon(origin->origins->loop, &origin->origins->trim, on_trim);
        }
    }
}
