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

/* http_new copies the settings and references `tls`. */
struct http_settings {
    const char *host; /* name or address, IPv6 without brackets */
    uint16_t port;
    bool allow_local;           /* as in struct dial_to */
    const char *authority;      /* value of the field Host; names the server in errors */
    struct tls_client *tls;     /* NULL: clear text */
    size_t max_connections;     /* at a time, at least 1; further calls wait their turn */
    int64_t connect_timeout;    /* name, TCP, tunnel and TLS together, microseconds */
    const struct dial_via *via; /* NULL: direct */
    bool keep_alive;            /* see conn_keep_alive: for answers that take minutes */
};

/* Creates a client, without a connection yet. Loop and resolver stay the caller's. */
struct http *http_new(struct loop *loop, struct dns *dns, const struct http_settings *settings);

/* Closes the connections and frees the client. All calls must have ended or been cancelled. Not to
 * be called from inside a callback of a call. NULL is allowed. */
void http_free(struct http *http);

/* Sets the TLS of connections from now on (referenced). Idle connections are closed; those in use
 * are not used again. */
void http_set_tls(struct http *http, struct tls_client *tls);

/* A request. Only read during http_start. The texts go onto the wire as they are. */
struct http_message {
    const char *method;
    struct str target;  /* path and query */
    struct str headers; /* complete lines, each with its CRLF, besides Host, User-Agent,
                           Accept-Encoding (identity) and Content-Length; our copy is wiped
                           after use */
    struct str body;    /* our copy is wiped after use, too */
    bool has_body;

    /* Sends the request over a new connection, and only once. Otherwise a call that meets the end
     * of a kept connection before any octet of an answer is sent again, once, over a new one. */
    bool once;

    int64_t answer_timeout;  /* microseconds from the last octet sent to the whole answer, or to the
                                begin of a body that is handed on; while a large body is sent, from
                                one piece of it to the next */
    int64_t silence_timeout; /* between two pieces of a body that is handed on */
    size_t body_max;         /* largest body that is gathered, also that of a refusal */
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
 * `may_send` (may be NULL) is asked immediately before each piece of the request is handed to the
 * connection, whatever the call has waited for, and again when the request is repeated. After false
 * no more of the request is sent, and the call fails with FAIL_INTERNAL; the server has not got the
 * whole of it. It is also called from inside http_start and must not call functions of http.
 *
 * `done` is called exactly once, never from inside http_start, and last: either with an answer
 * whose body is complete, or with NULL and *err, which names the server. The call is freed before
 * that. FAIL_LIMIT: the body is larger than body_max, the head exceeds a bound, or too many calls
 * wait; FAIL_REMOTE: the server ended the stream early; FAIL_PROTOCOL: the answer is not HTTP/1.1,
 * or the body of a 2xx answer has a content coding; FAIL_TIMEOUT; else as lib/dial and lib/conn. A
 * body that only ends with the connection cannot be told from one that was cut off. */
struct http_handler {
    void (*data)(struct str piece, void *arg);
    bool (*may_send)(void *arg);
    void (*done)(const struct http_answer *answer, const struct error *err, void *arg);
    void *arg;
};

/* Starts a call. Never returns NULL. */
struct http_call *http_start(struct http *http, const struct http_message *message,
                             struct http_handler handler);

/* Cancels a call: no handler is called any more. The connection of a call under way is closed. NULL
 * is allowed. */
void http_cancel(struct http_call *call);

/* Returns the seconds of a field Retry-After (RFC 9110 section 10.2.3; a date counts as absent), in
 * microseconds, at most an hour; 0 when there is none. */
int64_t http_retry_after(const struct http_head *head);

#endif
