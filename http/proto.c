/* Parses HTTP/1.1. This machine reads a chunked body, one octet at a time except for the data:
 *
 *             digit
 *              .--.
 *              v  |
 *   .-------> SIZE --------------- CR ----> SIZE_LF -- LF, size > 0 --> DATA
 *   |           |                            ^  |                         |
 *   |           '--- ';' --> EXT --- CR -----'  | LF, size 0              | all of it
 *   |                       ^  |                |                         v
 *   |                       '--'                |                      DATA_CR
 *   |                       other               |                         |
 *   |                                           |                         | CR
 *   |                                           |                         v
 *   '-------------------------------------------|---------- LF ------- DATA_LF
 *                                               v
 *                .-- LF ---------------> TRAILER_START -- CR --> END_LF -- LF --> DONE
 *                |                              |
 *                |                              | other
 *                |                              v
 *            TRAILER_LF <-------- CR ------- TRAILER
 *                                              ^  |
 *                                              '--'
 *                                              other
 *
 * Every other octet leads to BAD. */
#include "http/proto.h"

#include <string.h>

#define TEXT_OF(number) #number
#define NUMBER_TEXT(number) TEXT_OF(number)

/* Tells whether the text may be a field value or a reason phrase: visible characters, blanks, and
 * octets above ASCII. */
static bool is_field_text(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7F) {
            return false;
        }
    }
    return true;
}

/* ---- heads ---- */

static int bad_head(struct http_head *head, int status, const char *wrong)
{
    head->status = status;
    head->wrong = wrong;
    return ERR;
}

/* Takes a line and its CRLF off *rest. Returns ERR when it ends in a bare LF. */
static int take_line(struct str *rest, struct str *line)
{
    const char *lf = rest->n ? memchr(rest->p, '\n', rest->n) : NULL;
    if (!lf) {
        return AGAIN;
    }
    if (lf == rest->p || lf[-1] != '\r') {
        return ERR;
    }
    *line = (struct str){rest->p, (size_t)(lf - rest->p) - 1};
    rest->n -= line->n + 2;
    rest->p = lf + 1;
    return OK;
}

/* Finds the empty line that ends the head, so that parsing begins only when the head is complete.
 */
static int find_end(struct str in, size_t max, struct http_head *head)
{
    struct str rest = {in.p, in.n < max ? in.n : max};
    struct str line;
    bool first = true;
    int res;
    while ((res = take_line(&rest, &line)) == OK) {
        /* An empty line before the start line is ignored (RFC 9112 section 2.2). */
        if (line.n == 0 && !first) {
            head->size = (size_t)(rest.p - in.p);
            return OK;
        }
        first = false;
    }
    if (res == ERR) {
        return bad_head(head, 400, "a line ends with a bare LF");
    }
    if (in.n >= max) {
        return bad_head(head, 431, "the head is too long");
    }
    return AGAIN;
}

/* Parses "HTTP/1.0" or "HTTP/1.1". */
static int parse_version(struct str s, struct http_head *head)
{
    if (s.n != 8 || memcmp(s.p, "HTTP/", 5) != 0 || !text_is_digit(s.p[5]) || s.p[6] != '.' ||
        !text_is_digit(s.p[7])) {
        return bad_head(head, 400, "the HTTP version is missing");
    }
    if (s.p[5] != '1' || s.p[7] > '1') {
        return bad_head(head, 505, "an HTTP version other than 1.0 and 1.1");
    }
    head->minor = s.p[7] - '0';
    return OK;
}

/* Parses a field line (RFC 9112 section 5). */
static int parse_header(struct str line, struct http_head *head)
{
    if (line.p[0] == ' ' || line.p[0] == '\t') {
        return bad_head(head, 400, "a folded header line");
    }
    if (head->header_count == HTTP_HEADERS_MAX) {
        return bad_head(head, 431, "more than " NUMBER_TEXT(HTTP_HEADERS_MAX) " header fields");
    }
    if (!memchr(line.p, ':', line.n)) {
        return bad_head(head, 400, "a header line without a colon");
    }
    struct http_header *h = &head->headers[head->header_count++];
    h->value = line;
    h->name = str_cut(&h->value, ':');
    h->value = str_trim(h->value);
    if (!text_is_token(h->name)) {
        return bad_head(head, 400, "a malformed header name");
    }
    if (!is_field_text(h->value)) {
        return bad_head(head, 400, "a control character in a header field");
    }
    return OK;
}

static int parse_headers(struct str rest, struct http_head *head)
{
    struct str line;
    head->header_count = 0;
    while (take_line(&rest, &line) == OK && line.n) {
        if (parse_header(line, head) == ERR) {
            return ERR;
        }
    }
    return OK;
}

