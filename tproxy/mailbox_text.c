/* How a mailbox is reached, in words and in JSON. */
#include "tproxy/mailbox_text.h"

#include <assert.h>

#include "core/destination.h"
#include "core/property_reader.h"
#include "core/token_service.h"
#include "lib/json.h"
#include "lib/text.h"
#include "lib/url.h"

enum { TEXT_MAX = 2048 };

static const struct {
    const char *word, *sentence;
} tls_modes[] = {
    [TLS_NONE] = {"none", "in clear text"},
    [TLS_IMPLICIT] = {"implicit", "TLS from the first byte"},
    [TLS_STLS_WANTED] = {"stls-wanted", "STLS if the server offers it, clear text otherwise"},
    [TLS_STLS_REQUIRED] = {"stls-required", "STLS, or no session"},
};

static const struct {
    const char *word, *sentence;
} mechanisms[] = {
    [MECH_PLAIN] = {"PLAIN", "AUTH PLAIN"},
    [MECH_USER_PASS] = {"USER", "USER and PASS"},
    [MECH_APOP] = {"APOP", "APOP"},
    [MECH_XOAUTH2] = {"XOAUTH2", "AUTH XOAUTH2"},
};
static_assert(ARRAY_LEN(mechanisms) == MECH_COUNT, "one row for each mechanism");

/* The grant of RFC 6749 with which a token for the mail server is asked for; NULL: none is. */
static const char *const grants[] = {
    [AUTH_NONE] = NULL,
    [AUTH_BASIC] = NULL,
    [AUTH_CLIENT_CREDENTIALS] = "client_credentials",
    [AUTH_REFRESH_TOKEN] = "refresh_token",
    [AUTH_AUTHORIZATION_CODE] = "authorization_code",
};

static const char *proxy_type(bool on_premise)
{
    return on_premise ? "OnPremise" : "Internet";
}

/* Writes scheme, host and port of the token server: its queries may have secrets. "": the URL gets
 * them only from a tenant. */
static const char *token_server(const struct token_service *tokens, char out[static TEXT_MAX])
{
    struct url url;
    const char *wrong;
    out[0] = '\0';
    if (url_parse(secret_str(&tokens->url), &url, &wrong) == OK) {
        text_fmt(out, TEXT_MAX, "%s://%.*s", url.https ? "https" : "http", STR_ARG(url.authority));
    }
    return out;
}

/* ---- in sentences ---- */

struct telling {
    const struct destination *dest;
    void (*line)(const char *text, void *arg);
    void *arg;
};

static void tell_server(const struct telling *t)
{
    const struct destination *d = t->dest;
    bool on_premise = d->proxy == PROXY_ON_PREMISE;
    char text[TEXT_MAX];
    text_fmt(text, sizeof(text), "%s at %s, port %u, %s%s%s%s", mail_protocol_name(d->protocol),
             d->host, d->port, on_premise ? "through the Connectivity Proxy" : "directly",
             d->location_id[0] ? ", location \"" : "", d->location_id,
             d->location_id[0] ? "\"" : "");
    t->line(text, t->arg);
}

static void tell_tls(const struct telling *t)
{
    const struct destination *d = t->dest;
    char text[TEXT_MAX];
    if (d->tls == TLS_NONE) {
        t->line(tls_modes[d->tls].sentence, t->arg);
        return;
    }
    text_fmt(text, sizeof(text), "%s; TLS %s; %s certificate%s%s", tls_modes[d->tls].sentence,
             d->tls_min != d->tls_max     ? "1.2 or 1.3"
             : d->tls_min == MAIL_TLS_1_2 ? "1.2"
                                          : "1.3",
             d->tls_trust_any ? "any" : "a trusted",
             d->tls_check_host ? " for " : ", whatever its name",
             d->tls_check_host ? d->tls_name : "");
    t->line(text, t->arg);
}

static const char *login_of(const struct destination *d)
{
    switch (d->auth) {
    case AUTH_NONE:
        break;
    case AUTH_BASIC:
        return "with the password of the destination";
    case AUTH_CLIENT_CREDENTIALS:
        return "with an access token";
    case AUTH_REFRESH_TOKEN:
        return "with an access token for the refresh token that the client sends";
    case AUTH_AUTHORIZATION_CODE:
        return "with an access token for the authorization code that the client sends";
    }
    return "";
}

