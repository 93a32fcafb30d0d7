/* From a Secret to a service key. Every value is a secret until it is known to be none, and none
 * gets into a message. */
#include "core/service_key.h"

#include <stdlib.h>
#include <string.h>

#include "core/http_proto.h"
#include "lib/text.h"

/* Bounds, octets: of an entry of the Secret, of a field that is used. */
enum { ENTRY_MAX = 64 * 1024, FIELD_MAX = 4096 };

static const char token_path[] = "/oauth/token";

/* The work of one service_key_from_secret. */
struct reader {
    struct json_value secret;
    const char *json_key;    /* NULL: one entry a field */
    struct json_value whole; /* what its entry says */
    struct error *err;
};

/* ---- entries and fields ---- */

static int refuse_entry(const struct reader *r, const char *name, const char *wrong)
{
    char shown[80];
    return error_set(r->err, FAIL_CONFIG, "the entry \"%s\" %s",
                     text_printable(shown, sizeof(shown), str_of(name)), wrong);
}

static int refuse_field(const struct reader *r, const char *name, const char *wrong)
{
    char shown[80];
    if (!r->json_key) {
        return refuse_entry(r, name, wrong);
    }
    return error_set(r->err, FAIL_CONFIG, "the field \"%s\" in the entry \"%s\" %s", name,
                     text_printable(shown, sizeof(shown), str_of(r->json_key)), wrong);
}

/* Base64, in place. */
static int decode(struct secret *value)
{
    size_t n;
    if (text_unbase64(value->p, value->n, (struct str){value->p, value->n}, &n) < 0) {
        return ERR;
    }
    mem_wipe(value->p + n, value->n - n);
    value->n = n;
    return OK;
}

static struct json_value find_entry(const struct reader *r, const char *name, bool *coded)
{
    struct json_value plain = json_get(json_get(r->secret, "stringData"), name);
    *coded = !json_given(plain);
    return *coded ? json_get(json_get(r->secret, "data"), name) : plain;
}

/* What the Secret holds under `name`; empty when it holds nothing. */
static int read_entry(const struct reader *r, const char *name, struct secret *value)
{
    bool coded;
    struct json_value v = find_entry(r, name, &coded);
    if (!json_given(v)) {
        return OK;
    }
    if (json_type(v) != JSON_STRING) {
        return refuse_entry(r, name, "is no string");
    }
    value->p = json_strdup(v, &value->n);
    if (coded && decode(value) < 0) {
        return refuse_entry(r, name, "is no base64");
    }
    return value->n > ENTRY_MAX ? refuse_entry(r, name, "is longer than 65536 octets") : OK;
}

/* A field of the key, one line of text; empty when there is none. */
static int read_field(const struct reader *r, const char *name, struct secret *value)
{
    if (r->json_key) {
        struct json_value v = json_get(r->whole, name);
        if (json_given(v) && json_type(v) != JSON_STRING) {
            return refuse_field(r, name, "is no string");
        }
        value->p = json_strdup(v, &value->n);
    } else if (read_entry(r, name, value) < 0) {
        return ERR;
    }
    while (value->n > 0 && (value->p[value->n - 1] == '\n' || value->p[value->n - 1] == '\r')) {
        value->p[--value->n] = '\0';
    }
    if (text_has_control((struct str){value->p, value->n})) {
        return refuse_field(r, name, "contains a control character; it must be one line of text");
    }
    return value->n > FIELD_MAX ? refuse_field(r, name, "is longer than 4096 octets") : OK;
}

/* The same for a field that is no secret. */
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
    bool coded;
    return json_given(r->json_key ? json_get(r->whole, name) : find_entry(r, name, &coded));
}

/* ---- the key ---- */

static int missing(const struct reader *r, const char *name)
{
    return refuse_field(r, name,
                        r->json_key ? "is missing; copy the service key as it is"
                                    : "is missing; a Secret that holds the whole service key as "
                                      "JSON needs the name of its entry as secretKey");
}

static int refuse_kind(const struct reader *r, const char *kind)
{
    return error_set(r->err, FAIL_CONFIG,
                     "the service key is %s; create one with a client secret (credential-type "
                     "binding-secret)",
                     kind);
}

