/* Tests pop3/client: how each line is answered and what it asks of the session. */
#include "pop3/client.h"

#include <ctype.h>
#include <stdio.h>

#include "tests/unit/check.h"

#define CAPA_HEAD                                                                                  \
    "+OK capabilities follow\r\nTOP\r\nUIDL\r\nUSER\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n"
#define MECHANISMS "+OK mechanisms follow\r\nPLAIN\r\nLOGIN\r\nXOAUTH2\r\n.\r\n"
#define PROMPT_USER "+ VXNlcm5hbWU6\r\n"
#define PROMPT_PASSWORD "+ UGFzc3dvcmQ6\r\n"

static struct buf reply;

static enum pop3_ask line(struct pop3_client *c, const char *text)
{
    struct str copy = exact_copy(text, strlen(text));
    buf_free(&reply);
    buf_init(&reply, POP3_REPLY_MAX);
    enum pop3_ask ask = pop3_client_line(c, copy, &reply);
    free((char *)copy.p);
    return ask;
}

/* A first line, and what it leads to for each kind of login. Answers: NULL is no answer, "-ERR "
 * stands for any refusal. */
struct row {
    const char *line;
    enum pop3_ask any;
    const char *any_answer;
    enum pop3_ask own;
    const char *own_answer;
};

static const struct row first_lines[] = {
    {"QUIT", POP3_ASK_QUIT, "+OK bye\r\n", POP3_ASK_QUIT, "+OK bye\r\n"},
    {"CAPA", POP3_ASK_NOTHING, CAPA_HEAD "SASL PLAIN LOGIN XOAUTH2\r\n.\r\n", POP3_ASK_NOTHING,
     CAPA_HEAD ".\r\n"},
    {"NOOP", POP3_ASK_NOTHING, "+OK\r\n", POP3_ASK_NOTHING, "+OK\r\n"},

    {"USER someone", POP3_ASK_BACKEND, "+OK\r\n", POP3_ASK_MAILBOX, NULL},
    {"USER", POP3_ASK_BACKEND, "+OK\r\n", POP3_ASK_MAILBOX, NULL},
    {"PASS word with blanks", POP3_ASK_LOGIN, NULL, POP3_ASK_NOTHING, "-ERR "},
    {"PASS", POP3_ASK_LOGIN, NULL, POP3_ASK_NOTHING, "-ERR "},
    {"APOP a c4c9334bac560ecc979e58001b3e22fb", POP3_ASK_LOGIN, NULL, POP3_ASK_MAILBOX, NULL},

    {"AUTH", POP3_ASK_NOTHING, MECHANISMS, POP3_ASK_NOTHING, "-ERR "},
    {"AUTH ", POP3_ASK_NOTHING, MECHANISMS, POP3_ASK_NOTHING, "-ERR "},
    {"AUTH PLAIN", POP3_ASK_BACKEND, "+ \r\n", POP3_ASK_MAILBOX, NULL},
    {"AUTH PLAIN AGEAYg==", POP3_ASK_LOGIN, NULL, POP3_ASK_MAILBOX, NULL},
    {"AUTH PLAIN =", POP3_ASK_LOGIN, NULL, POP3_ASK_MAILBOX, NULL},
    {"AUTH LOGIN", POP3_ASK_BACKEND, PROMPT_USER, POP3_ASK_MAILBOX, NULL},
    {"AUTH LOGIN YQ==", POP3_ASK_BACKEND, PROMPT_PASSWORD, POP3_ASK_MAILBOX, NULL},
    {"AUTH XOAUTH2", POP3_ASK_BACKEND, "+ \r\n", POP3_ASK_MAILBOX, NULL},
    {"AUTH XOAUTH2 dXNlcj0=", POP3_ASK_LOGIN, NULL, POP3_ASK_MAILBOX, NULL},
    {"AUTH OAUTHBEARER", POP3_ASK_BACKEND, "+ \r\n", POP3_ASK_MAILBOX, NULL},
    {"AUTH CRAM-MD5", POP3_ASK_NOTHING, "-ERR ", POP3_ASK_MAILBOX, NULL},
    {"AUTH NTLM", POP3_ASK_NOTHING, "-ERR ", POP3_ASK_MAILBOX, NULL},
    {"AUTH PLAINER", POP3_ASK_NOTHING, "-ERR ", POP3_ASK_MAILBOX, NULL},

    {"STLS", POP3_ASK_NOTHING, "-ERR ", POP3_ASK_NOTHING, "-ERR "},
    {"UTF8", POP3_ASK_NOTHING, "-ERR ", POP3_ASK_NOTHING, "-ERR "},
    {"LANG *", POP3_ASK_NOTHING, "-ERR ", POP3_ASK_NOTHING, "-ERR "},
    {"HELO x", POP3_ASK_NOTHING, "-ERR ", POP3_ASK_NOTHING, "-ERR "},
    {"LISTS", POP3_ASK_NOTHING, "-ERR ", POP3_ASK_NOTHING, "-ERR "},
    {" LIST", POP3_ASK_NOTHING, "-ERR ", POP3_ASK_NOTHING, "-ERR "},
    {"*", POP3_ASK_NOTHING, "-ERR ", POP3_ASK_NOTHING, "-ERR "},
    {"", POP3_ASK_NOTHING, "-ERR ", POP3_ASK_NOTHING, "-ERR "},
    {"\xFF\xFE\x01", POP3_ASK_NOTHING, "-ERR ", POP3_ASK_NOTHING, "-ERR "},

    {"STAT", POP3_ASK_MAILBOX, NULL, POP3_ASK_MAILBOX, NULL},
    {"LIST", POP3_ASK_MAILBOX, NULL, POP3_ASK_MAILBOX, NULL},
    {"LIST 1", POP3_ASK_MAILBOX, NULL, POP3_ASK_MAILBOX, NULL},
    {"RETR 1", POP3_ASK_MAILBOX, NULL, POP3_ASK_MAILBOX, NULL},
    {"DELE 1", POP3_ASK_NOTHING, "-ERR ", POP3_ASK_NOTHING, "-ERR "},
    {"RSET", POP3_ASK_NOTHING, "-ERR ", POP3_ASK_NOTHING, "-ERR "},
    {"TOP 1 0", POP3_ASK_MAILBOX, NULL, POP3_ASK_MAILBOX, NULL},
    {"UIDL", POP3_ASK_MAILBOX, NULL, POP3_ASK_MAILBOX, NULL},
    {"LAST", POP3_ASK_MAILBOX, NULL, POP3_ASK_MAILBOX, NULL},
};

