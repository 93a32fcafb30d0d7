/* Turns a Secret into a service key. Every value counts as a secret until it is known not to be
 * one, and no message contains a value.
 *
 *   kind             client shows                 token endpoint
 *   client secret    clientsecret                 url, or token_service_url   /oauth/token
 *   X.509            certificate, key             certurl                     /oauth/token
 *   IAS              certificate, key             url                         /oauth2/token */
#include "core/service_key.h"

#include <stdlib.h>
#include <string.h>

#include "core/secret_entry.h"
#include "lib/text.h"
#include "lib/url.h"

/* Maximum lengths in octets: of an entry of the Secret, of a field in one line, of a field in PEM.
 */
enum { ENTRY_MAX = 64 * 1024, FIELD_MAX = 4096, PEM_MAX = 32 * 1024 };

enum kind { KIND_SECRET, KIND_X509, KIND_IAS };

/* The state of one service_key_from_secret. */
struct reader {
    struct json_value secret;
    const char *json_key;    /* NULL: each field has its own entry */
    struct json_value whole; /* the object in the entry json_key */
    struct json_value uaa;   /* the fields of the authorization server, if they are apart */
    enum service_key_use use;
    struct error *err;
};

/* ---- entries and fields ---- */

static int refuse_field(const struct reader *r, const char *name, const char *wrong)
{
    char shown[80];
    if (!r->json_key) {
        return secret_entry_refuse(r->err, name, wrong);
    }
    return error_set(r->err, FAIL_CONFIG, "the field \"%s\" in the entry \"%s\" %s", name,
                     text_printable(shown, sizeof(shown), str_of(r->json_key)), wrong);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void drop_blanks(struct secret *value)
{
    size_t end = value->n, start = 0;
    while (end > 0 && is_blank(value->p[end - 1])) {
        end--;
    }
    while (start < end && is_blank(value->p[start])) {
        start++;
    }
    if (end - start < value->n) {
        memmove(value->p, value->p + start, end - start);
        mem_wipe(value->p + end - start, value->n - (end - start));
        value->n = end - start;
    }
}

/* Returns a field of the JSON in the Secret, or JSON_NONE when there is no such field. */
static struct json_value find_field(const struct reader *r, const char *name)
{
    struct json_value v = json_get(r->uaa, name);
    return json_given(v) ? v : json_get(r->whole, name);
}

/* Reads a field without the blanks around it. *value stays empty when there is no such field. */
static int read_value(const struct reader *r, const char *name, struct secret *value)
{
    struct json_value v = find_field(r, name);
    if (json_given(v)) {
        if (json_type(v) != JSON_STRING) {
            return refuse_field(r, name, "is not a string");
        }
        value->p = json_strdup(v, &value->n);
    } else if (!r->json_key && secret_entry_read(r->secret, name, ENTRY_MAX, value, r->err) < 0) {
        return ERR;
    }
    drop_blanks(value);
    return OK;
}

/* Reads a field that is one line of text. */
static int read_field(const struct reader *r, const char *name, struct secret *value)
{
    if (read_value(r, name, value) < 0) {
        return ERR;
    }
    if (text_has_control(secret_str(value))) {
        return refuse_field(r, name, "contains a control character; it must be one line of text");
    }
    return value->n > FIELD_MAX ? refuse_field(r, name, "is longer than 4096 octets") : OK;
}

/* Reads a field that is one line of text and not a secret. The caller frees *text. */
static int read_text(const struct reader *r, const char *name, char **text)
{
    struct secret value = {0};
    int result = read_field(r, name, &value);
    if (result >= 0) {
        *text = mem_strdup(value.p ? value.p : "");
    }
    secret_clear(&value);
    return result;
}

static bool has_field(const struct reader *r, const char *name)
{
    return json_given(find_field(r, name)) || (!r->json_key && secret_entry_given(r->secret, name));
}

static int missing(const struct reader *r, const char *name)
{
    return refuse_field(r, name,
                        r->json_key ? "is missing; copy the service key as it is"
                                    : "is missing; a Secret that holds the whole service key as "
                                      "JSON needs the name of its entry as secretKey");
}

/* ---- PEM ---- */

/* A kind of PEM text: the end of its first line, and the error when it has no such line. */
struct pem_kind {
    const char *label, *no_pem;
};

static const struct pem_kind pem_certificate = {
    "CERTIFICATE-----", "is not PEM: it must have the lines \"-----BEGIN CERTIFICATE-----\" and "
                        "\"-----END CERTIFICATE-----\""};
static const struct pem_kind pem_private_key = {
    "PRIVATE KEY-----", "is not PEM: it must have the lines \"-----BEGIN PRIVATE KEY-----\" and "
                        "\"-----END PRIVATE KEY-----\", perhaps with RSA or EC in them"};

/* Returns the error in the shape of a text (RFC 7468), or NULL. TLS finds out whether the contents
 * can be used. */
static const char *pem_fault(const struct secret *text, const struct pem_kind *kind)
{
    const char *begin = strstr(text->p, "-----BEGIN ");
    const char *label = begin ? strstr(begin, kind->label) : NULL;
    const char *end = label ? strstr(label, "-----END ") : NULL;
    if (text->n > PEM_MAX) {
        return "is longer than 32768 octets";
    }
    for (size_t i = 0; i < text->n; i++) {
        char c = text->p[i];
        if (c != '\n' && c != '\r' && text_has_control((struct str){&c, 1})) {
            return "is not PEM: it contains a control character";
        }
    }
    if (!end) {
        return kind->no_pem;
    }
    if (!memchr(label, '\n', (size_t)(end - label))) {
        return "is not PEM: its lines have become one; copy it with its line breaks";
    }
    bool encrypted = kind == &pem_private_key && strstr(begin, "ENCRYPTED");
    return encrypted ? "is encrypted; it can only be used without a passphrase" : NULL;
}

/* Reads a field in PEM. *value stays empty when there is no such field. */
static int read_pem(const struct reader *r, const char *name, const struct pem_kind *kind,
                    struct secret *value)
{
    if (read_value(r, name, value) < 0) {
        return ERR;
    }
    const char *fault = value->n ? pem_fault(value, kind) : NULL;
    return fault ? refuse_field(r, name, fault) : OK;
}

/* ---- the key ---- */

static bool ends_with(struct str s, const char *suffix)
{
    size_t n = strlen(suffix);
    return s.n >= n && str_ieq((struct str){s.p + s.n - n, n}, suffix);
}

/* Tells whether the host belongs to Cloud Identity Services. */
static bool is_ias(struct str host)
{
    return ends_with(host, ".accounts.ondemand.com") ||
           ends_with(host, ".accounts400.ondemand.com") || ends_with(host, ".accounts.cloud.sap");
}

static int read_kind(const struct reader *r, enum kind *kind)
{
    char *type = NULL, *url = NULL;
    struct url parsed;
    const char *wrong;
    int result = OK;
    *kind = KIND_SECRET;
    if (read_text(r, "credential-type", &type) < 0 || read_text(r, "url", &url) < 0) {
        result = ERR;
    } else if (text_ieq(type, "x509_attested")) {
        result = error_set(r->err, FAIL_CONFIG,
                           "the service key is of credential-type x509_attested, which is not "
                           "supported; create one of binding-secret or x509");
    } else if (url_parse(str_of(url), &parsed, &wrong) == OK && is_ias(parsed.host)) {
        *kind = KIND_IAS;
    } else if (str_istarts(str_of(type), "x509") ||
               (!has_field(r, "clientsecret") &&
                (has_field(r, "certurl") || has_field(r, "certificate")))) {
        *kind = KIND_X509;
    }
    free(type);
    free(url);
    return result;
}

/* Reads a URL, removes slashes at its end, and appends `path` unless the URL ends with it. */
static int read_url(const struct reader *r, const char *name, const char *path, char **out)
{
    struct url url;
    const char *wrong = NULL;
    char text[128];
    char *value = NULL;
    int result = read_text(r, name, &value);
    struct str base = str_of(value ? value : "");
    if (result < 0) {
        return ERR;
    }
    if (base.n == 0) {
        result = missing(r, name);
    } else if (url_parse(base, &url, &wrong) < 0 || url.query.n) {
        text_fmt(text, sizeof(text), "is not a URL to build on: it %s",
                 wrong ? wrong : "has a query");
        result = refuse_field(r, name, text);
    } else {
        while (base.p[base.n - 1] == '/') {
            base.n--;
        }
        struct buf b;
        buf_init(&b, base.n + strlen(path) + 1);
        result = buf_fmt(&b, "%.*s%s", STR_ARG(base), ends_with(base, path) ? "" : path);
        *out = mem_strndup(buf_str(&b).p, buf_len(&b));
        buf_free(&b);
    }
    free(value);
    return result;
}

static int read_certificate(const struct reader *r, struct service_key *key)
{
    struct secret chain = {0};
    int result = read_pem(r, "certificate", &pem_certificate, &chain);
    if (result >= 0) {
        result = chain.n ? OK : missing(r, "certificate");
        key->certificate = mem_strndup(chain.n ? chain.p : "", chain.n);
    }
    secret_clear(&chain);
    return result < 0 ? ERR : read_pem(r, "key", &pem_private_key, &key->private_key);
}

static int read_client_secret(const struct reader *r, struct service_key *key)
{
    if (read_field(r, "clientsecret", &key->client_secret) < 0) {
        return ERR;
    }
    return key->client_secret.n ? OK : missing(r, "clientsecret");
}

static int read_token_url(const struct reader *r, enum kind kind, struct service_key *key)
{
    switch (kind) {
    case KIND_IAS:
        return read_url(r, "url", "/oauth2/token", &key->token_url);
    case KIND_X509:
        return read_url(r, "certurl", "/oauth/token", &key->token_url);
    case KIND_SECRET:
        break;
    }
    bool own = r->use == SERVICE_KEY_CONNECTIVITY && has_field(r, "token_service_url");
    return read_url(r, own ? "token_service_url" : "url", "/oauth/token", &key->token_url);
}

static int read_key(const struct reader *r, struct service_key *key)
{
    enum kind kind;
    if (read_kind(r, &kind) < 0 || read_text(r, "clientid", &key->client_id) < 0 ||
        read_text(r, "identityzone", &key->identity_zone) < 0) {
        return ERR;
    }
    if (!key->client_id[0]) {
        return missing(r, "clientid");
    }
    key->ias = kind == KIND_IAS;
    if ((kind == KIND_SECRET ? read_client_secret(r, key) : read_certificate(r, key)) < 0 ||
        read_token_url(r, kind, key) < 0) {
        return ERR;
    }
    if (r->use == SERVICE_KEY_DESTINATION) {
        return read_url(r, "uri", "", &key->uri);
    }
    key->uri = mem_strdup("");
    return OK;
}

/* Parses an entry. The document refers to *text. */
static struct json *parse_entry(const struct reader *r, const char *name, struct secret *text)
{
    if (secret_entry_read(r->secret, name, ENTRY_MAX, text, r->err) < 0) {
        return NULL;
    }
    if (text->n == 0) {
        secret_entry_refuse(r->err, name,
                            "is missing; secretKey must be the entry that holds the service key "
                            "as JSON, or be left out if there is one entry a field");
        return NULL;
    }
    /* The parser's error is not shown, because it may quote a character of the key. */
    struct json *doc = json_parse(secret_str(text), NULL);
    if (json_type(json_root(doc)) != JSON_OBJECT) {
        secret_entry_refuse(r->err, name, "is not a JSON object; it must be the whole service key");
        json_free(doc);
        return NULL;
    }
    return doc;
}

/* Reads the JSON in the Secret: the entry that holds the whole key, which the cf command line puts
 * into an object "credentials", or an entry "uaa". In both forms "uaa" may hold the client and the
 * authorization server, instead of the key itself. Returns NULL with *failed false when the Secret
 * has no JSON. */
static struct json *read_json(struct reader *r, struct secret *text, bool *failed)
{
    bool nested = !r->json_key && !secret_entry_given(r->secret, "clientid") &&
                  secret_entry_given(r->secret, "uaa");
    *failed = false;
    if (!r->json_key && !nested) {
        return NULL;
    }
    struct json *doc = parse_entry(r, nested ? "uaa" : r->json_key, text);
    struct json_value root = json_root(doc);
    if (nested) {
        r->uaa = root;
    } else {
        struct json_value credentials = json_get(root, "credentials");
        r->whole = json_type(credentials) == JSON_OBJECT ? credentials : root;
        if (!json_given(json_get(r->whole, "clientid"))) {
            r->uaa = json_get(r->whole, "uaa");
        }
    }
    *failed = !doc;
    return doc;
}

const struct service_key *service_key_from_secret(struct json_value secret, const char *json_key,
                                                  enum service_key_use use, struct error *err)
{
    struct reader r = {.secret = secret,
                       .json_key = json_key && json_key[0] ? json_key : NULL,
                       .use = use,
                       .err = err};
    struct service_key *key = mem_zalloc(sizeof(*key));
    struct secret text = {0};
    bool failed;
    struct json *doc = read_json(&r, &text, &failed);
    key->refs = 1;
    if (failed || read_key(&r, key) < 0) {
        service_key_unref(key);
        key = NULL;
    }
    json_free(doc);
    secret_clear(&text);
    return key;
}

bool service_key_complete(const struct service_key *key)
{
    return !key->certificate || key->private_key.n > 0;
}

const struct service_key *service_key_with_private_key(const struct service_key *key,
                                                       struct json_value secret, const char *entry,
                                                       struct error *err)
{
    struct reader r = {.secret = secret, .err = err};
    struct secret pem = {0};
    if (read_pem(&r, entry, &pem_private_key, &pem) < 0 ||
        (!pem.n && secret_entry_refuse(err, entry,
                                       "is missing; it must hold the private key, as PEM, or "
                                       "secretInternalKey name another one") < 0)) {
        secret_clear(&pem);
        return NULL;
    }
    struct service_key *whole = mem_zalloc(sizeof(*whole));
    *whole = (struct service_key){.refs = 1,
                                  .client_id = mem_strdup(key->client_id),
                                  .certificate = mem_strdup(key->certificate),
                                  .private_key = pem,
                                  .ias = key->ias,
                                  .token_url = mem_strdup(key->token_url),
                                  .uri = mem_strdup(key->uri),
                                  .identity_zone = mem_strdup(key->identity_zone)};
    return whole;
}

/* ---- the snapshot ---- */

const struct service_key *service_key_ref(const struct service_key *key)
{
    ((struct service_key *)key)->refs++;
    return key;
}

void service_key_unref(const struct service_key *key)
{
    struct service_key *k = (struct service_key *)key;
    if (!k || --k->refs > 0) {
        return;
    }
    free(k->client_id);
    secret_clear(&k->client_secret);
    free(k->certificate);
    secret_clear(&k->private_key);
    free(k->token_url);
    free(k->uri);
    free(k->identity_zone);
    free(k);
}

bool service_key_equal(const struct service_key *a, const struct service_key *b)
{
    return text_same(a->client_id, b->client_id) && text_same(a->token_url, b->token_url) &&
           text_same(a->uri, b->uri) && text_same(a->identity_zone, b->identity_zone) &&
           text_same(a->certificate, b->certificate) && a->ias == b->ias &&
           secret_equal(&a->client_secret, &b->client_secret) &&
           secret_equal(&a->private_key, &b->private_key);
}
