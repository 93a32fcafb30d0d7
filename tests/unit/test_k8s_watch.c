/* Tests list and watch with an API server that the test plays octet by octet: what the follower is
 * told, what is requested, when, and from which version, whatever the server does. */
#include "k8s.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/cluster.h"
#include "http/proto.h"
#include "tests/unit/world/api_server.h"

#define OBJECT(name, version)                                                                      \
    "{\"metadata\":{\"name\":\"" name "\",\"resourceVersion\":\"" version "\"}}"
#define EVENT(type, object) "{\"type\":\"" type "\",\"object\":" object "}\n"
#define ADDED(name, version) EVENT("ADDED", OBJECT(name, version))
#define EXPIRED                                                                                    \
    EVENT("ERROR", "{\"kind\":\"Status\",\"reason\":\"Expired\",\"code\":410,"                     \
                   "\"message\":\"too old resource version: 7 (9)\"}")
#define LIST(version, items)                                                                       \
    "{\"kind\":\"MailList\",\"metadata\":{\"resourceVersion\":\"" version "\"},\"items\":[" items  \
    "]}"
#define PAGE(version, next, items)                                                                 \
    "{\"metadata\":{\"resourceVersion\":\"" version "\",\"continue\":\"" next                      \
    "\"},\"items\":[" items "]}"

/* The delays are the smallest possible: half of 0.8 s, and nine tenths of 0.25 s; doubled each
 * time. */
#define FIRST_DELAY MILLIS(400)
#define LOOK_AGAIN_FIRST MILLIS(225)

/* ---- what the follower is told ---- */

static struct {
    struct cluster_watch *watch;
    char text[8192];        /* "[" listing, "+name@version", "-name@version", "present]" listed */
    char words[128];        /* of the last refusal */
    const char *unwatch_at; /* the callback that unwatches */
} told;

