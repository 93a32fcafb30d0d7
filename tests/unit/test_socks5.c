/* Tests lib/socks5: dialogues whole, byte by byte, and cut in two at every place, with every
 * possible answer. No error contains the token. */
#include "lib/socks5.h"

#include "lib/buf.h"
#include "tests/unit/check.h"

#define TOKEN "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"
#define BYTES(text) ((struct str){(text), sizeof(text) - 1})

static char token_text[] = TOKEN;
static const struct secret token = {token_text, sizeof(token_text) - 1};

/* The outcome of a dialogue. */
struct outcome {
    int result; /* the last call's, or that of socks5_start if it failed */
    struct buf said;
    size_t taken;
    enum socks5_state state;
    struct error err;
};

static void add(struct outcome *o, struct str said)
{
    assert_int_equal(buf_add(&o->said, said.p, said.n), OK);
}

/* Gives the dialogue the octets that have come and were not taken, as a conn does. */
static void give(struct socks5 *s, struct outcome *o, const char *answers, size_t come)
{
    size_t taken = 1;
    while (o->result == AGAIN && taken) {
        struct str say, rest = exact_copy(answers + o->taken, come - o->taken);
        o->result = socks5_next(s, rest, &taken, &say, &o->err);
        add(o, say);
        o->taken += taken;
        free((char *)rest.p);
    }
}

/* Gives the answers in pieces of `piece` octets, the first one in `first`. */
static struct outcome talk(const struct socks5_settings *settings, struct str answers, size_t first,
                           size_t piece)
{
    struct outcome o = {.result = ERR};
    struct socks5 s;
    struct str say;
    buf_init(&o.said, 2 * SOCKS5_TOKEN_MAX);
    if (socks5_start(&s, settings, &say, &o.err) == OK) {
        add(&o, say);
        o.result = AGAIN;
        for (size_t come = first;; come += piece) {
            come = come < answers.n ? come : answers.n;
            give(&s, &o, answers.p, come);
            if (come == answers.n) {
                break;
            }
        }
    }
    o.state = s.state;
    assert_int_equal(o.state == SOCKS5_OPEN, o.result == OK);
    assert_int_equal(o.state == SOCKS5_FAILED, o.result == ERR);
    if (o.result == ERR) {
        assert_null(strstr(o.err.text, TOKEN));
    }
    socks5_clear(&s);
    socks5_clear(&s);
    assert_null(s.authentication.p);
    return o;
}

static void expect_same(struct outcome *o, const struct outcome *whole)
{
    assert_int_equal(o->result, whole->result);
    assert_int_equal(o->state, whole->state);
    assert_int_equal(o->taken, whole->taken);
    assert_int_equal(buf_len(&o->said), buf_len(&whole->said));
    assert_memory_equal(buf_str(&o->said).p, buf_str(&whole->said).p, buf_len(&whole->said));
    if (o->result == ERR) {
        assert_int_equal(o->err.fail, whole->err.fail);
        assert_string_equal(o->err.text, whole->err.text);
    }
    buf_free(&o->said);
}

/* Checks that the outcome is the same for all pieces. The caller frees `said`. */
static struct outcome dialogue(const struct socks5_settings *settings, struct str answers)
{
    struct outcome whole = talk(settings, answers, answers.n, 1);
    for (size_t first = 0; first <= answers.n; first++) {
        struct outcome o = talk(settings, answers, first, answers.n);
        expect_same(&o, &whole);
    }
    struct outcome o = talk(settings, answers, 1, 1);
    expect_same(&o, &whole);
    return whole;
}

static void expect_open(const struct socks5_settings *settings, struct str answers, struct str said,
                        size_t taken)
{
    struct outcome o = dialogue(settings, answers);
    if (o.result == ERR) {
        fail_msg("%s", o.err.text);
    }
    assert_int_equal(o.result, OK);
    assert_int_equal(o.taken, taken);
    assert_int_equal(buf_len(&o.said), said.n);
    assert_memory_equal(buf_str(&o.said).p, said.p, said.n);
    buf_free(&o.said);
}

