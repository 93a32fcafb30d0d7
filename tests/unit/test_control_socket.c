/* Tests the control socket: the server runs in this process, the client in a child of it. */
#include "admin/control_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/conn.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/sys.h"

static struct loop *loop;
static struct control_socket *server;
static char name[64];
static struct sys table;
static int64_t ahead;
static char reply[CONTROL_SOCKET_LINE_MAX];

static int64_t shifted_now(void)
{
    return sys_real.now() + ahead;
}

static int setup(void **state)
{
    (void)state;
    struct error err;
    table = sys_real;
    table.now = shifted_now;
    sys = &table;
    ahead = 0;
    snprintf(name, sizeof(name), "tproxy-test-%ld", (long)getpid());
    loop = loop_new(&err);
    server = control_socket_new(loop, name, &err);
    assert_non_null(server);
    log_set_level(LOG_FATAL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    control_socket_free(server);
    for (int i = 0; i < 4; i++) {
        loop_turn(loop, false);
        ahead += SECONDS(3);
    }
    assert_int_equal(conn_count(), 0);
    loop_free(loop);
    sys = &sys_real;
    return 0;
}

static void turns(int n)
{
    while (n--) {
        loop_turn(loop, false);
    }
}

/* ---- the client, as a process ---- */

/* Runs `log-level` in a child while the loop turns here. Returns its exit code; its output is in
 * `reply`. */
static int command(const char *control, const char *level, uid_t uid)
{
    int fds[2], status = -1;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        dup2(fds[1], STDOUT_FILENO);
        dup2(fds[1], STDERR_FILENO);
        if (uid && setuid(uid) != 0) {
            _exit(99);
        }
        int code = control_socket_log_level(control, level);
        fflush(stdout);
        _exit(code);
    }
    close(fds[1]);
    while (waitpid(child, &status, WNOHANG) == 0) {
        turns(1);
        poll(NULL, 0, 1);
    }
    ssize_t n = read(fds[0], reply, sizeof(reply) - 1);
    reply[n > 0 ? n : 0] = '\0';
    close(fds[0]);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void tells_and_changes(void **state)
{
    (void)state;
    assert_int_equal(command(name, NULL, 0), 0);
    assert_string_equal(reply, "fatal\n");
    assert_int_equal(command(name, "Error", 0), 0);
    assert_string_equal(reply, "error\n");
    assert_int_equal(log_get_level(), LOG_ERROR);
    assert_int_equal(command(name, "loud\n\033", 0), 1);
    assert_string_equal(
        reply, "tproxy: \"loud\" is not a level: use trace, debug, info, warn, error or fatal\n");
    assert_int_equal(log_get_level(), LOG_ERROR);
}

static void nobody_there(void **state)
{
    (void)state;
    assert_int_equal(command("tproxy-test-nobody", "info", 0), 1);
    assert_non_null(
        strstr(reply, "no tproxy is running under the control name tproxy-test-nobody"));
    assert_int_equal(command("", "info", 0), 1);
    assert_non_null(strstr(reply, "1 to 100 characters"));
}

static void another_user(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    assert_int_equal(command(name, "trace", 65534), 1);
    assert_non_null(strstr(reply, "does not accept user 65534"));
    assert_int_equal(log_get_level(), LOG_FATAL);
}

static void name_taken(void **state)
{
    (void)state;
    struct error err;
    char longest[102];
    assert_null(control_socket_new(loop, name, &err));
    assert_int_equal(err.fail, FAIL_CONFIG);
    assert_non_null(strstr(err.text, "--control"));
    memset(longest, 'a', 101);
    longest[101] = '\0';
    assert_null(control_socket_new(loop, longest, &err));
    assert_null(control_socket_new(loop, "", &err));
    control_socket_free(NULL);
}

/* ---- raw clients ---- */

static int dial(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t len = strlen(name);
    memcpy(at.sun_path + 1, name, len);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at,
                             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)),
                     0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    turns(3);
}

static void expect(int fd, const char *text)
{
    char got[CONTROL_SOCKET_LINE_MAX];
    turns(3);
    ssize_t n = recv(fd, got, sizeof(got) - 1, 0);
    got[n > 0 ? n : 0] = '\0';
    assert_string_equal(got, text);
    assert_true(recv(fd, got, 1, 0) <= 0);
    close(fd);
}

