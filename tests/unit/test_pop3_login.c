/* Tests pop3/login with transcripts (tests/transcripts), and without them every reply in every
 * state, and the bounds. */
#include "pop3/login.h"

#include <dirent.h>
#include <stdio.h>

#include "core/destination.h"
#include "core/properties.h"
#include "lib/json.h"
#include "lib/mem.h"
#include "tests/unit/check.h"

/* The login in RFC 1939's example, for the properties that a test does not set. */
static const char *const usual[][2] = {
    {"Name", "inbox"},
    {"Type", "MAIL"},
    {"ProxyType", "Internet"},
    {"Authentication", "BasicAuthentication"},
    {"mail.transport.protocol", "pop3"},
    {"mail.pop3.host", "mail.example.com"},
    {"mail.user", "mrose"},
    {"mail.password", "tanstaaf"},
    {"tokenServiceURL", "https://login.example.com/token"},
    {"clientId", "id"},
    {"clientSecret", "secret"},
};

enum { PROPERTIES = 32, TRANSCRIPTS = 200, VALUE_MAX = 1024 };

/* A login and everything that it needs. */
struct world {
    char properties[PROPERTIES][2][VALUE_MAX];
    size_t n_properties;
    const struct destination *dest;
    const char *user; /* the user who logs in, if not the destination's */
    struct secret token;
    struct pop3_memory memory;
    char own_id[64];
    struct pop3_login login;
    enum pop3_login_next next;
    size_t taken; /* octets taken of the text to send */
};

static void set_property(struct world *w, const char *name, const char *value)
{
    size_t i = 0;
    while (i < w->n_properties && strcmp(w->properties[i][0], name) != 0) {
        i++;
    }
    assert_true(i < PROPERTIES);
    text_fmt(w->properties[i][0], VALUE_MAX, "%s", name);
    text_fmt(w->properties[i][1], VALUE_MAX, "%s", value);
    w->n_properties += i == w->n_properties;
}

static void world_init(struct world *w)
{
    *w = (struct world){.own_id = "0123456789abcdef"};
    for (size_t i = 0; i < ARRAY_LEN(usual); i++) {
        set_property(w, usual[i][0], usual[i][1]);
    }
    secret_set(&w->token, "ya29.token", strlen("ya29.token"));
}

static void start(struct world *w)
{
    static char text[PROPERTIES * 2 * VALUE_MAX];
    size_t n = 0;
    struct error err;
    struct destination_problem problem;
    for (size_t i = 0; i < w->n_properties; i++) {
        n += text_fmt(text + n, sizeof(text) - n, "%s\"%s\": \"%s\"", n ? ", " : "{",
                      w->properties[i][0], w->properties[i][1]);
    }
    text_fmt(text + n, sizeof(text) - n, "}");
    struct json *doc = json_parse(str_of(text), &err);
    assert_non_null(doc);
    struct properties *properties = properties_from_json(json_root(doc), &err);
    assert_non_null(properties);
    w->dest = destination_new(properties, false, &problem);
    if (!w->dest) {
        fail_msg("%s: %s", problem.field, problem.text);
    }
    properties_free(properties);
    json_free(doc);
    pop3_login_init(&w->login, w->dest, w->user, &w->token, &w->memory, w->own_id,
                    w->dest->tls == TLS_IMPLICIT);
    w->next = POP3_NEXT_LINE;
}

static void finish(struct world *w)
{
    pop3_login_wipe(&w->login);
    secret_clear(&w->token);
    destination_unref(w->dest);
}

static enum pop3_login_next server(struct world *w, const char *text)
{
    struct str line = exact_copy(text, strlen(text));
    w->next = pop3_login_line(&w->login, line);
    w->taken = 0;
    free((char *)line.p);
    return w->next;
}

static struct str sent(const struct world *w)
{
    struct str out = buf_str(&w->login.out);
    return (struct str){out.p + w->taken, out.n - w->taken};
}

/* Takes this line off the text to send. Returns false if the text begins with another line. */
static bool take_line(struct world *w, const char *text)
{
    struct str out = sent(w);
    size_t n = strlen(text);
    bool same = out.n >= n + 2 && memcmp(out.p, text, n) == 0 && memcmp(out.p + n, "\r\n", 2) == 0;
    w->taken += same ? n + 2 : 0;
    return same;
}

/* ---- transcripts ---- */

