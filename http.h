/* HTTP/1.1 as client: one server, asked over connections that are kept and used again.
 *
 * A call waits its turn for a connection, is sent, and ends with its answer or a failure. The body
 * of the answer is gathered, or handed on piece by piece while it comes (a watch). */
#ifndef TPROXY_HTTP_H
#define TPROXY_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/proto.h"
#include "lib/base.h"
#include "lib/fail.h"
#include "lib/text.h"

struct dial_via;
struct dns;
struct http;
struct http_call;
struct loop;
struct tls_client;

/* Calls that may wait for a connection; one more fails with FAIL_LIMIT. */
enum { HTTP_WAITING_MAX = 4096 };

/* Copied; `tls` is referenced. */
struct http_settings {
    const char *host; /* name or address, IPv6 without brackets */
    uint16_t port;
    bool allow_local;           /* as in struct dial_to */
    const char *authority;      /* what the field Host says; names the server in errors */
    struct tls_client *tls;     /* NULL: clear text */
    size_t max_connections;     /* at a time, at least 1; calls beyond wait their turn */
    int64_t connect_timeout;    /* name, TCP, tunnel and TLS together, microseconds */
    const struct dial_via *via; /* NULL: straight */
    bool keep_alive;            /* see conn_keep_alive: for answers that take minutes */
};

/* Loop and resolver stay the caller's. */
struct http *http_new(struct loop *loop, struct dns *dns, const struct http_settings *settings);

/* Closes the connections. All calls have ended or were cancelled; not from inside a callback of a
 * call. NULL is allowed. */
void http_free(struct http *http);

/* For TLS from now on: idle connections are closed, those in use are not used again. Takes a
 * reference. */
void http_set_tls(struct http *http, struct tls_client *tls);

/* Only read during http_start. The texts go onto the wire as they are. */
struct http_message {
    const char *method;
    struct str target;  /* path and query */
    struct str headers; /* complete lines, each with its CRLF, besides Host, User-Agent,
                           Accept-Encoding (identity) and Content-Length; our copy is wiped
                           after use */
    struct str body;    /* as well */
    bool has_body;

    /* Over a new connection, and never sent again. Otherwise a call that meets the end of a kept
     * connection before any octet of an answer is sent again, once, over a new one. */
    bool once;

    int64_t answer_timeout;  /* from the last octet sent to the whole answer, of a body that is
                                handed on to its begin, microseconds; while a large body is sent,
                                from one piece of it to the next */
    int64_t silence_timeout; /* between two pieces of a body that is handed on */
    size_t body_max;         /* of a body that is gathered, also that of a refusal */
};

/* An answer of any status from 200 on; the head is at most 64 KiB. Valid during the call of
 * `done`. */
struct http_answer {
    const struct http_head *head;
    struct str body; /* empty when it was handed on */
};

/* `data` (may be NULL) gets the body of a 2xx answer piece by piece instead of having it gathered;
 * it may cancel its call.
 *
 * `done` comes exactly once, never from inside http_start, and last: either with an answer whose
 * body is complete, or with NULL and *err, which names the server. The call is gone by then.
 * FAIL_LIMIT: the body is larger than body_max, the head exceeds a bound, or too many calls wait;
 * FAIL_REMOTE: the server ended the stream early; FAIL_PROTOCOL: the answer is not HTTP/1.1, or the
 * body of a 2xx answer has a content coding; FAIL_TIMEOUT; else as lib/dial and lib/conn. A body
 * that only ends with the connection cannot be told from one that was cut off. */
struct http_handler {
    void (*data)(struct str piece, void *arg);
    void (*done)(const struct http_answer *answer, const struct error *err, void *arg);
    void *arg;
};

struct http_call *http_start(struct http *http, const struct http_message *message,
                             struct http_handler handler);

/* Silence. The connection of a call that was under way is closed. NULL is allowed. */
void http_cancel(struct http_call *call);

/* Seconds of a field Retry-After (RFC 9110 section 10.2.3; a date counts as absent), as
 * microseconds, at most an hour; 0 when there is none. */
int64_t http_retry_after(const struct http_head *head);

#endif
