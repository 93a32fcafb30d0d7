/* One question to the Destination service:
 *
 *     start --> TOKEN: oauth_get --> ASK: GET .../destinations/NAME --> an answer that counts -.
 *                 ^                              |         |                                   |
 *                 '-- 401, the first time -------'         |  no token for the mail server     |
 *                     the access token is renewed          v                                   |
 *                                                 MAIL_TOKEN: mail_token_get --> a token ------|
 *                                                                                              v
 *     a failure that may pass, from any of the three --------------------------------------> done
 *
 * dest.c says which answers count. An authorization code is shown to the service once. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "btp/mail_token.h"
#include "btp/service_grant.h"
#include "core/service_key.h"
#include "core/token.h"
#include "core/token_service.h"
#include "dest/answer.h"
#include "dest/lookup.h"
#include "dest/request.h"
#include "http.h"
#include "http/origins.h"
#include "http/proto.h"
#include "lib/digest.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/url.h"
#include "oauth.h"
#include "oauth/refresh_tokens.h"

/* The lifetime of a token for the mail server, when the service does not say it. */
#define TOKEN_LIFETIME SECONDS(120)

/* Largest sizes, in octets, of a request's target, and of its header lines. */
enum { TARGET_MAX = 4096, HEADERS_MAX = TOKEN_MAX + 40 * 1024 };

struct dest_lookup {
    struct dest_lookups *lookups;
    struct dest_lookup_handler handler;
    enum dest_kind kind;
    char *instance;
    const struct service_key *key;
    struct dest_ref ref;
    char *description; /* the destination in words, for the log */

    struct buf url;           /* of the token endpoint; `grant` refers to it */
    struct oauth_grant grant; /* of the access token */
    struct oauth_wait *wait;  /* TOKEN */
    struct token *token;      /* the access token that was shown to the service */
    struct refused_at at;     /* the service and the tenant of the token */
    bool renewed;

    struct http_call *call; /* ASK */
    struct http_origin *origin;
    int64_t asked;

    /* only for DEST_KIND_USER */
    const struct destination *config;
    struct secret user_token;                  /* the token or code that is sent */
    unsigned char sent_by[DIGEST_SHA256_SIZE]; /* the key of the newer refresh token: a digest of
                                                  the reference and the token that the client
                                                  sent */

    struct mail_token_wait *mail_token;  /* MAIL_TOKEN */
    const struct destination *mail_dest; /* the destination that the token is for */
    struct error no_token_reason;        /* why the service has no token */
};

static void ask_access_token(struct dest_lookup *l);

/* ---- results ---- */

struct dest_result *dest_result_ref(struct dest_result *result)
{
    result->refs++;
    return result;
}

void dest_result_unref(struct dest_result *result)
{
    if (result && --result->refs == 0) {
        destination_unref(result->dest);
        token_unref(result->token);
        free(result->refusal);
        free(result);
    }
}

struct dest_result *dest_refusal(enum verdict verdict, const char *words)
{
    struct dest_result *result = mem_zalloc(sizeof(*result));
    *result = (struct dest_result){.refs = 1, .verdict = verdict, .refusal = mem_strdup(words)};
    return result;
}

/* Creates a result with one reference. Takes over the reference to the token. */
static struct dest_result *result_new(const struct destination *dest, struct token *token)
{
    struct dest_result *result = mem_zalloc(sizeof(*result));
    *result = (struct dest_result){.refs = 1, .dest = destination_ref(dest), .token = token};
    return result;
}

/* ---- the end ---- */

void dest_lookup_cancel(struct dest_lookup *l)
{
    if (!l) {
        return;
    }
    oauth_cancel(l->wait);
    mail_token_cancel(l->mail_token);
    http_cancel(l->call);
    http_origin_release(l->origin);
    token_unref(l->token);
    service_key_unref(l->key);
    buf_free(&l->url);
    dest_ref_clear(&l->ref);
    free(l->instance);
    free(l->description);
    destination_unref(l->config);
    destination_unref(l->mail_dest);
    secret_clear(&l->user_token);
    free(l);
}

/* Ends the lookup with an answer that counts. The handler takes over the reference. */
static void lookup_answered(struct dest_lookup *l, struct dest_result *result,
                            enum dest_service_state service)
{
    const struct dest_lookup_end end = {.result = result, .service = service};
    struct dest_lookup_handler handler = l->handler;
    log_line(LOG_DEBUG, "dest", "%s: %s", l->description, result->dest ? "found" : result->refusal);
    result->received = loop_now(l->lookups->loop);
    dest_lookup_cancel(l);
    handler.done(&end, handler.arg);
}