/* A transcript is a text file:
 *
 *     # what it shows
 *     mail.pop3.starttls.enable: true     a property of the destination, beside the usual ones
 *     token: abc                          the access token
 *     id: abc                             our own id, by which loops are recognised
 *     known: clear stls                   what earlier logins learned: "clear" or "secure", and the
 *                                         capabilities
 *     expect: auth                        the outcome: "ready", or the class of the failure
 *     says: words                         a part of the failure's text
 *     challenge: words                    a part of what the backend said to a refused token
 *     hides: text                         what no message may show
 *
 *     S: a line of the server             \s at the end is a blank
 *     C: a line of ours
 *     X: a line of the server where none is allowed
 *     T: TLS begins */
struct transcript {
    struct world world;
    const char *name;
    size_t line;
    char expect[32], says[256], challenge[256], hides[256];
};

#define transcript_fail(t, ...)                                                                    \
    do {                                                                                           \
        print_error("%s:%zu: ", (t)->name, (t)->line);                                             \
        fail_msg(__VA_ARGS__);                                                                     \
    } while (0)

static void known(struct transcript *t, struct str words)
{
    struct str when = str_word(&words);
    struct pop3_memory *memory = &t->world.memory;
    struct pop3_caps *caps = str_eq(when, "secure") ? &memory->secure : &memory->clear;
    caps->known = true;
    while (words.n) {
        struct str word = str_word(&words);
        caps->stls |= str_eq(word, "stls");
        caps->plain |= str_eq(word, "plain");
        caps->xoauth2 |= str_eq(word, "xoauth2");
    }
}

static void header_line(struct transcript *t, const char *name, const char *value)
{
    static const char *const words[] = {"expect", "says", "challenge", "hides", "id"};
    struct {
        char *p;
        size_t cap;
    } places[] = {{t->expect, sizeof(t->expect)},
                  {t->says, sizeof(t->says)},
                  {t->challenge, sizeof(t->challenge)},
                  {t->hides, sizeof(t->hides)},
                  {t->world.own_id, sizeof(t->world.own_id)}};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(name, words[i]) == 0) {
            text_fmt(places[i].p, places[i].cap, "%s", value);
            return;
        }
    }
    if (strcmp(name, "token") == 0) {
        secret_set(&t->world.token, value, strlen(value));
    } else if (strcmp(name, "known") == 0) {
        known(t, str_of(value));
    } else {
        set_property(&t->world, name, value);
    }
}

static void dialogue_line(struct transcript *t, char who, const char *text)
{
    struct world *w = &t->world;
    if (who == 'C') {
        if (!take_line(w, text)) {
            transcript_fail(t, "expected \"%s\", to be sent is \"%.*s\"", text, STR_ARG(sent(w)));
        }
        return;
    }
    if (sent(w).n) {
        transcript_fail(t, "not expected to be sent: \"%.*s\"", STR_ARG(sent(w)));
    }
    if (w->next != (who == 'T' ? POP3_NEXT_TLS : POP3_NEXT_LINE) && who != 'X') {
        transcript_fail(t, "the login wants something else: %d %s", (int)w->next,
                        w->login.err.text);
    }
    if (who == 'T') {
        w->next = pop3_login_secured(&w->login);
        w->taken = 0;
    } else if (who == 'S' || who == 'X') {
        server(w, text);
    } else {
        transcript_fail(t, "neither S, C, T nor X");
    }
}

static void check_outcome(struct transcript *t)
{
    struct pop3_login *login = &t->world.login;
    if (sent(&t->world).n) {
        transcript_fail(t, "not expected to be sent: \"%.*s\"", STR_ARG(sent(&t->world)));
    }
    const char *outcome = t->world.next == POP3_NEXT_DONE   ? "ready"
                          : t->world.next == POP3_NEXT_FAIL ? fail_name(login->err.fail)
                                                            : "unfinished";
    if (strcmp(outcome, t->expect) != 0) {
        transcript_fail(t, "%s (%s)", outcome, login->err.text);
    }
    if (!strstr(login->err.text, t->says)) {
        transcript_fail(t, "says \"%s\"", login->err.text);
    }
    if (!strstr(login->challenge, t->challenge)) {
        transcript_fail(t, "challenge \"%s\"", login->challenge);
    }
    const char *const shown[] = {login->err.text, login->reply, login->challenge};
    for (size_t i = 0; t->hides[0] && i < ARRAY_LEN(shown); i++) {
        if (strstr(shown[i], t->hides)) {
            transcript_fail(t, "shows \"%s\"", shown[i]);
        }
    }
    assert_int_equal(login->state,
                     t->world.next == POP3_NEXT_DONE ? POP3_LOGIN_READY : POP3_LOGIN_FAILED);
}