static void tell(const char *fmt, ...) printf_like(1, 2);
static void tell(const char *fmt, ...)
{
    char what[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    size_t n = strlen(told.text);
    assert_non_null(told.watch);
    assert_true(n + strlen(what) + 2 < sizeof(told.text));
    text_fmt(told.text + n, sizeof(told.text) - n, "%s%s", n ? " " : "", what);
    if (told.unwatch_at && strcmp(told.unwatch_at, what) == 0) {
        cluster_unwatch(cluster, told.watch);
        told.watch = NULL;
    }
}

static void tell_object(char sign, struct json_value object)
{
    struct json_value metadata = json_get(object, "metadata");
    char *name = json_strdup(json_get(metadata, "name"), NULL);
    char *version = json_strdup(json_get(metadata, "resourceVersion"), NULL);
    tell("%c%s@%s", sign, name ? name : "?", version ? version : "?");
    /* The object must still be whole, even after unwatch. */
    assert_true(json_text(object).p[0] == '{');
    free(name);
    free(version);
}

static void on_listing(void *arg)
{
    assert_ptr_equal(arg, &told);
    tell("[");
}

static void on_object(struct json_value object, void *arg)
{
    assert_ptr_equal(arg, &told);
    tell_object('+', object);
}

static void on_gone(struct json_value object, void *arg)
{
    assert_ptr_equal(arg, &told);
    tell_object('-', object);
}

static void on_listed(enum cluster_presence presence, void *arg)
{
    static const char *const names[] = {"present]", "unknown]", "forbidden]"};
    assert_ptr_equal(arg, &told);
    tell("%s", names[presence]);
}

static void on_refused(const char *words, void *arg)
{
    assert_ptr_equal(arg, &told);
    text_fmt(told.words, sizeof(told.words), "%s", words);
}

static void follow(const struct cluster_selection *selection)
{
    struct cluster_watch_handler handler = {.listing = on_listing,
                                            .object = on_object,
                                            .gone = on_gone,
                                            .listed = on_listed,
                                            .refused = on_refused,
                                            .arg = &told};
    told.text[0] = '\0';
    told.unwatch_at = NULL;
    told.watch = cluster_watch(cluster, selection, handler);
    assert_non_null(told.watch);
    assert_string_equal(told.text, "");
}

static void follow_mails(void)
{
    follow(&(struct cluster_selection){.kind = &mails});
}

/* Ends the watch and lets the loop free it. */
static void forget(void)
{
    cluster_unwatch(cluster, told.watch);
    told.watch = NULL;
    turn_quietly(loop);
}

/* Turns the loop until the follower has been told this, and clears it. */
static void expect_told(const char *text)
{
    int64_t until = sys_real.now() + SECONDS(60);
    while (strcmp(told.text, text) != 0 && sys_real.now() < until) {
        loop_turn(loop, true);
    }
    turn_quietly(loop);
    assert_string_equal(told.text, text);
    told.text[0] = '\0';
}

/* ---- common starts ---- */

/* Lists and watches from version 7 on. Returns the server's end of the watch. */
static struct peer *have_watch(void)
{
    follow_mails();
    answer(expect("GET", MAILS "?limit=500"), "200 OK", "", LIST("7", OBJECT("a", "3")));
    struct peer *peer = expect("GET", MAILS "?" WATCH "7");
    expect_told("[ +a@3 present]");
    return peer;
}

static void drop_watch(struct peer *peer)
{
    drop_peer(peer);
    turn_quietly(loop);
}

/* ---- list ---- */

static void list_and_watch(void **state)
{
    (void)state;
    follow_mails();
    struct peer *peer = expect("GET", MAILS "?limit=500");
    assert_str(header("Accept"), "application/json");
    assert_str(header("Authorization"), "Bearer t1");
    assert_str(header("User-Agent"), "tproxy");
    answer(peer, "200 OK", "", LIST("7", OBJECT("a", "3") "," OBJECT("b", "5")));
    peer = expect("GET", MAILS "?" WATCH "7");
    expect_told("[ +a@3 +b@5 present]");
    begin_stream(peer);
    send_chunk(peer, ADDED("c", "8") EVENT("MODIFIED", OBJECT("a", "9")));
    send_chunk(peer, EVENT("DELETED", OBJECT("b", "10")));
    expect_told("+c@8 +a@9 -b@10");
    forget();
}

static void selections(void **state)
{
    (void)state;
    follow(&(struct cluster_selection){.kind = &services,
                                       .namespace = "home",
                                       .labels = "app.kubernetes.io/managed-by=tproxy,tproxy/a=b"});
    const char *labels =
        "/api/v1/namespaces/home/services?labelSelector=app.kubernetes.io%2Fmanaged-by%3Dtproxy"
        "%2Ctproxy%2Fa%3Db&";
    char target[512];
    text_fmt(target, sizeof(target), "%slimit=500", labels);
    answer(expect("GET", target), "200 OK", "", LIST("a b/7", ""));
    text_fmt(target, sizeof(target), "%s" WATCH "a+b%%2F7", labels);
    expect("GET", target);
    expect_told("[ present]");
    forget();

    follow(&(struct cluster_selection){.kind = &services, .namespace = "home", .name = "a,b=\\"});
    expect("GET", "/api/v1/namespaces/home/services?fieldSelector=metadata.name%3Da%5C%2Cb%5C%3D"
                  "%5C%5C&limit=500");
    forget();
}

/* No namespace can have this name, so nothing is requested. */
static void impossible_namespace(void **state)
{
    (void)state;
    follow(&(struct cluster_selection){.kind = &services, .namespace = ".."});
    expect_told("[ present]");
    advance(SECONDS(7200));
    expect_nothing();
    forget();
}

static void pages(void **state)
{
    (void)state;
    follow_mails();
    answer(expect("GET", MAILS "?limit=500"), "200 OK", "", PAGE("7", "t/1", OBJECT("a", "3")));
    answer(expect("GET", MAILS "?limit=500&continue=t%2F1"), "200 OK", "",
           PAGE("8", "t/2", OBJECT("b", "4")));
    expect_told("[ +a@3 +b@4");
    answer(expect("GET", MAILS "?limit=500&continue=t%2F2"), "200 OK", "", PAGE("9", "", ""));
    expect("GET", MAILS "?" WATCH "7");
    expect_told("present]");
    forget();
}

static void pages_expire(void **state)
{
    (void)state;
    follow_mails();
    answer(expect("GET", MAILS "?limit=500"), "200 OK", "", PAGE("7", "t", OBJECT("a", "3")));
    answer_status(expect("GET", MAILS "?limit=500&continue=t"), 410, "Expired", "too old");
    answer(expect("GET", MAILS "?limit=0"), "200 OK", "", LIST("9", OBJECT("b", "4")));
    expect("GET", MAILS "?" WATCH "9");
    expect_told("[ +a@3 [ +b@4 present]");
    forget();
}

/* After a failure in the middle of a list, only the failed page is requested again. */
static void page_fails(void **state)
{
    (void)state;
    follow_mails();
    answer(expect("GET", MAILS "?limit=500"), "200 OK", "", PAGE("7", "t", OBJECT("a", "3")));
    struct peer *peer = expect("GET", MAILS "?limit=500&continue=t");
    send_text(peer->fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"items\":[");
    send_text(peer->fd, OBJECT("b", "4") ",{\"metadata\":");
    expect_told("[ +a@3 +b@4");
    drop_watch(peer);
    expect_nothing();
    advance(FIRST_DELAY);
    answer(expect("GET", MAILS "?limit=500&continue=t"), "200 OK", "",
           PAGE("7", "", OBJECT("b", "4") "," OBJECT("c", "5")));
    expect_told("+b@4 +c@5 present]");
    forget();
}

static void page_refused(void **state)
{
    (void)state;
    follow_mails();
    answer(expect("GET", MAILS "?limit=500"), "200 OK", "", PAGE("7", "t", ""));
    answer_status(expect("GET", MAILS "?limit=500&continue=t"), 400, "BadRequest", "continue");
    turn_quietly(loop);
    advance(FIRST_DELAY);
    expect("GET", MAILS "?limit=500");
    forget();
}

static void list_of_nothing(void **state)
{
    (void)state;
    follow_mails();
    answer(expect("GET", MAILS "?limit=500"), "200 OK", "",
           "{\"items\":null,\"metadata\":{\"resourceVersion\":\"7\",\"continue\":null}}");
    expect("GET", MAILS "?" WATCH "7");
    expect_told("[ present]");
    forget();
}

/* An incomplete list is never taken for a complete one. */
static void list_malformed(void **state)
{
    static const char *const lists[] = {
        "",
        "{\"items\":[",
        LIST("7", "") "x",
        "{\"items\":[]}",
        "{\"metadata\":{},\"items\":[]}",
        "{\"metadata\":{\"resourceVersion\":\"\"},\"items\":[]}",
        "{\"metadata\":{\"resourceVersion\":\"a\\u0000b\"},\"items\":[]}",
        "{\"metadata\":{\"resourceVersion\":\"7\",\"continue\":1},\"items\":[]}",
        "{\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[{]}",
        "{\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[{\"a\":tru}]}",
        "<html>",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        follow_mails();
        struct peer *peer = expect("GET", MAILS "?limit=500");
        answer(peer, "200 OK", "", lists[i]);
        turn_quietly(loop);
        assert_null(strstr(told.text, "]"));
        advance(FIRST_DELAY);
        expect("GET", MAILS "?limit=500");
        forget();
    }
}

/* The list is cut at every octet. */
static void list_cut(void **state)
{
    static const char text[] =
        "{\"items\":[" OBJECT("a", "3") "],\"metadata\":{\"resourceVersion\":\"7\"}}";
    (void)state;
    for (size_t n = 0; n < sizeof(text) - 1; n++) {
        char head[128];
        follow_mails();
        struct peer *peer = expect("GET", MAILS "?limit=500");
        text_fmt(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n",
                 sizeof(text) - 1);
        send_text(peer->fd, head);
        peer_send(peer->fd, text, n);
        turn_quietly(loop);
        drop_watch(peer);
        assert_null(strstr(told.text, "]"));
        told.text[0] = '\0';
        advance(FIRST_DELAY);
        answer(expect("GET", MAILS "?limit=500"), "200 OK", "", text);
        expect_told("[ +a@3 present]");
        forget();
    }
}

/* Values that are nested too deeply are left out. The object and its deletion are still
 * reported. */
static void unreadable_object(void **state)
{
    char deep[600], items[1600];
    size_t n = text_fmt(deep, sizeof(deep),
                        "{\"metadata\":{\"name\":\"a\","
                        "\"resourceVersion\":\"4\"},\"a\":");
    memset(deep + n, '[', 100);
    memset(deep + n + 100, ']', 100);
    text_fmt(deep + n + 200, sizeof(deep) - n - 200, "}");
    text_fmt(items, sizeof(items),
             "{\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[%s," OBJECT("b", "3") "]}",
             deep);
    (void)state;
    follow_mails();
    answer(expect("GET", MAILS "?limit=500"), "200 OK", "", items);
    struct peer *peer = expect("GET", MAILS "?" WATCH "7");
    expect_told("[ +a@4 +b@3 present]");
    assert_int_equal(logged("mails: a is not read as a whole"), 1);
    text_fmt(items, sizeof(items),
             "{\"type\":\"ADDED\",\"object\":%s}\n{\"type\":\"DELETED\",\"object\":%s}\n" ADDED(
                 "c", "9"),
             deep, deep);
    begin_stream(peer);
    send_chunk(peer, items);
    expect_told("+a@4 -a@4 +c@9");
    assert_int_equal(logged("is not read as a whole"), 0);
    forget();
}

/* An answer other than a list, 403 and 404 is not reported to the follower, neither at the start
 * nor while running. */
static void nothing_is_told(void **state)
{
    static const struct {
        const char *status, *more, *body;
    } answers[] = {
        {"401 Unauthorized", "", "{\"kind\":\"Status\",\"reason\":\"Unauthorized\"}"},
        {"410 Gone", "", "{\"kind\":\"Status\",\"reason\":\"Expired\",\"code\":410}"},
        {"429 Too Many Requests", "Retry-After: 1\r\n", "Too many requests"},
        {"500 Internal Server Error", "", "etcdserver: leader changed"},
        {"503 Service Unavailable", "", "apiserver not ready"},
        {"204 No Content", "", ""},
        {"200 OK", "", "<html>"},
        {"200 OK", "", "[]"},
        {"200 OK", "", "{}"},
        {"200 OK", "", "{\"kind\":\"List\",\"items\":[]}"},
        {"200 OK", "", "{\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[" OBJECT("a", "3")},
        {NULL, NULL, NULL}, /* silence, then the end of the connection */
    };
    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_LEN(answers); i++) {
        bool running = i % 2;
        struct peer *peer;
        if (running) {
            peer = have_watch();
            begin_stream(peer);
            send_chunk(peer, EXPIRED);
        } else {
            follow_mails();
        }
        peer = expect("GET", MAILS "?limit=500");
        if (answers[i / 2].status) {
            answer(peer, answers[i / 2].status, answers[i / 2].more, answers[i / 2].body);
            turn_quietly(loop);
        } else {
            advance(SECONDS(59));
            drop_watch(peer);
        }
        assert_null(strstr(told.text, "]"));
        assert_null(strstr(told.text, "-"));
        forget();
    }
}

