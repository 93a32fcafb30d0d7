/* Tests lib/log: its two forms, hostile text, and a reader that does not read. */
#include "lib/log.h"

#include <ctype.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int pipe_fds[2];

/* Reads the contents of the pipe and terminates them. */
static size_t drain(char *out, size_t cap)
{
    size_t n = 0;
    ssize_t got;
    while (n < cap - 1 && (got = read(pipe_fds[0], out + n, cap - 1 - n)) > 0) {
        n += (size_t)got;
    }
    out[n] = '\0';
    return n;
}

static int open_pipe(void **state)
{
    (void)state;
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
    log_set_level(LOG_TRACE);
    return 0;
}

static int close_pipe(void **state)
{
    (void)state;
    char rest[4096];
    do {
        log_flush();
    } while (drain(rest, sizeof(rest)) > 0);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    return 0;
}

/* ---- a JSON checker of the test: one flat object per line ---- */

static const char *skip_string(const char *p)
{
    assert_int_equal(*p, '"');
    for (p++; *p != '"'; p++) {
        unsigned char c = (unsigned char)*p;
        assert_true(c >= 0x20 && c != 0x7F);
        if (c == '\\') {
            p++;
            assert_non_null(strchr("\"\\nut", *p));
            for (int i = 0; *p == 'u' && i < 4; i++) {
                assert_true(isxdigit((unsigned char)p[1 + i]));
            }
        }
    }
    return p + 1;
}

/* Fails unless p begins with a JSON object of strings and integers and an LF. Returns the text
 * behind it. */
static const char *check_object(const char *p)
{
    assert_int_equal(*p, '{');
    do {
        p = skip_string(p + 1);
        assert_int_equal(*p, ':');
        p++;
        if (*p == '"') {
            p = skip_string(p);
        } else {
            size_t digits = strspn(p, "-0123456789");
            assert_true(digits > 0);
            p += digits;
        }
    } while (*p == ',');
    assert_int_equal(*p, '}');
    assert_int_equal(p[1], '\n');
    return p + 2;
}

static void check_utf8(const char *p, size_t n)
{
    struct str s = {p, n};
    while (s.n) {
        size_t len = text_utf8_length(s);
        assert_true(len > 0);
        s.p += len;
        s.n -= len;
    }
}

/* ---- tests ---- */

static void json_line(void **state)
{
    (void)state;
    char out[4096];
    log_open(pipe_fds[1], LOG_FORMAT_JSON);
    struct log_field fields[] = {LOG_STR("session", "a\"b"), LOG_NUM("bytes", -7)};
    log_fields(LOG_INFO, "pop3", fields, 2, "said %s", "hello");
    assert_int_equal(log_flush(), OK);
    drain(out, sizeof(out));
    assert_string_equal(check_object(out), "");
    assert_memory_equal(out, "{\"time\":\"20", 11);
    assert_int_equal(out[9 + 10], 'T');
    assert_int_equal(out[9 + 23], 'Z');
    assert_string_equal(out + 9 + 24,
                        "\",\"level\":\"info\",\"module\":\"pop3\",\"msg\":\"said hello\","
                        "\"session\":\"a\\\"b\",\"bytes\":-7}\n");
}

static void text_line(void **state)
{
    (void)state;
    char out[4096];
    log_open(pipe_fds[1], LOG_FORMAT_TEXT);
    struct log_field fields[] = {LOG_STR("a", "plain"), LOG_STR("b", "two words"), LOG_STR("c", ""),
                                 LOG_STR("d", "x\n\033[2J\xc2\x9b"), LOG_NUM("e", 1)};
    log_fields(LOG_WARN, "dns", fields, ARRAY_LEN(fields), "caf\xc3\xa9 \xff\r\n");
    log_line(LOG_ERROR, "dns", "x");
    assert_int_equal(log_flush(), OK);
    drain(out, sizeof(out));
    char *second = strchr(out, '\n') + 1;
    second[-1] = '\0';
    assert_string_equal(out + 24,
                        " warn  dns: caf\xc3\xa9 ??? a=plain b=\"two words\" c=\"\" d=x??[2J? e=1");
    assert_string_equal(second + 24, " error dns: x\n");
}