static void check_answer(const char *text, const char *expected)
{
    struct str said = buf_str(&reply);
    if (!expected) {
        assert_str(said, "");
    } else if (strcmp(expected, "-ERR ") == 0) {
        if (!str_istarts(said, expected) || said.n < 8 ||
            memcmp(said.p + said.n - 2, "\r\n", 2) != 0) {
            fail_msg("\"%s\" is answered \"%.*s\"", text, STR_ARG(said));
        }
    } else {
        assert_str(said, expected);
    }
}

static void check_first_line(const char *text, const struct row *row)
{
    struct pop3_client c;
    pop3_client_init(&c, POP3_ANY_LOGIN, NULL);
    assert_int_equal(line(&c, text), row->any);
    check_answer(text, row->any_answer);
    pop3_client_init(&c, POP3_OWN_LOGIN, NULL);
    assert_int_equal(line(&c, text), row->own);
    check_answer(text, row->own_answer);
}

static void test_first_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(first_lines); i++) {
        check_first_line(first_lines[i].line, &first_lines[i]);
    }
}

/* Keywords are case-insensitive (RFC 1939 section 3). */
static void test_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(first_lines); i++) {
        char small[64];
        text_fmt(small, sizeof(small), "%s", first_lines[i].line);
        for (char *p = small; *p; p++) {
            *p = (char)tolower((unsigned char)*p);
        }
        check_first_line(small, &first_lines[i]);
    }
}