static void replay(void **state)
{
    char path[512], buffer[VALUE_MAX];
    struct transcript t = {.name = *state};
    text_fmt(path, sizeof(path), "tests/transcripts/%s", t.name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    world_init(&t.world);
    while (fgets(buffer, sizeof(buffer), f)) {
        struct str line = str_of(buffer);
        t.line++;
        line.n -= line.n && line.p[line.n - 1] == '\n';
        bool blank = line.n >= 2 && memcmp(line.p + line.n - 2, "\\s", 2) == 0;
        buffer[blank ? line.n - 2 : line.n] = '\0';
        if (blank) {
            strncat(buffer, " ", 2);
        }
        char *value = strchr(buffer, ':');
        if (!value) {
            if (!buffer[0] && !t.world.dest) {
                start(&t.world);
            } else if (buffer[0] != '#') {
                transcript_fail(&t, "no colon");
            }
            continue;
        }
        *value++ = '\0';
        value += *value == ' ';
        if (buffer[0] == '#') {
            continue;
        }
        if (t.world.dest) {
            dialogue_line(&t, buffer[0], value);
        } else {
            header_line(&t, buffer, value);
        }
    }
    check_outcome(&t);
    fclose(f);
    finish(&t.world);
}

/* ---- every reply in every state ---- */

#define OAUTH "Authentication:OAuth2ClientCredentials"
#define FIFTY "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwx"

/* The lines that lead into a state, and what the replies there lead to. */
struct way {
    enum pop3_login_state state;
    const char *property;  /* name:value, or NULL */
    const char *lines;     /* the server's lines, separated by "|" */
    enum fail expected[4]; /* after +OK, -ERR, -ERR [IN-USE], +; FAIL_NONE: the login goes on */
};

/* clang-format off */
static const struct way ways[] = {
    {POP3_LOGIN_GREETING, NULL, "",
     {FAIL_NONE, FAIL_REMOTE, FAIL_REMOTE, FAIL_PROTOCOL}},
    {POP3_LOGIN_HOPS, NULL, "+OK tproxy 00c7ff26d6f4e3a1 ready",
     {FAIL_NONE, FAIL_NONE, FAIL_REMOTE, FAIL_PROTOCOL}},
    {POP3_LOGIN_CAPA, NULL, "+OK hi",
     {FAIL_NONE, FAIL_NONE, FAIL_NONE, FAIL_PROTOCOL}},
    {POP3_LOGIN_CAPA_LIST, NULL, "+OK hi|+OK",
     {FAIL_NONE, FAIL_NONE, FAIL_NONE, FAIL_NONE}},
    {POP3_LOGIN_STLS, "mail.pop3.starttls.enable:true", "+OK hi|+OK|STLS|.",
     {FAIL_NONE, FAIL_NONE, FAIL_NONE, FAIL_PROTOCOL}},
    {POP3_LOGIN_STLS, "mail.pop3.starttls.required:true", "+OK hi|+OK|STLS|.",
     {FAIL_NONE, FAIL_TLS, FAIL_TLS, FAIL_PROTOCOL}},
    {POP3_LOGIN_HANDSHAKE, "mail.pop3.starttls.enable:true", "+OK hi|+OK|STLS|.|+OK",
     {FAIL_PROTOCOL, FAIL_PROTOCOL, FAIL_PROTOCOL, FAIL_PROTOCOL}},
    {POP3_LOGIN_APOP, "mail.pop3.apop.enable:true", "+OK <1@x>",
     {FAIL_NONE, FAIL_AUTH, FAIL_REMOTE, FAIL_PROTOCOL}},
    {POP3_LOGIN_USER, "mail.pop3.auth.mechanisms:LOGIN", "+OK hi",
     {FAIL_NONE, FAIL_AUTH, FAIL_REMOTE, FAIL_PROTOCOL}},
    {POP3_LOGIN_PASS, "mail.pop3.auth.mechanisms:LOGIN", "+OK hi|+OK",
     {FAIL_NONE, FAIL_AUTH, FAIL_REMOTE, FAIL_PROTOCOL}},
    {POP3_LOGIN_PLAIN_START, "mail.password:" FIFTY FIFTY FIFTY FIFTY, "+OK hi|+OK|SASL PLAIN|.",
     {FAIL_PROTOCOL, FAIL_AUTH, FAIL_REMOTE, FAIL_NONE}},
    {POP3_LOGIN_PLAIN, NULL, "+OK hi|+OK|SASL PLAIN|.",
     {FAIL_NONE, FAIL_AUTH, FAIL_REMOTE, FAIL_NONE}},
    {POP3_LOGIN_PLAIN_MESSAGE, NULL, "+OK hi|+OK|SASL PLAIN|.|+",
     {FAIL_NONE, FAIL_AUTH, FAIL_REMOTE, FAIL_PROTOCOL}},
    {POP3_LOGIN_XOAUTH2, OAUTH, "+OK hi|+OK|SASL XOAUTH2|.",
     {FAIL_PROTOCOL, FAIL_AUTH, FAIL_REMOTE, FAIL_NONE}},
    {POP3_LOGIN_XOAUTH2_TOKEN, OAUTH, "+OK hi|+OK|SASL XOAUTH2|.|+",
     {FAIL_NONE, FAIL_AUTH, FAIL_REMOTE, FAIL_NONE}},
    {POP3_LOGIN_XOAUTH2_REFUSED, OAUTH, "+OK hi|+OK|SASL XOAUTH2|.|+|+ e30=",
     {FAIL_PROTOCOL, FAIL_AUTH, FAIL_REMOTE, FAIL_PROTOCOL}},
    {POP3_LOGIN_READY, "Authentication:NoAuthentication", "+OK hi",
     {FAIL_PROTOCOL, FAIL_PROTOCOL, FAIL_PROTOCOL, FAIL_PROTOCOL}},
    {POP3_LOGIN_FAILED, NULL, "-ERR",
     {FAIL_PROTOCOL, FAIL_PROTOCOL, FAIL_PROTOCOL, FAIL_PROTOCOL}},
};
/* clang-format on */

static void check_reply(const struct way *way, const char *reply, enum fail expected)
{
    struct world w;
    char property[64], line[64];
    world_init(&w);
    if (way->property) {
        struct str value = str_of(way->property);
        struct str name = str_cut(&value, ':');
        text_fmt(property, sizeof(property), "%.*s", STR_ARG(name));
        set_property(&w, property, value.p);
    }
    start(&w);
    for (struct str lines = str_of(way->lines); lines.n;) {
        struct str one = str_cut(&lines, '|');
        text_fmt(line, sizeof(line), "%.*s", STR_ARG(one));
        server(&w, line);
    }
    assert_int_equal(w.login.state, way->state);
    assert_true(strlen(pop3_login_awaited(&w.login)) > 0);
    enum pop3_login_next next = server(&w, reply);
    enum fail got = next == POP3_NEXT_FAIL ? w.login.err.fail : FAIL_NONE;
    if (got != expected) {
        fail_msg("\"%s\" after %s: %s (%s)", reply, way->lines, fail_name(got), w.login.err.text);
    }
    if (next == POP3_NEXT_FAIL) {
        assert_int_equal(w.login.state, POP3_LOGIN_FAILED);
        assert_int_equal(sent(&w).n, 0);
        assert_false(w.login.memory.clear.known || w.login.memory.secure.known);
    }
    if (way->state != POP3_LOGIN_CAPA_LIST) {
        assert_string_equal(w.login.reply, reply);
    }
    finish(&w);
}

static void test_every_reply(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        size_t kind;
    } replies[] = {
        {"+OK", 0},
        {"-ERR no", 1},
        {"-ERR [AUTH] no", 1},
        {"-ERR [IN-USE] no", 2},
        {"-ERR [SYS/TEMP] no", 2},
        {"+", 3},
        {"+ e30=", 3},
    };
    static const char *const garbage[] = {"", " ", "hello", "+ok", "-err no", "+OKAY", "* OK", "."};
    bool seen[POP3_LOGIN_STATES] = {false};
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        const struct way *way = &ways[i];
        seen[way->state] = true;
        for (size_t k = 0; k < ARRAY_LEN(replies); k++) {
            check_reply(way, replies[k].line, way->expected[replies[k].kind]);
        }
        bool any = way->state == POP3_LOGIN_CAPA_LIST;
        for (size_t k = 0; k < ARRAY_LEN(garbage); k++) {
            check_reply(way, garbage[k], any ? FAIL_NONE : FAIL_PROTOCOL);
        }
    }
    for (size_t i = 0; i < POP3_LOGIN_STATES; i++) {
        assert_true(seen[i]);
    }
}