/* ---- kinds that do not exist ---- */

/* Refuses three times. Only the fourth refusal in a row is believed. */
static void refuse_first(const char *status, const char *body)
{
    int64_t delay = FIRST_DELAY;
    for (int i = 0; i < 3; i++, delay *= 2) {
        answer(expect("GET", MAILS "?limit=500"), status, "", body);
        expect_told("");
        advance(delay);
    }
}

static void unknown_kind(void **state)
{
    (void)state;
    follow_mails();
    refuse_first("404 Not Found", "404 page not found\n");
    answer(expect("GET", MAILS "?limit=500"), "404 Not Found", "", "404 page not found\n");
    expect_told("[ unknown]");
    assert_int_equal(logged("mails: the API server does not know this kind: status 404: 404 page "
                            "not found"),
                     1);
    int64_t delay = FIRST_DELAY;
    for (int i = 0; i < 10; i++) {
        advance(delay - 1);
        expect_nothing();
        advance(1);
        answer(expect("GET", MAILS "?limit=500"), "404 Not Found", "", "404 page not found\n");
        expect_told("");
        delay = delay < SECONDS(15) / 2 ? 2 * delay : SECONDS(15);
    }
    assert_int_equal(logged(" warn "), 0);
    advance(delay);
    answer(expect("GET", MAILS "?limit=500"), "200 OK", "", LIST("7", OBJECT("a", "3")));
    expect("GET", MAILS "?" WATCH "7");
    expect_told("[ +a@3 present]");
    forget();
}