static void expect_failure(const struct socks5_settings *settings, struct str answers,
                           enum fail fail, const char *text)
{
    struct outcome o = dialogue(settings, answers);
    assert_int_equal(o.result, ERR);
    assert_string_equal(o.err.text, text);
    assert_int_equal(o.err.fail, fail);
    buf_free(&o.said);
}

static const struct socks5_settings plain = {.host = "mail.corp", .port = 995};
static const struct socks5_settings with_token = {
    .host = "mail.corp", .port = 995, .token = &token, .location = "plant 1"};

/* ---- tests ---- */

static void without_authentication(void **state)
{
    (void)state;
    expect_open(&plain, BYTES("\5\0\5\0\0\1\0\0\0\0\0\0"),
                BYTES("\5\1\0\5\1\0\3\x9mail.corp\x03\xE3"), 12);
}

static void with_authentication(void **state)
{
    (void)state;
    expect_open(&with_token, BYTES("\5\x80\1\0\5\0\0\1\0\0\0\0\0\0"),
                BYTES("\5\1\x80\1\0\0\0\x1D" TOKEN "\x0C"
                      "cGxhbnQgMQ==\5\1\0\3\x9mail.corp\x03\xE3"),
                14);
    struct socks5_settings settings = with_token;
    settings.location = NULL;
    expect_open(&settings, BYTES("\5\x80\1\0\5\0\0\1\0\0\0\0\0\0"),
                BYTES("\5\1\x80\1\0\0\0\x1D" TOKEN "\0\5\1\0\3\x9mail.corp\x03\xE3"), 14);
}

/* The reply has every kind of address. The greeting behind it is not taken. */
static void what_follows_stays(void **state)
{
    (void)state;
    static const struct {
        struct str answers;
        size_t taken;
    } table[] = {
        {{"\5\0\5\0\0\1\x7F\0\0\1\x4E\x24+OK POP3\r\n", 22}, 12},
        {{"\5\0\5\0\0\3\4a.bc\1\2+OK POP3\r\n", 23}, 13},
        {{"\5\0\5\0\0\3\0\1\2\5\0\5\0\0\1", 15}, 9},
        {{"\5\0\5\0\xFF\4\0\1\2\3\4\5\6\7\0\1\2\3\4\5\6\7\1\2\0", 25}, 24},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        expect_open(&plain, table[i].answers, BYTES("\5\1\0\5\1\0\3\x9mail.corp\x03\xE3"),
                    table[i].taken);
    }
}