static void raw_requests(void **state)
{
    (void)state;
    int fd = dial();
    for (const char *p = "log-level\r\n"; *p; p++) {
        say(fd, (char[]){*p, '\0'});
    }
    expect(fd, "ok fatal\n");
    fd = dial();
    say(fd, "  log-level   warn  \nlog-level debug\n");
    expect(fd, "ok warn\n");
    assert_int_equal(log_get_level(), LOG_WARN);
    fd = dial();
    say(fd, "\n");
    expect(fd, "error unknown request; there are: log-level [LEVEL], probe NAME [again] "
               "[as USER TOKEN]\n");
    fd = dial();
    say(fd, "log-level \xff\x01\n");
    expect(fd, "error \"\?\?\" is not a level: use trace, debug, info, warn, error or fatal\n");
    fd = dial();
    say(fd, "log-level warn error\n");
    expect(fd,
           "error \"warn error\" is not a level: use trace, debug, info, warn, error or fatal\n");
}

static char wanted[512];

static void *note_probe(struct control_client *client, const struct control_probe *probe,
                        struct error *err, void *arg)
{
    (void)client;
    (void)arg;
    snprintf(wanted, sizeof(wanted), "%s,%d,%s,%.*s", probe->name, probe->again,
             probe->user ? probe->user : "-", STR_ARG(probe->token));
    error_set(err, FAIL_CONFIG, "noted");
    return NULL;
}

static void probes(void **state)
{
    (void)state;
    static const char *const lines[][2] = {
        {"probe a/b\n", "a/b,0,-,"},
        {"probe a again\n", "a,1,-,"},
        {"probe a as u@x to ken\n", "a,0,u@x,to ken"},
        {"probe a again as u again\n", "a,1,u,again"},
    };
    char text[CONTROL_SOCKET_LINE_MAX * 2];
    control_socket_set_handler(server, (struct control_socket_handler){.probe = note_probe});
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        int fd = dial();
        say(fd, lines[i][0]);
        expect(fd, "error noted\n");
        assert_string_equal(wanted, lines[i][1]);
    }
    size_t n = (size_t)snprintf(text, sizeof(text), "probe a as u ");
    memset(text + n, 'x', CONTROL_SOCKET_LINE_MAX);
    memcpy(text + n + CONTROL_SOCKET_LINE_MAX, "\n", 2);
    int fd = dial();
    say(fd, text); /* longer than other requests may be */
    expect(fd, "error noted\n");
    assert_int_equal(strlen(wanted), strlen("a,0,u,") + CONTROL_SOCKET_LINE_MAX);
}

static void too_long_or_too_slow(void **state)
{
    (void)state;
    char text[CONTROL_SOCKET_LINE_MAX + 1];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    int fd = dial();
    say(fd, text);
    assert_int_equal(conn_count(), 0);
    close(fd);
    fd = dial();
    say(fd, "log-level");
    assert_int_equal(conn_count(), 1);
    ahead += SECONDS(6);
    turns(2);
    assert_int_equal(conn_count(), 0);
    close(fd);
    fd = dial();
    say(fd, "log-level");
    close(fd);
    turns(3);
    assert_int_equal(conn_count(), 0);
}

/* The oldest connection is closed, so a silent client does not keep others out. */
static void too_many(void **state)
{
    (void)state;
    int fds[9];
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = dial();
        turns(2);
    }
    assert_int_equal(conn_count(), 8);
    expect(fds[0], "");
    for (size_t i = 1; i < 9; i++) {
        say(fds[i], "log-level\n");
        expect(fds[i], "ok fatal\n");
    }
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
#define WITH_SOCKET(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_SOCKET(tells_and_changes),    WITH_SOCKET(nobody_there), WITH_SOCKET(another_user),
        WITH_SOCKET(name_taken),           WITH_SOCKET(raw_requests), WITH_SOCKET(probes),
        WITH_SOCKET(too_long_or_too_slow), WITH_SOCKET(too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
