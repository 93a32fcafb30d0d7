/* Destinations from a Destination service and an authorization server that the test plays, over
 * loopback sockets. Time stands still unless a test moves it. */
#include "dest.h"

#include <stdio.h>

#include "core/service_key.h"
#include "core/token.h"
#include "dest_source.h"
#include "lib/dns.h"
#include "lib/log.h"
#include "oauth.h"
#include "tests/unit/http_peer.h"
#include "tests/unit/tls_peer.h"

#define SECRET "s3cret-of-the-instance"
#define PASSWORD "wonderland"
#define TOKEN "access-token-of-the-instance"
#define MAIL_TOKEN "access-token-for-the-mail-server"

#define MAIL                                                                                       \
    "\"Name\":\"inbox\",\"Type\":\"MAIL\",\"ProxyType\":\"Internet\","                             \
    "\"mail.transport.protocol\":\"pop3s\",\"mail.pop3s.host\":\"mail.example.com\","              \
    "\"mail.user\":\"alice\""
#define BASIC "{\"destinationConfiguration\":{" MAIL ",\"mail.password\":\"" PASSWORD "\"}}"
#define MOVED                                                                                      \
    "{\"destinationConfiguration\":{" MAIL ",\"mail.pop3s.port\":\"9950\","                        \
    "\"mail.password\":\"" PASSWORD "\"}}"
#define NOT_FOUND "{\"ErrorMessage\":\"Configuration with the specified name was not found\"}"

enum { ASKERS = 200 };

static struct loop *loop;
static struct dns *dns;
static struct oauth *oauth;
static struct dest *dest;
static struct dest_source *source;
static struct http_peer auth, service;
static FILE *log_file;

/* What the two answer. */
static int status, auth_status;
static const char *headers, *body;
static bool silent, auth_silent;
static int refuse_tokens; /* so many requests get a 401 */
static unsigned tokens;   /* given */
static char target[1024]; /* of the last request to the service */
static char client[64];   /* the last client at the authorization server */
static char shown[256];   /* the user token in the last request, and what goes with it */
static unsigned with_user;

/* What the authorization server answers to the client of a destination. */
static int own_status;
static const char *own_body;
static unsigned own_requests;

/* What one who asked has got. */
struct asker {
    struct dest_request *request;
    int answers;
    enum verdict verdict;
    uint16_t port; /* of the destination; 0: there is none */
    enum mail_auth auth;
    char token[64];
    struct token *last; /* valid as long as the cache has it */
    int64_t expires;
    struct error err;
};

/* ---- the servers ---- */

