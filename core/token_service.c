/* Reads the properties of a destination about its token service. They become pieces of a request,
 * so that the sender of the request only joins them. */
#include "core/token_service.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/property_reader.h"
#include "core/tenant.h"
#include "lib/buf.h"
#include "lib/url.h"

enum { URL_MAX = 8192, PIECE_MAX = 32 * 1024, ID_MAX = 2048, SECRET_MAX = 4096 };

/* Maximum time that a destination may ask for, in seconds. */
enum { TIMEOUT_MAX_S = 60 };

/* Tells whether the text is http(s)://host, with anything after it. The host may contain the
 * placeholder {tenant}. */
static bool url_syntax(struct str url)
{
    bool https = str_istarts(url, "https://");
    size_t scheme = https ? 8 : 7;
    return (https || str_istarts(url, "http://")) && text_is_visible(url) && url.n > scheme &&
           !strchr("/:?#@", url.p[scheme]);
}

static int require(struct reader *r, const char *field, size_t max, struct str *value)
{
    if (reader_wire_value(r, field, max, value) < 0) {
        return ERR;
    }
    if (value->n == 0) {
        return reader_refuse(
            r, VERDICT_CONFIGURATION_FAILED, field,
            "is missing; %s needs it (an export from the cockpit leaves secrets out)",
            mail_auth_name(r->dest->auth));
    }
    return OK;
}

static int refuse_unsupported(struct reader *r)
{
    if (reader_value(r, "tokenService.KeyStoreLocation").n) {
        return reader_refuse(r, VERDICT_KEY_STORE_INVALID, "tokenService.KeyStoreLocation",
                             "is not supported; use clientSecret");
    }
    for (size_t i = 0; i < r->props->n; i++) {
        const char *name = r->props->list[i].name;
        if (str_istarts(str_of(name), "clientAssertion.")) {
            return reader_refuse(r, VERDICT_CONFIGURATION_FAILED, name,
                                 "is not supported; use clientSecret");
        }
    }
    return OK;
}

/* ---- tokenServiceURL.headers.*, tokenServiceURL.queries.*, tokenService.body.* ---- */

/* A piece of the request that collects the properties with one prefix. */
struct piece {
    struct buf text;
    const char *prefix;      /* of the properties' names */
    const char *const *ours; /* the names that we send ourselves; NULL-terminated */
    int (*add)(struct buf *text, struct str name, struct str value);
};

/* Appends a field of a form or a query: encoded, and after '&' unless it is the first one. */
static int add_field(struct buf *text, struct str name, struct str value)
{
    bool fits = (buf_len(text) == 0 || buf_add(text, "&", 1) == OK) &&
                url_encode_form(text, name) == OK && buf_add(text, "=", 1) == OK &&
                url_encode_form(text, value) == OK;
    return fits ? OK : ERR;
}

/* Appends a header line. Returns ERR when it does not fit or the name is not one of a header. */
static int add_header(struct buf *text, struct str name, struct str value)
{
    if (!text_is_token(name)) {
        return ERR;
    }
    return buf_fmt(text, "%.*s: %.*s\r\n", STR_ARG(name), STR_ARG(value));
}

static bool is_ours(const struct piece *piece, const char *name)
{
    for (size_t i = 0; piece->ours[i]; i++) {
        if (text_ieq(name, piece->ours[i])) {
            return true;
        }
    }
    return false;
}

static int read_piece(struct reader *r, struct piece *piece)
{
    size_t n = strlen(piece->prefix);
    struct str value;
    for (size_t i = 0; i < r->props->n; i++) {
        const char *field = r->props->list[i].name, *name = field + n;
        if (strncmp(field, piece->prefix, n) != 0) {
            continue;
        }
        if (is_ours(piece, name)) {
            reader_warn(r, "%s is ignored: tproxy says this itself", field);
        } else if (reader_wire_value(r, field, PIECE_MAX, &value) < 0) {
            return ERR;
        } else if (!name[0] || piece->add(&piece->text, str_of(name), value) == ERR) {
            return reader_refuse(r, VERDICT_CONFIGURATION_FAILED, field,
                                 "cannot be sent: its name has characters that it cannot have "
                                 "there, or all of them together are too long");
        }
    }
    return OK;
}

static void keep(struct piece *piece, struct secret *secret)
{
    struct str text = buf_str(&piece->text);
    secret_set(secret, text.p, text.n);
}

/* ---- parts of the token service ---- */