static void forbidden_kind(void **state)
{
    (void)state;
    follow_mails();
    refuse_first("403 Forbidden", "");
    answer_status(expect("GET", MAILS "?limit=500"), 403, "Forbidden", "mails is forbidden");
    expect_told("[ forbidden]");
    assert_string_equal(told.words, "Forbidden: mails is forbidden");
    assert_int_equal(logged("we may not read this kind: Forbidden: mails is forbidden"), 1);
    advance(FIRST_DELAY);
    answer_status(expect("GET", MAILS "?limit=500"), 404, "NotFound", "not found");
    expect_told("[ unknown]");
    advance(2 * FIRST_DELAY);
    answer(expect("GET", MAILS "?limit=500"), "200 OK", "", LIST("7", ""));
    expect("GET", MAILS "?" WATCH "7");
    expect_told("[ present]");
    forget();
}

/* The rights and the CRD are created so soon that the follower and the log do not mention the
 * refusals. */
static void refused_at_first(void **state)
{
    (void)state;
    follow_mails();
    answer_status(expect("GET", MAILS "?limit=500"), 403, "Forbidden", "no rights yet");
    turn_quietly(loop);
    advance(FIRST_DELAY);
    answer(expect("GET", MAILS "?limit=500"), "404 Not Found", "", "404 page not found\n");
    turn_quietly(loop);
    advance(2 * FIRST_DELAY);
    answer(expect("GET", MAILS "?limit=500"), "200 OK", "", LIST("7", OBJECT("a", "3")));
    expect("GET", MAILS "?" WATCH "7");
    expect_told("[ +a@3 present]");
    assert_int_equal(logged("this kind"), 0);
    forget();
}

/* An API server that starts may report a kind as absent and then correct itself. The follower is
 * told only about the list. */
static void doubtful_absence(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    begin_stream(peer);
    send_chunk(peer, EXPIRED);
    answer(expect("GET", MAILS "?limit=500"), "404 Not Found", "", "404 page not found\n");
    turn_quietly(loop);
    advance(LOOK_AGAIN_FIRST - 1);
    expect_nothing();
    advance(1);
    answer(expect("GET", MAILS "?limit=500"), "200 OK", "", LIST("9", OBJECT("a", "3")));
    expect("GET", MAILS "?" WATCH "9");
    expect_told("[ +a@3 present]");
    forget();
}

static void lasting_absence(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    answer_status(peer, 404, "NotFound", "the server could not find the requested resource");
    answer_status(expect("GET", MAILS "?limit=500"), 403, "Forbidden", "no");
    int64_t delay = LOOK_AGAIN_FIRST, all = 0;
    for (int i = 0; i < 4; i++) {
        turn_quietly(loop);
        expect_told("");
        advance(delay - 1);
        expect_nothing();
        advance(1);
        answer(expect("GET", MAILS "?limit=500"), "404 Not Found", "", "404 page not found\n");
        all += delay;
        delay *= 2;
    }
    assert_true(all >= SECONDS(3));
    expect_told("[ unknown]");
    forget();
}

/* ---- watch ---- */

static void bookmarks(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    begin_stream(peer);
    send_chunk(peer, ADDED("b", "8") EVENT("BOOKMARK", OBJECT("", "20")));
    expect_told("+b@8");
    advance(SECONDS(300));
    end_stream(peer);
    expect("GET", MAILS "?" WATCH "20");
    forget();
}

/* A watch that ends regularly is followed by another one at once, without a list. */
static void watch_ends(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    begin_stream(peer);
    turn_quietly(loop);
    advance(SECONDS(300));
    end_stream(peer);
    peer = expect("GET", MAILS "?" WATCH "7");
    begin_stream(peer);
    send_chunk(peer, EVENT("DELETED", OBJECT("a", "9")));
    expect_told("-a@9");
    advance(SECONDS(1));
    end_stream(peer);
    expect("GET", MAILS "?" WATCH "9");
    assert_int_equal(logged(" warn "), 0);
    forget();
}