/* Sets the framing by Content-Length and Transfer-Encoding (RFC 9112 sections 6.1 to 6.3):
 * HTTP_LENGTH, HTTP_CHUNKED, or HTTP_NO_BODY when there is neither field. Sets keep_alive. */
static int parse_framing(struct http_head *head)
{
    bool coded = false, sized = false;
    head->framing = HTTP_NO_BODY;
    head->length = 0;
    for (size_t i = 0; i < head->header_count; i++) {
        const struct http_header *h = &head->headers[i];
        uint64_t length;
        if (str_ieq(h->name, "Transfer-Encoding")) {
            if (coded || !str_ieq(h->value, "chunked")) {
                return bad_head(head, 501, "a transfer coding other than chunked");
            }
            coded = true;
        } else if (str_ieq(h->name, "Content-Length")) {
            if (text_number(h->value, INT64_MAX, &length) == ERR) {
                return bad_head(head, 400, "a malformed Content-Length");
            }
            if (sized && length != head->length) {
                return bad_head(head, 400, "two different lengths");
            }
            sized = true;
            head->length = length;
        }
    }
    if (coded && (sized || head->minor == 0)) {
        return bad_head(head, 400,
                        sized ? "both Content-Length and Transfer-Encoding"
                              : "Transfer-Encoding in HTTP/1.0");
    }
    head->framing = coded ? HTTP_CHUNKED : sized ? HTTP_LENGTH : HTTP_NO_BODY;
    head->keep_alive = !http_header_has(head, "Connection", "close") &&
                       (head->minor == 1 || http_header_has(head, "Connection", "keep-alive"));
    return OK;
}

/* Checks the number of Host fields: exactly one in HTTP/1.1, at most one in HTTP/1.0 (RFC 9112
 * section 3.2). */
static int check_host(struct http_head *head)
{
    size_t n = 0;
    for (size_t i = 0; i < head->header_count; i++) {
        n += str_ieq(head->headers[i].name, "Host");
    }
    if (n > 1 || (n == 0 && head->minor == 1)) {
        return bad_head(head, 400, n ? "more than one Host field" : "no Host field");
    }
    return OK;
}

int http_parse_request(struct str in, size_t max, struct http_head *head)
{
    *head = (struct http_head){0};
    int res = find_end(in, max, head);
    if (res != OK) {
        return res;
    }
    struct str rest = {in.p, head->size}, line;
    do {
        res = take_line(&rest, &line);
    } while (res == OK && line.n == 0);
    head->method = str_cut(&line, ' ');
    head->target = str_cut(&line, ' ');
    if (!text_is_token(head->method) || head->target.n == 0 || !text_is_visible(head->target)) {
        return bad_head(head, 400, "a malformed request line");
    }
    if (parse_version(line, head) == ERR || parse_headers(rest, head) == ERR ||
        check_host(head) == ERR) {
        return ERR;
    }
    return parse_framing(head);
}

/* Parses HTTP-version SP 3DIGIT SP reason (RFC 9112 section 4). Many servers leave out the second
 * SP. */
static int parse_status_line(struct str line, struct http_head *head)
{
    if (parse_version(str_cut(&line, ' '), head) == ERR) {
        return ERR;
    }
    uint64_t status;
    struct str digits = str_cut(&line, ' ');
    if (digits.n != 3 || text_number(digits, 599, &status) == ERR || status < 100) {
        return bad_head(head, 0, "a malformed status");
    }
    if (!is_field_text(line)) {
        return bad_head(head, 0, "a control character in the status line");
    }
    head->status = (int)status;
    return OK;
}

int http_parse_response(struct str in, size_t max, bool to_head, struct http_head *head)
{
    *head = (struct http_head){0};
    int res = find_end(in, max, head);
    if (res != OK) {
        return res;
    }
    struct str rest = {in.p, head->size}, line;
    if (take_line(&rest, &line) != OK || parse_status_line(line, head) == ERR ||
        parse_headers(rest, head) == ERR || parse_framing(head) == ERR) {
        return ERR;
    }
    if (to_head || head->status < 200 || head->status == 204 || head->status == 304) {
        head->framing = HTTP_NO_BODY;
    } else if (head->framing == HTTP_NO_BODY) {
        head->framing = HTTP_UNTIL_CLOSE;
        head->keep_alive = false;
    }
    return OK;
}

bool http_find_header(const struct http_head *head, const char *name, struct str *value)
{
    for (size_t i = 0; i < head->header_count; i++) {
        if (str_ieq(head->headers[i].name, name)) {
            *value = head->headers[i].value;
            return true;
        }
    }
    return false;
}