/* ---- other tproxies ---- */

#define OTHER "00c7ff26d6f4e3a1"

static void test_hops(void **state)
{
    (void)state;
    struct world w;
    struct hops before = {0};
    for (size_t n = 0; n <= HOPS_MAX; n++) {
        char line[256];
        world_init(&w);
        start(&w);
        w.login.before = n ? &before : NULL;
        server(&w, "+OK tproxy " OTHER " ready");
        if (n == HOPS_MAX) {
            assert_int_equal(w.next, POP3_NEXT_FAIL);
            assert_int_equal(w.login.err.fail, FAIL_CONFIG);
            assert_non_null(strstr(w.login.err.text, "too many tproxies"));
        } else {
            text_fmt(line, sizeof(line), "XTPROXY %.*s%s", (int)(n * (HOPS_ID_LEN + 1)),
                     "1111111111111111 1111111111111111 1111111111111111 1111111111111111 ",
                     w.own_id);
            assert_true(take_line(&w, line));
            assert_int_equal(sent(&w).n, 0);
            server(&w, "+OK");
            assert_true(take_line(&w, "CAPA"));
            assert_int_equal(pop3_hops_add(&before, "1111111111111111"), OK);
        }
        finish(&w);
    }
}

static void test_hops_that_loop(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    start(&w);
    server(&w, "+OK tproxy " OTHER " ready");
    server(&w, "-ERR [SYS/PERM] destination \"x\": a loop");
    assert_int_equal(w.next, POP3_NEXT_FAIL);
    assert_int_equal(w.login.err.fail, FAIL_CONFIG);
    assert_string_equal(w.login.reply, "-ERR [SYS/PERM] destination \"x\": a loop");
    finish(&w);
}