/* If a server ends every watch at once, the next ones wait. */
static void watch_ends_at_once(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    int64_t delay = FIRST_DELAY;
    for (int i = 0; i < 4; i++) {
        begin_stream(peer);
        end_stream(peer);
        turn_quietly(loop);
        advance(delay - 1);
        expect_nothing();
        advance(1);
        peer = expect("GET", MAILS "?" WATCH "7");
        delay *= 2;
    }
    forget();
}

/* The server's answer to a watch, and the offsets at which its events end. */
static const char answer_head[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
static const char *const answer_pieces[] = {
    /* the first event up to its last octet, without its line end */
    "5e\r\n{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"}\\\"\",\"resourceVersion\":"
    "\"11\"}}}",
    "\n{\"type\":\"MODIFIED\r\n3c\r\n\",\"object\":{\"metadata\":{\"name\":\"b\","
    "\"resourceVersion\":\"12\"}}}",
    "\r\n1\r\n\n\r\n4c\r\n{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"name\":\"b\","
    "\"resourceVersion\":\"13\"}}}",
};

/* The watch is cut at every octet, by an end or a reset. Each complete event is reported once, and
 * the next watch continues behind it, without a list. */
static void watch_cut_everywhere(void **state)
{
    static const char *const tellings[] = {"", "+}\"@11", "+}\"@11 +b@12", "+}\"@11 +b@12 -b@13"};
    static const char *const versions[] = {"7", "11", "12", "13"};
    char raw[1024], target[256];
    size_t ends[4] = {0}, n = text_fmt(raw, sizeof(raw), "%s", answer_head);
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answer_pieces); i++) {
        n += text_fmt(raw + n, sizeof(raw) - n, "%s", answer_pieces[i]);
        ends[i + 1] = n;
    }
    n += text_fmt(raw + n, sizeof(raw) - n, "\r\n1\r\n\n\r\n0\r\n\r");
    for (size_t cut = 0; cut <= n; cut++) {
        size_t whole = 0;
        while (whole < 3 && ends[whole + 1] <= cut) {
            whole++;
        }
        struct peer *peer = have_watch();
        peer_send(peer->fd, raw, cut);
        expect_told(tellings[whole]);
        if (cut % 2) {
            close_with_reset(peer->fd);
            peer->fd = 0;
        }
        drop_watch(peer);
        expect_nothing();
        advance(FIRST_DELAY);
        text_fmt(target, sizeof(target), MAILS "?" WATCH "%s", versions[whole]);
        expect("GET", target);
        expect_told("");
        forget();
    }
}

/* The answer comes in pieces of every length. */
static void watch_in_pieces(void **state)
{
    char raw[1024];
    size_t n = 0;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answer_pieces); i++) {
        n += text_fmt(raw + n, sizeof(raw) - n, "%s%s", i ? "" : answer_head, answer_pieces[i]);
    }
    for (size_t piece = 1; piece < 100; piece = piece * 3 / 2 + 1) {
        struct peer *peer = have_watch();
        send_cut(peer->fd, raw, piece, piece);
        expect_told("+}\"@11 +b@12 -b@13");
        forget();
    }
}

/* The delays grow, and start again after a watch that lasts ten seconds. */
static void watch_cut_again_and_again(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    int64_t delay = FIRST_DELAY;
    for (int i = 0; i < 8; i++) {
        begin_stream(peer);
        turn_quietly(loop);
        drop_watch(peer);
        advance(delay - 1);
        expect_nothing();
        advance(1);
        peer = expect("GET", MAILS "?" WATCH "7");
        delay = delay < SECONDS(15) / 2 ? 2 * delay : SECONDS(15);
    }
    assert_int_equal(delay, SECONDS(15));
    assert_int_equal(logged(" warn "), 1);
    begin_stream(peer);
    turn_quietly(loop);
    advance(SECONDS(10));
    drop_watch(peer);
    advance(FIRST_DELAY);
    expect("GET", MAILS "?" WATCH "7");
    forget();
}

/* An API server that starts again is away for a while, and then says 403 for a moment. However long
 * it was away, it is asked again soon. */
static void server_starts_again(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    for (int i = 0; i < 8; i++) {
        drop_watch(peer);
        advance(SECONDS(15));
        peer = expect("GET", MAILS "?" WATCH "7");
    }
    answer_status(peer, 403, "Forbidden", "no rights yet");
    answer_status(expect("GET", MAILS "?limit=500"), 403, "Forbidden", "no rights yet");
    turn_quietly(loop);
    advance(LOOK_AGAIN_FIRST);
    answer(expect("GET", MAILS "?limit=500"), "200 OK", "", LIST("9", OBJECT("a", "3")));
    expect("GET", MAILS "?" WATCH "9");
    expect_told("[ +a@3 present]");
    forget();
}

