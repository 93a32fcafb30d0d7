#include "bench/wire.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* The load generator: POP3 clients in one loop. Each client waits for the whole answer before its
 * next command, and checks every octet of a message.
 *
 *   load --port N [--short C] [--bulk C] [--idle N] [--sessions N] [--seconds S] [--login-only]
 *        [--hold]
 *
 *   --short C     C clients run sessions one after the other:
 *                 greeting, USER, PASS, STAT, RETR 1, QUIT, end of stream
 *   --bulk C      C clients log in and repeat RETR 2
 *   --idle N      N clients log in, STAT, RETR 1, and then stay silent
 *   --sessions N  stop after N short sessions;  --seconds S  stop after S seconds
 *   --login-only  short and idle sessions without STAT and RETR
 *   --hold        afterwards keep the idle sessions until standard input ends
 *
 * First all idle sessions are opened ("idle N" is printed), then the others run, and one line of
 * JSON reports the results. The exit status is 1 if any answer was wrong or any session failed. */

#define EVENTS 256
#define OPENING_MAX 32 /* idle clients that log in at the same time */
#define CHUNK ((size_t)1 << 18)
#define REPLY_MAX 600
#define LATENCIES_MAX 1000000

enum kind { SHORT, BULK, IDLE };

/* The steps are in the order of a session; each waits for one answer. */
enum step { GREETING, USER, PASS, STAT, RETR, BODY, QUIT, END, SILENT };

struct client {
    int fd;
    enum kind kind;
    enum step step;
    int64_t started;
    uint64_t size; /* octets of the message, including the final dot */
    uint64_t got;
    size_t have;
    char reply[REPLY_MAX];
};

static struct {
    uint16_t port;
    long clients_short, clients_bulk, clients_idle, sessions;
    int64_t duration;
    bool login_only, hold;
} options;

static int epoll_fd;
static int64_t stop_at = INT64_MAX;
static long sessions_started, sessions_done, messages_done, failed, open_clients;
static long idle_started, idle_ready, idle_failed;
static uint64_t bulk_octets;
static uint32_t latencies[LATENCIES_MAX];
static size_t latency_count;

static void open_client(enum kind kind)
{
    struct client *c = calloc(1, sizeof *c);
    if (!c) {
        wire_die("load: calloc");
    }
    c->kind = kind;
    c->started = wire_now();
    c->fd = wire_connect(options.port);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event) < 0) {
        wire_die("load: epoll_ctl");
    }
    open_clients++;
}

static bool more_sessions(void)
{
    return wire_now() < stop_at && (options.sessions == 0 || sessions_started < options.sessions);
}

static void open_short(void)
{
    sessions_started++;
    open_client(SHORT);
}

static void open_idle(void)
{
    if (idle_started < options.clients_idle) {
        idle_started++;
        open_client(IDLE);
    }
}

static void close_client(struct client *c)
{
    enum kind kind = c->kind;
    close(c->fd);
    free(c);
    open_clients--;
    if (kind == SHORT && more_sessions()) {
        open_short();
    }
}

static void fail(struct client *c, const char *why)
{
    static const char *const kinds[] = {"short", "bulk", "idle"};
    if (failed++ < 3) {
        fprintf(stderr, "load: %s session: %s in step %d (have '%.*s')\n", kinds[c->kind], why,
                c->step, (int)c->have, c->reply);
    }
    if (failed > 100) {
        errno = 0;
        wire_die("load: too many failures");
    }
    if (c->kind == IDLE) {
        idle_failed++;
        open_idle();
    }
    close_client(c);
}

static bool say(struct client *c, enum step next, const char *text)
{
    c->step = next;
    if (send(c->fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text)) {
        return true;
    }
    fail(c, "cannot send");
    return false;
}

static bool rest(struct client *c)
{
    c->step = SILENT;
    idle_ready++;
    open_idle();
    return true;
}