static bool ends_with(struct str s, const char *suffix)
{
    size_t n = strlen(suffix);
    return s.n >= n && str_ieq((struct str){s.p + s.n - n, n}, suffix);
}

/* Host names of Cloud Identity Services. */
static bool is_ias(struct str host)
{
    return ends_with(host, ".accounts.ondemand.com") ||
           ends_with(host, ".accounts400.ondemand.com") || ends_with(host, ".accounts.cloud.sap");
}

static int check_kind(const struct reader *r)
{
    char *type = NULL, *url = NULL;
    struct http_url parsed;
    const char *wrong;
    int result = OK;
    if (read_text(r, "credential-type", &type) < 0 || read_text(r, "url", &url) < 0) {
        result = ERR;
    } else if (text_ieq(type, "x509_attested")) {
        result = refuse_kind(r, "of credential-type x509_attested, which is not supported");
    } else if (http_parse_url(str_of(url), &parsed, &wrong) == OK && is_ias(parsed.host)) {
        result = refuse_kind(r, "one of Cloud Identity Services (IAS), of whatever credential-type,"
                                " which is not supported yet");
    } else if (str_istarts(str_of(type), "x509") ||
               (!has_field(r, "clientsecret") &&
                (has_field(r, "certurl") || has_field(r, "certificate")))) {
        result = refuse_kind(r, "of credential-type x509, which is not supported yet");
    }
    free(type);
    free(url);
    return result;
}

/* A URL without slashes at its end, and with `path` there. */
static int read_url(const struct reader *r, const char *name, const char *path, char **out)
{
    struct http_url url;
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
    } else if (http_parse_url(base, &url, &wrong) < 0 || url.query.n) {
        text_fmt(text, sizeof(text), "is no URL to build on: it %s", wrong ? wrong : "has a query");
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

static int read_key(const struct reader *r, struct service_key *key)
{
    if (check_kind(r) < 0 || read_text(r, "clientid", &key->client_id) < 0 ||
        read_field(r, "clientsecret", &key->client_secret) < 0 ||
        read_text(r, "identityzone", &key->identity_zone) < 0) {
        return ERR;
    }
    if (!key->client_id[0]) {
        return missing(r, "clientid");
    }
    if (key->client_secret.n == 0) {
        return missing(r, "clientsecret");
    }
    return read_url(r, "url", token_path, &key->token_url) < 0 ? ERR
                                                               : read_url(r, "uri", "", &key->uri);
}

/* The document that is the whole key. */
static int read_whole(struct reader *r, struct secret *text, struct json **doc)
{
    if (read_entry(r, r->json_key, text) < 0) {
        return ERR;
    }
    if (text->n == 0) {
        return refuse_entry(r, r->json_key,
                            "is missing; secretKey must be the entry that holds the service key "
                            "as JSON, or be left out if there is one entry a field");
    }
    /* What the parser has to say may quote a character. */
    *doc = json_parse((struct str){text->p, text->n}, NULL);
    r->whole = json_root(*doc);
    return json_type(r->whole) == JSON_OBJECT
               ? OK
               : refuse_entry(r, r->json_key,
                              "is no JSON object; it must be the whole service key");
}

const struct service_key *service_key_from_secret(struct json_value secret, const char *json_key,
                                                  struct error *err)
{
    struct reader r = {
        .secret = secret, .json_key = json_key && json_key[0] ? json_key : NULL, .err = err};
    struct service_key *key = mem_zalloc(sizeof(*key));
    struct secret text = {0};
    struct json *doc = NULL;
    key->refs = 1;
    if ((r.json_key && read_whole(&r, &text, &doc) < 0) || read_key(&r, key) < 0) {
        service_key_unref(key);
        key = NULL;
    }
    json_free(doc);
    secret_clear(&text);
    return key;
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
    free(k->token_url);
    free(k->uri);
    free(k->identity_zone);
    free(k);
}

bool service_key_equal(const struct service_key *a, const struct service_key *b)
{
    return strcmp(a->client_id, b->client_id) == 0 && strcmp(a->token_url, b->token_url) == 0 &&
           strcmp(a->uri, b->uri) == 0 && strcmp(a->identity_zone, b->identity_zone) == 0 &&
           a->client_secret.n == b->client_secret.n &&
           mem_compare_secret(a->client_secret.p, b->client_secret.p, a->client_secret.n) == 0;
}