/* Ends the lookup with a failure that may pass. */
static void lookup_failed(struct dest_lookup *l, const struct error *err, int64_t retry_after,
                          enum dest_service_state service)
{
    const struct dest_lookup_end end = {
        .err = *err, .retry_after = retry_after, .service = service};
    struct dest_lookup_handler handler = l->handler;
    log_line(LOG_DEBUG, "dest", "%s: %s", l->description, err->text);
    dest_lookup_cancel(l);
    handler.done(&end, handler.arg);
}

static void lookup_refused(struct dest_lookup *l, enum verdict verdict, const char *words)
{
    lookup_answered(l, dest_refusal(verdict, words), DEST_SERVICE_UNKNOWN);
}

/* Ends the lookup: the service, or the authorization server before it, could not be asked. */
static void not_asked(struct dest_lookup *l, const struct error *err)
{
    struct error why;
    if (err->fail == FAIL_AUTH || err->fail == FAIL_CONFIG) {
        error_set(&why, FAIL_CONFIG,
                  "the service key of Destination service instance \"%.100s\" does not work: %s",
                  l->instance, err->text);
        lookup_refused(l, VERDICT_INSTANCE_NOT_CONFIGURED, why.text);
        return;
    }
    /* An untrusted certificate says nothing about the destination, so report a TLS failure. */
    error_set(&why, err->fail == FAIL_CERT ? FAIL_TLS : err->fail,
              "Destination service instance \"%.100s\": %s", l->instance, err->text);
    /* The authorization server of a tenant serves that tenant alone, so its failure is not the
     * service's. */
    lookup_failed(l, &why, 0,
                  l->ref.tenant && !l->token ? DEST_SERVICE_UNKNOWN : DEST_SERVICE_FAILS);
}

/* Ends the lookup: the authorization server refuses the tenant. It may accept other tenants with
 * the same key. */
static void tenant_refused(struct dest_lookup *l, const struct error *err)
{
    struct error why;
    if (err->fail == FAIL_CONFIG) {
        error_set(&why, FAIL_CONFIG,
                  "Tenant subdomain \"%s\" could not be determined as valid tenant for Destination "
                  "service instance with name \"%.60s\": %s",
                  l->ref.tenant, l->instance, err->text);
    } else {
        error_set(&why, FAIL_CONFIG,
                  "Tenant subdomain \"%s\" is not subscribed to respective provider application "
                  "using Destination service instance with name \"%.60s\": %s",
                  l->ref.tenant, l->instance, err->text);
    }
    lookup_refused(l, VERDICT_CONFIGURATION_FAILED, why.text);
}

static void note_result(struct dest_lookup *l, enum fail result)
{
    l->lookups->results[result]++;
    metric_observe(&l->lookups->latency, loop_now(l->lookups->loop) - l->asked);
}

/* ---- tokens that the service does not give ---- */

static struct mail_token_of token_of(const struct dest_ref *ref, const struct service_key *key,
                                     const struct destination *dest)
{
    return (struct mail_token_of){
        .dest = dest, .tenant = dest_request_tenant(ref, key), .subscriber = ref->tenant};
}

static void no_mail_token(struct dest_lookup *l, const struct error *err)
{
    struct error both;
    error_set(&both, err->fail, "%.140s; asked directly: %s", l->no_token_reason.text, err->text);
    lookup_failed(l, &both, 0, DEST_SERVICE_SERVES);
}

static void on_mail_token(struct token *token, const struct error *err, void *arg)
{
    struct dest_lookup *l = arg;
    l->mail_token = NULL;
    if (token) {
        lookup_answered(l, result_new(l->mail_dest, token_ref(token)), DEST_SERVICE_SERVES);
    } else {
        no_mail_token(l, err);
    }
}

static void ask_mail_token(struct dest_lookup *l, const struct dest_found *read)
{
    struct error err;
    struct mail_token_of of = token_of(&l->ref, l->key, read->dest);
    l->mail_dest = destination_ref(read->dest);
    l->no_token_reason = read->err;
    log_line(LOG_DEBUG, "dest", "%s: %s", l->description, l->no_token_reason.text);
    l->mail_token = mail_token_get(l->lookups->oauth, l->lookups->connectivity, &of,
                                   (struct oauth_handler){on_mail_token, l}, &err);
    if (!l->mail_token) {
        no_mail_token(l, &err);
    }
}

void dest_lookup_refused(struct dest_lookups *lookups, const struct service_key *key,
                         const struct dest_ref *ref, const struct destination *dest,
                         const struct token *token)
{
    if (dest->auth == AUTH_CLIENT_CREDENTIALS) {
        struct mail_token_of of = token_of(ref, key, dest);
        mail_token_refused(lookups->oauth, &of, token);
    }
}

