/* JSON, strictly (RFC 8259). A text goes through two passes:
 *
 *   scan   a recursive descent over the RFC's grammar. It refuses text that is not JSON, says where
 *          and why, and counts the tokens.
 *   jsmn   makes the tokens. It may be as lenient as it likes: it sees only text that the scan has
 *          let through.
 *
 * In jsmn's order every token is followed by its subtree, and the value of a member is the child of
 * the token of its name:
 *
 *   {"a": [1, 2], "b": 3}      0 object
 *                              1   "a"      after = 5
 *                              2     array  after = 5
 *                              3       1    after = 4
 *                              4       2    after = 5
 *                              5   "b"      after = 7
 *                              6     3      after = 7
 *
 * `after`, the place behind the subtree, makes a step to the next sibling cost nothing. It is kept
 * in the field `size`, where jsmn counts children. */
#include "lib/json.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"

/* Without the parent links a wide object would cost quadratic time. JSMN_STRICT is not set, because
 * it would refuse a lone number. */
#define JSMN_PARENT_LINKS
#define JSMN_STATIC
#include <jsmn.h>

struct json {
    struct str text;
    uint32_t n_tokens;
    jsmntok_t tokens[];
};

/* ---- the scan ---- */

struct scan {
    const unsigned char *start, *p, *end;
    unsigned depth;
    uint32_t n_tokens;
    bool cut; /* JSON_OMISSION may stand for a value */
    struct error *err;
};

/* Sets the error, with line and column of s->p. Returns ERR. */
static int scan_failed(struct scan *s, enum fail fail, const char *what)
{
    unsigned line = 1, column = 1;
    for (const unsigned char *p = s->start; p < s->p; p++) {
        if (*p == '\n') {
            line++;
            column = 1;
        } else if ((*p & 0xC0) != 0x80) {
            column++;
        }
    }
    return error_set(s->err, fail, "line %u, column %u: %s", line, column, what);
}

/* Complains that something else should be at s->p. Returns ERR. */
static int expected(struct scan *s, const char *what)
{
    char text[128], found[16];
    if (s->p == s->end) {
        text_fmt(found, sizeof(found), "the end");
    } else if (*s->p > ' ' && *s->p < 0x7F) {
        text_fmt(found, sizeof(found), "'%c'", *s->p);
    } else {
        text_fmt(found, sizeof(found), "byte 0x%02X", *s->p);
    }
    text_fmt(text, sizeof(text), "expected %s, found %s", what, found);
    return scan_failed(s, FAIL_PROTOCOL, text);
}

static bool at(const struct scan *s, char c)
{
    return s->p < s->end && *s->p == (unsigned char)c;
}

static bool at_digit(const struct scan *s)
{
    return s->p < s->end && *s->p >= '0' && *s->p <= '9';
}

static void skip_space(struct scan *s)
{
    while (at(s, ' ') || at(s, '\t') || at(s, '\n') || at(s, '\r')) {
        s->p++;
    }
}

static int scan_digits(struct scan *s)
{
    if (!at_digit(s)) {
        return expected(s, "a digit");
    }
    while (at_digit(s)) {
        s->p++;
    }
    return OK;
}

static int scan_number(struct scan *s)
{
    if (at(s, '-')) {
        s->p++;
    }
    if (at(s, '0')) {
        s->p++;
        if (at_digit(s)) {
            return scan_failed(s, FAIL_PROTOCOL, "a number must not begin with 0");
        }
    } else if (scan_digits(s) < 0) {
        return ERR;
    }
    if (at(s, '.')) {
        s->p++;
        if (scan_digits(s) < 0) {
            return ERR;
        }
    }
    if (at(s, 'e') || at(s, 'E')) {
        s->p++;
        if (at(s, '+') || at(s, '-')) {
            s->p++;
        }
        return scan_digits(s);
    }
    return OK;
}

/* Returns the value of the four hexadecimal digits at p, which have been checked. */
static uint32_t hex4(const unsigned char *p)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        v = v << 4 | (uint32_t)text_hex_value((char)p[i]);
    }
    return v;
}

static bool high_surrogate(uint32_t unit)
{
    return unit >= 0xD800 && unit < 0xDC00;
}

static bool low_surrogate(uint32_t unit)
{
    return unit >= 0xDC00 && unit < 0xE000;
}

