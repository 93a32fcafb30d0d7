/* Parses HTTP/1.1: heads and chunks (RFC 9110, RFC 9112). Pure. The functions copy nothing: every
 * struct str in a result lies in the input and lives as long as that.
 *
 * The parser is strict where two readers could disagree about where a message ends (request
 * smuggling). It refuses bare LF, folded lines, blanks before the colon, Content-Length together
 * with Transfer-Encoding, differing lengths, and every transfer coding but "chunked". */
#ifndef TPROXY_HTTP_PROTO_H
#define TPROXY_HTTP_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/text.h"

/* ---- heads ---- */

/* Maximum number of fields in a head. A macro, so that messages can name it. */
#define HTTP_HEADERS_MAX 64

struct http_header {
    struct str name, value; /* the value without blanks around it */
};

/* The end of the body (RFC 9112 section 6.3). */
enum http_framing {
    HTTP_NO_BODY,
    HTTP_LENGTH,      /* after `length` octets */
    HTTP_CHUNKED,     /* with the last chunk: struct http_chunked */
    HTTP_UNTIL_CLOSE, /* with the connection; responses only */
};

struct http_head {
    size_t size;               /* octets of the head with its empty line: the body begins there */
    struct str method, target; /* of a request */
    /* the status of a response. After ERR: for a request, the status to answer with; for a
     * response, 431 if it exceeds a bound, else another value */
    int status;
    int minor; /* of HTTP/1.x: 0 or 1 */
    enum http_framing framing;
    uint64_t length;
    bool keep_alive;   /* another message may follow on this connection */
    const char *wrong; /* after ERR: the error in words; static storage */
    size_t header_count;
    struct http_header headers[HTTP_HEADERS_MAX];
};

/* Parses the head that `in` begins with. Returns AGAIN when it is not complete yet: call again with
 * the same octets and more. Returns ERR and sets head->wrong when it is malformed or not complete
 * within `max` octets. */
int http_parse_request(struct str in, size_t max, struct http_head *head) warn_unused;

/* Parses the head of a response in the same way. to_head: the response answers a HEAD request, so
 * that no body follows whatever its fields say. */
int http_parse_response(struct str in, size_t max, bool to_head,
                        struct http_head *head) warn_unused;

/* Finds the first field of that name (any case) and sets *value. Returns false when there is none.
 */
bool http_find_header(const struct http_head *head, const char *name, struct str *value);

/* Tells whether `token` (any case) is an element of the comma-separated lists in the fields of that
 * name. */
bool http_header_has(const struct http_head *head, const char *name, const char *token);

/* Tells whether the body has a content coding other than "identity" (RFC 9110 section 8.4). If so,
 * sets *coding to the field's value. */
bool http_find_coding(const struct http_head *head, struct str *coding);

/* Returns the reason phrase of a status ("Not Found"), or "" for one that this program does not
 * use; static storage. */
const char *http_reason(int status);

/* ---- chunked bodies (RFC 9112 section 7.1) ---- */

enum { HTTP_CHUNK_EXT_MAX = 256, HTTP_TRAILERS_MAX = 8192 };

/* A position in a chunked body. Zero-initialise. */
struct http_chunked {
    int state;
    unsigned count; /* octets read of a part with a bound: digits, extension, trailers */
    uint64_t left;  /* of the chunk */
};

/* Takes octets off *in. Returns OK with the next piece of the body in *data, which is empty when
 * the body has ended; *in then holds what follows it. Returns AGAIN when *in is used up and more
 * must come, ERR when the body is malformed. Extensions and trailers are dropped. */
int http_chunked_next(struct http_chunked *c, struct str *in, struct str *data) warn_unused;

#endif