static const char *auth_answer(struct http_peer *p, const struct http_head *head, struct str sent)
{
    static char text[128];
    (void)p;
    (void)head;
    str_cut(&sent, '&');
    struct str id = str_cut(&sent, '&');
    if (str_eq(id, "client_id=c")) {
        own_requests++;
        return peer_answer(own_status, "", own_body);
    }
    text_fmt(client, sizeof(client), "%.*s", STR_ARG(id));
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

static void note_user(const struct http_head *head)
{
    static const char *const names[] = {"X-refresh-token", "X-code", "X-redirect-uri",
                                        "X-code-verifier"};
    struct str value;
    shown[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (http_find_header(head, names[i], &value)) {
            size_t n = strlen(shown);
            text_fmt(shown + n, sizeof(shown) - n, "%s=%.*s ", names[i], STR_ARG(value));
        }
    }
    with_user += shown[0] != '\0';
}

static const char *service_answer(struct http_peer *p, const struct http_head *head,
                                  struct str sent)
{
    char wanted[64];
    struct str bearer = {NULL, 0}, accept = {NULL, 0};
    (void)p;
    assert_str(head->method, "GET");
    assert_int_equal(sent.n, 0);
    assert_true(http_find_header(head, "Authorization", &bearer));
    assert_true(http_find_header(head, "Accept", &accept));
    assert_str(accept, "application/json");
    text_fmt(wanted, sizeof(wanted), "Bearer " TOKEN "-%u", tokens);
    assert_str(bearer, wanted);
    text_fmt(target, sizeof(target), "%.*s", STR_ARG(head->target));
    note_user(head);
    if (silent) {
        return NULL;
    }
    if (refuse_tokens) {
        refuse_tokens--;
        return peer_answer(401, "", "");
    }
    return peer_answer(status, headers, body);
}

static void serve(int with, const char *text)
{
    status = with;
    headers = "";
    body = text;
}

/* A destination with a token service at the authorization server. `tokens`: what authTokens is, if
 * it is there. */
static const char *oauth_body(const char *kind, const char *more, const char *auth_tokens)
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

/* An answer with a token for the mail server. */
static const char *token_body(const char *kind, const char *more, const char *token,
                              const char *expires_in, const char *refresh_token)
{
    char list[256];
    text_fmt(list, sizeof(list),
             "[{\"type\":\"bearer\",\"value\":\"%s\",\"expires_in\":\"%s\","
             "\"refresh_token\":\"%s\"}]",
             token, expires_in, refresh_token);
    return oauth_body(kind, more, list);
}

static const char *with_token(const char *token, const char *expires_in)
{
    return token_body("ClientCredentials", "", token, expires_in, "");
}

/* ---- the world ---- */

static void no_chance(void *out, size_t n)
{
    memset(out, 0, n);
}

/* uri: of the service; NULL: where it is. */
static void set_key(const char *instance, const char *id, const char *secret, const char *uri)
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

static int setup(void **state)
{
    (void)state;
    test_sys_init();
    test_sys.random = no_chance;
    log_file = tmpfile();
    log_open(fileno(log_file), LOG_FORMAT_JSON);
    log_set_level(LOG_TRACE);
    loop = loop_new(NULL);
    dns = dns_new(loop, "/nonexistent", "/nonexistent");
    oauth = oauth_new(loop, dns, NULL);
    dest = dest_new(loop, dns, oauth, NULL, NULL, false);
    source = dest_service(dest);
    auth = (struct http_peer){.answer = auth_answer};
    service = (struct http_peer){.answer = service_answer};
    peer_open(&auth, 0);
    peer_open(&service, 0);
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

static size_t read_log(char *text, size_t cap)
{
    log_flush_wait();
    fseek(log_file, 0, SEEK_SET);
    size_t n = fread(text, 1, cap - 1, log_file);
    text[n] = '\0';
    return n;
}

/* How often the log says so. */
static int logged(const char *what)
{
    static char text[1 << 20];
    int n = 0;
    read_log(text, sizeof(text));
    for (const char *p = text; (p = strstr(p, what)) != NULL; p++) {
        n++;
    }
    return n;
}

static void expect_no_secret(const char *text)
{
    static const char *const secrets[] = {SECRET,      PASSWORD,        TOKEN,   MAIL_TOKEN,
                                          "sw0rdfish", "1//what-alice", "4/code"};
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
        if (strstr(text, secrets[i])) {
            fail_msg("%s in: %s", secrets[i], text);
        }
    }
}

static int teardown(void **state)
{
    static char text[1 << 20];
    (void)state;
    dest_free(dest);
    oauth_free(oauth);
    dns_free(dns);
    peer_close(&auth);
    peer_close(&service);
    turn_quietly(loop);
    assert_int_equal(conn_count(), 0);
    loop_free(loop);
    read_log(text, sizeof(text));
    expect_no_secret(text);
    log_open(2, LOG_FORMAT_TEXT);
    fclose(log_file);
    sys = &sys_real;
    return 0;
}

static bool run_peers(void)
{
    bool busy = peer_run(&auth);
    return peer_run(&service) || busy;
}

static void settle_once(void)
{
    loop_turn(loop, false);
    run_peers();
}

static void settle(void)
{
    for (int quiet = 0; quiet < 20; quiet++) {
        loop_turn(loop, false);
        if (run_peers()) {
            quiet = 0;
        }
    }
}

static void pass(int64_t time)
{
    test_now += time;
    settle();
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

static void ask_for(struct asker *a, const char *instance, const char *name,
                    enum dest_purpose purpose)
{
    struct dest_ref ref = {.name = name, .instance = instance};
    *a = (struct asker){0};
    a->request = dest_find(source, &ref, purpose, NULL, (struct dest_handler){on_found, a});
    assert_non_null(a->request);
    assert_int_equal(a->answers, 0);
}

static void ask(struct asker *a, enum dest_purpose purpose)
{
    ask_for(a, "prod", "inbox", purpose);
}

static void await_answer(struct asker *a)
{
    int64_t until = sys_real.now() + SECONDS(5);
    while (!a->answers) {
        settle();
        if (sys_real.now() > until) {
            fail_msg("no answer");
        }
    }
    assert_int_equal(a->answers, 1);
}

/* The destination is found at this port. */
static void expect_port(enum dest_purpose purpose, uint16_t port)
{
    struct asker a;
    ask(&a, purpose);
    await_answer(&a);
    if (a.port != port) {
        fail_msg("port %d: %s", a.port, a.err.text);
    }
    settle();
}

static void expect_refusal(enum dest_purpose purpose, enum verdict verdict, enum fail fail,
                           const char *text)
{
    struct asker a;
    ask(&a, purpose);
    await_answer(&a);
    assert_string_equal(a.err.text, text);
    assert_int_equal(a.verdict, verdict);
    assert_int_equal(a.err.fail, fail);
    settle();
}

static const char not_found[] = "Destination service instance \"prod\" does not have it: "
                                "Configuration with the specified name was not found";
static const char down[] = "Destination service instance \"prod\" does not serve (503)";

/* ---- tests: questions ---- */

static void the_request(void **state)
{
    (void)state;
    expect_port(DEST_TO_LOG_IN, 995);
    assert_string_equal(client, "client_id=client");
    assert_string_equal(target, "/destination-configuration/v1/destinations/inbox");
    expect_port(DEST_TO_CHECK, 995);
    assert_string_equal(target, "/destination-configuration/v1/destinations/inbox"
                                "?$skipTokenRetrieval=true");
    assert_int_equal(tokens, 1);

    struct asker a;
    ask_for(&a, "prod", "a b/c?d=\xC3\xA4%", DEST_TO_LOG_IN);
    await_answer(&a);
    assert_string_equal(target,
                        "/destination-configuration/v1/destinations/a%20b%2Fc%3Fd%3D%C3%A4%25");

    char uri[64];
    text_fmt(uri, sizeof(uri), "http://127.0.0.1:%d/behind/a/gateway", service.port);
    set_key("prod", "client", SECRET, uri);
    expect_port(DEST_TO_LOG_IN, 995);
    assert_string_equal(target,
                        "/behind/a/gateway/destination-configuration/v1/destinations/inbox");
}

static void impossible_names(void **state)
{
    (void)state;
    static char huge[1000];
    memset(huge, 'x', sizeof(huge) - 1);
    const char *const names[] = {"", ".", "..", huge};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct asker a;
        ask_for(&a, "prod", names[i], DEST_TO_CHECK);
        await_answer(&a);
        assert_int_equal(a.verdict, VERDICT_NOT_FOUND);
        assert_string_equal(a.err.text, "no destination can have this name");
        assert_int_equal(a.err.fail, FAIL_CONFIG);
    }
    assert_int_equal(service.requests, 0);
}

static void one_request_for_all(void **state)
{
    (void)state;
    static struct asker askers[ASKERS];
    serve(200, with_token(MAIL_TOKEN, "3600"));
    for (size_t i = 0; i < ASKERS; i++) {
        ask(&askers[i], DEST_TO_LOG_IN);
    }
    settle();
    for (size_t i = 0; i < ASKERS; i++) {
        assert_int_equal(askers[i].answers, 1);
        assert_string_equal(askers[i].token, MAIL_TOKEN);
    }
    assert_int_equal(service.requests, 1);
    assert_int_equal(auth.requests, 1);
}

static void ages(void **state)
{
    (void)state;
    expect_port(DEST_TO_LOG_IN, 995);
    expect_port(DEST_TO_CHECK, 995);
    assert_int_equal(service.requests, 2);

    serve(200, MOVED);
    pass(SECONDS(10) - 1);
    expect_port(DEST_TO_CHECK, 995);
    pass(SECONDS(90));
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 2);

    /* A refresh ahead: the old one now, the new one from then on. */
    pass(1);
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 3);
    expect_port(DEST_TO_LOG_IN, 9950);
    expect_port(DEST_TO_CHECK, 9950);
    assert_int_equal(service.requests, 4);

    serve(200, BASIC);
    pass(SECONDS(120));
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 5);
}