static void replies(void **state)
{
    (void)state;
    static const struct {
        char reply;
        enum fail fail;
        const char *text;
    } table[] = {
        {1, FAIL_SOCKS, "general failure, or the server closed the connection (SOCKS5 reply 1)"},
        {2, FAIL_CONFIG, "the Cloud Connector does not expose this host and port (SOCKS5 reply 2)"},
        {3, FAIL_SOCKS,
         "the Cloud Connector is not connected, or its location ID is unknown (SOCKS5 reply 3)"},
        {4, FAIL_SOCKS, "the Cloud Connector cannot reach the host (SOCKS5 reply 4)"},
        {5, FAIL_TOKEN, "authentication failure (SOCKS5 reply 5)"},
        {6, FAIL_SOCKS, "the proxy refuses for a reason that is not known (SOCKS5 reply 6)"},
        {7, FAIL_CONFIG, "the proxy does not support CONNECT (SOCKS5 reply 7)"},
        {8, FAIL_CONFIG, "the proxy does not support this kind of address (SOCKS5 reply 8)"},
        {9, FAIL_SOCKS, "the proxy refuses for a reason that is not known (SOCKS5 reply 9)"},
        {'\xFF', FAIL_SOCKS, "the proxy refuses for a reason that is not known (SOCKS5 reply 255)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char answers[] = "\5\x80\1\0\5R\0\1\0\0\0\0\0\0";
        answers[5] = table[i].reply;
        expect_failure(&with_token, BYTES(answers), table[i].fail, table[i].text);
        expect_failure(&with_token, (struct str){answers, 6}, table[i].fail, table[i].text);
    }
}

static void refused_methods(void **state)
{
    (void)state;
    expect_failure(&plain, BYTES("\5\xFF"), FAIL_CONFIG,
                   "the proxy wants an access token (it refuses method 0x00)");
    expect_failure(&with_token, BYTES("\5\xFF"), FAIL_CONFIG,
                   "the proxy takes no access token (it refuses method 0x80)");
    expect_failure(&with_token, BYTES("\5\0"), FAIL_PROTOCOL,
                   "the proxy chose method 0x00, which was not offered");
    expect_failure(&plain, BYTES("\5\x80"), FAIL_PROTOCOL,
                   "the proxy chose method 0x80, which was not offered");
    expect_failure(&with_token, BYTES("\5\x80\1\1"), FAIL_TOKEN,
                   "the proxy refuses the access token (status 1)");
    expect_failure(&with_token, BYTES("\5\x80\1\xFF"), FAIL_TOKEN,
                   "the proxy refuses the access token (status 255)");
}

static void no_socks5(void **state)
{
    (void)state;
    expect_failure(&plain, BYTES("HTTP/1.1 400 Bad Request\r\n"), FAIL_PROTOCOL,
                   "the peer is not a SOCKS5 proxy (0x48 for the choice of a method)");
    expect_failure(&plain, BYTES("\4\x5A"), FAIL_PROTOCOL,
                   "the peer is not a SOCKS5 proxy (0x04 for the choice of a method)");
    expect_failure(&with_token, BYTES("\5\x80\5\0"), FAIL_PROTOCOL,
                   "the peer is not a SOCKS5 proxy (0x05 for the authentication)");
    expect_failure(&plain, BYTES("\5\0\1\0\0\1"), FAIL_PROTOCOL,
                   "the peer is not a SOCKS5 proxy (0x01 for the connection)");
    expect_failure(&plain, BYTES("\5\0\5\0\0\2\0\0\0\0\0\0"), FAIL_PROTOCOL,
                   "the peer is not a SOCKS5 proxy (0x02 for the connection)");
}

static void cut(void **state)
{
    (void)state;
    struct str answers = BYTES("\5\x80\1\0\5\0\0\3\3abc\1\2");
    static const enum socks5_state states[] = {
        SOCKS5_METHOD,  SOCKS5_METHOD,  SOCKS5_AUTHENTICATION, SOCKS5_AUTHENTICATION,
        SOCKS5_CONNECT, SOCKS5_CONNECT, SOCKS5_CONNECT,        SOCKS5_CONNECT,
        SOCKS5_CONNECT, SOCKS5_CONNECT, SOCKS5_CONNECT,        SOCKS5_CONNECT,
        SOCKS5_CONNECT, SOCKS5_CONNECT, SOCKS5_OPEN,
    };
    assert_int_equal(ARRAY_LEN(states), answers.n + 1);
    for (size_t n = 0; n <= answers.n; n++) {
        struct outcome o = dialogue(&with_token, (struct str){answers.p, n});
        assert_int_equal(o.state, states[n]);
        buf_free(&o.said);
    }
    assert_string_equal(socks5_state_name(SOCKS5_METHOD), "choice of a method");
    assert_string_equal(socks5_state_name(SOCKS5_AUTHENTICATION), "authentication");
    assert_string_equal(socks5_state_name(SOCKS5_CONNECT), "connection");
}

static void hosts(void **state)
{
    (void)state;
    struct str answers = BYTES("\5\0\5\0\0\1\0\0\0\0\0\0");
    char name[SOCKS5_HOST_MAX + 2], said[3 + 5 + SOCKS5_HOST_MAX + 2];
    memset(name, 'a', sizeof(name));
    name[SOCKS5_HOST_MAX] = '\0';
    memcpy(said, "\5\1\0\5\1\0\3\xFF", 8);
    memcpy(said + 8, name, SOCKS5_HOST_MAX);
    memcpy(said + 8 + SOCKS5_HOST_MAX, "\xFF\xFF", 2);
    expect_open(&(struct socks5_settings){.host = name, .port = 65535}, answers,
                (struct str){said, sizeof(said)}, 12);
    name[SOCKS5_HOST_MAX] = 'a';
    name[SOCKS5_HOST_MAX + 1] = '\0';
    expect_failure(&(struct socks5_settings){.host = name, .port = 1}, answers, FAIL_CONFIG,
                   "the host name has 256 octets; 1 to 255 are possible");
    expect_failure(&(struct socks5_settings){.host = ".", .port = 1}, answers, FAIL_CONFIG,
                   "the host name has 0 octets; 1 to 255 are possible");

    static const struct {
        const char *host;
        struct str said;
    } table[] = {
        {"10.1.2.3", {"\5\1\0\5\1\0\1\x0A\1\2\3\0\x6E", 13}},
        {"mail.corp.", {"\5\1\0\5\1\0\3\x9mail.corp\0\x6E", 19}},
        {"010.1.2.3",
         {"\5\1\0\5\1\0\3\x9"
          "010.1.2.3\0\x6E",
          19}},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        expect_open(&(struct socks5_settings){.host = table[i].host, .port = 110}, answers,
                    table[i].said, 12);
    }
    static const char *const six[] = {"::1", "[2001:db8::25]", "fe80::1%2", "::ffff:10.0.0.1"};
    for (size_t i = 0; i < ARRAY_LEN(six); i++) {
        expect_failure(&(struct socks5_settings){.host = six[i], .port = 110}, answers, FAIL_CONFIG,
                       "the host is an IPv6 address, which no SOCKS5 proxy of SAP takes");
    }
}

static void bounds_of_the_token(void **state)
{
    (void)state;
    static char long_token[SOCKS5_TOKEN_MAX + 2];
    memset(long_token, 't', sizeof(long_token) - 1);
    struct secret value = {long_token, SOCKS5_TOKEN_MAX};
    struct socks5_settings settings = {.host = "h", .port = 1, .token = &value};
    struct outcome o = talk(&settings, BYTES("\5\x80"), 2, 1);
    assert_int_equal(o.state, SOCKS5_AUTHENTICATION);
    struct str said = buf_str(&o.said);
    assert_int_equal(said.n, 3 + 5 + SOCKS5_TOKEN_MAX + 1);
    assert_memory_equal(said.p + 3, "\1\0\0\x40\0tt", 7);
    buf_free(&o.said);

    value.n = SOCKS5_TOKEN_MAX + 1;
    expect_failure(&settings, BYTES(""), FAIL_TOKEN,
                   "the access token for the proxy has 16385 octets; 1 to 16384 are possible");
    value = (struct secret){0};
    expect_failure(&settings, BYTES(""), FAIL_TOKEN,
                   "the access token for the proxy has 0 octets; 1 to 16384 are possible");
}

static void bounds_of_the_location(void **state)
{
    (void)state;
    char location[SOCKS5_LOCATION_MAX + 2];
    memset(location, 'l', sizeof(location));
    location[SOCKS5_LOCATION_MAX] = '\0';
    struct socks5_settings settings = {
        .host = "h", .port = 1, .token = &token, .location = location};
    struct outcome o = talk(&settings, BYTES("\5\x80"), 2, 1);
    struct str said = buf_str(&o.said);
    assert_int_equal(said.n, 3 + 5 + token.n + 1 + 252);
    assert_int_equal((unsigned char)said.p[3 + 5 + token.n], 252);
    buf_free(&o.said);

    location[SOCKS5_LOCATION_MAX] = 'l';
    location[SOCKS5_LOCATION_MAX + 1] = '\0';
    expect_failure(&settings, BYTES(""), FAIL_CONFIG,
                   "the location ID has 190 octets; 189 are possible");
    settings.token = NULL;
    settings.location = "plant 1";
    expect_failure(&settings, BYTES(""), FAIL_CONFIG,
                   "a location ID can only be sent with an access token, and the proxy is used "
                   "without");
    settings.location = "";
    expect_open(&settings, BYTES("\5\0\5\0\0\1\0\0\0\0\0\0"), BYTES("\5\1\0\5\1\0\3\1h\0\1"), 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_authentication),
        cmocka_unit_test(with_authentication),
        cmocka_unit_test(what_follows_stays),
        cmocka_unit_test(replies),
        cmocka_unit_test(refused_methods),
        cmocka_unit_test(no_socks5),
        cmocka_unit_test(cut),
        cmocka_unit_test(hosts),
        cmocka_unit_test(bounds_of_the_token),
        cmocka_unit_test(bounds_of_the_location),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
