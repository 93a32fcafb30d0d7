/* Fuzzes the answers of a backend during the login. The first three bytes choose the destination
 * and what is known of its server. The lines of the server follow, each with an LF at its end; a
 * line with only a TAB starts TLS. For every input, commands go out whole and one at a time, no
 * text shows a secret, and the login ends. */
#include "pop3/login.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/destination.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CHOICES = 3, LINES_MAX = 600 };

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static char user[] = "mrose", password[] = "tanstaaf", access_token[] = "ya29.token";

static struct destination choose_destination(const uint8_t *choice)
{
    static const enum tls_mode modes[] = {TLS_NONE, TLS_IMPLICIT, TLS_STLS_WANTED,
                                          TLS_STLS_REQUIRED};
    static const enum mail_auth auths[] = {AUTH_NONE, AUTH_BASIC, AUTH_BASIC,
                                           AUTH_CLIENT_CREDENTIALS};
    struct destination dest = {
        .user = user,
        .password = {password, sizeof(password) - 1},
        .tls = modes[choice[0] & 3],
        .auth = auths[choice[0] >> 2 & 3],
        .ask_capa = choice[0] & 16,
        .xoauth2_two_lines = choice[0] & 32,
    };
    if (dest.auth == AUTH_CLIENT_CREDENTIALS) {
        dest.mechanisms[dest.n_mechanisms++] = MECH_XOAUTH2;
    }
    static const enum mechanism basic[] = {MECH_PLAIN, MECH_APOP, MECH_USER_PASS};
    for (unsigned i = 0; dest.auth == AUTH_BASIC && i < 3; i++) {
        if (choice[1] >> i & 1) {
            dest.mechanisms[dest.n_mechanisms++] = basic[(i + (choice[1] >> 3 & 3)) % 3];
        }
    }
    return dest;
}

static struct pop3_caps choose_caps(unsigned bits)
{
    return (struct pop3_caps){
        .known = bits & 1, .stls = bits & 2, .plain = bits & 4, .xoauth2 = bits & 8};
}

static void check_text(const char *text)
{
    require(!strstr(text, password) && !strstr(text, access_token));
    for (const char *p = text; *p; p++) {
        require((unsigned char)*p >= 0x20 && *p != 0x7F);
    }
}

static void check(const struct pop3_login *login, enum pop3_login_next next)
{
    struct str out = buf_str(&login->out);
    if (out.n) {
        require(memchr(out.p, '\r', out.n) == out.p + out.n - 2);
        require(memchr(out.p, '\n', out.n) == out.p + out.n - 1);
        require(!memchr(out.p, '\0', out.n));
    }
    require((next == POP3_NEXT_LINE) || out.n == 0);
    require((next == POP3_NEXT_DONE) == (login->state == POP3_LOGIN_READY));
    require((next == POP3_NEXT_FAIL) == (login->state == POP3_LOGIN_FAILED));
    require((next == POP3_NEXT_TLS) == (login->state == POP3_LOGIN_HANDSHAKE));
    require((next == POP3_NEXT_FAIL) == (login->err.fail != FAIL_NONE));
    require(strlen(login->reply) < sizeof(login->reply));
    require(strlen(login->timestamp) < sizeof(login->timestamp));
    require(strlen(pop3_login_awaited(login)) > 0);
    check_text(login->reply);
    check_text(login->challenge);
    check_text(login->err.text);
    bool required = login->dest->tls == TLS_STLS_REQUIRED;
    require(!required || next != POP3_NEXT_DONE || login->secure);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < CHOICES) {
        return 0;
    }
    struct destination dest = choose_destination(data);
    struct secret token = {access_token, sizeof(access_token) - 1};
    struct pop3_memory memory = {.clear = choose_caps(data[2]),
                                 .secure = choose_caps(data[2] >> 4)};
    struct str rest = {(const char *)data + CHOICES, size - CHOICES};
    struct pop3_login login;
    enum pop3_login_next next = POP3_NEXT_LINE;
    pop3_login_init(&login, &dest, NULL, &token, &memory, "0123456789abcdef",
                    dest.tls == TLS_IMPLICIT);
    for (unsigned lines = 0; rest.n && next != POP3_NEXT_DONE && next != POP3_NEXT_FAIL; lines++) {
        struct str line = str_cut(&rest, '\n');
        line.n = line.n < POP3_BACKEND_LINE_MAX ? line.n : POP3_BACKEND_LINE_MAX;
        require(lines < LINES_MAX);
        next = next == POP3_NEXT_TLS && str_eq(line, "\t") ? pop3_login_secured(&login)
                                                           : pop3_login_line(&login, line);
        check(&login, next);
    }
    pop3_login_wipe(&login);
    return 0;
}