/* ---- secrets that a server repeats ---- */

static const char long_token[] = "ya29.a0AfB_byC-secret.secret.secret-0123456789";

/* Checks that no 12 consecutive octets of `secret` are shown. */
static void expect_hidden(const char *shown, const char *secret)
{
    enum { PART = 12 };
    for (size_t i = 0; i + PART <= strlen(secret); i++) {
        char part[PART + 1];
        text_fmt(part, sizeof(part), "%.*s", PART, secret + i);
        if (strstr(shown, part)) {
            fail_msg("\"%s\" shows \"%s\"", shown, part);
        }
    }
}

/* Checks that the server's words, said at once or behind a challenge, are shown without the secret
 * that was sent. */
static void check_repeated(const char *said, bool late)
{
    struct world w;
    char line[1024];
    world_init(&w);
    set_property(&w, "Authentication", "OAuth2ClientCredentials");
    secret_set(&w.token, long_token, strlen(long_token));
    start(&w);
    server(&w, "+OK");
    server(&w, "+OK");
    server(&w, "SASL XOAUTH2");
    server(&w, ".");
    server(&w, "+ ");
    if (late) {
        server(&w, "+ e30=");
    }
    text_fmt(line, sizeof(line), "-ERR [AUTH] not taken: %s", said);
    assert_int_equal(server(&w, line), POP3_NEXT_FAIL);
    expect_hidden(w.login.reply, said);
    expect_hidden(w.login.err.text, said);
    assert_non_null(strstr(w.login.reply, "not taken"));
    finish(&w);
}

/* The server repeats the token in base64, behind 0, 1 or 2 other octets, whole or from any place
 * on. */
static void test_repeated_secrets(void **state)
{
    char message[256], coded[512], again[1024];
    (void)state;
    size_t n = text_fmt(message, sizeof(message), "user=mrose\1auth=Bearer %s\1\1", long_token);
    text_base64(coded, message, n);
    for (size_t from = 0; from + 12 < strlen(coded); from++) {
        check_repeated(coded + from, from % 2);
    }
    for (size_t shift = 0; shift < 3; shift++) {
        size_t edge = shift + (shift > 0);
        text_fmt(message, sizeof(message), "%.*s%s", (int)shift, "xx", long_token);
        size_t whole = strlen(message) * 4 / 3;
        text_base64(again, message, strlen(message));
        again[whole] = '\0';
        check_repeated(again + edge, shift % 2);
        text_fmt(message, sizeof(message), "%.*s%s", (int)shift, "xx", coded);
        whole = strlen(message) * 4 / 3;
        text_base64(again, message, strlen(message));
        again[whole] = '\0';
        check_repeated(again + edge, shift % 2);
    }
    check_repeated(long_token, true);
    check_repeated(long_token + 10, false);
}