bool http_find_coding(const struct http_head *head, struct str *coding)
{
    for (size_t i = 0; i < head->header_count; i++) {
        const struct http_header *h = &head->headers[i];
        if (str_ieq(h->name, "Content-Encoding") && h->value.n && !str_ieq(h->value, "identity")) {
            *coding = h->value;
            return true;
        }
    }
    return false;
}

bool http_header_has(const struct http_head *head, const char *name, const char *token)
{
    for (size_t i = 0; i < head->header_count; i++) {
        struct str list = head->headers[i].value;
        if (!str_ieq(head->headers[i].name, name)) {
            continue;
        }
        while (list.n) {
            if (str_ieq(str_trim(str_cut(&list, ',')), token)) {
                return true;
            }
        }
    }
    return false;
}

const char *http_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {400, "Bad Request"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "";
}

/* ---- chunked bodies ---- */

enum chunk_state {
    CHUNK_SIZE,
    CHUNK_EXT,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER_START,
    CHUNK_TRAILER,
    CHUNK_TRAILER_LF,
    CHUNK_END_LF,
    CHUNK_DONE,
    CHUNK_BAD,
};

enum { CHUNK_DIGITS_MAX = 15 };

static enum chunk_state expect(char c, char wanted, enum chunk_state next)
{
    return c == wanted ? next : CHUNK_BAD;
}

static enum chunk_state step_size(struct http_chunked *c, char octet)
{
    int digit = text_hex_value(octet);
    if (digit >= 0) {
        c->left = c->left << 4 | (uint64_t)digit;
        return ++c->count <= CHUNK_DIGITS_MAX ? CHUNK_SIZE : CHUNK_BAD;
    }
    if (c->count == 0) {
        return CHUNK_BAD;
    }
    c->count = 0;
    return octet == ';' ? CHUNK_EXT : expect(octet, '\r', CHUNK_SIZE_LF);
}

/* Returns the state after an octet of an extension or of the trailers, which are dropped: `next`
 * after CR, `same` after another octet within the bound. */
static enum chunk_state step_dropped(struct http_chunked *c, char octet, unsigned max,
                                     enum chunk_state same, enum chunk_state next)
{
    if (octet == '\r') {
        return next;
    }
    return is_field_text((struct str){&octet, 1}) && ++c->count <= max ? same : CHUNK_BAD;
}

/* Returns the state after an octet that is not data. */
static enum chunk_state chunk_step(struct http_chunked *c, char octet)
{
    switch ((enum chunk_state)c->state) {
    case CHUNK_SIZE:
        return step_size(c, octet);
    case CHUNK_EXT:
        return step_dropped(c, octet, HTTP_CHUNK_EXT_MAX, CHUNK_EXT, CHUNK_SIZE_LF);
    case CHUNK_SIZE_LF:
        c->count = 0;
        return expect(octet, '\n', c->left ? CHUNK_DATA : CHUNK_TRAILER_START);
    case CHUNK_DATA_CR:
        return expect(octet, '\r', CHUNK_DATA_LF);
    case CHUNK_DATA_LF:
        return expect(octet, '\n', CHUNK_SIZE);
    case CHUNK_TRAILER_START:
        return step_dropped(c, octet, HTTP_TRAILERS_MAX, CHUNK_TRAILER, CHUNK_END_LF);
    case CHUNK_TRAILER:
        return step_dropped(c, octet, HTTP_TRAILERS_MAX, CHUNK_TRAILER, CHUNK_TRAILER_LF);
    case CHUNK_TRAILER_LF:
        return expect(octet, '\n', CHUNK_TRAILER_START);
    case CHUNK_END_LF:
        return expect(octet, '\n', CHUNK_DONE);
    case CHUNK_DATA:
    case CHUNK_DONE:
    case CHUNK_BAD:
        break;
    }
    return CHUNK_BAD;
}

int http_chunked_next(struct http_chunked *c, struct str *in, struct str *data)
{
    *data = (struct str){in->p, 0};
    while (c->state != CHUNK_DONE && in->n) {
        if (c->state == CHUNK_DATA) {
            data->p = in->p;
            data->n = c->left < in->n ? (size_t)c->left : in->n;
            c->left -= data->n;
            if (c->left == 0) {
                c->state = CHUNK_DATA_CR;
            }
            in->p += data->n;
            in->n -= data->n;
            return OK;
        }
        c->state = chunk_step(c, in->p[0]);
        if (c->state == CHUNK_BAD) {
            return ERR;
        }
        in->p++;
        in->n--;
    }
    return c->state == CHUNK_DONE ? OK : AGAIN;
}