/* The lines of a client in turn, for exchanges with more than one line. */
static void test_exchanges(void **state)
{
    (void)state;
    static const struct {
        struct {
            const char *line;
            enum pop3_ask ask;
            const char *answer;
        } steps[5];
    } rows[] = {
        {{{"USER a", POP3_ASK_BACKEND, "+OK\r\n"},
          {"CAPA", POP3_ASK_NOTHING, CAPA_HEAD "SASL PLAIN LOGIN XOAUTH2\r\n.\r\n"},
          {"PASS b", POP3_ASK_LOGIN, NULL}}},
        {{{"AUTH PLAIN", POP3_ASK_BACKEND, "+ \r\n"},
          {"AGEAYg==", POP3_ASK_LOGIN, NULL},
          {"STAT", POP3_ASK_MAILBOX, NULL}}},
        {{{"AUTH PLAIN", POP3_ASK_BACKEND, "+ \r\n"}, {"", POP3_ASK_LOGIN, NULL}}},
        /* A line of a SASL exchange is never a command. */
        {{{"AUTH XOAUTH2", POP3_ASK_BACKEND, "+ \r\n"}, {"QUIT", POP3_ASK_LOGIN, NULL}}},
        {{{"AUTH LOGIN", POP3_ASK_BACKEND, PROMPT_USER},
          {"YQ==", POP3_ASK_NOTHING, PROMPT_PASSWORD},
          {"Yg==", POP3_ASK_LOGIN, NULL},
          {"LIST", POP3_ASK_MAILBOX, NULL}}},
        {{{"AUTH LOGIN YQ==", POP3_ASK_BACKEND, PROMPT_PASSWORD}, {"Yg==", POP3_ASK_LOGIN, NULL}}},
        /* "*" cancels (RFC 5034 section 4), at every prompt. */
        {{{"AUTH PLAIN", POP3_ASK_BACKEND, "+ \r\n"},
          {"*", POP3_ASK_NOTHING, "-ERR "},
          {"NOOP", POP3_ASK_NOTHING, "+OK\r\n"}}},
        {{{"AUTH LOGIN", POP3_ASK_BACKEND, PROMPT_USER},
          {"*", POP3_ASK_NOTHING, "-ERR "},
          {"NOOP", POP3_ASK_NOTHING, "+OK\r\n"}}},
        {{{"AUTH LOGIN", POP3_ASK_BACKEND, PROMPT_USER},
          {"YQ==", POP3_ASK_NOTHING, PROMPT_PASSWORD},
          {"*", POP3_ASK_NOTHING, "-ERR "},
          {"QUIT", POP3_ASK_QUIT, "+OK bye\r\n"}}},
        /* After a failed login the client is in the same state as before. */
        {{{"PASS a", POP3_ASK_LOGIN, NULL},
          {"USER a", POP3_ASK_BACKEND, "+OK\r\n"},
          {"PASS b", POP3_ASK_LOGIN, NULL}}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct pop3_client c;
        pop3_client_init(&c, POP3_ANY_LOGIN, NULL);
        for (size_t k = 0; k < ARRAY_LEN(rows[i].steps) && rows[i].steps[k].line; k++) {
            assert_int_equal(line(&c, rows[i].steps[k].line), rows[i].steps[k].ask);
            check_answer(rows[i].steps[k].line, rows[i].steps[k].answer);
        }
    }
}

#define FAILURE "-ERR [IN-USE] locked\r\n"

enum { KINDS = 3 };

/* A client's line after a failed login, and its answers: `unseen` if it had arrived before the
 * failure was sent, `later` if not, `message` if it came later and RETR or TOP was refused. "" is
 * no answer, "=" the failure again, "log in" and "connect" stand for texts of ours, "-ERR" for any
 * other refusal. */
static const struct {
    const char *line;
    struct {
        enum pop3_ask ask;
        const char *answer;
    } unseen, later, message;
    unsigned char kinds; /* bits of enum pop3_login_kind */
} after_failures[] = {
#define ANY (1 << POP3_ANY_LOGIN)
#define OWN (1 << POP3_OWN_LOGIN)
#define TOKEN (1 << POP3_TOKEN_LOGIN)
    {"LIST", {POP3_ASK_NOTHING, "="}, {POP3_ASK_FAILED, "log in"}, {POP3_ASK_FAILED, "connect"}, 7},
    {"STAT", {POP3_ASK_NOTHING, "="}, {POP3_ASK_FAILED, "log in"}, {POP3_ASK_FAILED, "connect"}, 7},
    {"DELE", {POP3_ASK_NOTHING, "="}, {POP3_ASK_FAILED, "log in"}, {POP3_ASK_FAILED, "connect"}, 7},
    {"RSET", {POP3_ASK_NOTHING, "="}, {POP3_ASK_FAILED, "log in"}, {POP3_ASK_FAILED, "connect"}, 7},
    {"RETR",
     {POP3_ASK_NOTHING, "="},
     {POP3_ASK_FAILED, "connect"},
     {POP3_ASK_FAILED, "connect"},
     7},
    {"top", {POP3_ASK_NOTHING, "="}, {POP3_ASK_FAILED, "connect"}, {POP3_ASK_FAILED, "connect"}, 7},

    {"PASS b", {POP3_ASK_FAILED, "="}, {POP3_ASK_LOGIN, ""}, {POP3_ASK_FAILED, "connect"}, ANY},
    {"APOP a b", {POP3_ASK_FAILED, "="}, {POP3_ASK_LOGIN, ""}, {POP3_ASK_FAILED, "connect"}, ANY},
    {"AUTH PLAIN =",
     {POP3_ASK_FAILED, "="},
     {POP3_ASK_LOGIN, ""},
     {POP3_ASK_FAILED, "connect"},
     ANY},
    {"AUTH PLAIN AGEAYg==",
     {POP3_ASK_FAILED, "="},
     {POP3_ASK_LOGIN, ""},
     {POP3_ASK_FAILED, "connect"},
     ANY | TOKEN},
    {"USER a",
     {POP3_ASK_NOTHING, "+OK\r\n"},
     {POP3_ASK_BACKEND, "+OK\r\n"},
     {POP3_ASK_NOTHING, "+OK\r\n"},
     ANY},
    {"AUTH PLAIN",
     {POP3_ASK_NOTHING, "+ \r\n"},
     {POP3_ASK_BACKEND, "+ \r\n"},
     {POP3_ASK_NOTHING, "+ \r\n"},
     ANY},
    {"AUTH LOGIN",
     {POP3_ASK_NOTHING, PROMPT_USER},
     {POP3_ASK_BACKEND, PROMPT_USER},
     {POP3_ASK_NOTHING, PROMPT_USER},
     ANY},

    {"USER a", {POP3_ASK_FAILED, "="}, {POP3_ASK_MAILBOX, ""}, {POP3_ASK_FAILED, "connect"}, OWN},
    {"APOP a b", {POP3_ASK_FAILED, "="}, {POP3_ASK_MAILBOX, ""}, {POP3_ASK_FAILED, "connect"}, OWN},
    {"AUTH PLAIN",
     {POP3_ASK_FAILED, "="},
     {POP3_ASK_MAILBOX, ""},
     {POP3_ASK_FAILED, "connect"},
     OWN},
    {"PASS b",
     {POP3_ASK_NOTHING, "="},
     {POP3_ASK_FAILED, "log in"},
     {POP3_ASK_FAILED, "connect"},
     OWN},

    {"NOOP",
     {POP3_ASK_NOTHING, "+OK\r\n"},
     {POP3_ASK_NOTHING, "+OK\r\n"},
     {POP3_ASK_NOTHING, "+OK\r\n"},
     7},
    {"STLS", {POP3_ASK_NOTHING, "-ERR"}, {POP3_ASK_NOTHING, "-ERR"}, {POP3_ASK_NOTHING, "-ERR"}, 7},
    {"QUIT",
     {POP3_ASK_QUIT, "+OK bye\r\n"},
     {POP3_ASK_QUIT, "+OK bye\r\n"},
     {POP3_ASK_QUIT, "+OK bye\r\n"},
     7},
#undef ANY
#undef OWN
#undef TOKEN
};

static void check_after_failure(enum pop3_login_kind kind, const char *text, size_t unseen,
                                bool message, enum pop3_ask ask, const char *answer)
{
    static const char log_in[] = "-ERR the login has failed: log in again, or connect again\r\n";
    static const char connect[] = "-ERR a message was asked for and not sent: connect again\r\n";
    struct sasl_credentials credentials = {0};
    struct pop3_client c;
    pop3_client_init(&c, kind, &credentials);
    if (message && kind != POP3_TOKEN_LOGIN) {
        assert_int_equal(line(&c, "RETR 1"), POP3_ASK_MAILBOX);
    }
    c.failure = FAILURE;
    if (message && kind == POP3_TOKEN_LOGIN) {
        assert_int_equal(line(&c, "RETR 1"), POP3_ASK_FAILED);
    }
    c.unseen = unseen;
    if (line(&c, text) != ask) {
        fail_msg("\"%s\" (kind %d, unseen %zu, message %d)", text, (int)kind, unseen, message);
    }
    if (strcmp(answer, "-ERR") == 0) {
        assert_true(str_istarts(buf_str(&reply), "-ERR "));
    } else {
        assert_str(buf_str(&reply), strcmp(answer, "=") == 0         ? FAILURE
                                    : strcmp(answer, "log in") == 0  ? log_in
                                    : strcmp(answer, "connect") == 0 ? connect
                                                                     : answer);
    }
    pop3_sasl_wipe(&credentials);
}

static void test_after_a_failed_login(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(after_failures); i++) {
        const char *text = after_failures[i].line;
        for (int k = 0; k < KINDS; k++) {
            if (!(after_failures[i].kinds >> k & 1)) {
                continue;
            }
            enum pop3_login_kind kind = (enum pop3_login_kind)k;
            for (int message = 0; message < 2; message++) {
                check_after_failure(kind, text, 1, message, after_failures[i].unseen.ask,
                                    after_failures[i].unseen.answer);
            }
            check_after_failure(kind, text, 0, false, after_failures[i].later.ask,
                                after_failures[i].later.answer);
            check_after_failure(kind, text, 0, true, after_failures[i].message.ask,
                                after_failures[i].message.answer);
        }
    }
}