/* ---- answers ---- */

/* Makes a result of the answer. Returns NULL and sets read->err when the token for the mail server
 * is unusable. */
static struct dest_result *take_answer(const struct dest_lookup *l, struct dest_found *read)
{
    struct token *token = NULL;
    if (read->token.n) {
        int64_t now = loop_now(l->lookups->loop);
        int64_t lifetime = read->token_lifetime ? read->token_lifetime : TOKEN_LIFETIME;
        token = token_new(secret_str(&read->token), now + lifetime, &read->err);
        if (!token) {
            return NULL;
        }
        token->received = now;
    }
    return result_new(read->dest, token);
}

/* Keeps a new refresh token instead of the one that the client sends, and forgets one that is
 * refused. */
static void note_refresh_token(const struct dest_lookup *l, const struct dest_found *read,
                               enum fail result)
{
    if (l->kind != DEST_KIND_USER || l->config->auth != AUTH_REFRESH_TOKEN) {
        return;
    }
    if (read->refresh_token.n) {
        oauth_refresh_tokens_keep(l->lookups->refresh_tokens, l->sent_by, &read->refresh_token);
    } else if (result == FAIL_AUTH) {
        oauth_refresh_tokens_drop(l->lookups->refresh_tokens, l->sent_by);
    }
}

static bool with_tokens(enum dest_kind kind)
{
    return kind == DEST_KIND_LOG_IN || kind == DEST_KIND_USER;
}

/* Returns the state of the service. If it finds fault with one question (400), it still serves the
 * others. */
static enum dest_service_state state_of(int status, enum fail fail)
{
    if (fail == FAIL_AUTH || status == 400) {
        return DEST_SERVICE_SERVES;
    }
    return fail == FAIL_REMOTE || fail == FAIL_CONFIG ? DEST_SERVICE_FAILS : DEST_SERVICE_UNKNOWN;
}

/* Tells whether the answer leaves open what the destination is now. A redirect does: a person has
 * to act, but the answer does not come from the service itself. */
static bool leaves_open(int status, enum fail fail)
{
    return fail_may_pass(fail) || fail == FAIL_AUTH || status / 100 == 3;
}

static void read_answer(struct dest_lookup *l, const struct http_answer *answer,
                        struct dest_found *read)
{
    const struct dest_question question = {
        .instance = l->instance,
        .level = l->ref.level,
        .fragment = l->ref.fragment,
        .chain = l->ref.chain,
        .access_token = secret_str(&l->token->value),
        .with_token = with_tokens(l->kind),
        .user_token = secret_str(&l->user_token),
        .allow_loopback = l->lookups->allow_loopback,
    };
    dest_answer_read(&question, answer->head, answer->body, read);
    if (read->dest) {
        dest_trust_stores_share(&l->lookups->trust_stores, read->dest);
    }
}

static void use_answer(struct dest_lookup *l, const struct http_head *head, struct dest_found *read)
{
    int status = head->status;
    struct dest_result *result = read->dest ? take_answer(l, read) : NULL;
    enum fail fail = result ? FAIL_NONE : read->err.fail;
    note_result(l, fail);
    note_refresh_token(l, read, fail);
    if (result && !result->token && l->kind == DEST_KIND_LOG_IN &&
        result->dest->auth == AUTH_CLIENT_CREDENTIALS) {
        dest_result_unref(result);
        ask_mail_token(l, read);
    } else if (leaves_open(status, fail)) {
        lookup_failed(l, &read->err, http_retry_after(head), state_of(status, fail));
    } else {
        lookup_answered(l, result ? result : dest_refusal(read->verdict, read->err.text),
                        DEST_SERVICE_SERVES);
    }
}

static bool shows_code(const struct dest_lookup *l)
{
    return l->kind == DEST_KIND_USER && l->config->auth == AUTH_AUTHORIZATION_CODE;
}

/* Ends the lookup of a client that sent a code. Nobody knows whether the code is still good, so the
 * client has to send a new one. */
static void code_not_taken(struct dest_lookup *l)
{
    struct error err;
    oauth_refused(l->lookups->oauth, &l->grant, l->token);
    error_set(&err, FAIL_REMOTE,
              "Destination service instance \"%.100s\": the service has refused its access token "
              "(401); log in again, with a new code",
              l->instance);
    lookup_failed(l, &err, 0, DEST_SERVICE_UNKNOWN);
}