static void watch_expires(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    begin_stream(peer);
    send_chunk(peer, ADDED("b", "8") EXPIRED);
    answer(expect("GET", MAILS "?limit=500"), "200 OK", "", LIST("30", OBJECT("c", "29")));
    peer = expect("GET", MAILS "?" WATCH "30");
    expect_told("+b@8 [ +c@29 present]");
    /* The second time the list waits, because it could otherwise repeat without end. */
    answer_status(peer, 410, "Gone", "too old");
    turn_quietly(loop);
    expect_nothing();
    advance(2 * FIRST_DELAY);
    expect("GET", MAILS "?limit=500");
    forget();
}

static void watch_expires_as_status(void **state)
{
    (void)state;
    answer_status(have_watch(), 410, "Expired", "too old");
    expect("GET", MAILS "?limit=500");
    forget();
}

#define FAILED EVENT("ERROR", "{\"kind\":\"Status\",\"reason\":\"InternalError\",\"code\":500}")

/* After another error the watch continues from the same version; after a few of them everything is
 * listed. */
static void watch_brings_errors(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    int64_t delay = FIRST_DELAY;
    for (int i = 0; i < 3; i++) {
        begin_stream(peer);
        send_chunk(peer, FAILED);
        turn_quietly(loop);
        expect_nothing();
        advance(delay);
        delay *= 2;
        peer = expect("GET", i < 2 ? MAILS "?" WATCH "7" : MAILS "?limit=500");
    }
    forget();
}

/* Events behind an error are ignored, although another watch begins at once. */
static void watch_brings_more_than_an_error(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    begin_stream(peer);
    send_chunk(peer, EVENT("ERROR", "{\"kind\":\"Status\",\"code\":401}") ADDED("b", "8"));
    peer = expect("GET", MAILS "?" WATCH "7");
    begin_stream(peer);
    send_chunk(peer, EVENT("ERROR", "{\"kind\":\"Status\",\"code\":401}") ADDED("b", "8"));
    turn_quietly(loop);
    expect_nothing();
    advance(FIRST_DELAY);
    expect("GET", MAILS "?" WATCH "7");
    expect_told("");
    forget();
}

/* A watch that reports new events between its errors is not listed again. */
static void watch_brings_errors_and_news(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    int64_t delay = FIRST_DELAY;
    for (int i = 0; i < 6; i++) {
        begin_stream(peer);
        send_chunk(peer, ADDED("b", "8") FAILED);
        turn_quietly(loop);
        advance(delay);
        delay = delay < SECONDS(15) / 2 ? 2 * delay : SECONDS(15);
        peer = expect("GET", MAILS "?" WATCH "8");
    }
    forget();
}

static void watch_brings_nonsense(void **state)
{
    static const char *const nonsense[] = {
        "{\"type\":\"ADDED\"}",
        "{\"type\":\"ADDED\",\"object\":[]}",
        "{\"type\":\"ADDED\",\"object\":{}}",
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":8}}}",
        "{\"type\":\"LATER\",\"object\":" OBJECT("b", "8") "}",
        "{\"object\":" OBJECT("b", "8") "}",
        "{}",
        "{]{}",
        "[]",
        "<html>",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(nonsense); i++) {
        struct peer *peer = have_watch();
        begin_stream(peer);
        send_chunk(peer, nonsense[i]);
        turn_quietly(loop);
        advance(FIRST_DELAY);
        expect("GET", MAILS "?" WATCH "7");
        expect_told("");
        forget();
    }
}

static void watch_refused(void **state)
{
    static const struct {
        const char *status;
        bool lists;
    } refusals[] = {
        {"500 Whatever", false}, {"504 Whatever", false}, {"429 Whatever", false},
        {"302 Found", false},    {"400 Whatever", true},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        answer(have_watch(), refusals[i].status, "", "text");
        turn_quietly(loop);
        expect_nothing();
        advance(FIRST_DELAY);
        expect("GET", refusals[i].lists ? MAILS "?limit=500" : MAILS "?" WATCH "7");
        forget();
    }
}

static void server_asks_to_wait(void **state)
{
    (void)state;
    follow_mails();
    answer(expect("GET", MAILS "?limit=500"), "429 Too Many Requests", "Retry-After: 7\r\n",
           "Too many requests, please try again later.");
    turn_quietly(loop);
    advance(SECONDS(7) - 1);
    expect_nothing();
    advance(1);
    answer(expect("GET", MAILS "?limit=500"), "200 OK", "", LIST("7", ""));
    answer(expect("GET", MAILS "?" WATCH "7"), "503 Whatever", "Retry-After: 9\r\n", "");
    turn_quietly(loop);
    advance(SECONDS(9) - 1);
    expect_nothing();
    advance(1);
    answer(expect("GET", MAILS "?" WATCH "7"), "504 Gateway Timeout", "",
           "{\"kind\":\"Status\",\"reason\":\"Timeout\",\"details\":{\"retryAfterSeconds\":11}}");
    turn_quietly(loop);
    advance(SECONDS(11) - 1);
    expect_nothing();
    advance(1);
    answer(expect("GET", MAILS "?" WATCH "7"), "503 Whatever", "Retry-After: 86400\r\n", "");
    turn_quietly(loop);
    advance(SECONDS(60));
    expect("GET", MAILS "?" WATCH "7");
    forget();
}

