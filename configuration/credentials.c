/* A service key from one Secret, or from two.
 *
 *   Secret of the service key --> a key that is complete ------------------> check --> in force
 *               |                                                             ^
 *               '--> a certificate without its key --> the other Secret ------'
 *
 * Two Secrets are never changed at one moment: a private key that does not belong to its
 * certificate is not taken, and the last pair that fits serves until there is another one. */
#include "configuration/credentials.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/kinds.h"
#include "cluster/object_watch.h"
#include "configuration/config.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/tls.h"

struct credentials {
    struct cluster *cluster;
    struct config_credentials where;
    enum service_key_use use;
    char *whose;
    struct credentials_handler handler;
    struct object_watch *service_key;
    struct object_watch *private_key;  /* NULL: not needed */
    const struct service_key *partial; /* waits for the private key; NULL: no key waits */
    const struct service_key *key;     /* the last good one; NULL: none */
    char *problem;                     /* NULL: all is well */
    bool listed;
};

/* ---- results ---- */

/* Reports what is wrong, if that is new. `drop`: the last good key is not in force any more. */
static void credentials_fail(struct credentials *c, bool drop, const char *fmt, ...)
    printf_like(3, 4);

static void credentials_fail(struct credentials *c, bool drop, const char *fmt, ...)
{
    char text[FAIL_TEXT_MAX + 2 * CONFIG_NAME_MAX + 128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    text_sanitize(text);
    bool news = !c->problem || strcmp(c->problem, text) != 0 || (drop && c->key);
    c->listed = true;
    if (drop) {
        service_key_unref(c->key);
        c->key = NULL;
    }
    if (news) {
        free(c->problem);
        c->problem = mem_strdup(text);
        log_line(LOG_WARN, "control", "%s: %s", c->whose, text);
        c->handler.changed(c->handler.arg);
    }
}

static void credentials_fail_in(struct credentials *c, const struct config_secret *secret,
                                const char *text)
{
    credentials_fail(c, false, "Secret \"%s\" in namespace \"%s\": %s", secret->name,
                     secret->namespace, text);
}

/* Checks that TLS can use the certificate with the private key. OK without a certificate. */
static int check_pair(const struct service_key *key, struct error *err)
{
    struct tls_settings settings = {
        .host = "", .trust_any = true, .certificate = key->certificate, .key = &key->private_key};
    struct tls_client *client = key->certificate ? tls_client_new(NULL, &settings, err) : NULL;
    tls_client_unref(client);
    return client || !key->certificate ? OK : ERR;
}

/* Puts the key in force, if it can be used; takes over the reference. `from` is the Secret that was
 * read last. */
static void take(struct credentials *c, const struct service_key *key,
                 const struct config_secret *from)
{
    struct error err;
    if (check_pair(key, &err) < 0) {
        service_key_unref(key);
        credentials_fail_in(c, from, err.text);
        return;
    }
    bool news = c->problem || !c->key || !service_key_equal(c->key, key);
    if (c->key && news) {
        log_line(LOG_INFO, "control", "%s: its service key has changed", c->whose);
    }
    c->listed = true;
    service_key_unref(c->key);
    c->key = key;
    free(c->problem);
    c->problem = NULL;
    if (news) {
        c->handler.changed(c->handler.arg);
    }
}

/* ---- the Secret with the private key ---- */

static void on_private_key(struct json_value secret, void *arg)
{
    struct credentials *c = arg;
    const struct config_secret *from = &c->where.private_key;
    struct error err;
    const struct service_key *key =
        service_key_with_private_key(c->partial, secret, from->key, &err);
    if (key) {
        take(c, key, from);
    } else {
        credentials_fail_in(c, from, err.text);
    }
}

static void on_absent(enum object_absence absence, const char *problem, void *arg)
{
    credentials_fail(arg, absence == OBJECT_GONE, "%s", problem);
}

static void forget_partial(struct credentials *c)
{
    object_watch_free(c->private_key);
    c->private_key = NULL;
    service_key_unref(c->partial);
    c->partial = NULL;
}

/* Waits for the private key of `partial`, whose reference is taken over. The Secret is followed
 * afresh even when it was followed already, because a new watch reports the private key once
 * more. */
static void complete(struct credentials *c, const struct service_key *partial)
{
    struct object_watch_handler handler = {.there = on_private_key, .absent = on_absent, .arg = c};
    forget_partial(c);
    c->partial = partial;
    c->private_key = object_watch_new(c->cluster, &kind_secret, c->where.private_key.namespace,
                                      c->where.private_key.name, handler);
}

/* ---- the Secret with the service key ---- */

static void on_service_key(struct json_value secret, void *arg)
{
    struct credentials *c = arg;
    const struct config_secret *from = &c->where.service_key;
    struct error err;
    const struct service_key *key = service_key_from_secret(secret, from->key, c->use, &err);
    if (!key) {
        forget_partial(c);
        credentials_fail_in(c, from, err.text);
    } else if (service_key_complete(key)) {
        forget_partial(c);
        take(c, key, from);
    } else if (c->partial && service_key_equal(c->partial, key)) {
        service_key_unref(key);
    } else {
        complete(c, key);
    }
}

static void on_service_key_absent(enum object_absence absence, const char *problem, void *arg)
{
    if (absence == OBJECT_GONE) {
        forget_partial(arg);
    }
    on_absent(absence, problem, arg);
}

/* ---- the face ---- */

struct credentials *credentials_new(struct cluster *cluster, const struct config_credentials *where,
                                    enum service_key_use use, const char *whose,
                                    struct credentials_handler handler)
{
    struct credentials *c = mem_zalloc(sizeof(*c));
    struct object_watch_handler told = {
        .there = on_service_key, .absent = on_service_key_absent, .arg = c};
    c->cluster = cluster;
    c->where = config_credentials_copy(where);
    c->use = use;
    c->whose = mem_strdup(whose);
    c->handler = handler;
    c->service_key = object_watch_new(cluster, &kind_secret, where->service_key.namespace,
                                      where->service_key.name, told);
    return c;
}

void credentials_free(struct credentials *c)
{
    if (!c) {
        return;
    }
    forget_partial(c);
    object_watch_free(c->service_key);
    service_key_unref(c->key);
    config_credentials_clear(&c->where);
    free(c->whose);
    free(c->problem);
    free(c);
}

bool credentials_follow(const struct credentials *c, const struct config_credentials *where)
{
    return config_credentials_equal(&c->where, where);
}

const struct service_key *credentials_key(const struct credentials *c)
{
    return c->key;
}

const char *credentials_problem(const struct credentials *c)
{
    return c->problem;
}

bool credentials_listed(const struct credentials *c)
{
    return c->listed;
}