static void mail_tokens(void **state)
{
    (void)state;
    struct asker a;
    serve(200, with_token(MAIL_TOKEN, "3600"));
    ask(&a, DEST_TO_LOG_IN);
    await_answer(&a);
    assert_int_equal(a.auth, AUTH_CLIENT_CREDENTIALS);
    assert_string_equal(a.token, MAIL_TOKEN);
    assert_int_equal(a.expires, test_now + SECONDS(3600));

    /* To check, none is wanted. */
    ask(&a, DEST_TO_CHECK);
    await_answer(&a);
    assert_int_equal(a.port, 995);
    assert_string_equal(a.token, "");

    /* One that lives shorter than the destination is fetched again earlier. */
    serve(200, with_token("second", "40"));
    pass(SECONDS(120));
    ask(&a, DEST_TO_LOG_IN);
    await_answer(&a);
    serve(200, with_token("third", ""));
    pass(SECONDS(25) - 1);
    ask(&a, DEST_TO_LOG_IN);
    settle();
    assert_int_equal(service.requests, 3);
    pass(1);
    ask(&a, DEST_TO_LOG_IN);
    settle();
    assert_string_equal(a.token, "second");
    assert_int_equal(service.requests, 4);

    /* One whose lifetime is not said counts for two minutes. */
    ask(&a, DEST_TO_LOG_IN);
    settle();
    assert_string_equal(a.token, "third");
    assert_int_equal(a.expires, test_now + SECONDS(120));
    serve(503, "");
    pass(SECONDS(110) - 1);
    ask(&a, DEST_TO_LOG_IN);
    settle();
    assert_string_equal(a.token, "third");
    pass(1);
    ask(&a, DEST_TO_LOG_IN);
    settle();
    assert_string_equal(a.token, "");
}

#define REFUSED_TOO                                                                                \
    "; asked directly: authorization server 127.0.0.1 refuses the client (401: invalid_client)"

static void no_mail_token(void **state)
{
    (void)state;
    serve(200, oauth_body("ClientCredentials", "",
                          "[{\"type\":\"\",\"value\":\"\",\"error\":\"Unable to fetch it: 401 "
                          "sw0rdfish\"}]"));
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_AUTH,
                   "the Destination service has no access token for it: (not shown: a secret is in "
                   "it)" REFUSED_TOO);
    serve(200, oauth_body("ClientCredentials", "", NULL));
    pass(SECONDS(1));
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_AUTH,
                   "the Destination service has no access token for it" REFUSED_TOO);
    expect_port(DEST_TO_CHECK, 995);
    serve(200, with_token("a\\nb", "60"));
    pass(SECONDS(2));
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_TOKEN,
                   "the access token has characters that no token may have");
    serve(200, with_token(MAIL_TOKEN, "60"));
    pass(SECONDS(4));
    expect_port(DEST_TO_LOG_IN, 995);

    /* One that is valid serves on. */
    serve(200, oauth_body("ClientCredentials", "", NULL));
    pass(SECONDS(49));
    expect_port(DEST_TO_LOG_IN, 995);
    pass(SECONDS(1));
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_AUTH,
                   "the Destination service has no access token for it" REFUSED_TOO);
    assert_int_equal(logged("stays in use"), 0);
}

/* ---- tests: refusals that count ---- */