/* A dead connection looks like a kind that does not change. */
static void silence(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    begin_stream(peer);
    send_chunk(peer, ADDED("b", "8"));
    expect_told("+b@8");
    advance(SECONDS(329));
    send_chunk(peer, EVENT("BOOKMARK", OBJECT("", "9")));
    turn_quietly(loop);
    advance(SECONDS(330) - 1);
    expect_nothing();
    advance(1);
    expect_end(peer->fd);
    peer->fd = 0;
    advance(FIRST_DELAY);
    expect("GET", MAILS "?" WATCH "9");
    forget();
}

/* A server that sends bookmarks is never silent for minutes. */
static void silence_without_bookmarks(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    begin_stream(peer);
    send_chunk(peer, EVENT("BOOKMARK", OBJECT("", "8")));
    turn_quietly(loop);
    advance(SECONDS(300));
    end_stream(peer);
    for (int i = 0; i < 2; i++) {
        peer = expect("GET", MAILS "?" WATCH "8");
        begin_stream(peer);
        turn_quietly(loop);
        advance(SECONDS(150) - 1);
        expect_nothing();
        advance(1);
        expect_end(peer->fd);
        peer->fd = 0;
        drop_peer(peer);
        advance(FIRST_DELAY);
    }
    expect("GET", MAILS "?" WATCH "8");
    expect_told("");
    forget();
}

/* After a restored backup, watches end regularly and report nothing. */
static void silent_stall(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    for (int i = 0; i < 6; i++) {
        begin_stream(peer);
        turn_quietly(loop);
        advance(SECONDS(300));
        end_stream(peer);
        peer = expect("GET", i < 5 ? MAILS "?" WATCH "7" : MAILS "?limit=500");
    }
    answer(peer, "200 OK", "", LIST("2", OBJECT("z", "1")));
    expect("GET", MAILS "?" WATCH "2");
    expect_told("[ +z@1 present]");
    forget();
}

static void time_of_watch_is_random(void **state)
{
    char text[16];
    (void)state;
    chance = 0xFF; /* the random number is 2^64 - 1, taken modulo 300000000 microseconds */
    follow_mails();
    answer(expect("GET", MAILS "?limit=500"), "200 OK", "", LIST("7", ""));
    text_fmt(text, sizeof(text), "%d", 300 + (int)(UINT64_MAX % SECONDS(300) / SECONDS(1)));
    assert_string_not_equal(text, "300");
    char target[256];
    text_fmt(target, sizeof(target),
             MAILS "?watch=1&allowWatchBookmarks=true&timeoutSeconds=%s&resourceVersion=7", text);
    expect("GET", target);
    forget();
}

/* ---- the server goes and comes back ---- */

static void token_rotates(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    write_credential("token", "t2");
    answer_status(peer, 401, "Unauthorized", "Unauthorized");
    peer = expect("GET", MAILS "?" WATCH "7");
    assert_str(header("Authorization"), "Bearer t2");
    answer_status(peer, 401, "Unauthorized", "Unauthorized");
    turn_quietly(loop);
    expect_nothing();
    write_credential("token", "t3");
    advance(FIRST_DELAY);
    expect("GET", MAILS "?" WATCH "7");
    assert_str(header("Authorization"), "Bearer t3");
    forget();

    follow_mails();
    write_credential("token", "t4");
    answer_status(expect("GET", MAILS "?limit=500"), 401, "Unauthorized", "Unauthorized");
    expect("GET", MAILS "?limit=500");
    assert_str(header("Authorization"), "Bearer t4");
    forget();
}

static struct cluster_watch *other;

static int refuse_connect(int fd, const struct sockaddr *addr, socklen_t n)
{
    (void)fd;
    (void)addr;
    (void)n;
    errno = ECONNREFUSED;
    return -1;
}

/* The trouble is logged once, not with each attempt. When the server is back, all watches start
 * without the rest of their delays. */
static void server_away(void **state)
{
    (void)state;
    struct peer *peer = have_watch();
    begin_stream(peer);
    send_chunk(peer, ADDED("b", "8"));
    expect_told("+b@8");
    test_sys.connect = refuse_connect;
    for (size_t i = 0; i < PEERS; i++) {
        drop_peer(&peers[i]);
    }
    turn_quietly(loop);
    assert_int_equal(logged(" warn "), 1); /* for the watch that was cut */
    for (int i = 0; i < 20; i++) {
        advance(SECONDS(15));
    }
    assert_int_equal(logged("the API server cannot be reached: 127.0.0.1"), 1);

    other = told.watch;
    follow(&(struct cluster_selection){.kind = &services});
    turn_quietly(loop); /* it cannot connect either and will soon try again */
    test_sys.connect = fake_connect;
    advance(FIRST_DELAY);
    answer(expect("GET", "/api/v1/services?limit=500"), "200 OK", "", LIST("40", ""));
    expect("GET", "/api/v1/services?" WATCH "40");
    expect("GET", MAILS "?" WATCH "8");
    assert_int_equal(logged("answers again"), 1);
}

/* ---- unwatch ---- */