static int read_headers(struct reader *r)
{
    static const char *const ours[] = {"Host",       "Content-Length",    "Content-Type", "Accept",
                                       "Connection", "Transfer-Encoding", "User-Agent",   NULL};
    struct piece piece = {.prefix = "tokenServiceURL.headers.", .ours = ours, .add = add_header};
    buf_init(&piece.text, PIECE_MAX);
    int rc = read_piece(r, &piece);
    keep(&piece, &r->dest->tokens->headers);
    buf_wipe(&piece.text);
    return rc;
}

static int read_queries(struct reader *r, struct str url)
{
    static const char *const ours[] = {NULL};
    struct piece piece = {.prefix = "tokenServiceURL.queries.", .ours = ours, .add = add_field};
    struct buf whole;
    buf_init(&piece.text, PIECE_MAX);
    int rc = read_piece(r, &piece);
    struct str queries = buf_str(&piece.text);
    buf_init(&whole, URL_MAX + PIECE_MAX + 1);
    if (buf_add(&whole, url.p, url.n) == ERR ||
        (queries.n && (buf_add(&whole, memchr(url.p, '?', url.n) ? "&" : "?", 1) == ERR ||
                       buf_add(&whole, queries.p, queries.n) == ERR))) {
        assert(false); /* all parts are bounded */
    }
    struct str text = buf_str(&whole);
    secret_set(&r->dest->tokens->url, text.p, text.n);
    buf_wipe(&whole);
    buf_wipe(&piece.text);
    return rc;
}

/* Appends a field to the form, unless its value is empty or the destination gives the field below
 * tokenService.body. */
static int add_own(struct reader *r, struct piece *piece, const char *name, struct str value)
{
    char field[64];
    text_fmt(field, sizeof(field), "%s%s", piece->prefix, name);
    if (value.n == 0 || reader_has(r, field)) {
        return OK;
    }
    return piece->add(&piece->text, str_of(name), value);
}

static int read_form(struct reader *r)
{
    static const char *const ours[] = {"grant_type",    "client_id", "client_secret",
                                       "refresh_token", "code",      NULL};
    struct token_service *service = r->dest->tokens;
    struct piece piece = {.prefix = "tokenService.body.", .ours = ours, .add = add_field};
    struct str scope;
    if (reader_wire_value(r, "scope", SECRET_MAX, &scope) < 0) {
        return ERR;
    }
    buf_init(&piece.text, PIECE_MAX);
    struct str redirect_uri = {service->redirect_uri.p, service->redirect_uri.n};
    struct str verifier = {service->code_verifier.p, service->code_verifier.n};
    int rc = OK;
    if (add_own(r, &piece, "scope", scope) == ERR ||
        add_own(r, &piece, "redirect_uri", redirect_uri) == ERR ||
        add_own(r, &piece, "code_verifier", verifier) == ERR) {
        assert(false); /* all of them are bounded */
    }
    rc = read_piece(r, &piece);
    keep(&piece, &service->form);
    buf_wipe(&piece.text);
    return rc;
}

/* Reads a property of the authorization code. It may also stand below "mail.", because there alone
 * the cockpit accepts additional properties of a MAIL destination. */
static int read_code_property(struct reader *r, const char *name, struct secret *secret)
{
    char below[64];
    struct str value;
    text_fmt(below, sizeof(below), "mail.%s", name);
    const char *field = reader_has(r, name) ? name : below;
    if (reader_wire_value(r, field, ID_MAX, &value) < 0) {
        return ERR;
    }
    if (r->dest->auth == AUTH_AUTHORIZATION_CODE) {
        secret_set(secret, value.p, value.n);
    }
    return OK;
}

static int read_client(struct reader *r)
{
    struct token_service *service = r->dest->tokens;
    bool user = reader_has(r, "tokenServiceUser");
    struct str id, other, secret;
    if (require(r, "clientId", ID_MAX, &other) < 0 ||
        require(r, user ? "tokenServiceUser" : "clientId", ID_MAX, &id) < 0 ||
        require(r, user ? "tokenServicePassword" : "clientSecret", SECRET_MAX, &secret) < 0) {
        return ERR;
    }
    service->client_id = mem_strndup(id.p, id.n);
    secret_set(&service->client_secret, secret.p, secret.n);
    service->basic = user || !reader_flag(r, "tokenService.addClientCredentialsInBody", true);
    return OK;
}