/* Scans what follows "\u". */
static int scan_hex4(struct scan *s, uint32_t *unit)
{
    for (int i = 0; i < 4; i++, s->p++) {
        if (s->p == s->end || text_hex_value((char)*s->p) < 0) {
            return expected(s, "four hexadecimal digits after \\u");
        }
    }
    *unit = hex4(s->p - 4);
    return OK;
}

/* Returns the character that a backslash and c stand for; 0 when they are not an escape, and for
 * \u. */
static char simple_escape(unsigned char c)
{
    switch (c) {
    case '"':
    case '\\':
    case '/':
        return (char)c;
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return 0;
    }
}

/* Scans what follows a backslash. */
static int scan_escape(struct scan *s)
{
    if (s->p < s->end && simple_escape(*s->p)) {
        s->p++;
        return OK;
    }
    if (!at(s, 'u')) {
        return expected(s, "one of \"\\/bfnrtu after a backslash");
    }
    s->p++;
    uint32_t first, second = 0;
    if (scan_hex4(s, &first) < 0) {
        return ERR;
    }
    if (high_surrogate(first) && s->end - s->p >= 2 && s->p[0] == '\\' && s->p[1] == 'u') {
        s->p += 2;
        if (scan_hex4(s, &second) < 0) {
            return ERR;
        }
    }
    if (low_surrogate(first) || (high_surrogate(first) && !low_surrogate(second))) {
        return scan_failed(s, FAIL_PROTOCOL, "half of a surrogate pair");
    }
    return OK;
}

static int scan_string(struct scan *s)
{
    s->n_tokens++;
    s->p++;
    while (!at(s, '"')) {
        if (s->p == s->end) {
            return expected(s, "the closing '\"' of a string");
        }
        size_t n = text_utf8_length((struct str){(const char *)s->p, (size_t)(s->end - s->p)});
        if (n == 0) {
            return scan_failed(s, FAIL_PROTOCOL, "not UTF-8");
        }
        if (*s->p < ' ') {
            return scan_failed(s, FAIL_PROTOCOL, "a control character in a string must be escaped");
        }
        bool escape = *s->p == '\\';
        s->p += n;
        if (escape && scan_escape(s) < 0) {
            return ERR;
        }
    }
    s->p++;
    return OK;
}

static int scan_value(struct scan *s);

static int scan_member(struct scan *s)
{
    if (!at(s, '"')) {
        return expected(s, "a name in double quotes");
    }
    if (scan_string(s) < 0) {
        return ERR;
    }
    skip_space(s);
    if (!at(s, ':')) {
        return expected(s, "':'");
    }
    s->p++;
    return scan_value(s);
}

/* Scans an array or an object. */
static int scan_container(struct scan *s, char close, int (*scan_one)(struct scan *s))
{
    if (++s->depth > JSON_MAX_DEPTH) {
        return scan_failed(s, FAIL_LIMIT, "nested too deeply");
    }
    s->n_tokens++;
    s->p++;
    skip_space(s);
    while (!at(s, close)) {
        if (scan_one(s) < 0) {
            return ERR;
        }
        skip_space(s);
        if (at(s, ',')) {
            s->p++;
            skip_space(s);
            if (at(s, close)) {
                return scan_failed(s, FAIL_PROTOCOL, "no ',' is allowed behind the last one");
            }
        } else if (!at(s, close)) {
            return expected(s, close == ']' ? "',' or ']'" : "',' or '}'");
        }
    }
    s->p++;
    s->depth--;
    return OK;
}

static int scan_value(struct scan *s)
{
    skip_space(s);
    if (at(s, '{')) {
        return scan_container(s, '}', scan_member);
    }
    if (at(s, '[')) {
        return scan_container(s, ']', scan_value);
    }
    if (at(s, '"')) {
        return scan_string(s);
    }
    s->n_tokens++;
    if (at(s, '-') || at_digit(s)) {
        return scan_number(s);
    }
    if (s->cut && at(s, JSON_OMISSION)) {
        s->p++;
        return OK;
    }
    static const char *const words[] = {"null", "true", "false"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(s->end - s->p) >= n && memcmp(s->p, words[i], n) == 0) {
            s->p += n;
            return OK;
        }
    }
    return expected(s, "a value");
}