static void renew_token(struct dest_lookup *l)
{
    oauth_refused(l->lookups->oauth, &l->grant, l->token);
    token_unref(l->token);
    l->token = NULL;
    l->renewed = true;
    ask_access_token(l);
}

/* Notes whether the service has accepted the access token. Returns true if it has not and another
 * one was asked for, or the client has to come again with another code. */
static bool token_is_renewed(struct dest_lookup *l, int status, const char *text)
{
    struct token_refusals *refusals = &l->lookups->refusals;
    if (status != 401) {
        token_refusals_accepted(refusals, &l->at);
        return false;
    }
    if (!token_refusals_add(refusals, &l->at, secret_str(&l->token->value), !l->renewed,
                            loop_now(l->lookups->loop), text)) {
        return false;
    }
    note_result(l, FAIL_AUTH);
    if (shows_code(l)) {
        code_not_taken(l);
    } else {
        renew_token(l);
    }
    return true;
}

static void on_lookup_answer(const struct http_answer *answer, const struct error *err, void *arg)
{
    struct dest_lookup *l = arg;
    struct dest_found read;
    l->call = NULL;
    http_origin_release(l->origin);
    l->origin = NULL;
    if (!answer) {
        token_refusals_undecided(&l->lookups->refusals, &l->at, loop_now(l->lookups->loop));
        note_result(l, err->fail);
        not_asked(l, err);
        return;
    }
    read_answer(l, answer, &read);
    if (!token_is_renewed(l, answer->head->status, read.err.text)) {
        use_answer(l, answer->head, &read);
    }
    dest_found_clear(&read);
}

/* ---- the request ---- */

/* Adds a header line; nothing when the value is empty. */
static int add_header(struct buf *headers, const char *name, const struct secret *value)
{
    if (value->n == 0) {
        return OK;
    }
    bool fits = buf_fmt(headers, "%s", name) == OK && buf_add(headers, value->p, value->n) == OK &&
                buf_add(headers, "\r\n", 2) == OK;
    return fits ? OK : ERR;
}

static int write_headers(const struct dest_lookup *l, struct buf *headers)
{
    if (buf_fmt(headers, "Accept: application/json\r\n") == ERR ||
        add_header(headers, "Authorization: Bearer ", &l->token->value) == ERR ||
        dest_request_headers(headers, &l->ref, dest_request_tenant(&l->ref, l->key)) == ERR) {
        return ERR;
    }
    if (l->kind != DEST_KIND_USER) {
        return OK;
    }
    if (!shows_code(l)) {
        return add_header(headers, "X-refresh-token: ", &l->user_token);
    }
    const struct token_service *tokens = l->config->tokens;
    if (add_header(headers, "X-code: ", &l->user_token) == ERR ||
        add_header(headers, "X-redirect-uri: ", &tokens->redirect_uri) == ERR ||
        add_header(headers, "X-code-verifier: ", &tokens->code_verifier) == ERR) {
        return ERR;
    }
    return OK;
}

/* Returns the way to the service. A token of Cloud Identity Services is bound to the certificate of
 * its key, so that is shown. */
static struct http_way way_of(const struct dest_lookup *l)
{
    return (struct http_way){
        .connect_timeout = l->lookups->connect_timeout,
        .allow_local = true,
        .certificate = l->key->ias ? l->key->certificate : NULL,
        .key = l->key->ias ? &l->key->private_key : NULL,
    };
}

static int write_target(const struct dest_lookup *l, const struct url *url, struct buf *target)
{
    struct str base = str_eq(url->path, "/") ? str_of("") : url->path;
    return dest_request_target(target, base, &l->ref, with_tokens(l->kind));
}

static void ask_service(struct dest_lookup *l)
{
    struct url url;
    char space[TARGET_MAX];
    struct buf target = BUF_ON(space), headers;
    const char *wrong;
    struct error err;
    int rc = url_parse(str_of(l->key->uri), &url, &wrong);
    if (rc == OK && write_target(l, &url, &target) == ERR) {
        wrong = "is too long";
        rc = ERR;
    }
    if (rc == ERR) {
        error_set(&err, FAIL_CONFIG, "its uri %s", wrong);
        not_asked(l, &err);
        return;
    }
    const struct http_way way = way_of(l);
    l->origin = http_origin_use(l->lookups->origins, &url, &way, &err);
    if (!l->origin) {
        not_asked(l, &err);
        return;
    }
    buf_init(&headers, HEADERS_MAX);
    if (write_headers(l, &headers) == ERR) {
        buf_wipe(&headers);
        error_set(&err, FAIL_LIMIT, "the header fields of the request have more than %d octets",
                  HEADERS_MAX);
        not_asked(l, &err);
        return;
    }
    const struct http_message message = {
        .method = "GET",
        .target = buf_str(&target),
        .headers = buf_str(&headers),
        .once = shows_code(l),
        .answer_timeout = l->lookups->answer_timeout,
        .body_max = DEST_ANSWER_MAX,
    };
    l->asked = loop_now(l->lookups->loop);
    l->call = http_start(http_origin_client(l->origin), &message,
                         (struct http_handler){.done = on_lookup_answer, .arg = l});
    buf_wipe(&headers);
}