static int64_t read_seconds(struct reader *r, const char *name)
{
    struct str v = reader_value(r, name);
    uint64_t seconds = 0;
    if (v.n && (text_number(v, INT32_MAX, &seconds) < 0 || seconds == 0)) {
        reader_warn(r, "%s: \"%s\" is not a number of seconds and is ignored", name,
                    reader_show(r, v));
    }
    return SECONDS(seconds < TIMEOUT_MAX_S ? seconds : TIMEOUT_MAX_S);
}

int token_service_read(struct reader *r)
{
    struct str url, type;
    if (r->dest->auth == AUTH_NONE || r->dest->auth == AUTH_BASIC) {
        return OK;
    }
    if (refuse_unsupported(r) < 0 || require(r, "tokenServiceURL", URL_MAX, &url) < 0) {
        return ERR;
    }
    url = str_trim(url);
    if (!url_syntax(url)) {
        return reader_refuse(r, VERDICT_CONFIGURATION_FAILED, "tokenServiceURL",
                             "is not a URL; give https://... of the authorization server");
    }
    type = reader_value(r, "tokenServiceURLType");
    if (type.n && !str_ieq(type, "Dedicated") && !str_ieq(type, "Common")) {
        return reader_refuse(r, VERDICT_CONFIGURATION_FAILED, "tokenServiceURLType",
                             "is \"%s\"; set it to Dedicated or Common", reader_show(r, type));
    }
    struct token_service *service = r->dest->tokens = mem_zalloc(sizeof(*service));
    service->common = str_ieq(type, "Common");
    service->allow_local = r->allow_loopback;
    service->on_premise = r->dest->proxy == PROXY_ON_PREMISE &&
                          !str_ieq(reader_value(r, "tokenServiceURL.ProxyType"), "Internet");
    service->connect_timeout = read_seconds(r, "tokenServiceURL.ConnectionTimeoutInSeconds");
    service->answer_timeout = read_seconds(r, "tokenServiceURL.SocketReadTimeoutInSeconds");
    if (read_client(r) < 0 || read_code_property(r, "X-redirect-uri", &service->redirect_uri) < 0 ||
        read_code_property(r, "X-code-verifier", &service->code_verifier) < 0 ||
        read_queries(r, url) < 0 || read_headers(r) < 0 || read_form(r) < 0) {
        return ERR;
    }
    return OK;
}

/* ---- the snapshot ---- */

void token_service_free(struct token_service *service)
{
    if (service) {
        secret_clear(&service->url);
        free(service->client_id);
        secret_clear(&service->client_secret);
        secret_clear(&service->form);
        secret_clear(&service->headers);
        secret_clear(&service->redirect_uri);
        secret_clear(&service->code_verifier);
        free(service);
    }
}

bool token_service_equal(const struct token_service *a, const struct token_service *b)
{
    if (!a || !b) {
        return a == b;
    }
    return a->common == b->common && a->on_premise == b->on_premise && a->basic == b->basic &&
           a->connect_timeout == b->connect_timeout && a->answer_timeout == b->answer_timeout &&
           strcmp(a->client_id, b->client_id) == 0 && secret_equal(&a->url, &b->url) &&
           secret_equal(&a->client_secret, &b->client_secret) && secret_equal(&a->form, &b->form) &&
           secret_equal(&a->headers, &b->headers) &&
           secret_equal(&a->redirect_uri, &b->redirect_uri) &&
           secret_equal(&a->code_verifier, &b->code_verifier);
}

int token_service_url(const struct token_service *service, const char *tenant, struct buf *out)
{
    static const char placeholder[] = "{tenant}";
    struct str url = {service->url.p, service->url.n};
    if (!service->common) {
        return buf_add(out, url.p, url.n);
    }
    if (!tenant || !tenant_is_valid(tenant)) {
        return ERR;
    }
    const char *host = memmem(url.p, url.n, "://", 3), *at;
    at = memmem(url.p, url.n, placeholder, strlen(placeholder));
    if (!at) {
        host += 3;
        return buf_fmt(out, "%.*s%s.%s", (int)(host - url.p), url.p, tenant, host);
    }
    do {
        if (buf_fmt(out, "%.*s%s", (int)(at - url.p), url.p, tenant) == ERR) {
            return ERR;
        }
        url.n -= (size_t)(at - url.p) + strlen(placeholder);
        url.p = at + strlen(placeholder);
        at = memmem(url.p, url.n, placeholder, strlen(placeholder));
    } while (at);
    return buf_add(out, url.p, url.n);
}