/* ---- bounds ---- */

/* Drives a login up to the line with the credentials; `length` is the length of the user's name. */
static void with_user(struct world *w, size_t length, bool oauth)
{
    char user[DESTINATION_USER_MAX + 1];
    memset(user, 'u', length);
    user[length] = '\0';
    world_init(w);
    set_property(w, "mail.user", user);
    set_property(w, "mail.pop3.auth.xoauth2.two.line.authentication.format", "false");
    if (oauth) {
        set_property(w, "Authentication", "OAuth2ClientCredentials");
    }
    w->memory.clear = (struct pop3_caps){.known = true, .plain = true, .xoauth2 = true};
    start(w);
    server(w, "+OK hi");
}

/* The response is sent on the command's line if that has at most 255 octets with its end (RFC 5034
 * section 4), else on a second line. */
static void test_one_line_bound(void **state)
{
    (void)state;
    static const char *const commands[] = {"AUTH PLAIN", "AUTH XOAUTH2"};
    static const size_t around[] = {sizeof("tanstaaf") + 1,
                                    sizeof("user=\1auth=Bearer ya29.token\1\1") - 1};
    for (size_t oauth = 0; oauth < 2; oauth++) {
        bool saw_longest = false, saw_two = false;
        for (size_t user = 1; user < 300; user++) {
            struct world w;
            with_user(&w, user, oauth);
            size_t base64 = TEXT_BASE64_SIZE(user + around[oauth]) - 1;
            size_t one_line = strlen(commands[oauth]) + 1 + base64 + 2;
            if (one_line <= 255) {
                assert_int_equal(sent(&w).n, one_line);
                saw_longest = saw_longest || one_line > 255 - 4;
            } else {
                assert_true(take_line(&w, commands[oauth]));
                assert_int_equal(sent(&w).n, 0);
                assert_int_equal(server(&w, "+ "), POP3_NEXT_LINE);
                assert_int_equal(sent(&w).n, base64 + 2);
                saw_two = true;
            }
            assert_int_equal(server(&w, "+OK"), POP3_NEXT_DONE);
            finish(&w);
        }
        assert_true(saw_longest && saw_two);
    }
}

/* The credentials have the greatest length that a destination may have. */
static void test_largest_credentials(void **state)
{
    (void)state;
    char user[DESTINATION_USER_MAX + 1], password[DESTINATION_PASSWORD_MAX + 1];
    memset(user, 'u', sizeof(user) - 1);
    memset(password, 'p', sizeof(password) - 1);
    user[sizeof(user) - 1] = password[sizeof(password) - 1] = '\0';
    struct secret secret = {password, sizeof(password) - 1};
    static const enum mechanism mechanisms[] = {MECH_PLAIN, MECH_APOP, MECH_USER_PASS};
    for (size_t i = 0; i < ARRAY_LEN(mechanisms); i++) {
        struct destination dest = {.user = user,
                                   .password = secret,
                                   .auth = AUTH_BASIC,
                                   .mechanisms = {mechanisms[i]},
                                   .n_mechanisms = 1};
        struct pop3_memory memory = {.clear = {.known = true, .plain = true}};
        struct pop3_login login;
        pop3_login_init(&login, &dest, NULL, NULL, &memory, "", false);
        assert_int_equal(pop3_login_line(&login, str_of("+OK <1@x>")), POP3_NEXT_LINE);
        if (mechanisms[i] != MECH_APOP) {
            struct str go_on = str_of(mechanisms[i] == MECH_PLAIN ? "+" : "+OK");
            assert_int_equal(pop3_login_line(&login, go_on), POP3_NEXT_LINE);
        }
        assert_true(buf_len(&login.out) > DESTINATION_USER_MAX);
        assert_int_equal(pop3_login_line(&login, str_of("+OK")), POP3_NEXT_DONE);
        pop3_login_wipe(&login);
    }
}