static int scan_text(struct scan *s)
{
    if ((size_t)(s->end - s->start) > JSON_MAX_SIZE) {
        return error_set(s->err, FAIL_LIMIT, "longer than %d bytes", JSON_MAX_SIZE);
    }
    struct str whole = {(const char *)s->start, (size_t)(s->end - s->start)};
    if (text_is_utf16(whole)) {
        return scan_failed(s, FAIL_PROTOCOL, "is UTF-16: save it as UTF-8");
    }
    if (text_without_bom(whole).n < whole.n) {
        return scan_failed(s, FAIL_PROTOCOL,
                           "begins with a byte order mark: save it as plain UTF-8");
    }
    if (scan_value(s) < 0) {
        return ERR;
    }
    skip_space(s);
    return s->p == s->end ? OK : expected(s, "the end");
}

/* ---- documents ---- */

/* Puts `after` into the tokens. The loop runs backwards: it meets the last child of a token first,
 * and the place behind that child is also the place behind the token. */
static void link_tokens(struct json *doc)
{
    for (uint32_t i = 0; i < doc->n_tokens; i++) {
        doc->tokens[i].size = 0;
    }
    for (uint32_t i = doc->n_tokens; i-- > 0;) {
        jsmntok_t *t = &doc->tokens[i];
        if (t->size == 0) {
            t->size = (int)i + 1;
        }
        if (t->parent >= 0 && doc->tokens[t->parent].size == 0) {
            doc->tokens[t->parent].size = t->size;
        }
    }
}

static struct json *parse(struct str text, bool cut, struct error *err)
{
    const unsigned char *p = (const unsigned char *)text.p;
    struct scan s = {.start = p, .p = p, .end = p + text.n, .cut = cut, .err = err};
    if (scan_text(&s) < 0) {
        return NULL;
    }
    struct json *doc = mem_alloc(sizeof(*doc) + s.n_tokens * sizeof(doc->tokens[0]));
    doc->text = text;
    doc->n_tokens = s.n_tokens;
    jsmn_parser parser;
    jsmn_init(&parser);
    int made = jsmn_parse(&parser, text.p, text.n, doc->tokens, s.n_tokens);
    if (made < 0 || (uint32_t)made != s.n_tokens) {
        error_set(err, FAIL_INTERNAL, "the two passes over a JSON text disagree");
        json_free(doc);
        return NULL;
    }
    link_tokens(doc);
    return doc;
}

struct json *json_parse(struct str text, struct error *err)
{
    return parse(text, false, err);
}

struct json *json_parse_cut(struct str text, struct error *err)
{
    return parse(text, true, err);
}

void json_free(struct json *doc)
{
    free(doc);
}

struct json_value json_root(const struct json *doc)
{
    return (struct json_value){doc, 0};
}

static const jsmntok_t *token_of(struct json_value v)
{
    assert(json_exists(v));
    return &v.doc->tokens[v.token];
}

static uint32_t after(const jsmntok_t *t)
{
    return (uint32_t)t->size;
}

/* Returns the text of the token, for strings without the quotes. */
static struct str inside(struct json_value v)
{
    const jsmntok_t *t = token_of(v);
    return (struct str){v.doc->text.p + t->start, (size_t)(t->end - t->start)};
}

enum json_type json_type(struct json_value v)
{
    if (!json_exists(v)) {
        return JSON_NONE;
    }
    switch (token_of(v)->type) {
    case JSMN_OBJECT:
        return JSON_OBJECT;
    case JSMN_ARRAY:
        return JSON_ARRAY;
    case JSMN_STRING:
        return JSON_STRING;
    case JSMN_PRIMITIVE:
    case JSMN_UNDEFINED:
        break;
    }
    switch (inside(v).p[0]) {
    case 'n':
        return JSON_NULL;
    case 't':
    case 'f':
        return JSON_BOOL;
    case JSON_OMISSION:
        return JSON_OMITTED;
    default:
        return JSON_NUMBER;
    }
}

