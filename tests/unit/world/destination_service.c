/* The two servers of tests of destinations, and their questions. */
#include "tests/unit/world/destination_service.h"

struct dest *dest;
struct dest_source *source;
struct http_peer auth, service;
int status, auth_status;
const char *headers, *body;
bool silent, auth_silent;
int refuse_tokens;
unsigned tokens;
char bearer[256];
char target[1024];
char client[64];
char authority[64];
bool with_secret;
char shown[1024];
unsigned with_user;
int own_status;
const char *own_body;
unsigned own_requests;
char own_authority[64];

/* ---- the servers ---- */

static const char *auth_answer(struct http_peer *p, const struct http_head *head, struct str sent)
{
    static char text[128];
    struct str host = {NULL, 0};
    (void)p;
    assert_true(http_find_header(head, "Host", &host));
    host = str_cut(&host, ':');
    str_cut(&sent, '&');
    struct str id = str_cut(&sent, '&');
    if (str_eq(id, "client_id=c")) {
        own_requests++;
        text_fmt(own_authority, sizeof(own_authority), "%.*s", STR_ARG(host));
        return peer_answer(own_status, "", own_body);
    }
    text_fmt(client, sizeof(client), "%.*s", STR_ARG(id));
    text_fmt(authority, sizeof(authority), "%.*s", STR_ARG(host));
    with_secret = str_istarts(sent, "client_secret=");
    if (auth_silent) {
        return NULL;
    }
    if (auth_status != 200) {
        return peer_answer(auth_status, "", "{\"error\":\"unauthorized\"}");
    }
    tokens++;
    text_fmt(text, sizeof(text), "{\"access_token\":\"" TOKEN "-%u\",\"expires_in\":\"43199\"}",
             tokens);
    return peer_answer(200, "", text);
}

/* Records all our header fields, in their order. */
static void note_fields(const struct http_head *head)
{
    size_t n = 0;
    shown[0] = '\0';
    for (size_t i = 0; i < head->header_count; i++) {
        const struct http_header *h = &head->headers[i];
        if (str_istarts(h->name, "X-")) {
            n += text_fmt(shown + n, sizeof(shown) - n, "%.*s=%.*s ", STR_ARG(h->name),
                          STR_ARG(h->value));
        }
    }
    with_user += strstr(shown, "X-refresh-token=") || strstr(shown, "X-code=");
}

static const char *service_answer(struct http_peer *p, const struct http_head *head,
                                  struct str sent)
{
    struct str shown_token = {NULL, 0}, accept = {NULL, 0};
    (void)p;
    assert_str(head->method, "GET");
    assert_int_equal(sent.n, 0);
    assert_true(http_find_header(head, "Authorization", &shown_token));
    assert_true(http_find_header(head, "Accept", &accept));
    assert_str(accept, "application/json");
    text_fmt(bearer, sizeof(bearer), "%.*s", STR_ARG(shown_token));
    text_fmt(target, sizeof(target), "%.*s", STR_ARG(head->target));
    note_fields(head);
    if (silent) {
        return NULL;
    }
    if (refuse_tokens) {
        refuse_tokens--;
        return peer_answer(401, "", "");
    }
    return peer_answer(status, headers, body);
}

void serve(int with, const char *text)
{
    status = with;
    headers = "";
    body = text;
}

const char *oauth_body(const char *kind, const char *more, const char *auth_tokens)
{
    static char text[2048];
    text_fmt(text, sizeof(text),
             "{\"destinationConfiguration\":{" MAIL ",\"Authentication\":\"OAuth2%s\","
             "\"clientId\":\"c\",\"clientSecret\":\"sw0rdfish\","
             "\"tokenServiceURL\":\"http://127.0.0.1:%d/token\"%s}%s%s}",
             kind, auth.port, more, auth_tokens ? ",\"authTokens\":" : "",
             auth_tokens ? auth_tokens : "");
    return text;
}

const char *token_body(const char *kind, const char *more, const char *token,
                       const char *expires_in, const char *refresh_token)
{
    char list[256];
    text_fmt(list, sizeof(list),
             "[{\"type\":\"bearer\",\"value\":\"%s\",\"expires_in\":\"%s\","
             "\"refresh_token\":\"%s\"}]",
             token, expires_in, refresh_token);
    return oauth_body(kind, more, list);
}