static void levels(void **state)
{
    (void)state;
    char out[256];
    enum log_level level;
    log_open(pipe_fds[1], LOG_FORMAT_TEXT);
    log_set_level(LOG_WARN);
    log_line(LOG_INFO, "x", "no");
    assert_int_equal(log_flush(), OK);
    assert_int_equal(drain(out, sizeof(out)), 0);
    assert_false(log_enabled(LOG_INFO));
    assert_true(log_enabled(LOG_WARN) && log_enabled(LOG_FATAL));
    assert_int_equal(log_get_level(), LOG_WARN);
    for (int i = LOG_TRACE; i <= LOG_FATAL; i++) {
        assert_int_equal(log_level_parse(str_of(log_level_name((enum log_level)i)), &level), OK);
        assert_int_equal(level, i);
    }
    assert_int_equal(log_level_parse(str_of("DeBug"), &level), OK);
    assert_int_equal(level, LOG_DEBUG);
    assert_int_equal(log_level_parse(str_of("debugg"), &level), ERR);
    assert_int_equal(log_level_parse(str_of(""), &level), ERR);
}

/* Message, value and key contain every byte and every sequence that is hard to encode. */
static void hostile_json(void **state)
{
    (void)state;
    char out[16384], every[256];
    log_open(pipe_fds[1], LOG_FORMAT_JSON);
    for (int i = 1; i < 256; i++) {
        every[i - 1] = (char)i;
    }
    every[255] = '\0';
    const char *shapes[] = {
        every,    "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\xaf",
        "\"}\n{", "\\",   "\xe2\x82",     "\xf0\x9f\x98\x80", "\x7f\xc2\x80\xc2\x9f\xc2\xa0"};
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct log_field f[] = {LOG_STR("v", shapes[i]), LOG_STR(shapes[i], "v")};
        log_fields(LOG_INFO, "m", f, 2, "%s", shapes[i]);
        assert_int_equal(log_flush(), OK);
        size_t n = drain(out, sizeof(out));
        assert_string_equal(check_object(out), "");
        check_utf8(out, n);
    }
}

/* For all lengths a line ends properly, within PIPE_BUF, and the fields survive a long message. */
static void long_lines(void **state)
{
    (void)state;
    static char text[9000], out[16384];
    const char *units[] = {"a", "\x01", "\xc3\xa9", "\""};
    for (size_t u = 0; u < ARRAY_LEN(units); u++) {
        for (size_t n = 1; n < 8500; n += n < 400 ? 97 : 1 + n / 40) {
            text[0] = '\0';
            size_t width = strlen(units[u]);
            for (size_t i = 0; i + width <= n; i += width) {
                memcpy(text + i, units[u], width + 1);
            }
            struct log_field f[] = {LOG_STR("session", "s1"), LOG_STR("v", text), LOG_NUM("n", 5)};
            log_open(pipe_fds[1], LOG_FORMAT_JSON);
            log_fields(LOG_INFO, "m", f, 3, "%s", text);
            assert_int_equal(log_flush(), OK);
            size_t len = drain(out, sizeof(out));
            assert_true(len <= 4096);
            assert_string_equal(check_object(out), "");
            assert_non_null(strstr(out, "\"session\":\"s1\""));
            check_utf8(out, len);
            log_open(pipe_fds[1], LOG_FORMAT_TEXT);
            log_fields(LOG_INFO, "m", f, 3, "%s", text);
            assert_int_equal(log_flush(), OK);
            len = drain(out, sizeof(out));
            assert_true(len <= 4096);
            assert_ptr_equal(strchr(out, '\n'), out + len - 1);
            assert_non_null(strstr(out, " session=s1"));
            check_utf8(out, len);
        }
    }
}

/* The reader sleeps: nothing blocks, and lines are dropped and counted. The lines that it reads
 * later are whole and in order, with the number of missing ones in their place. */