static void test_bad_commands(void **state)
{
    (void)state;
    static const char *const bad[] = {"XYZ", "STLS", "UTF8", "AUTH NTLM", ""};
    struct pop3_client c;
    pop3_client_init(&c, POP3_ANY_LOGIN, NULL);
    for (size_t i = 1; i < POP3_BAD_COMMANDS; i++) {
        assert_int_equal(line(&c, bad[i % ARRAY_LEN(bad)]), POP3_ASK_NOTHING);
        /* A good command does not reset the count. */
        assert_int_equal(line(&c, "NOOP"), POP3_ASK_NOTHING);
    }
    assert_int_equal(line(&c, "XYZ"), POP3_ASK_CLOSE);
    assert_str(buf_str(&reply), "-ERR too many bad commands\r\n");
}

static void test_line_max(void **state)
{
    (void)state;
    static const struct {
        const char *input;
        size_t max;
    } rows[] = {
        {"", POP3_COMMAND_MAX},
        {"LIST", POP3_COMMAND_MAX},
        {"USER x", POP3_COMMAND_MAX},
        {"APOP ", POP3_COMMAND_MAX},
        {"AUTH", POP3_COMMAND_MAX},
        {"PASS", POP3_COMMAND_MAX},
        {"PASSX", POP3_COMMAND_MAX},
        {"AUTH ", POP3_LONG_MAX},
        {"auth xoauth2 x", POP3_LONG_MAX},
        {"PASS ", POP3_LONG_MAX},
        {"pass word", POP3_LONG_MAX},
    };
    struct pop3_client c;
    pop3_client_init(&c, POP3_ANY_LOGIN, NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(pop3_client_line_max(&c, str_of(rows[i].input)), rows[i].max);
    }
    /* Answers to prompts may be long; the lines after them may not. */
    line(&c, "AUTH LOGIN");
    assert_int_equal(pop3_client_line_max(&c, str_of("x")), POP3_LONG_MAX);
    line(&c, "x");
    assert_int_equal(pop3_client_line_max(&c, str_of("x")), POP3_LONG_MAX);
    line(&c, "x");
    assert_int_equal(pop3_client_line_max(&c, str_of("x")), POP3_COMMAND_MAX);
}

