/* The API server of a test: credentials, requests, answers. */
#include "tests/unit/world/api_server.h"

const struct cluster_kind services = {"", "v1", "services", "Service"};
const struct cluster_kind mails = {"mail.test", "v1", "mails", "Mail"};
char directory[64];
struct k8s *k8s;
struct cluster *cluster;
struct peer peers[PEERS];
struct http_head last;
struct str last_body;
unsigned char chance;

static int log_pipe[2];

/* ---- the world ---- */

static void fake_random(void *out, size_t n)
{
    memset(out, chance, n);
}

void write_credential(const char *name, const char *text)
{
    char path[128], aside[128];
    text_fmt(path, sizeof(path), "%s/%s", directory, name);
    text_fmt(aside, sizeof(aside), "%s/aside", directory);
    FILE *f = fopen(aside, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rename(aside, path), 0);
}

static void make_directory(void)
{
    text_fmt(directory, sizeof(directory), "/tmp/test_k8s.XXXXXX");
    assert_non_null(mkdtemp(directory));
    write_credential("token", "t1\n");
    write_credential("namespace", "home");
}

static int remove_directory(void)
{
    char command[128];
    text_fmt(command, sizeof(command), "rm -r %s", directory);
    return system(command);
}

struct k8s *open_k8s(const char *url, const char *credentials)
{
    struct k8s_settings settings = {.url = url, .credentials = credentials};
    struct error err;
    struct k8s *opened = k8s_new(loop, dns, &settings, &err);
    if (!opened) {
        fail_msg("%s", err.text);
    }
    return opened;
}

int k8s_setup(void **state)
{
    char url[64];
    setup(state);
    http_free(http);
    http = NULL;
    chance = 0;
    test_sys.random = fake_random;
    make_directory();
    assert_int_equal(pipe2(log_pipe, O_NONBLOCK), 0);
    log_open(log_pipe[1], LOG_FORMAT_TEXT);
    text_fmt(url, sizeof(url), "http://127.0.0.1:%d", port);
    k8s = open_k8s(url, directory);
    cluster = k8s_cluster(k8s);
    cluster->writer = "tproxy";
    return 0;
}

void drop_peer(struct peer *peer)
{
    if (peer->fd) {
        close(peer->fd);
    }
    buf_free(&peer->in);
    *peer = (struct peer){0};
}

int k8s_teardown(void **state)
{
    k8s_free(k8s);
    for (size_t i = 0; i < PEERS; i++) {
        drop_peer(&peers[i]);
    }
    log_flush();
    log_open(2, LOG_FORMAT_TEXT);
    close(log_pipe[0]);
    close(log_pipe[1]);
    assert_int_equal(remove_directory(), 0);
    return teardown(state);
}

int logged(const char *text)
{
    static char lines[1 << 20];
    size_t n = 0;
    int count = 0;
    for (ssize_t got = 1; got > 0; n += got > 0 ? (size_t)got : 0) {
        log_flush();
        got = read(log_pipe[0], lines + n, sizeof(lines) - 1 - n);
    }
    lines[n] = '\0';
    for (const char *p = lines; (p = strstr(p, text)) != NULL; p++) {
        count++;
    }
    return count;
}

/* ---- requests ---- */

static void greet(void)
{
    size_t i = 0;
    while (peers[i].fd) {
        i++;
        assert_true(i < PEERS);
    }
    peers[i].fd = accept_one();
    buf_init(&peers[i].in, REQUEST_MAX);
}

static void hear(struct peer *peer)
{
    char piece[4096];
    ssize_t n;
    while ((n = recv(peer->fd, piece, sizeof(piece), 0)) > 0) {
        assert_int_equal(buf_add(&peer->in, piece, (size_t)n), OK);
    }
    if (n == 0 || errno != EAGAIN) {
        drop_peer(peer);
    }
}

/* Returns whether a complete request has come, and makes it the current one. */
static bool has_request(struct peer *peer)
{
    struct http_head head;
    struct str in = {buf_str(&peer->in).p + peer->taken, buf_len(&peer->in) - peer->taken};
    int res = in.n ? http_parse_request(in, 16384, &head) : AGAIN;
    assert_int_not_equal(res, ERR);
    if (res == AGAIN || in.n < head.size + head.length) {
        return false;
    }
    buf_drop(&peer->in, peer->taken);
    peer->taken = head.size + head.length;
    in = buf_str(&peer->in);
    assert_int_equal(http_parse_request(in, 16384, &last), OK);
    last_body = (struct str){in.p + last.size, last.length};
    return true;
}

static bool request_came(void *arg)
{
    struct peer **from = arg;
    while (connection_waits(NULL)) {
        greet();
    }
    for (size_t i = 0; i < PEERS; i++) {
        if (peers[i].fd) {
            hear(&peers[i]);
        }
        if (peers[i].fd && has_request(&peers[i])) {
            *from = &peers[i];
            return true;
        }
    }
    return false;
}

struct peer *expect(const char *method, const char *target)
{
    struct peer *peer = NULL;
    turn_until(loop, request_came, &peer);
    assert_str(last.method, method);
    assert_str(last.target, target);
    return peer;
}

void expect_nothing(void)
{
    struct peer *peer = NULL;
    turn_quietly(loop);
    if (request_came(&peer)) {
        fail_msg("%.*s %.*s", STR_ARG(last.method), STR_ARG(last.target));
    }
}

struct str header(const char *name)
{
    struct str value = {"", 0};
    http_find_header(&last, name, &value);
    return value;
}

/* ---- answers ---- */

void answer(struct peer *peer, const char *status, const char *more, const char *body)
{
    struct buf text;
    buf_init(&text, SIZE_MAX);
    assert_int_equal(buf_fmt(&text, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n%s", status, more,
                             strlen(body), body),
                     OK);
    peer_send(peer->fd, buf_str(&text).p, buf_len(&text));
    buf_free(&text);
}

void answer_status(struct peer *peer, int code, const char *reason, const char *message)
{
    char status[32], body[1024];
    text_fmt(status, sizeof(status), "%d Whatever", code);
    text_fmt(body, sizeof(body),
             "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"message\":"
             "\"%s\",\"reason\":\"%s\",\"code\":%d}",
             message, reason, code);
    answer(peer, status, "", body);
}

void begin_stream(struct peer *peer)
{
    send_text(peer->fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
}

void send_chunk(struct peer *peer, const char *text)
{
    char size[16];
    text_fmt(size, sizeof(size), "%zx\r\n", strlen(text));
    send_text(peer->fd, size);
    send_text(peer->fd, text);
    send_text(peer->fd, "\r\n");
}

void end_stream(struct peer *peer)
{
    send_text(peer->fd, "0\r\n\r\n");
}