static bool after_message(struct client *c)
{
    messages_done++;
    if (c->kind == IDLE) {
        return rest(c);
    }
    if (c->kind == BULK && wire_now() < stop_at) {
        return say(c, RETR, "RETR 2\r\n");
    }
    return say(c, QUIT, "QUIT\r\n");
}

/* Sends the command that follows a positive answer. Returns false when the client is gone. */
static bool advance(struct client *c)
{
    unsigned long long size;
    switch (c->step) {
    case GREETING:
        return say(c, USER, "USER someone\r\n");
    case USER:
        return say(c, PASS, "PASS something\r\n");
    case PASS:
        if (options.login_only && c->kind == IDLE) {
            return rest(c);
        }
        if (options.login_only && c->kind == SHORT) {
            return say(c, QUIT, "QUIT\r\n");
        }
        return say(c, STAT, "STAT\r\n");
    case STAT:
        return say(c, RETR, c->kind == BULK ? "RETR 2\r\n" : "RETR 1\r\n");
    case RETR:
        if (sscanf(c->reply, "+OK %llu", &size) != 1 || size == 0) {
            fail(c, "no size");
            return false;
        }
        c->size = size + strlen(".\r\n");
        c->got = 0;
        c->step = BODY;
        return true;
    case QUIT:
        c->step = END;
        return true;
    case BODY:
    case END:
    case SILENT:
        break;
    }
    fail(c, "unexpected answer");
    return false;
}

/* Compares a piece of the message with the expected text. Returns how many octets of data belong to
 * it. */
static size_t check_body(struct client *c, const char *data, size_t length, bool *right)
{
    static const char dot[] = ".\r\n";
    uint64_t text = c->size - strlen(dot);
    size_t used = 0;
    *right = true;
    while (used < length && c->got < c->size && *right) {
        const char *expected = dot + (c->got >= text ? c->got - text : 0);
        uint64_t room = c->size - c->got;
        if (c->got < text) {
            size_t offset = c->got % WIRE_BLOCK;
            expected = wire_block() + offset;
            room = text - c->got < WIRE_BLOCK - offset ? text - c->got : WIRE_BLOCK - offset;
        }
        size_t n = length - used < room ? length - used : (size_t)room;
        *right = memcmp(data + used, expected, n) == 0;
        used += n;
        c->got += n;
    }
    return used;
}

/* Takes octets up to the end of a line. Returns how many, and sets *whole when the line is
 * complete. */
static size_t take_line(struct client *c, const char *data, size_t length, bool *whole)
{
    const char *stop = memchr(data, '\n', length);
    size_t n = stop ? (size_t)(stop + 1 - data) : length;
    *whole = false;
    if (n >= sizeof c->reply - c->have) {
        return 0;
    }
    memcpy(c->reply + c->have, data, n);
    c->have += n;
    c->reply[c->have] = 0;
    *whole = stop != NULL;
    return n;
}

static void data(struct client *c, const char *text, size_t length)
{
    while (length > 0) {
        size_t used;
        bool good;
        if (c->step == BODY) {
            used = check_body(c, text, length, &good);
            if (c->kind == BULK) {
                bulk_octets += used;
            }
            if (!good) {
                fail(c, "the message is not what it must be");
                return;
            }
            if (c->got == c->size && !after_message(c)) {
                return;
            }
        } else {
            used = take_line(c, text, length, &good);
            if (used == 0 || (good && strncmp(c->reply, "+OK", 3) != 0)) {
                fail(c, "bad answer");
                return;
            }
            if (good && !advance(c)) {
                return;
            }
            if (good) {
                c->have = 0;
            }
        }
        text += used;
        length -= used;
    }
}

static void end_of_stream(struct client *c)
{
    if (c->step != END) {
        fail(c, "unexpected end");
        return;
    }
    if (c->kind == SHORT) {
        sessions_done++;
        if (latency_count < LATENCIES_MAX) {
            latencies[latency_count++] = (uint32_t)(wire_now() - c->started);
        }
    }
    close_client(c);
}