/* The user is the one that the client names, not the destination's. */
static void test_user_of_the_client(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    set_property(&w, "Authentication", "OAuth2RefreshToken");
    set_property(&w, "mail.pop3.disablecapa", "true");
    w.user = "bob";
    start(&w);
    assert_int_equal(server(&w, "+OK hi"), POP3_NEXT_LINE);
    assert_int_equal(server(&w, "+ "), POP3_NEXT_LINE);
    static const char message[] = "user=bob\1auth=Bearer ya29.token\1\1";
    char base64[TEXT_BASE64_SIZE(sizeof(message))];
    text_base64(base64, message, strlen(message));
    struct str out = buf_str(&w.login.out);
    assert_true(memmem(out.p, out.n, base64, strlen(base64)) != NULL);
    finish(&w);
}

static void test_token_too_long(void **state)
{
    (void)state;
    for (size_t n = 24000; n < 26000; n += 400) {
        struct world w;
        world_init(&w);
        set_property(&w, "Authentication", "OAuth2ClientCredentials");
        set_property(&w, "mail.pop3.disablecapa", "true");
        char *token = malloc(n);
        memset(token, 't', n);
        secret_set(&w.token, token, n);
        free(token);
        start(&w);
        server(&w, "+OK hi");
        size_t line = TEXT_BASE64_SIZE(n + strlen("user=mrose\1auth=Bearer \1\1")) - 1 + 2;
        if (server(&w, "+ ") == POP3_NEXT_FAIL) {
            assert_true(line > 32 * 1024);
            assert_int_equal(w.login.err.fail, FAIL_LIMIT);
            assert_int_equal(sent(&w).n, 0);
        } else {
            assert_true(line <= 32 * 1024);
            assert_int_equal(sent(&w).n, line);
        }
        finish(&w);
    }
}

static void test_capa_without_end(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    start(&w);
    server(&w, "+OK hi");
    server(&w, "+OK");
    int lines = 0;
    while (server(&w, "X-ANOTHER") == POP3_NEXT_LINE) {
        assert_true(++lines < 10000);
    }
    assert_int_equal(w.login.err.fail, FAIL_PROTOCOL);
    assert_non_null(strstr(w.login.err.text, "CAPA"));
    finish(&w);
}

/* The lines have the greatest length that the caller allows, and bytes that must not be printed. */
static void test_wild_lines(void **state)
{
    (void)state;
    char text[POP3_BACKEND_LINE_MAX];
    for (unsigned char fill = 0xFF; fill > 0; fill--) {
        struct world w;
        world_init(&w);
        set_property(&w, "mail.pop3.auth.mechanisms", "LOGIN");
        start(&w);
        memset(text, fill, sizeof(text));
        memcpy(text, "-ERR ", 5);
        w.next = pop3_login_line(&w.login, (struct str){text, sizeof(text)});
        assert_int_equal(w.next, POP3_NEXT_FAIL);
        assert_true(strlen(w.login.reply) < POP3_REPLY_MAX);
        for (const char *p = w.login.reply; *p; p++) {
            assert_true((unsigned char)*p >= 0x20 && *p != 0x7F);
        }
        finish(&w);
    }
}

static int is_transcript(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot && strcmp(dot, ".txt") == 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hops),
        cmocka_unit_test(test_hops_that_loop),
        cmocka_unit_test(test_every_reply),
        cmocka_unit_test(test_repeated_secrets),
        cmocka_unit_test(test_one_line_bound),
        cmocka_unit_test(test_largest_credentials),
        cmocka_unit_test(test_user_of_the_client),
        cmocka_unit_test(test_token_too_long),
        cmocka_unit_test(test_capa_without_end),
        cmocka_unit_test(test_wild_lines),
    };
    struct CMUnitTest transcripts[TRANSCRIPTS] = {0};
    struct dirent **entries;
    int n = scandir("tests/transcripts", &entries, is_transcript, alphasort);
    if (n <= 0 || n > TRANSCRIPTS) {
        fprintf(stderr, "no transcripts: run from the top of the source tree\n");
        return 1;
    }
    for (int i = 0; i < n; i++) {
        transcripts[i] = (struct CMUnitTest){
            .name = entries[i]->d_name, .test_func = replay, .initial_state = entries[i]->d_name};
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    failed += _cmocka_run_group_tests("transcripts", transcripts, (size_t)n, NULL, NULL);
    while (n) {
        free(entries[--n]);
    }
    free(entries);
    return failed;
}
