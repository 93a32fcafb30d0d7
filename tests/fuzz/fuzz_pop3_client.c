/* Fuzzes what a client sends before it is relayed, line by line. Answers are whole lines within
 * their bounds, and a client that sends only bad commands is disconnected. The first byte says how
 * the client logs in. A NUL ends each line, so that lines can contain every other octet. */
#include "pop3/client.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static bool ends_with(struct str s, const char *end)
{
    size_t n = strlen(end);
    return s.n >= n && memcmp(s.p + s.n - n, end, n) == 0;
}

/* A reply is empty, a prompt, or a status line; only the latter may go on with more lines, up to a
 * lone dot. */
static void check_reply(struct str reply)
{
    if (reply.n == 0) {
        return;
    }
    require(str_istarts(reply, "+OK") || str_istarts(reply, "-ERR ") || str_istarts(reply, "+ "));
    require(reply.n <= POP3_REPLY_MAX && ends_with(reply, "\r\n"));
    const char *first_end = memchr(reply.p, '\n', reply.n);
    require(first_end == reply.p + reply.n - 1 || ends_with(reply, "\r\n.\r\n"));
}

static enum pop3_ask take_line(struct pop3_client *c, struct str line)
{
    struct buf reply;
    buf_init(&reply, POP3_REPLY_MAX);
    bool sasl = c->expect != POP3_EXPECT_COMMAND;
    enum pop3_ask ask = pop3_client_line(c, line, &reply);
    check_reply(buf_str(&reply));
    bool answered = ask != POP3_ASK_LOGIN && ask != POP3_ASK_MAILBOX;
    require(answered == (buf_len(&reply) > 0));
    require(c->kind == POP3_ANY_LOGIN || ask != POP3_ASK_BACKEND);
    require(c->kind != POP3_OWN_LOGIN || ask != POP3_ASK_LOGIN);
    require(c->kind != POP3_TOKEN_LOGIN || ask != POP3_ASK_LOGIN ||
            (c->credentials->user[0] && c->credentials->secret.n));
    /* A malformed response may be one bad command too many. */
    require(!sasl || ask == POP3_ASK_NOTHING || ask == POP3_ASK_LOGIN || ask == POP3_ASK_CLOSE);
    buf_free(&reply);
    return ask;
}

/* Uses the same bytes as the text of a failure and as a backend's reply. */
static void fail_with(struct str text)
{
    char printable[POP3_REPLY_MAX];
    struct error err;
    struct buf reply;
    buf_init(&reply, POP3_REPLY_MAX);
    text_printable(printable, sizeof(printable), text);
    error_set(&err, (enum fail)(text.n % FAIL_COUNT), "%s", printable);
    pop3_failure(&reply, "inbox", &err, text.n % 2 ? printable : NULL, text.n % 3 == 0);
    check_reply(buf_str(&reply));
    require(str_istarts(buf_str(&reply), "-ERR ["));
    buf_free(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct pop3_client c;
    struct buf reply;
    struct str rest = {(const char *)data + 1, size - 1};
    unsigned bad = 0;
    fail_with(rest);
    buf_init(&reply, POP3_REPLY_MAX);
    if (pop3_foreign(rest, &reply)) {
        check_reply(buf_str(&reply));
    }
    buf_free(&reply);
    struct sasl_credentials credentials = {0};
    pop3_client_init(&c, (enum pop3_login_kind)(data[0] % 3), &credentials);
    c.own_id = "0123456789abcdef";
    while (rest.n) {
        size_t max = pop3_client_line_max(&c, rest);
        require(max == POP3_COMMAND_MAX || max == POP3_LONG_MAX);
        struct str line = str_cut(&rest, '\0');
        if (line.n > max || take_line(&c, line) == POP3_ASK_CLOSE) {
            break;
        }
        require(c.bad_commands >= bad && c.bad_commands < POP3_BAD_COMMANDS);
        bad = c.bad_commands;
    }
    pop3_sasl_wipe(&credentials);
    return 0;
}