static void readable(struct client *c)
{
    static char chunk[CHUNK];
    ssize_t n = recv(c->fd, chunk, sizeof chunk, 0);
    if (n > 0) {
        data(c, chunk, (size_t)n);
    } else if (n == 0) {
        end_of_stream(c);
    } else if (errno != EAGAIN) {
        fail(c, strerror(errno));
    }
}

static void turn(void)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll_fd, events, EVENTS, 1000);
    for (int i = 0; i < count; i++) {
        readable(events[i].data.ptr);
    }
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint32_t percentile(unsigned percent)
{
    return latency_count == 0 ? 0 : latencies[(latency_count - 1) * percent / 100];
}

static void report(int64_t elapsed)
{
    qsort(latencies, latency_count, sizeof latencies[0], by_size);
    printf("{\"seconds\": %.6f, \"sessions\": %ld, \"failed\": %ld, \"messages\": %ld, "
           "\"bulk_octets\": %llu, \"p50_us\": %u, \"p90_us\": %u, \"p99_us\": %u, "
           "\"max_us\": %u}\n",
           (double)elapsed / 1e6, sessions_done, failed, messages_done,
           (unsigned long long)bulk_octets, percentile(50), percentile(90), percentile(99),
           percentile(100));
    fflush(stdout);
}

static void open_all_idle(void)
{
    for (int i = 0; i < OPENING_MAX; i++) {
        open_idle();
    }
    while (idle_ready + idle_failed < options.clients_idle) {
        turn();
    }
    messages_done = 0;
    printf("idle %ld\n", idle_ready);
    fflush(stdout);
}

static void run(void)
{
    int64_t start = wire_now();
    if (options.duration > 0) {
        stop_at = start + options.duration;
    }
    for (long i = 0; i < options.clients_bulk; i++) {
        open_client(BULK);
    }
    for (long i = 0; i < options.clients_short && more_sessions(); i++) {
        open_short();
    }
    while (open_clients > idle_ready) {
        turn();
    }
    report(wire_now() - start);
}

static void parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"port", required_argument, NULL, 'p'},
        {"short", required_argument, NULL, 's'},
        {"bulk", required_argument, NULL, 'b'},
        {"idle", required_argument, NULL, 'i'},
        {"sessions", required_argument, NULL, 'n'},
        {"seconds", required_argument, NULL, 't'},
        {"login-only", no_argument, NULL, 'l'},
        {"hold", no_argument, NULL, 'h'},
        {0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (option) {
        case 'p':
            options.port = (uint16_t)wire_number("--port", optarg, 65535);
            break;
        case 's':
            options.clients_short = wire_number("--short", optarg, 1000);
            break;
        case 'b':
            options.clients_bulk = wire_number("--bulk", optarg, 100);
            break;
        case 'i':
            options.clients_idle = wire_number("--idle", optarg, 10000);
            break;
        case 'n':
            options.sessions = wire_number("--sessions", optarg, LATENCIES_MAX);
            break;
        case 't':
            options.duration = wire_number("--seconds", optarg, 600) * 1000000;
            break;
        case 'l':
            options.login_only = true;
            break;
        case 'h':
            options.hold = true;
            break;
        default:
            exit(2);
        }
    }
    errno = 0;
    if (options.port == 0) {
        wire_die("load: --port is missing");
    }
    if (options.clients_short > 0 && options.sessions == 0 && options.duration == 0) {
        wire_die("load: --short needs --sessions or --seconds");
    }
    if (options.clients_bulk > 0 && options.duration == 0) {
        wire_die("load: --bulk needs --seconds");
    }
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    wire_raise_limit();
    alarm(options.hold ? 300 : (unsigned)(options.duration / 1000000) + 120);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (options.clients_idle > 0) {
        open_all_idle();
    }
    run();
    if (options.hold) {
        char c;
        while (read(STDIN_FILENO, &c, 1) > 0) {
        }
    }
    return failed > 0;
}