static void not_found_heals(void **state)
{
    (void)state;
    serve(404, NOT_FOUND);
    expect_refusal(DEST_TO_CHECK, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    expect_refusal(DEST_TO_LOG_IN, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    serve(200, BASIC);
    pass(SECONDS(3) - 1);
    expect_refusal(DEST_TO_CHECK, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    assert_int_equal(service.requests, 2);
    pass(1);
    expect_port(DEST_TO_CHECK, 995);
    expect_port(DEST_TO_LOG_IN, 995);
}

/* What the service refuses is not served from memory. */
static void refusals_replace_what_was_known(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
        enum verdict verdict;
        const char *text;
    } table[] = {
        {404, NOT_FOUND, VERDICT_NOT_FOUND, not_found},
        {403, "", VERDICT_UNREADABLE,
         "Destination service instance \"prod\" is not allowed to read it (403)"},
        {200, "{\"destinationConfiguration\":{\"Name\":\"inbox\",\"Type\":\"HTTP\"}}",
         VERDICT_TYPE_NOT_SUPPORTED, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        serve(200, BASIC);
        expect_port(DEST_TO_LOG_IN, 995);
        serve(table[i].status, table[i].body);

        /* A refresh ahead meets it. */
        pass(SECONDS(100));
        expect_port(DEST_TO_LOG_IN, 995);
        struct asker a;
        ask(&a, DEST_TO_LOG_IN);
        await_answer(&a);
        assert_int_equal(a.verdict, table[i].verdict);
        assert_int_equal(a.err.fail, FAIL_CONFIG);
        if (table[i].text) {
            assert_string_equal(a.err.text, table[i].text);
        }
        pass(SECONDS(10));
    }
}

static void renews_the_access_token_once(void **state)
{
    (void)state;
    refuse_tokens = 1;
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 2);
    assert_int_equal(tokens, 2);
    expect_port(DEST_TO_CHECK, 995);
    assert_int_equal(tokens, 2);

    refuse_tokens = 2;
    pass(SECONDS(10));
    expect_refusal(DEST_TO_CHECK, VERDICT_UNREADABLE, FAIL_CONFIG,
                   "Destination service instance \"prod\": the service refuses its access token "
                   "(401)");
    assert_int_equal(service.requests, 5);
    assert_int_equal(tokens, 3);
    pass(SECONDS(10));
    expect_port(DEST_TO_CHECK, 995);
}

static void a_check_tells_the_sessions(void **state)
{
    (void)state;
    expect_port(DEST_TO_LOG_IN, 995);
    expect_port(DEST_TO_CHECK, 995);
    assert_int_equal(service.requests, 2);

    /* Nothing new: nothing is dropped. */
    pass(SECONDS(10));
    expect_port(DEST_TO_CHECK, 995);
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 3);

    serve(200, MOVED);
    pass(SECONDS(10));
    expect_port(DEST_TO_CHECK, 9950);
    expect_port(DEST_TO_LOG_IN, 9950);
    assert_int_equal(service.requests, 5);

    serve(404, NOT_FOUND);
    pass(SECONDS(10));
    expect_refusal(DEST_TO_CHECK, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    expect_refusal(DEST_TO_LOG_IN, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    assert_int_equal(service.requests, 7);

    /* And that it is there again. */
    pass(SECONDS(5));
    expect_refusal(DEST_TO_LOG_IN, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    serve(200, BASIC);
    pass(SECONDS(5));
    expect_port(DEST_TO_CHECK, 995);
    expect_port(DEST_TO_LOG_IN, 995);
}

/* ---- tests: trouble ---- */

static void trouble_backs_off(void **state)
{
    (void)state;
    serve(503, "");
    expect_refusal(DEST_TO_CHECK, VERDICT_UNREADABLE, FAIL_REMOTE, down);
    pass(SECONDS(1) - 1);
    expect_refusal(DEST_TO_CHECK, VERDICT_UNREADABLE, FAIL_REMOTE, down);
    assert_int_equal(service.requests, 1);
    pass(1);
    headers = "Retry-After: 90\r\n";
    expect_refusal(DEST_TO_CHECK, VERDICT_UNREADABLE, FAIL_REMOTE, down);
    assert_int_equal(service.requests, 2);
    serve(200, BASIC);
    pass(SECONDS(90) - 1);
    expect_refusal(DEST_TO_CHECK, VERDICT_UNREADABLE, FAIL_REMOTE, down);
    assert_int_equal(service.requests, 2);
    pass(1);
    expect_port(DEST_TO_CHECK, 995);

    /* Said when it begins and when it is over. */
    assert_int_equal(logged("stays in use"), 1);
    assert_int_equal(logged("serves again"), 1);
}

/* Whatever goes wrong with the service, a destination without a token serves on. */
static void without_the_service(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
    } table[] = {
        {500, ""},
        {502, "<html>Bad Gateway</html>"},
        {429, "{\"ErrorMessage\":\"too many\"}"},
        {404, "404 Not Found: Requested route does not exist."},
        {200, "<html>Maintenance</html>"},
        {200, "{}"},
        {200, "{\"destinationConfiguration\":{\"mail.user\":[]}}"},
    };
    expect_port(DEST_TO_LOG_IN, 995);
    expect_port(DEST_TO_CHECK, 995);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        unsigned before = service.requests;
        serve(table[i].status, table[i].body);
        pass(SECONDS(3600));
        expect_port(DEST_TO_LOG_IN, 995);
        expect_port(DEST_TO_CHECK, 995);
        assert_int_equal(service.requests, before + 2);
    }

    silent = true;
    pass(SECONDS(3600));
    struct asker a;
    ask(&a, DEST_TO_LOG_IN);
    settle();
    assert_int_equal(a.answers, 0);
    pass(SECONDS(10));
    assert_int_equal(a.port, 995);
    silent = false;

    pass(SECONDS(3600));
    peer_close(&service);
    expect_port(DEST_TO_LOG_IN, 995);
    pass(SECONDS(3600));
    auth_status = 500;
    peer_close(&auth);
    pass(SECONDS(24 * 3600));
    expect_port(DEST_TO_LOG_IN, 995);
    expect_port(DEST_TO_CHECK, 995);
}

static void with_its_token_as_long_as_that_is_valid(void **state)
{
    (void)state;
    serve(200, with_token(MAIL_TOKEN, "3600"));
    expect_port(DEST_TO_LOG_IN, 995);
    serve(503, "");
    pass(SECONDS(3590) - 1);
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 2);
    pass(1);
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_REMOTE, down);
}

