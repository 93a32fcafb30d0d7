/* A service account as files that are replaced while we run: kubelet writes a new token long before
 * the old one expires, and a new ca.crt when the cluster's authority changes (kubernetes.io,
 * "Configure Service Accounts for Pods"). When a file cannot be read, its last contents stay in
 * use. */
#include "k8s/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/log.h"
#include "lib/text.h"
#include "lib/tls.h"
#include "lib/tls_bundle.h"
#include "lib/tls_roots.h"

#define TOKEN_AGE_MAX SECONDS(60)

enum { FILE_MAX = 65536 };

struct k8s_credentials {
    char *dir, *host;
    struct secret token;
    int64_t token_read; /* time of the last attempt; INT64_MIN: the token was refused */
    struct stat ca;     /* of ca.crt as it was read */
    struct tls_client *tls;
    char *namespace;
    bool complained; /* the log has a line about a file that cannot be read any more */
};

static char *credential_path(const struct k8s_credentials *c, const char *name)
{
    size_t size = strlen(c->dir) + strlen(name) + 2;
    char *path = mem_alloc(size);
    text_fmt(path, size, "%s/%s", c->dir, name);
    return path;
}

static int file_error(struct error *err, const struct k8s_credentials *c, const char *name,
                      const char *what)
{
    return error_set(err, FAIL_CONFIG, "%s/%s %s", c->dir, name, what);
}

/* Reads the whole file into *out, without blanks and line ends at its end. The caller frees *out in
 * any case. */
static int read_credential(const struct k8s_credentials *c, const char *name, struct buf *out,
                           struct error *err)
{
    char *path = credential_path(c, name), *room;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), failed = errno;
    ssize_t n = -1;
    buf_init(out, FILE_MAX);
    while (fd >= 0 && (room = buf_room(out, 4096)) && (n = read(fd, room, 4096)) > 0) {
        buf_added(out, (size_t)n);
    }
    if (fd >= 0) {
        failed = errno;
        close(fd);
    }
    free(path);
    if (n != 0) {
        return file_error(err, c, name, n > 0 ? "is too large" : strerror(failed));
    }
    while (buf_len(out) && (unsigned char)out->data[out->end - 1] <= ' ') {
        out->end--;
    }
    return OK;
}

/* ---- token ---- */

static int read_token(struct k8s_credentials *c, int64_t now, struct error *err)
{
    struct buf text;
    int res = read_credential(c, "token", &text, err);
    /* It goes into a header line. */
    if (res == OK && (buf_len(&text) == 0 || !text_is_visible(buf_str(&text)))) {
        res = file_error(err, c, "token", "is not a token");
    }
    if (res == OK) {
        secret_set(&c->token, buf_str(&text).p, buf_len(&text));
    }
    buf_wipe(&text);
    c->token_read = now;
    return res;
}

/* Logs a failure once, until a read succeeds again. */
static void complain_of_file(struct k8s_credentials *c, int res, const struct error *err)
{
    if (res == ERR && !c->complained) {
        log_line(LOG_WARN, "k8s", "%s; what was read before stays in use", err->text);
    }
    c->complained = res == ERR;
}

const struct secret *k8s_credentials_token(struct k8s_credentials *c, int64_t now)
{
    if (now >= c->token_read + TOKEN_AGE_MAX) {
        struct error err;
        complain_of_file(c, read_token(c, now, &err), &err);
    }
    return &c->token;
}

void k8s_credentials_token_refused(struct k8s_credentials *c)
{
    c->token_read = INT64_MIN;
}

/* ---- ca.crt ---- */

static void look_at_ca(const struct k8s_credentials *c, struct stat *st)
{
    char *path = credential_path(c, "ca.crt");
    if (stat(path, st) < 0) {
        *st = (struct stat){.st_size = 0};
    }
    free(path);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int read_ca(struct k8s_credentials *c, struct error *err)
{
    struct tls_settings settings = {.host = c->host, .check_host = true};
    char *path = credential_path(c, "ca.crt");
    look_at_ca(c, &c->ca); /* before it is read, so that a change during the read is noticed
                              later */
    struct tls_roots *roots = tls_bundle_load(path, err);
    struct tls_client *tls = roots ? tls_client_new(roots, &settings, err) : NULL;
    const char *clause;
    for (size_t i = 0; roots && (clause = tls_roots_left_out(roots, i)); i++) {
        log_line(LOG_WARN, "k8s", "%s: %s", path, clause);
    }
    tls_roots_unref(roots);
    free(path);
    if (!tls) {
        return ERR;
    }
    tls_client_unref(c->tls);
    c->tls = tls;
    return OK;
}

struct tls_client *k8s_credentials_tls(const struct k8s_credentials *c)
{
    return c->tls;
}

bool k8s_credentials_ca_changed(struct k8s_credentials *c)
{
    struct stat st;
    struct error err;
    if (!c->host) {
        return false;
    }
    look_at_ca(c, &st);
    if (same_file(&st, &c->ca)) {
        return false;
    }
    int res = read_ca(c, &err);
    complain_of_file(c, res, &err);
    return res == OK;
}

/* ---- life ---- */

const char *k8s_credentials_namespace(const struct k8s_credentials *c)
{
    return c->namespace;
}

struct k8s_credentials *k8s_credentials_new(const char *dir, const char *host, int64_t now,
                                            struct error *err)
{
    struct k8s_credentials *c = mem_zalloc(sizeof(*c));
    struct buf namespace;
    struct error why;
    c->dir = mem_strdup(dir);
    c->host = host ? mem_strdup(host) : NULL;
    if (read_token(c, now, &why) == ERR || (host && read_ca(c, &why) == ERR)) {
        error_set(err, why.fail, "%s; --kube-credentials names the directory of a service account",
                  why.text);
        k8s_credentials_free(c);
        return NULL;
    }
    if (read_credential(c, "namespace", &namespace, NULL) == OK && buf_len(&namespace)) {
        c->namespace = mem_strndup(buf_str(&namespace).p, buf_len(&namespace));
    }
    buf_free(&namespace);
    return c;
}

void k8s_credentials_free(struct k8s_credentials *c)
{
    if (!c) {
        return;
    }
    secret_clear(&c->token);
    tls_client_unref(c->tls);
    free(c->namespace);
    free(c->host);
    free(c->dir);
    free(c);
}