static enum pop3_foreign foreign(const char *p, size_t n)
{
    struct str input = exact_copy(p, n);
    buf_free(&reply);
    buf_init(&reply, POP3_REPLY_MAX);
    enum pop3_foreign what = pop3_foreign(input, &reply);
    free((char *)input.p);
    assert_int_equal(what != POP3_NOT_FOREIGN, buf_len(&reply) > 0);
    return what;
}

/* Another protocol is recognised at the first octet that distinguishes it from POP3, and not
 * before. */
static void test_foreign(void **state)
{
    (void)state;
    static const struct {
        const char *input;
        enum pop3_foreign what;
        size_t from; /* the number of octets that decide */
    } rows[] = {
        {"GET / HTTP/1.1\r\n", POP3_FOREIGN_HTTP, 5},
        {"HEAD / HTTP/1.1\r\n", POP3_FOREIGN_HTTP, 6},
        {"POST /x HTTP/1.1\r\n", POP3_FOREIGN_HTTP, 6},
        {"PUT /x HTTP/1.1\r\n", POP3_FOREIGN_HTTP, 5},
        {"OPTIONS * HTTP/1.1\r\n", POP3_FOREIGN_HTTP, 9},
        {"CONNECT x:1 HTTP/1.1\r\n", POP3_FOREIGN_HTTP, 9},
        {"PRI * HTTP/2.0\r\n", POP3_FOREIGN_HTTP, 5},
        {"\x16\x03\x01\x02", POP3_FOREIGN_TLS, 2},
        {"\x16\x04\x01\x02", POP3_NOT_FOREIGN, 0},
        {"\x16", POP3_NOT_FOREIGN, 0},
        {"LIST\r\n", POP3_NOT_FOREIGN, 0},
        {"PASS GET / HTTP\r\n", POP3_NOT_FOREIGN, 0},
        {"GETX / HTTP\r\n", POP3_NOT_FOREIGN, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t n = 0; n <= strlen(rows[i].input); n++) {
            enum pop3_foreign what = foreign(rows[i].input, n);
            assert_int_equal(what, n >= rows[i].from ? rows[i].what : POP3_NOT_FOREIGN);
            if (what != POP3_NOT_FOREIGN) {
                check_answer(rows[i].input, "-ERR ");
                assert_true(buf_len(&reply) <= POP3_REPLY_MAX);
            }
        }
    }
}

static void test_greeting(void **state)
{
    (void)state;
    buf_free(&reply);
    buf_init(&reply, POP3_REPLY_MAX);
    pop3_greeting(&reply, "0123456789abcdef");
    assert_str(buf_str(&reply), "+OK tproxy 0123456789abcdef ready\r\n");
    assert_null(memchr(buf_str(&reply).p, '<', buf_len(&reply)));
}