static void check_full(void)
{
    static char out[262144];
    uint64_t dropped_before = log_dropped();
    int lines = 3000;
    for (int i = 0; i < lines; i++) {
        log_line(LOG_INFO, "m", "line %d ....................................................", i);
        log_flush();
    }
    assert_int_equal(log_flush(), AGAIN);
    uint64_t dropped = log_dropped() - dropped_before;
    assert_true(dropped > 0);
    size_t n = 0;
    for (int i = 0; i < 100; i++) {
        n += drain(out + n, sizeof(out) - n);
        log_flush();
    }
    assert_int_equal(log_flush(), OK);
    assert_int_equal(log_dropped() - dropped_before, dropped);
    int next = 0;
    for (char *p = out, *end; *p; p = end + 1) {
        end = strchr(p, '\n');
        assert_non_null(end);
        *end = '\0';
        char *text = strstr(p, " m: line ");
        if (text) {
            assert_int_equal(atoi(text + 9), next);
            next++;
        } else {
            text = strstr(p, " warn  log: ");
            assert_non_null(text);
            assert_int_equal(strtoull(text + 12, &text, 10), dropped);
            assert_string_equal(text, " log lines dropped");
            next += (int)dropped;
        }
    }
    assert_int_equal(next, lines);
}

static void full_pipe(void **state)
{
    (void)state;
    int flags = fcntl(pipe_fds[1], F_GETFL);
    log_open(pipe_fds[1], LOG_FORMAT_TEXT);
    check_full();
    check_full();
    assert_int_equal(fcntl(pipe_fds[1], F_GETFL), flags);
    assert_false(flags & O_NONBLOCK);
}

/* The pipe may be written but not opened again, like stderr of a container that does not run as
 * root. */
static void full_pipe_of_another_user(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    log_open(pipe_fds[1], LOG_FORMAT_TEXT);
    assert_int_equal(seteuid(65534), 0);
    log_line(LOG_INFO, "m", "decides how to write");
    int res = log_flush();
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(res, OK);
    char out[256];
    drain(out, sizeof(out));
    check_full();
}

static void full_socket(void **state)
{
    (void)state;
    int saved[2] = {pipe_fds[0], pipe_fds[1]}, size = 4096;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pipe_fds), 0);
    setsockopt(pipe_fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
    log_open(pipe_fds[1], LOG_FORMAT_TEXT);
    check_full();
    log_open(saved[1], LOG_FORMAT_TEXT);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    memcpy(pipe_fds, saved, sizeof(saved));
}

static void broken_pipe(void **state)
{
    (void)state;
    int fds[2];
    uint64_t before = log_dropped();
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    log_open(fds[1], LOG_FORMAT_JSON);
    close(fds[0]);
    log_line(LOG_INFO, "m", "a");
    log_line(LOG_INFO, "m", "b");
    assert_int_equal(log_flush(), OK);
    assert_int_equal(log_dropped() - before, 2);
    log_open(pipe_fds[1], LOG_FORMAT_JSON);
    close(fds[1]);
    log_line(LOG_INFO, "m", "c");
    assert_int_equal(log_flush(), OK);
    char out[1024];
    drain(out, sizeof(out));
    assert_non_null(strstr(out, "\"2 log lines dropped\""));
    assert_string_equal(check_object(check_object(out)), "");
}

static void plain_file(void **state)
{
    (void)state;
    FILE *f = tmpfile();
    log_open(fileno(f), LOG_FORMAT_JSON);
    for (int i = 0; i < 300; i++) {
        log_line(LOG_INFO, "m", "line %d of a file", i);
    }
    assert_int_equal(log_flush(), OK);
    rewind(f);
    char line[512];
    int n = 0;
    while (fgets(line, sizeof(line), f)) {
        assert_string_equal(check_object(line), "");
        n++;
    }
    assert_int_equal(n, 300);
    log_open(pipe_fds[1], LOG_FORMAT_JSON);
    fclose(f);
}

static void wait_for_reader(void **state)
{
    (void)state;
    static char out[65536];
    log_open(pipe_fds[1], LOG_FORMAT_JSON);
    log_line(LOG_FATAL, "m", "last words");
    log_flush_wait();
    assert_true(drain(out, sizeof(out)) > 0);
    assert_string_equal(check_object(out), "");
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
#define WITH_PIPE(f) cmocka_unit_test_setup_teardown(f, open_pipe, close_pipe)
    const struct CMUnitTest tests[] = {
        WITH_PIPE(json_line),
        WITH_PIPE(text_line),
        WITH_PIPE(levels),
        WITH_PIPE(hostile_json),
        WITH_PIPE(long_lines),
        WITH_PIPE(full_pipe),
        WITH_PIPE(full_pipe_of_another_user),
        WITH_PIPE(full_socket),
        WITH_PIPE(broken_pipe),
        WITH_PIPE(plain_file),
        WITH_PIPE(wait_for_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