static void unreachable(void **state)
{
    (void)state;
    char text[200];
    peer_close(&service);
    text_fmt(text, sizeof(text),
             "Destination service instance \"prod\": 127.0.0.1:%d refused the connection",
             service.port);
    expect_refusal(DEST_TO_CHECK, VERDICT_UNREADABLE, FAIL_CONNECT, text);
    peer_open(&service, service.port);
    pass(SECONDS(1));
    expect_port(DEST_TO_CHECK, 995);

    silent = true;
    dest_set_timeouts(dest, SECONDS(1), SECONDS(3));
    pass(SECONDS(120));
    struct asker a;
    ask(&a, DEST_TO_LOG_IN);
    settle();
    assert_int_equal(a.answers, 0);
    pass(SECONDS(3));
    assert_int_equal(a.answers, 1);
    assert_int_equal(a.verdict, VERDICT_UNREADABLE);
    assert_int_equal(a.err.fail, FAIL_TIMEOUT);
}

/* ---- tests: instances ---- */

static void unknown_instances(void **state)
{
    (void)state;
    static const struct {
        const char *instance, *text;
    } table[] = {
        {NULL,
         "Destination service instance name should be provided: there is no default instance"},
        {"test", "Destination service instance \"test\" is not configured"},
        {"te\tst", "Destination service instance \"te?st\" is not configured"},
        {"prod // can be omitted",
         "Destination service instance \"prod // can be omitted\" is not configured; \"//\" begins "
         "no comment in YAML: what follows it is part of the name"},
    };
    struct asker a;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        ask_for(&a, table[i].instance, "inbox", DEST_TO_LOG_IN);
        settle();
        assert_int_equal(a.answers, 1);
        assert_int_equal(a.verdict, VERDICT_INSTANCE_NOT_CONFIGURED);
        assert_int_equal(a.err.fail, FAIL_CONFIG);
        assert_string_equal(a.err.text, table[i].text);
        ask_for(&a, table[i].instance, "inbox", DEST_TO_LOG_IN);
        dest_cancel(source, a.request);
        settle();
        assert_int_equal(a.answers, 0);
    }
    dest_set_instance(dest, "test", NULL, "Its Secret is not there.");
    ask_for(&a, "test", "inbox", DEST_TO_LOG_IN);
    settle();
    assert_int_equal(a.verdict, VERDICT_INSTANCE_NOT_CONFIGURED);
    assert_int_equal(a.err.fail, FAIL_CONFIG);
    assert_string_equal(a.err.text, "Its Secret is not there.");
    set_key("test", "client", SECRET, NULL);
    ask_for(&a, "test", "inbox", DEST_TO_LOG_IN);
    await_answer(&a);
    assert_int_equal(a.port, 995);
}

static void instances_are_apart(void **state)
{
    (void)state;
    struct asker a;
    set_key("test", "another", SECRET, NULL);
    expect_port(DEST_TO_LOG_IN, 995);
    serve(200, MOVED);
    ask_for(&a, "test", "inbox", DEST_TO_LOG_IN);
    await_answer(&a);
    assert_string_equal(client, "client_id=another");
    assert_int_equal(a.port, 9950);
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 2);
}

static void another_key(void **state)
{
    (void)state;
    expect_port(DEST_TO_LOG_IN, 995);
    set_key("prod", "client", SECRET, NULL);
    serve(200, MOVED);
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 1);

    set_key("prod", "another", SECRET, NULL);
    expect_port(DEST_TO_LOG_IN, 9950);
    assert_string_equal(client, "client_id=another");

    /* What was known under the old key does not stand in either. */
    set_key("prod", "third", SECRET, NULL);
    serve(503, "");
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_REMOTE, down);

    /* A lookup under way ends with the key that it began with. */
    struct asker a;
    serve(200, BASIC);
    pass(SECONDS(1));
    ask(&a, DEST_TO_LOG_IN);
    dest_set_instance(dest, "prod", NULL, NULL);
    await_answer(&a);
    assert_int_equal(a.port, 995);
    expect_refusal(DEST_TO_LOG_IN, VERDICT_INSTANCE_NOT_CONFIGURED, FAIL_CONFIG,
                   "Destination service instance \"prod\" is not configured");
}