static void test_response_codes(void **state)
{
    (void)state;
    static const struct {
        const char *reply;
        bool has;
    } rows[] = {
        {NULL, false},
        {"", false},
        {"-ERR", false},
        {"-ERR no", false},
        {"-ERR [IN-USE] locked", true},
        {"-ERR [in-use] locked", true},
        {"-ERR [LOGIN-DELAY] wait", true},
        {"-ERR [SYS/TEMP] later", true},
        {"-ERR [SYS/PERM] never", true},
        {"-ERR [SYS/PERM/QUOTA] never", true},
        {"-ERR [AUTH] wrong", true},
        {"-ERR [AUTHX] wrong", false},
        {"-ERR [EXPIRE] x", false},
        {"-ERR  [AUTH] two blanks", false},
        {"-ERR text [AUTH]", false},
        {"+OK [AUTH] odd", false},
        {"-err [AUTH] small", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(pop3_has_response_code(rows[i].reply), rows[i].has);
    }
}

static const char *failure(const char *destination, enum fail class, const char *text,
                           const char *backend_reply)
{
    struct error err;
    error_set(&err, class, "%s", text);
    buf_free(&reply);
    buf_init(&reply, POP3_REPLY_MAX);
    pop3_failure(&reply, destination, &err, backend_reply, false);
    static char said[POP3_REPLY_MAX + 1];
    text_fmt(said, sizeof(said), "%.*s", STR_ARG(buf_str(&reply)));
    return said;
}

static void test_failure_classes(void **state)
{
    (void)state;
    static const struct {
        enum fail fail;
        const char *code;
    } rows[] = {
        {FAIL_CONFIG, "SYS/PERM"},   {FAIL_CERT, "SYS/PERM"},    {FAIL_AUTH, "AUTH"},
        {FAIL_DNS, "SYS/TEMP"},      {FAIL_CONNECT, "SYS/TEMP"}, {FAIL_SOCKS, "SYS/TEMP"},
        {FAIL_TLS, "SYS/TEMP"},      {FAIL_TOKEN, "SYS/TEMP"},   {FAIL_PROTOCOL, "SYS/TEMP"},
        {FAIL_TIMEOUT, "SYS/TEMP"},  {FAIL_REMOTE, "SYS/TEMP"},  {FAIL_LIMIT, "SYS/TEMP"},
        {FAIL_INTERNAL, "SYS/TEMP"}, {FAIL_NONE, "SYS/TEMP"},
    };
    assert_int_equal(ARRAY_LEN(rows), FAIL_COUNT);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char expected[POP3_REPLY_MAX];
        text_fmt(expected, sizeof(expected), "-ERR [%s] destination \"inbox\": it went wrong\r\n",
                 rows[i].code);
        assert_string_equal(failure("inbox", rows[i].fail, "it went wrong", NULL), expected);
        assert_string_equal(failure("inbox", rows[i].fail, "it went wrong", ""), expected);
        assert_string_equal(failure("inbox", rows[i].fail, "it went wrong", "-ERR no"), expected);
    }
}

static void test_failure_verbatim(void **state)
{
    (void)state;
    assert_string_equal(failure("inbox", FAIL_REMOTE, "x", "-ERR [IN-USE] Held by pid 12345"),
                        "-ERR [IN-USE] Held by pid 12345\r\n");
    assert_string_equal(failure("inbox", FAIL_AUTH, "x", "-ERR [AUTH] 100%s wrong"),
                        "-ERR [AUTH] 100%s wrong\r\n");
}

/* A status line has at most 512 octets (RFC 1939 section 3), and one end. */
static void test_failure_bound(void **state)
{
    (void)state;
    char name[1000], reply_line[POP3_REPLY_MAX], text[FAIL_TEXT_MAX];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    for (size_t n = 100; n < sizeof(name); n++) {
        memset(name, 'n', n);
        name[n] = '\0';
        const char *said = failure(name, FAIL_REMOTE, text, NULL);
        size_t length = strlen(said);
        size_t whole = strlen("-ERR [SYS/TEMP] destination \"\": \r\n") + n + strlen(text);
        assert_int_equal(length, whole < POP3_REPLY_MAX ? whole : POP3_REPLY_MAX);
        assert_ptr_equal(strstr(said, "\r\n"), said + length - 2);
    }
    text_fmt(reply_line, sizeof(reply_line), "-ERR [SYS/TEMP] %0600d", 0);
    assert_int_equal(strlen(failure("inbox", FAIL_REMOTE, "x", reply_line)), POP3_REPLY_MAX);
}

static int clean_up(void **state)
{
    (void)state;
    buf_free(&reply);
    return 0;
}

