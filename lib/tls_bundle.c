/* Reads trusted certificates from a file. */
#include "lib/tls_bundle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"
#include "lib/text.h"
#include "lib/tls_roots.h"

enum { BUNDLE_MAX = 16 * 1024 * 1024 };

/* The bundle's place in Debian and Alpine, Red Hat, SUSE, newer Red Hat, and the BSDs and macOS. */
static const char *const usual_places[] = {
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
};

/* Reads the whole file. Returns NULL and sets errno when that fails. */
static char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        return NULL;
    }
    size_t cap = 256 * 1024;
    char *text = mem_alloc(cap);
    *n = 0;
    errno = 0;
    for (size_t got; (got = fread(text + *n, 1, cap - *n, f)) > 0;) {
        *n += got;
        if (*n == cap && cap < BUNDLE_MAX) {
            cap *= 2;
            text = mem_realloc(text, cap);
        }
    }
    int why = ferror(f) ? errno : *n == BUNDLE_MAX ? EFBIG : 0;
    fclose(f);
    if (why) {
        free(text);
        errno = why;
        return NULL;
    }
    return text;
}

static struct tls_roots *load(const char *path, char *text, size_t n, struct error *err)
{
    struct tls_roots *roots = tls_roots_add(NULL, path, (struct str){text, n}, err);
    free(text);
    return roots;
}

struct tls_roots *tls_bundle_load(const char *path, struct error *err)
{
    size_t n;
    path = path ? path : getenv("SSL_CERT_FILE");
    if (path && path[0]) {
        char *text = read_file(path, &n);
        if (!text) {
            error_set(err, FAIL_CONFIG, "%s: cannot read the CA certificates: %s", path,
                      strerror(errno));
            return NULL;
        }
        return load(path, text, n, err);
    }
    for (size_t i = 0; i < ARRAY_LEN(usual_places); i++) {
        char *text = read_file(usual_places[i], &n);
        if (text) {
            return load(usual_places[i], text, n, err);
        }
    }
    error_set(err, FAIL_CONFIG,
              "no CA certificates found: %s and the other usual places are missing; name a PEM "
              "file with SSL_CERT_FILE or --ca-file",
              usual_places[0]);
    return NULL;
}
