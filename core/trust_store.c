/* Reads the trust store of a destination. As in SAP's Cloud SDK (for Java and for JavaScript), its
 * certificates are trusted in place of all others, and the ending of its name says what it is. */
#include "core/trust_store.h"

#include <stdlib.h>
#include <string.h>

#include "core/property_reader.h"
#include "lib/mem.h"
#include "lib/tls_roots.h"

static const char location[] = "TrustStoreLocation";

static const char *const certificate_endings[] = {".pem", ".crt", ".cer", ".der"};
static const char *const key_store_endings[] = {".jks", ".p12", ".pfx", ".keystore"};

static bool ends_in_one_of(struct str name, const char *const *endings, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t e = strlen(endings[i]);
        if (name.n > e && str_ieq((struct str){name.p + name.n - e, e}, endings[i])) {
            return true;
        }
    }
    return false;
}

static int refuse(struct reader *r, struct str name, const char *what)
{
    return reader_refuse(r, VERDICT_TRUST_STORE_INVALID, location, "\"%s\" %s",
                         reader_show(r, name), what);
}

static int check_name(struct reader *r, struct str name)
{
    if (ends_in_one_of(name, key_store_endings, ARRAY_LEN(key_store_endings))) {
        return refuse(r, name,
                      "is a key store, which is not read; upload its certificates as a PEM file, "
                      "and name that");
    }
    if (!ends_in_one_of(name, certificate_endings, ARRAY_LEN(certificate_endings))) {
        return refuse(r, name,
                      "does not end in .pem, .crt, .cer or .der; name a file with certificates");
    }
    return OK;
}

/* Decodes base64, in lines or not, in place. ERR: it is not base64. */
static int decode(char *text, size_t *n)
{
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++) {
        if (text[i] != '\r' && text[i] != '\n') {
            text[kept++] = text[i];
        }
    }
    return text_unbase64(text, kept, (struct str){text, kept}, n);
}

/* Makes the store of the file's contents. */
static int read_file(struct reader *r, struct str name, struct str file)
{
    struct error err;
    if (file.n == 0) {
        return refuse(r, name, "is empty; upload the certificates of the mail server's CA in PEM");
    }
    if (file.n > TRUST_STORE_MAX) {
        return reader_refuse(r, VERDICT_TRUST_STORE_INVALID, location,
                             "\"%s\" has more than %d bytes; keep only the certificates of the "
                             "mail server's CA in it",
                             reader_show(r, name), TRUST_STORE_MAX);
    }
    r->dest->trust_store = tls_roots_of("the certificates of TrustStoreLocation", file, &err);
    if (!r->dest->trust_store) {
        return reader_refuse(r, VERDICT_TRUST_STORE_INVALID, location,
                             "\"%s\" %s; upload the certificates of the mail server's CA in PEM "
                             "or DER",
                             reader_show(r, name), err.text);
    }
    const char *clause;
    for (size_t i = 0; (clause = tls_roots_left_out(r->dest->trust_store, i)); i++) {
        reader_warn(r, "%s: \"%s\": %s", location, reader_show(r, name), clause);
    }
    return OK;
}

int trust_store_read(struct reader *r)
{
    struct str name = reader_value(r, location);
    size_t n;
    if (name.n == 0) {
        return OK;
    }
    if (r->dest->tls == TLS_NONE || r->dest->tls_trust_any) {
        reader_warn(r, "%s is ignored: %s", location,
                    r->dest->tls == TLS_NONE ? "the connection does not use TLS"
                                             : "any certificate is accepted");
        return OK;
    }
    if (check_name(r, name) < 0) {
        return ERR;
    }
    const char *content = properties_certificate(r->props, name, &n);
    if (!content) {
        return refuse(r, name,
                      "is not among the certificates that came with the destination; upload a file "
                      "of that name beside it (local mode: add it to certificates)");
    }
    char *file = mem_strndup(content, n);
    int rc = decode(file, &n) < 0
                 ? refuse(r, name, "is damaged: its Content is not base64; upload it again")
                 : read_file(r, name, (struct str){file, n});
    free(file);
    return rc;
}