static void unwatch_anywhere(void **state)
{
    static const char *const callbacks[] = {"[", "+a@3", "present]", "+b@8", "-b@9"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(callbacks); i++) {
        follow_mails();
        told.unwatch_at = callbacks[i];
        /* The first object comes in two pieces, so that the watch keeps it in its own memory. */
        struct peer *peer = expect("GET", MAILS "?limit=500");
        begin_stream(peer);
        send_chunk(peer, "{\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[{\"metadata\":"
                         "{\"name\":\"a\"");
        turn_quietly(loop);
        if (told.watch) {
            send_chunk(peer, ",\"resourceVersion\":\"3\"}},{}]}");
            end_stream(peer);
            turn_quietly(loop);
        }
        if (told.watch) {
            peer = expect("GET", MAILS "?" WATCH "7");
            begin_stream(peer);
            send_chunk(peer, ADDED("b", "8") EVENT("DELETED", OBJECT("b", "9")) FAILED);
            turn_quietly(loop);
        }
        assert_null(told.watch);
        assert_string_equal(told.text + strlen(told.text) - strlen(callbacks[i]), callbacks[i]);
        advance(SECONDS(100));
        expect_nothing();
    }
    cluster_unwatch(cluster, NULL);
}

static void unwatch_a_kind_that_is_not_there(void **state)
{
    static const char *const callbacks[] = {"[", "unknown]"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(callbacks); i++) {
        follow_mails();
        told.unwatch_at = callbacks[i];
        refuse_first("404 Not Found", "404 page not found\n");
        answer(expect("GET", MAILS "?limit=500"), "404 Not Found", "", "404 page not found\n");
        turn_quietly(loop);
        assert_null(told.watch);
        advance(SECONDS(100));
        expect_nothing();
    }
}

static void unwatch_while_waiting(void **state)
{
    (void)state;
    follow_mails();
    forget(); /* before the first request */
    expect_nothing();
    drop_watch(have_watch());
    forget(); /* before the next request */
    advance(SECONDS(100));
    expect_nothing();
}

static void restarts_are_counted(void **state)
{
    struct buf out;
    (void)state;
    drop_watch(have_watch());
    advance(FIRST_DELAY);
    struct peer *peer = expect("GET", MAILS "?" WATCH "7");
    begin_stream(peer);
    turn_quietly(loop);
    advance(SECONDS(300));
    end_stream(peer);
    expect("GET", MAILS "?" WATCH "7");
    buf_init(&out, 65536);
    k8s_metrics(k8s, &out);
    assert_int_equal(buf_add(&out, "", 1), OK);
    assert_non_null(
        strstr(buf_str(&out).p, "\ntproxy_kube_watch_restarts_total{kind=\"mails\"} 1\n"));
    assert_non_null(
        strstr(buf_str(&out).p, "\ntproxy_kube_requests_total{verb=\"watch\",result=\"ok\"} 1\n"));
    assert_non_null(
        strstr(buf_str(&out).p, "\ntproxy_kube_requests_total{verb=\"watch\",result=\"cut\"} 1\n"));
    buf_free(&out);
    forget();
}

static int end_world(void **state)
{
    cluster_unwatch(cluster, other);
    other = NULL;
    forget();
    return k8s_teardown(state);
}

#define WATCH_TEST(f) cmocka_unit_test_setup_teardown(f, k8s_setup, end_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WATCH_TEST(list_and_watch),
        WATCH_TEST(selections),
        WATCH_TEST(impossible_namespace),
        WATCH_TEST(pages),
        WATCH_TEST(pages_expire),
        WATCH_TEST(page_fails),
        WATCH_TEST(page_refused),
        WATCH_TEST(list_of_nothing),
        WATCH_TEST(list_malformed),
        WATCH_TEST(list_cut),
        WATCH_TEST(unreadable_object),
        WATCH_TEST(nothing_is_told),
        WATCH_TEST(unknown_kind),
        WATCH_TEST(forbidden_kind),
        WATCH_TEST(refused_at_first),
        WATCH_TEST(doubtful_absence),
        WATCH_TEST(lasting_absence),
        WATCH_TEST(bookmarks),
        WATCH_TEST(watch_ends),
        WATCH_TEST(watch_ends_at_once),
        WATCH_TEST(watch_cut_everywhere),
        WATCH_TEST(watch_in_pieces),
        WATCH_TEST(watch_cut_again_and_again),
        WATCH_TEST(server_starts_again),
        WATCH_TEST(watch_expires),
        WATCH_TEST(watch_expires_as_status),
        WATCH_TEST(watch_brings_errors),
        WATCH_TEST(watch_brings_more_than_an_error),
        WATCH_TEST(watch_brings_errors_and_news),
        WATCH_TEST(watch_brings_nonsense),
        WATCH_TEST(watch_refused),
        WATCH_TEST(server_asks_to_wait),
        WATCH_TEST(silence),
        WATCH_TEST(silence_without_bookmarks),
        WATCH_TEST(silent_stall),
        WATCH_TEST(time_of_watch_is_random),
        WATCH_TEST(token_rotates),
        WATCH_TEST(server_away),
        WATCH_TEST(unwatch_anywhere),
        WATCH_TEST(unwatch_a_kind_that_is_not_there),
        WATCH_TEST(unwatch_while_waiting),
        WATCH_TEST(restarts_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