const char *json_type_name(enum json_type type)
{
    static const char *const names[] = {
        [JSON_NONE] = "nothing",     [JSON_NULL] = "null",        [JSON_BOOL] = "a boolean",
        [JSON_NUMBER] = "a number",  [JSON_STRING] = "a string",  [JSON_ARRAY] = "an array",
        [JSON_OBJECT] = "an object", [JSON_OMITTED] = "too large"};
    static_assert(ARRAY_LEN(names) == JSON_OMITTED + 1, "every type has its name");
    return names[type];
}

bool json_given(struct json_value v)
{
    return json_type(v) != JSON_NONE && json_type(v) != JSON_NULL;
}

/* ---- inside objects and arrays ---- */

static bool is_member(struct json_value v)
{
    int parent = token_of(v)->parent;
    return parent >= 0 && v.doc->tokens[parent].type == JSMN_STRING;
}

struct json_value json_first(struct json_value v)
{
    enum json_type type = json_type(v);
    uint32_t first = v.token + (type == JSON_OBJECT ? 2 : 1);
    bool any = (type == JSON_OBJECT || type == JSON_ARRAY) && after(token_of(v)) > first;
    return any ? (struct json_value){v.doc, first} : (struct json_value){0};
}

struct json_value json_next(struct json_value v)
{
    if (!json_exists(v)) {
        return v;
    }
    bool member = is_member(v);
    const jsmntok_t *self = token_of(v) - member;
    uint32_t next = after(self);
    if (next == v.doc->n_tokens || v.doc->tokens[next].parent != self->parent) {
        return (struct json_value){0};
    }
    return (struct json_value){v.doc, member ? next + 1 : next};
}

struct json_value json_key(struct json_value member)
{
    if (!json_exists(member) || !is_member(member)) {
        return (struct json_value){0};
    }
    return (struct json_value){member.doc, member.token - 1};
}

struct json_value json_get(struct json_value v, const char *key)
{
    struct json_value found = {0};
    if (json_type(v) == JSON_OBJECT) {
        for (struct json_value m = json_first(v); json_exists(m); m = json_next(m)) {
            if (json_is(json_key(m), key)) {
                found = m;
            }
        }
    }
    return found;
}

/* ---- contents ---- */

struct str json_text(struct json_value v)
{
    if (!json_exists(v)) {
        return (struct str){"", 0};
    }
    struct str s = inside(v);
    return token_of(v)->type == JSMN_STRING ? (struct str){s.p - 1, s.n + 2} : s;
}

int json_bool(struct json_value v, bool *value)
{
    if (json_type(v) != JSON_BOOL) {
        return ERR;
    }
    *value = inside(v).p[0] == 't';
    return OK;
}

int json_int64(struct json_value v, int64_t *value)
{
    if (json_type(v) != JSON_NUMBER) {
        return ERR;
    }
    struct str digits = inside(v);
    bool negative = digits.p[0] == '-';
    if (negative) {
        digits.p++;
        digits.n--;
    }
    uint64_t magnitude;
    if (text_number(digits, (uint64_t)INT64_MAX + negative, &magnitude) < 0) {
        return ERR;
    }
    *value = (int64_t)(negative ? -magnitude : magnitude);
    return OK;
}

/* Writes the decoded inside of a string to out, which has room for in.n bytes. Returns the number
 * of bytes written. */
static size_t decode(struct str in, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < in.n;) {
        if (in.p[i] != '\\') {
            out[n++] = in.p[i++];
            continue;
        }
        char simple = simple_escape((unsigned char)in.p[i + 1]);
        if (simple) {
            out[n++] = simple;
            i += 2;
            continue;
        }
        uint32_t c = hex4((const unsigned char *)in.p + i + 2);
        i += 6;
        if (high_surrogate(c)) {
            uint32_t low = hex4((const unsigned char *)in.p + i + 2);
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
            i += 6;
        }
        n += text_put_utf8(out + n, c);
    }
    return n;
}

int json_string(struct json_value v, struct buf *out)
{
    if (json_type(v) != JSON_STRING) {
        return ERR;
    }
    struct str in = inside(v);
    char *room = in.n ? buf_room(out, in.n) : NULL;
    if (room) {
        buf_added(out, decode(in, room));
    }
    return room || in.n == 0 ? OK : ERR;
}