static void a_key_that_does_not_work(void **state)
{
    (void)state;
    static const char text[] = "the service key of Destination service instance \"prod\" does not "
                               "work: authorization server 127.0.0.1 refuses the client (401: "
                               "unauthorized)";
    auth_status = 401;
    expect_refusal(DEST_TO_CHECK, VERDICT_INSTANCE_NOT_CONFIGURED, FAIL_CONFIG, text);
    assert_int_equal(service.requests, 0);

    /* Another secret is used at once; a corrected server is found soon. */
    auth_status = 200;
    set_key("prod", "client", "corrected", NULL);
    expect_port(DEST_TO_CHECK, 995);
    set_key("prod", "client", SECRET, NULL);
    pass(SECONDS(10));
    expect_port(DEST_TO_CHECK, 995);
}

static void impossible_addresses(void **state)
{
    (void)state;
    char uri[4090];
    size_t n = text_fmt(uri, sizeof(uri), "http://127.0.0.1:%d/", service.port);
    memset(uri + n, 'x', sizeof(uri) - n - 1);
    uri[sizeof(uri) - 1] = '\0';
    set_key("prod", "client", SECRET, uri);
    expect_refusal(
        DEST_TO_CHECK, VERDICT_INSTANCE_NOT_CONFIGURED, FAIL_CONFIG,
        "the service key of Destination service instance \"prod\" does not work: its uri "
        "is too long");
    set_key("prod", "client", SECRET, "http://224.0.0.1");
    struct asker a;
    ask(&a, DEST_TO_CHECK);
    await_answer(&a);
    assert_int_equal(a.verdict, VERDICT_INSTANCE_NOT_CONFIGURED);
    assert_int_equal(a.err.fail, FAIL_CONFIG);
}

/* Who has no good certificate is not the service, and says nothing about a destination. */
static void not_trusted(void **state)
{
    (void)state;
    char uri[64];
    test_sys.random = sys_real.random; /* TLS needs some */
    text_fmt(uri, sizeof(uri), "https://127.0.0.1:%d", tls_peer_port("any"));
    set_key("prod", "client", SECRET, uri);
    struct asker a;
    ask(&a, DEST_TO_CHECK);
    await_answer(&a);
    assert_int_equal(a.verdict, VERDICT_UNREADABLE);
    assert_int_equal(a.err.fail, FAIL_TLS);
    assert_non_null(strstr(a.err.text, "certificate"));
}

static void no_access_token(void **state)
{
    (void)state;
    static const char text[] = "Destination service instance \"prod\": authorization server "
                               "127.0.0.1 gives no token (503: unauthorized)";
    auth_status = 503;
    expect_refusal(DEST_TO_CHECK, VERDICT_UNREADABLE, FAIL_REMOTE, text);
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_REMOTE, text);
    assert_int_equal(auth.requests, 1);
    auth_status = 200;
    pass(SECONDS(1));
    expect_port(DEST_TO_LOG_IN, 995);
}

/* ---- tests: the end ---- */

static void cancelled(void **state)
{
    (void)state;
    struct asker a, b;
    dest_cancel(source, NULL);
    for (int turns = 0; turns < 30; turns++) {
        pass(SECONDS(120));
        ask(&a, DEST_TO_LOG_IN);
        ask(&b, DEST_TO_LOG_IN);
        for (int i = 0; i < turns && a.request; i++) {
            loop_turn(loop, false);
            run_peers();
        }
        int before = a.answers;
        dest_cancel(source, a.request);
        settle();
        assert_int_equal(a.answers, before);
        assert_int_equal(b.answers, 1);
        assert_int_equal(b.port, 995);
    }
}

static void freed_in_every_state(void **state)
{
    struct asker a;
    for (int turns = 0; turns < 30; turns++) {
        ask(&a, DEST_TO_LOG_IN);
        for (int i = 0; i < turns && a.request; i++) {
            loop_turn(loop, false);
            run_peers();
        }
        dest_cancel(source, a.request);
        assert_int_equal(teardown(state), 0);
        assert_int_equal(setup(state), 0);
    }
}