const char *with_token(const char *token, const char *expires_in)
{
    return token_body("ClientCredentials", "", token, expires_in, "");
}

/* ---- the world ---- */

const char *dest_hosts = "/nonexistent";

static const char *const dest_secrets[] = {
    SECRET, PASSWORD, TOKEN, MAIL_TOKEN, "sw0rdfish", "1//what-alice", "4/code", NULL,
};

void set_key(const char *instance, const char *id, const char *secret, const char *uri)
{
    static char text[8192];
    char usual[64];
    struct error err;
    text_fmt(usual, sizeof(usual), "http://127.0.0.1:%d", service.port);
    text_fmt(text, sizeof(text),
             "{\"stringData\":{\"clientid\":\"%s\",\"clientsecret\":\"%s\","
             "\"url\":\"http://127.0.0.1:%d\",\"uri\":\"%s\"}}",
             id, secret, auth.port, uri ? uri : usual);
    struct json *doc = json_parse(str_of(text), &err);
    assert_non_null(doc);
    const struct service_key *key =
        service_key_from_secret(json_root(doc), NULL, SERVICE_KEY_DESTINATION, &err);
    if (!key) {
        fail_msg("%s", err.text);
    }
    dest_set_instance(dest, instance, key, "is not told beside a key");
    service_key_unref(key);
    json_free(doc);
}

int setup(void **state)
{
    (void)state;
    world_open(dest_secrets, dest_hosts);
    dest = dest_new(loop, dns, oauth, NULL, NULL, true);
    source = dest_service(dest);
    auth = (struct http_peer){.answer = auth_answer};
    service = (struct http_peer){.answer = service_answer};
    world_add(&auth);
    world_add(&service);
    silent = auth_silent = false;
    refuse_tokens = 0;
    tokens = 0;
    auth_status = 200;
    own_status = 401;
    own_body = "{\"error\":\"invalid_client\"}";
    own_requests = with_user = 0;
    serve(200, BASIC);
    set_key("prod", "client", SECRET, NULL);
    return 0;
}

int teardown(void **state)
{
    (void)state;
    dest_free(dest);
    world_close();
    return 0;
}

/* ---- asking ---- */

static void on_found(const struct dest_answer *answer, void *arg)
{
    struct asker *a = arg;
    a->request = NULL;
    a->answers++;
    a->verdict = answer->verdict;
    assert_true((answer->dest != NULL) == (answer->verdict == VERDICT_OK));
    if (answer->dest) {
        a->port = answer->dest->port;
        a->auth = answer->dest->auth;
    } else {
        a->err = answer->err;
        assert_null(answer->token);
        assert_true(a->err.text[0]);
        expect_no_secret(a->err.text);
    }
    if (answer->token) {
        text_fmt(a->token, sizeof(a->token), "%s", answer->token->value.p);
        a->expires = answer->token->expires;
        a->last = answer->token;
    }
}

void ask_ref(struct asker *a, const struct dest_ref *ref, enum dest_purpose purpose,
             const struct dest_user *user)
{
    *a = (struct asker){0};
    a->request = dest_find(source, ref, purpose, user, (struct dest_handler){on_found, a});
    assert_non_null(a->request);
    assert_int_equal(a->answers, 0);
}

void ask_for(struct asker *a, const char *instance, const char *name, enum dest_purpose purpose)
{
    struct dest_ref ref = {.name = name, .instance = instance};
    ask_ref(a, &ref, purpose, NULL);
}

void ask(struct asker *a, enum dest_purpose purpose)
{
    ask_for(a, "prod", "inbox", purpose);
}

void expect_port(enum dest_purpose purpose, uint16_t port)
{
    struct asker a;
    ask(&a, purpose);
    await(&a.answers);
    if (a.port != port) {
        fail_msg("port %d: %s", a.port, a.err.text);
    }
    settle();
}

void expect_refusal(enum dest_purpose purpose, enum verdict verdict, enum fail fail,
                    const char *text)
{
    struct asker a;
    ask(&a, purpose);
    await(&a.answers);
    assert_string_equal(a.err.text, text);
    assert_int_equal(a.verdict, verdict);
    assert_int_equal(a.err.fail, fail);
    settle();
}