char *json_strdup(struct json_value v, size_t *n)
{
    if (json_type(v) != JSON_STRING) {
        return NULL;
    }
    struct str in = inside(v);
    char *s = mem_alloc(in.n + 1);
    size_t len = decode(in, s);
    s[len] = '\0';
    if (n) {
        *n = len;
    } else if (strlen(s) != len) {
        free(s);
        return NULL;
    }
    return s;
}

bool json_is(struct json_value v, const char *s)
{
    if (json_type(v) != JSON_STRING) {
        return false;
    }
    struct str in = inside(v);
    if (!memchr(in.p, '\\', in.n)) {
        return str_eq(in, s);
    }
    char *decoded = json_strdup(v, NULL);
    bool equal = decoded && strcmp(decoded, s) == 0;
    free(decoded);
    return equal;
}

/* ---- writing ---- */

/* Writes the first n bytes of s, one character, in the form that stands inside a JSON string. n =
 * 0: the first byte is not UTF-8. */
static int quote_piece(struct buf *out, struct str s, size_t n)
{
    if (n == 0) {
        return buf_add(out, "\xEF\xBF\xBD", 3);
    }
    unsigned char c = (unsigned char)s.p[0];
    if (c == '"' || c == '\\') {
        return buf_fmt(out, "\\%c", c);
    }
    if (c == '\n') {
        return buf_add(out, "\\n", 2);
    }
    if (c < ' ' || c == 0x7F) {
        return buf_fmt(out, "\\u%04x", c);
    }
    return buf_add(out, s.p, n);
}

int json_quote(struct buf *out, struct str s)
{
    size_t before = buf_len(out);
    int result = buf_add(out, "\"", 1);
    while (result == OK && s.n) {
        size_t n = text_utf8_length(s);
        result = quote_piece(out, s, n);
        s.p += n ? n : 1;
        s.n -= n ? n : 1;
    }
    if (result == OK) {
        result = buf_add(out, "\"", 1);
    }
    if (result < 0) {
        out->end = out->start + before;
    }
    return result;
}

int json_fmt(struct buf *out, const char *fmt, ...)
{
    size_t before = buf_len(out);
    int result = OK;
    va_list ap;
    va_start(ap, fmt);
    for (const char *p = fmt; *p && result == OK; p++) {
        if (*p == '\'') {
            result = buf_add(out, "\"", 1);
        } else if (*p != '%') {
            result = buf_add(out, p, 1);
        } else if (*++p == 's') {
            result = json_quote(out, str_of(va_arg(ap, const char *)));
        } else {
            assert(*p == 'd');
            result = buf_fmt(out, "%d", va_arg(ap, int));
        }
    }
    va_end(ap);
    if (result < 0) {
        out->end = out->start + before;
    }
    return result;
}

/* ---- comparing ---- */

/* Hashes with FNV-1a in 64 bits. */
static uint64_t hash(uint64_t h, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        h = (h ^ (unsigned char)s.p[i]) * 1099511628211u;
    }
    return h;
}

/* Hashes the inside of a string, decoded. */
static uint64_t hash_string(uint64_t h, struct str in)
{
    char *decoded = mem_alloc(in.n);
    h = hash(h, (struct str){decoded, decode(in, decoded)});
    free(decoded);
    return h;
}

/* Hashes two parts, in this order. */
static uint64_t combine(uint64_t a, uint64_t b)
{
    return hash(a, (struct str){(const char *)&b, sizeof(b)});
}

uint64_t json_digest(struct json_value v)
{
    enum json_type type = json_type(v);
    uint64_t h = combine(14695981039346656037u, type), sum = 0;
    switch (type) {
    case JSON_NONE:
    case JSON_NULL:
        return 0;
    case JSON_BOOL:
    case JSON_NUMBER:
    case JSON_OMITTED:
        return hash(h, inside(v));
    case JSON_STRING:
        return hash_string(h, inside(v));
    case JSON_ARRAY:
        for (struct json_value e = json_first(v); json_exists(e); e = json_next(e)) {
            h = combine(h, json_digest(e));
        }
        return h;
    case JSON_OBJECT:
        break;
    }
    /* A sum does not depend on the order of the members. */
    for (struct json_value m = json_first(v); json_exists(m); m = json_next(m)) {
        if (json_type(m) != JSON_NULL) {
            sum += combine(hash_string(h, inside(json_key(m))), json_digest(m));
        }
    }
    return combine(h, sum);
}