/* Uses the token, unless the service has refused it just now. */
static void use_access_token(struct dest_lookup *l, struct token *token)
{
    const struct token_refusal *refusal = token_refusals_ask(
        &l->lookups->refusals, &l->at, secret_str(&token->value), loop_now(l->lookups->loop));
    if (refusal) {
        lookup_refused(l, VERDICT_UNREADABLE, refusal->text);
    } else {
        l->token = token_ref(token);
        ask_service(l);
    }
}

static void on_access_token(struct token *token, const struct error *err, void *arg)
{
    struct dest_lookup *l = arg;
    l->wait = NULL;
    if (token) {
        use_access_token(l, token);
    } else if (l->ref.tenant && (err->fail == FAIL_CONFIG || err->fail == FAIL_AUTH)) {
        tenant_refused(l, err);
    } else {
        not_asked(l, err);
    }
}

static void ask_access_token(struct dest_lookup *l)
{
    l->wait = oauth_get(l->lookups->oauth, &l->grant, (struct oauth_handler){on_access_token, l});
}

/* ---- the start ---- */

/* Sets the token or code that is sent. The key of a newer refresh token is the reference and the
 * token that the client sent; the user name is not part of it. */
static void set_user(struct dest_lookup *l, const struct dest_wanted *wanted)
{
    const struct secret *sent = wanted->user_token;
    const struct str parts[] = {wanted->ref_key, secret_str(sent)};
    digest_sha256(l->sent_by, parts, ARRAY_LEN(parts));
    l->config = destination_ref(wanted->config);
    const struct secret *newer =
        l->config->auth == AUTH_REFRESH_TOKEN
            ? oauth_refresh_tokens_find(l->lookups->refresh_tokens, l->sent_by)
            : NULL;
    const struct secret *token = newer ? newer : sent;
    secret_set(&l->user_token, token->p, token->n);
}

/* Returns words such as: destination inbox@subaccount of instance "prod" for tenant "a". The caller
 * frees them. */
static char *describe(const struct dest_wanted *wanted)
{
    const struct dest_ref *ref = wanted->ref;
    char name[120], text[400];
    text_printable(name, sizeof(name), str_of(ref->name));
    text_fmt(text, sizeof(text), "destination %s%s%s of instance \"%.100s\"%s%s%s", name,
             ref->level ? "@" : "", ref->level ? ref->level : "", wanted->instance,
             ref->tenant ? " for tenant \"" : "", ref->tenant ? ref->tenant : "",
             ref->tenant ? "\"" : "");
    return mem_strdup(text);
}

/* Returns the digest of the service, with this key, and of the tenant. */
static struct refused_at refused_at_of(const struct dest_lookup *l)
{
    struct refused_at at;
    const char *tenant = l->ref.tenant;
    const struct str end = {"", 1}; /* no part contains a NUL */
    const struct str parts[] = {
        str_of(l->instance),       end, str_of(l->key->uri),        end,
        str_of(l->key->client_id), end, str_of(tenant ? "t" : "p"), str_of(tenant ? tenant : "")};
    digest_sha256(at.digest, parts, ARRAY_LEN(parts));
    return at;
}

struct dest_lookup *dest_lookup_start(struct dest_lookups *lookups,
                                      const struct dest_wanted *wanted,
                                      struct dest_lookup_handler handler)
{
    struct dest_lookup *l = mem_zalloc(sizeof(*l));
    *l = (struct dest_lookup){
        .lookups = lookups,
        .handler = handler,
        .kind = wanted->kind,
        .instance = mem_strdup(wanted->instance),
        .key = service_key_ref(wanted->key),
        .ref = dest_ref_copy(wanted->ref),
        .description = describe(wanted),
    };
    l->at = refused_at_of(l);
    if (service_grant(l->key, l->ref.tenant, &l->url, &l->grant, NULL) == ERR) {
        assert(false); /* dest_request_check has tried it */
    }
    if (l->kind == DEST_KIND_USER) {
        set_user(l, wanted);
    }
    ask_access_token(l);
    return l;
}