/* Logins with the client's own credentials: what it sends and who it then is ("": nobody). */
static void test_token_login(void **state)
{
    (void)state;
    /* base64 of "user=a@b.c^Aauth=Bearer tok^A^A", and of the same with \x01 as four characters */
    static const char xoauth2[] = "dXNlcj1hQGIuYwFhdXRoPUJlYXJlciB0b2sBAQ==";
    static const char typed[] = "dXNlcj1hQGIuY1x4MDFhdXRoPUJlYXJlciB0b2tceDAxXHgwMQ==";
    const struct {
        const char *lines[4];
        enum pop3_ask ask; /* what the last line asks */
        const char *user, *secret;
        const char *answer; /* a part of the answer to the last line */
    } rows[] = {
        {{"AUTH XOAUTH2", xoauth2}, POP3_ASK_LOGIN, "a@b.c", "tok", ""},
        {{"AUTH XOAUTH2", typed}, POP3_ASK_NOTHING, "", NULL, "-ERR [AUTH] the four characters"},
        {{"AUTH XOAUTH2", "=="}, POP3_ASK_NOTHING, "", NULL, "-ERR [AUTH] the response is no"},
        {{"AUTH XOAUTH2", "*"}, POP3_ASK_NOTHING, "", NULL, "-ERR authentication cancelled"},
        {{"AUTH PLAIN AGEAYg=="}, POP3_ASK_LOGIN, "a", "b", ""},
        {{"AUTH LOGIN", "YQ==", "Yg=="}, POP3_ASK_LOGIN, "a", "b", ""},
        {{"AUTH LOGIN YQ==", "Yg=="}, POP3_ASK_LOGIN, "a", "b", ""},
        {{"AUTH LOGIN", "Y"}, POP3_ASK_NOTHING, "", NULL, "-ERR [AUTH] the response is no"},
        {{"USER a@b.c", "PASS tok en"}, POP3_ASK_LOGIN, "a@b.c", "tok en", ""},
        {{"USER a", "AUTH XOAUTH2", xoauth2}, POP3_ASK_LOGIN, "a@b.c", "tok", ""},
        {{"USER a", "AUTH PLAIN", "PASS b"}, POP3_ASK_NOTHING, "", NULL, "-ERR [AUTH]"},
        {{"PASS tok"}, POP3_ASK_NOTHING, "", NULL, "-ERR send USER first"},
        {{"USER"}, POP3_ASK_NOTHING, "", NULL, "-ERR [AUTH] the mail user is missing"},
        {{"APOP a b"}, POP3_ASK_NOTHING, "", NULL, "-ERR log in first: AUTH XOAUTH2"},
        {{"LIST"}, POP3_ASK_NOTHING, "", NULL, "-ERR log in first: AUTH XOAUTH2"},
        {{"CAPA"}, POP3_ASK_NOTHING, "", NULL, "SASL XOAUTH2 OAUTHBEARER PLAIN LOGIN\r\n"},
        {{"AUTH"}, POP3_ASK_NOTHING, "", NULL, "XOAUTH2\r\nOAUTHBEARER\r\nPLAIN\r\nLOGIN\r\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sasl_credentials credentials = {0};
        struct pop3_client c;
        enum pop3_ask ask = POP3_ASK_NOTHING;
        pop3_client_init(&c, POP3_TOKEN_LOGIN, &credentials);
        for (size_t k = 0; k < ARRAY_LEN(rows[i].lines) && rows[i].lines[k]; k++) {
            assert_int_equal(ask, POP3_ASK_NOTHING);
            ask = line(&c, rows[i].lines[k]);
        }
        char said[POP3_REPLY_MAX + 1];
        text_fmt(said, sizeof(said), "%.*s", STR_ARG(buf_str(&reply)));
        assert_int_equal(ask, rows[i].ask);
        assert_non_null(strstr(said, rows[i].answer));
        assert_string_equal(credentials.user, rows[i].user);
        assert_string_equal(credentials.secret.p ? credentials.secret.p : "",
                            rows[i].secret ? rows[i].secret : "");
        pop3_sasl_wipe(&credentials);
    }
}

/* XTPROXY from another tproxy is neither a login nor a mailbox command. */
static void test_hops(void **state)
{
    (void)state;
    static const char own[] = "0123456789abcdef", other[] = "00c7ff26d6f4e3a1";
    static const struct {
        const char *line;
        enum pop3_ask ask;
        const char *answer;
    } rows[] = {
        {"XTPROXY 00c7ff26d6f4e3a1", POP3_ASK_NOTHING, "+OK\r\n"},
        {"xtproxy 00c7ff26d6f4e3a1 00c7ff26d6f4e3a2", POP3_ASK_NOTHING, "+OK\r\n"},
        {"XTPROXY 0123456789abcdef", POP3_ASK_LOOP, ""},
        {"XTPROXY 0123456789abcdef 00c7ff26d6f4e3a1", POP3_ASK_LOOP, ""},
        {"XTPROXY", POP3_ASK_NOTHING, "-ERR unknown command\r\n"},
        {"XTPROXY 0123456789abcdeg", POP3_ASK_NOTHING, "-ERR unknown command\r\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows) * 2; i++) {
        bool known = i < ARRAY_LEN(rows);
        size_t row = i % ARRAY_LEN(rows);
        struct pop3_client c;
        pop3_client_init(&c, POP3_ANY_LOGIN, NULL);
        c.own_id = known ? own : NULL;
        enum pop3_ask ask = line(&c, rows[row].line);
        assert_false(pop3_client_wants_in(&c, ask));
        assert_int_equal(ask, known ? rows[row].ask : POP3_ASK_NOTHING);
        assert_str(buf_str(&reply), known ? rows[row].answer : "-ERR unknown command\r\n");
        if (known && ask == POP3_ASK_NOTHING && c.hops.n) {
            assert_true(pop3_hops_since(&c.hops, other) >= 0);
            line(&c, "XTPROXY 00c7ff26d6f4e3a3"); /* a second time */
            assert_true(pop3_hops_since(&c.hops, other) >= 0);
        }
    }
}

/* A client that sends such a line wants to log in or use the mailbox, and keeps its place. */
static void test_wants_in(void **state)
{
    (void)state;
    static const struct {
        enum pop3_login_kind kind;
        const char *line;
        bool wants_in;
    } rows[] = {
        {POP3_ANY_LOGIN, "USER a", true},     {POP3_ANY_LOGIN, "PASS a", true},
        {POP3_ANY_LOGIN, "APOP a b", true},   {POP3_ANY_LOGIN, "AUTH PLAIN", true},
        {POP3_ANY_LOGIN, "STAT", true},       {POP3_ANY_LOGIN, "DELE 1", false},
        {POP3_ANY_LOGIN, "AUTH", false},      {POP3_ANY_LOGIN, "CAPA", false},
        {POP3_ANY_LOGIN, "NOOP", false},      {POP3_ANY_LOGIN, "STLS", false},
        {POP3_ANY_LOGIN, "nonsense", false},  {POP3_ANY_LOGIN, "", false},
        {POP3_ANY_LOGIN, "QUIT", false},      {POP3_OWN_LOGIN, "USER a", true},
        {POP3_OWN_LOGIN, "AUTH PLAIN", true}, {POP3_OWN_LOGIN, "CAPA", false},
        {POP3_TOKEN_LOGIN, "USER a", true},   {POP3_TOKEN_LOGIN, "AUTH XOAUTH2", true},
        {POP3_TOKEN_LOGIN, "PASS a", false},  {POP3_TOKEN_LOGIN, "STAT", false},
        {POP3_TOKEN_LOGIN, "AUTH", false},    {POP3_TOKEN_LOGIN, "CAPA", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sasl_credentials credentials = {0};
        struct pop3_client c;
        char space[POP3_REPLY_MAX];
        struct buf answer = BUF_ON(space);
        pop3_client_init(&c, rows[i].kind, rows[i].kind == POP3_TOKEN_LOGIN ? &credentials : NULL);
        enum pop3_ask ask = pop3_client_line(&c, str_of(rows[i].line), &answer);
        assert_int_equal(pop3_client_wants_in(&c, ask), rows[i].wants_in);
        pop3_sasl_wipe(&credentials);
    }
}

/* Lines that begin a login wait until the kind of login is known. */
static void test_needs_kind(void **state)
{
    (void)state;
    static const char *const logins[] = {
        "USER a",    "user", "PASS b", "APOP a b", "AUTH PLAIN", "auth xoauth2 YQ==",
        "AUTH NONE", "STAT", "RETR 1", "top 1 0",  "UIDL",       "LAST"};
    static const char *const others[] = {"QUIT", "CAPA", "NOOP",    "AUTH",   "AUTH ",
                                         "STLS", "UTF8", "LANG en", "DELE 1", "RSET",
                                         "HELO", "",     "USERS",   "*"};
    struct pop3_client c;
    pop3_client_init(&c, POP3_ANY_LOGIN, NULL);
    for (size_t i = 0; i < ARRAY_LEN(logins); i++) {
        assert_true(pop3_client_needs_kind(&c, str_of(logins[i])));
    }
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        assert_false(pop3_client_needs_kind(&c, str_of(others[i])));
    }
    c.failure = "-ERR no\r\n";
    assert_true(pop3_client_needs_kind(&c, str_of("USER a")));
    c.unseen = 1; /* the line fails like the login, whatever the kind */
    assert_false(pop3_client_needs_kind(&c, str_of("USER a")));
    pop3_client_init(&c, POP3_ANY_LOGIN, NULL);
    c.expect = POP3_EXPECT_SASL_LAST;
    assert_false(pop3_client_needs_kind(&c, str_of("STAT")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_lines),
        cmocka_unit_test(test_case),
        cmocka_unit_test(test_exchanges),
        cmocka_unit_test(test_after_a_failed_login),
        cmocka_unit_test(test_bad_commands),
        cmocka_unit_test(test_line_max),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_greeting),
        cmocka_unit_test(test_response_codes),
        cmocka_unit_test(test_failure_classes),
        cmocka_unit_test(test_failure_verbatim),
        cmocka_unit_test(test_failure_bound),
        cmocka_unit_test(test_token_login),
        cmocka_unit_test(test_wants_in),
        cmocka_unit_test(test_hops),
        cmocka_unit_test(test_needs_kind),
    };
    return cmocka_run_group_tests(tests, NULL, clean_up);
}