static void metrics(void **state)
{
    (void)state;
    struct buf out;
    expect_port(DEST_TO_LOG_IN, 995);
    expect_port(DEST_TO_LOG_IN, 995);
    serve(404, NOT_FOUND);
    expect_refusal(DEST_TO_CHECK, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    buf_init(&out, 65536);
    dest_metrics(dest, &out);
    assert_int_equal(buf_add(&out, "", 1), OK);
    const char *text = buf_str(&out).p;
    assert_non_null(strstr(text, "tproxy_destination_service_requests_total{result=\"ok\"} 1\n"));
    assert_non_null(
        strstr(text, "tproxy_destination_service_requests_total{result=\"config\"} 1\n"));
    assert_non_null(strstr(text, "tproxy_destination_service_request_seconds_count 2\n"));
    assert_non_null(strstr(text, "tproxy_destination_cache_total{result=\"hits\"} 1\n"));
    assert_non_null(strstr(text, "tproxy_destination_cache_total{result=\"misses\"} 2\n"));
    buf_free(&out);
}

static int start_tls(void **state)
{
    (void)state;
    return tls_peer_start();
}

static int stop_tls(void **state)
{
    (void)state;
    return tls_peer_stop();
}

/* ---- tokens that we get ourselves ---- */

static void own_retrieval(void **state)
{
    (void)state;
    struct asker a, b;
    struct dest_ref ref = {.name = "inbox", .instance = "prod"};
    serve(200, oauth_body("ClientCredentials", "", NULL));
    own_status = 200;
    own_body = "{\"access_token\":\"" MAIL_TOKEN "\",\"expires_in\":3600}";
    ask(&a, DEST_TO_LOG_IN);
    await_answer(&a);
    assert_string_equal(a.token, MAIL_TOKEN);
    assert_int_equal(own_requests, 1);

    /* The destination is read again, the token is known. */
    pass(SECONDS(130));
    ask(&a, DEST_TO_LOG_IN);
    await_answer(&a);
    assert_string_equal(a.token, MAIL_TOKEN);
    assert_int_equal(own_requests, 1);

    /* Refused at the mail server: another one, for all who had it. */
    own_body = "{\"access_token\":\"another\",\"expires_in\":3600}";
    struct token *old = token_ref(a.last);
    dest_refused(source, &ref, NULL, old);
    dest_refused(source, &ref, NULL, old);
    ask(&a, DEST_TO_LOG_IN);
    await_answer(&a);
    dest_refused(source, &ref, NULL, old);
    ask(&b, DEST_TO_LOG_IN);
    await_answer(&b);
    assert_string_equal(a.token, "another");
    assert_string_equal(b.token, "another");
    assert_int_equal(own_requests, 2);
    token_unref(old);
}

/* ---- tokens of users ---- */

#define USER_TOKEN "1//what-alice-has-sent"

/* Asks for a user who has sent this. */
static void ask_as(struct asker *a, const char *user, const char *token)
{
    struct dest_ref ref = {.name = "inbox", .instance = "prod"};
    struct secret secret = {(char *)token, strlen(token)};
    const struct dest_user who = {user, &secret};
    *a = (struct asker){0};
    a->request = dest_find(source, &ref, DEST_TO_LOG_IN, &who, (struct dest_handler){on_found, a});
    assert_int_equal(a->answers, 0);
}

static void expect_token_for(const char *user, const char *user_token, const char *token)
{
    struct asker a;
    ask_as(&a, user, user_token);
    await_answer(&a);
    if (!a.token[0]) {
        fail_msg("%s", a.err.text);
    }
    assert_string_equal(a.token, token);
}

static void expect_auth_failure(const char *user, const char *user_token)
{
    struct asker a;
    ask_as(&a, user, user_token);
    await_answer(&a);
    assert_string_equal(a.token, "");
    assert_int_equal(a.err.fail, FAIL_AUTH);
    assert_non_null(strstr(a.err.text, "with the refresh token or code that was sent: "));
    assert_null(strstr(a.err.text, user_token));
}

static void refresh_tokens(void **state)
{
    (void)state;
    static struct asker askers[ASKERS];
    serve(200, token_body("RefreshToken", "", MAIL_TOKEN, "3600", ""));
    for (size_t i = 0; i < ASKERS; i++) {
        ask_as(&askers[i], "alice", USER_TOKEN);
    }
    for (size_t i = 0; i < ASKERS; i++) {
        await_answer(&askers[i]);
        assert_string_equal(askers[i].token, MAIL_TOKEN);
    }
    /* One question for the destination, one for the token. */
    assert_int_equal(service.requests, 2);
    assert_int_equal(with_user, 1);
    assert_string_equal(shown, "X-refresh-token=" USER_TOKEN " ");
    assert_null(strstr(target, "skipTokenRetrieval"));

    /* Nobody else gets it: neither who names another user nor who brings another token. */
    serve(200, token_body("RefreshToken", "", "of-bob", "3600", ""));
    expect_token_for("bob", USER_TOKEN, "of-bob");
    expect_token_for("alice", "other", "of-bob");
    expect_token_for("alice", USER_TOKEN, MAIL_TOKEN);
    assert_int_equal(with_user, 3);
}

static void a_wrong_user_token_harms_its_owner_alone(void **state)
{
    (void)state;
    serve(200, oauth_body("RefreshToken", "", "[{\"error\":\"400 invalid_grant\"}]"));
    expect_auth_failure("alice", "wrong");
    expect_auth_failure("alice", "wrong");
    assert_int_equal(with_user, 1); /* the service is not asked again at once */
    serve(200, token_body("RefreshToken", "", MAIL_TOKEN, "3600", ""));
    expect_token_for("alice", USER_TOKEN, MAIL_TOKEN);
    expect_token_for("bob", USER_TOKEN, MAIL_TOKEN);
    expect_auth_failure("alice", "wrong");
    assert_int_equal(own_requests, 0);
}

static void rotated_refresh_tokens(void **state)
{
    (void)state;
    serve(200, token_body("RefreshToken", "", MAIL_TOKEN, "60", "1//second"));
    expect_token_for("alice", USER_TOKEN, MAIL_TOKEN);
    pass(SECONDS(60));
    serve(200, token_body("RefreshToken", "", "next", "60", "1//third"));
    expect_token_for("alice", USER_TOKEN, "next");
    assert_string_equal(shown, "X-refresh-token=1//second ");
    pass(SECONDS(60));
    serve(200, token_body("RefreshToken", "", "next", "60", ""));
    expect_token_for("alice", USER_TOKEN, "next");
    assert_string_equal(shown, "X-refresh-token=1//third ");

    /* Refused, it is forgotten. */
    pass(SECONDS(60));
    serve(200, oauth_body("RefreshToken", "", "[{\"error\":\"400 invalid_grant\"}]"));
    expect_auth_failure("alice", USER_TOKEN);
    pass(SECONDS(5));
    serve(200, token_body("RefreshToken", "", "new", "60", ""));
    expect_token_for("alice", USER_TOKEN, "new");
    assert_string_equal(shown, "X-refresh-token=" USER_TOKEN " ");
}

static void a_refused_user_token_is_replaced(void **state)
{
    (void)state;
    struct asker a;
    struct dest_ref ref = {.name = "inbox", .instance = "prod"};
    struct secret secret = {(char *)USER_TOKEN, strlen(USER_TOKEN)};
    const struct dest_user alice = {"alice", &secret};
    serve(200, token_body("RefreshToken", "", MAIL_TOKEN, "3600", ""));
    ask_as(&a, "alice", USER_TOKEN);
    await_answer(&a);
    expect_token_for("bob", USER_TOKEN, MAIL_TOKEN);
    serve(200, token_body("RefreshToken", "", "newer", "3600", ""));
    dest_refused(source, &ref, &alice, a.last);
    expect_token_for("alice", USER_TOKEN, "newer");
    expect_token_for("bob", USER_TOKEN, MAIL_TOKEN);
}

#define CODE_MORE                                                                                  \
    ",\"X-redirect-uri\":\"https://app.example.com/cb\",\"mail.X-code-verifier\":\"verifier\""

static void a_code_is_redeemed_once(void **state)
{
    (void)state;
    serve(200, token_body("AuthorizationCode", CODE_MORE, MAIL_TOKEN, "300", ""));
    for (int i = 0; i < 28; i++) {
        expect_token_for("alice", "4/code", MAIL_TOKEN);
        pass(SECONDS(10));
    }
    assert_string_equal(shown, "");
    assert_int_equal(with_user, 1);
    serve(200, oauth_body("AuthorizationCode", CODE_MORE, "[{\"error\":\"400 used\"}]"));
    pass(SECONDS(20));
    expect_auth_failure("alice", "4/code");
    assert_int_equal(with_user, 2);
    assert_string_equal(shown, "X-code=4/code X-redirect-uri=https://app.example.com/cb "
                               "X-code-verifier=verifier ");
}

static void a_code_is_not_sent_twice(void **state)
{
    (void)state;
    struct asker a;
    serve(200, token_body("AuthorizationCode", "", MAIL_TOKEN, "300", ""));
    ask_as(&a, "alice", "4/code");
    while (service.requests == 0 && !a.answers) {
        settle_once();
    }
    refuse_tokens = 1;
    await_answer(&a);
    assert_int_equal(with_user, 1);
    assert_int_equal(a.err.fail, FAIL_REMOTE);
    assert_non_null(strstr(a.err.text, "log in again, with a new code"));

    /* The access token has been renewed for whoever comes next. */
    expect_token_for("bob", "4/other", MAIL_TOKEN);
    assert_int_equal(tokens, 2);
}

static void a_changed_destination_takes_another_token(void **state)
{
    (void)state;
    serve(200, token_body("RefreshToken", "", MAIL_TOKEN, "3600", ""));
    expect_token_for("alice", USER_TOKEN, MAIL_TOKEN);
    pass(1);
    serve(200, token_body("RefreshToken", ",\"scope\":\"more\"", "of-more", "3600", ""));
    expect_port(DEST_TO_CHECK, 995);
    expect_token_for("alice", USER_TOKEN, "of-more");
    expect_token_for("alice", USER_TOKEN, "of-more");
    assert_int_equal(with_user, 2);

    /* Seen first in the answer for a user. */
    serve(200, token_body("RefreshToken", ",\"scope\":\"less\"", "of-less", "3600", ""));
    expect_token_for("bob", USER_TOKEN, "of-less");
    assert_int_equal(with_user, 3);
}

static void other_kinds_need_nothing_of_a_client(void **state)
{
    (void)state;
    struct asker a;
    ask_as(&a, "alice", USER_TOKEN);
    await_answer(&a);
    assert_int_equal(a.auth, AUTH_BASIC);
    assert_int_equal(with_user, 0);
    ask_as(&a, "alice", USER_TOKEN);
    dest_cancel(source, a.request);
    settle();
    assert_int_equal(a.answers, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_request),
        TEST(impossible_names),
        TEST(one_request_for_all),
        TEST(ages),
        TEST(mail_tokens),
        TEST(no_mail_token),
        TEST(not_found_heals),
        TEST(refusals_replace_what_was_known),
        TEST(renews_the_access_token_once),
        TEST(a_check_tells_the_sessions),
        TEST(trouble_backs_off),
        TEST(without_the_service),
        TEST(with_its_token_as_long_as_that_is_valid),
        TEST(unreachable),
        TEST(unknown_instances),
        TEST(instances_are_apart),
        TEST(another_key),
        TEST(a_key_that_does_not_work),
        TEST(impossible_addresses),
        TEST(not_trusted),
        TEST(no_access_token),
        TEST(cancelled),
        TEST(freed_in_every_state),
        TEST(own_retrieval),
        TEST(refresh_tokens),
        TEST(a_wrong_user_token_harms_its_owner_alone),
        TEST(rotated_refresh_tokens),
        TEST(a_refused_user_token_is_replaced),
        TEST(a_code_is_redeemed_once),
        TEST(a_code_is_not_sent_twice),
        TEST(a_changed_destination_takes_another_token),
        TEST(other_kinds_need_nothing_of_a_client),
        TEST(metrics),
    };
    return cmocka_run_group_tests(tests, start_tls, stop_tls);
}
