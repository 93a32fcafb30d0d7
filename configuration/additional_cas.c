/* Turns a followed Secret into roots. When nothing in it can be used, the last good ones stay in
 * force: to trust less all of a sudden would break every connection. */
#include "configuration/additional_cas.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/kinds.h"
#include "cluster/object_watch.h"
#include "configuration/config.h"
#include "core/secret_entry.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/tls_roots.h"

struct additional_cas {
    struct config_secret where;
    struct tls_roots *system;
    struct additional_cas_handler handler;
    struct object_watch *watch;
    struct secret pem; /* the entry that the roots were made of */
    struct tls_roots *roots;
    char *problem;
};

/* Stores the problem; NULL: there is none any more. Returns true if it differs from the last
 * one. */
static bool set_problem(struct additional_cas *cas, const char *text)
{
    if (text ? cas->problem && strcmp(cas->problem, text) == 0 : !cas->problem) {
        return false;
    }
    free(cas->problem);
    cas->problem = text ? mem_strdup(text) : NULL;
    if (text) {
        log_line(LOG_WARN, "control", "additionalCAs: %s", text);
    }
    return true;
}

static void additional_cas_fail(struct additional_cas *cas, const char *text)
{
    if (set_problem(cas, text)) {
        cas->handler.changed(false, cas->handler.arg);
    }
}

/* Makes roots from the entry of the Secret, which is read into *pem. The caller owns *pem in any
 * case. */
static struct tls_roots *make_roots(struct additional_cas *cas, struct json_value secret,
                                    struct secret *pem, struct error *err)
{
    char source[CONFIG_NAME_MAX + 16];
    if (secret_entry_read(secret, cas->where.key, SECRET_ENTRY_MAX, pem, err) < 0) {
        return NULL;
    }
    if (!pem->n) {
        secret_entry_refuse(err, cas->where.key,
                            "is missing; it must hold PEM certificates, or secretKey must name "
                            "another entry");
        return NULL;
    }
    text_fmt(source, sizeof(source), "the entry \"%s\"", cas->where.key);
    return tls_roots_add(cas->system, source, (struct str){pem->p, pem->n}, err);
}

/* Writes to out[cap] what is wrong with the Secret. Returns false when nothing is wrong. */
static bool describe(char *out, size_t cap, const struct additional_cas *cas,
                     const struct tls_roots *roots, const struct error *err)
{
    const char *clause = roots ? tls_roots_left_out(roots, 0) : err->text;
    if (!clause) {
        return false;
    }
    size_t n = text_fmt(out, cap, "Secret \"%s\" in namespace \"%s\": ", cas->where.name,
                        cas->where.namespace);
    if (roots) {
        n += text_fmt(out + n, cap - n, "the entry \"%s\": ", cas->where.key);
    }
    n += text_fmt(out + n, cap - n, "%s", clause);
    for (size_t i = 1; roots && (clause = tls_roots_left_out(roots, i)); i++) {
        n += text_fmt(out + n, cap - n, "; %s", clause);
    }
    if (roots) {
        text_fmt(out + n, cap - n, "; the others are trusted");
    }
    return true;
}

static void on_there(struct json_value secret, void *arg)
{
    struct additional_cas *cas = arg;
    char text[TLS_LEFT_OUT_MAX * (FAIL_TEXT_MAX + 2) + 3 * CONFIG_NAME_MAX + 64];
    struct secret pem = {0};
    struct error err;
    struct tls_roots *roots = make_roots(cas, secret, &pem, &err);
    bool bad = describe(text, sizeof(text), cas, roots, &err);
    if (!roots) {
        secret_clear(&pem);
        additional_cas_fail(cas, text);
        return;
    }
    bool others = !cas->roots || !secret_equal(&cas->pem, &pem);
    bool news = set_problem(cas, bad ? text : NULL) || others;
    secret_clear(&cas->pem);
    cas->pem = pem;
    tls_roots_unref(cas->roots);
    cas->roots = roots;
    if (news) {
        log_line(LOG_INFO, "control", "additionalCAs: %zu certificates are trusted",
                 tls_roots_count(roots));
        cas->handler.changed(others, cas->handler.arg);
    }
}

static void on_absent(enum object_absence absence, const char *problem, void *arg)
{
    (void)absence;
    additional_cas_fail(arg, problem);
}

struct additional_cas *additional_cas_new(struct cluster *cluster,
                                          const struct config_secret *where,
                                          struct tls_roots *system,
                                          struct additional_cas_handler handler)
{
    struct additional_cas *cas = mem_zalloc(sizeof(*cas));
    struct object_watch_handler told = {.there = on_there, .absent = on_absent, .arg = cas};
    cas->where = config_secret_copy(where);
    cas->system = system ? tls_roots_ref(system) : NULL;
    cas->handler = handler;
    cas->watch = object_watch_new(cluster, &kind_secret, where->namespace, where->name, told);
    return cas;
}

void additional_cas_free(struct additional_cas *cas)
{
    if (!cas) {
        return;
    }
    object_watch_free(cas->watch);
    config_secret_clear(&cas->where);
    secret_clear(&cas->pem);
    tls_roots_unref(cas->system);
    tls_roots_unref(cas->roots);
    free(cas->problem);
    free(cas);
}

bool additional_cas_follow(const struct additional_cas *cas, const struct config_secret *where)
{
    return config_secret_equal(&cas->where, where);
}

struct tls_roots *additional_cas_roots(const struct additional_cas *cas)
{
    return cas->roots;
}

const char *additional_cas_problem(const struct additional_cas *cas)
{
    return cas->problem;
}

bool additional_cas_listed(const struct additional_cas *cas)
{
    return object_watch_listed(cas->watch);
}