static void tell_login(const struct telling *t)
{
    const struct destination *d = t->dest;
    bool named_by_client = d->auth == AUTH_REFRESH_TOKEN || d->auth == AUTH_AUTHORIZATION_CODE;
    char text[TEXT_MAX];
    struct buf out = BUF_ON(text);
    int rc;
    if (d->auth == AUTH_NONE) {
        t->line("the client logs in itself (NoAuthentication)", t->arg);
        return;
    }
    out.max = sizeof(text) - 1;
    rc =
        buf_fmt(&out, "logs in as %s, %s (%s), by", named_by_client ? "the client's user" : d->user,
                login_of(d), mail_auth_name(d->auth));
    for (size_t i = 0; rc == OK && i < d->n_mechanisms; i++) {
        rc = buf_fmt(&out, "%s %s", i ? ", else" : "", mechanisms[d->mechanisms[i]].sentence);
    }
    text[buf_len(&out)] = '\0';
    t->line(text, t->arg);
}

static void tell_token(const struct telling *t)
{
    const struct token_service *tokens = t->dest->tokens;
    char text[TEXT_MAX], server[TEXT_MAX];
    if (!tokens) {
        return;
    }
    token_server(tokens, server);
    text_fmt(text, sizeof(text), "the token comes %s%s by the grant %s for the client \"%s\"%s%s",
             server[0] ? "from " : "from the authorization server of the tenant", server,
             grants[t->dest->auth], tokens->client_id,
             tokens->common && server[0] ? ", each tenant's own from its subdomain" : "",
             tokens->on_premise ? ", through the Connectivity Proxy" : "");
    t->line(text, t->arg);
}

void mailbox_text_tell(const struct destination *dest, void (*line)(const char *text, void *arg),
                       void *arg)
{
    const struct telling t = {dest, line, arg};
    char text[TEXT_MAX];
    tell_server(&t);
    tell_tls(&t);
    tell_login(&t);
    tell_token(&t);
    for (size_t i = 0; i < dest->n_warnings; i++) {
        text_fmt(text, sizeof(text), "warning: %s", dest->warnings[i]);
        line(text, arg);
    }
}

/* ---- in JSON ---- */

static const char *truth(bool value)
{
    return value ? "true" : "false";
}

static int tls_json(const struct destination *d, struct buf *out)
{
    int rc = json_fmt(out, ",'tls':%s", tls_modes[d->tls].word);
    if (d->tls == TLS_NONE) {
        return rc;
    }
    rc |= buf_fmt(out, ",\"tlsVersions\":[%s%s%s]", d->tls_min == MAIL_TLS_1_2 ? "\"1.2\"" : "",
                  d->tls_min != d->tls_max ? "," : "", d->tls_max == MAIL_TLS_1_3 ? "\"1.3\"" : "");
    rc |= buf_fmt(out, ",\"trustsAnyCertificate\":%s,\"checksName\":%s", truth(d->tls_trust_any),
                  truth(d->tls_check_host));
    return rc;
}

static int login_json(const struct destination *d, struct buf *out)
{
    int rc = json_fmt(out, ",'authentication':%s,'user':%s,'mechanisms':[", mail_auth_name(d->auth),
                      d->user);
    for (size_t i = 0; i < d->n_mechanisms; i++) {
        rc |= buf_fmt(out, "%s\"%s\"", i ? "," : "", mechanisms[d->mechanisms[i]].word);
    }
    return rc | buf_fmt(out, "]");
}

static int token_json(const struct destination *d, struct buf *out)
{
    const struct token_service *tokens = d->tokens;
    char server[TEXT_MAX];
    if (!tokens) {
        return OK;
    }
    return json_fmt(out, ",'token':{'grant':%s,'server':%s,'clientId':%s,'proxyType':%s}",
                    grants[d->auth], token_server(tokens, server), tokens->client_id,
                    proxy_type(tokens->on_premise));
}

int mailbox_text_json(const struct destination *d, struct buf *out)
{
    int rc = json_fmt(out, "{'name':%s,'protocol':%s,'host':%s,'port':%d,'proxyType':%s", d->name,
                      mail_protocol_name(d->protocol), d->host, d->port,
                      proxy_type(d->proxy == PROXY_ON_PREMISE));
    if (d->location_id[0]) {
        rc |= json_fmt(out, ",'locationId':%s", d->location_id);
    }
    rc |= tls_json(d, out) | login_json(d, out) | token_json(d, out);
    rc |= buf_fmt(out, ",\"warnings\":[");
    for (size_t i = 0; i < d->n_warnings; i++) {
        rc |= buf_fmt(out, "%s", i ? "," : "") | json_fmt(out, "%s", d->warnings[i]);
    }
    return rc | buf_fmt(out, "]}") ? ERR : OK;
}
