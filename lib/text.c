/* Handles text from outside: slices, numbers, case, base64, and making it safe to print. */
#include "lib/text.h"

#include <stdarg.h>
#include <stdio.h>

char text_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

bool text_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool text_is_alnum(char c)
{
    return text_is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Tells whether the character may be part of a token (RFC 9110 section 5.6.2). */
static bool is_token_char(char c)
{
    return text_is_alnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

bool text_is_token(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (!is_token_char(s.p[i])) {
            return false;
        }
    }
    return s.n > 0;
}

bool text_is_visible(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] <= 0x20 || s.p[i] >= 0x7F) {
            return false;
        }
    }
    return true;
}

int text_hex_value(char c)
{
    if (text_is_digit(c)) {
        return c - '0';
    }
    char l = (char)(c | 0x20);
    return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

bool str_eq(struct str a, const char *b)
{
    return a.n == strlen(b) && memcmp(a.p, b, a.n) == 0;
}

bool str_istarts(struct str a, const char *prefix)
{
    for (size_t i = 0; prefix[i]; i++) {
        if (i == a.n || text_lower(a.p[i]) != text_lower(prefix[i])) {
            return false;
        }
    }
    return true;
}

bool str_ieq(struct str a, const char *b)
{
    return a.n == strlen(b) && str_istarts(a, b);
}

struct str str_trim(struct str s)
{
    while (s.n && is_blank(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n && is_blank(s.p[s.n - 1])) {
        s.n--;
    }
    return s;
}

struct str str_word(struct str *rest)
{
    struct str word = {rest->p, 0};
    while (word.n < rest->n && !is_blank(rest->p[word.n])) {
        word.n++;
    }
    size_t next = word.n;
    while (next < rest->n && is_blank(rest->p[next])) {
        next++;
    }
    rest->p += next;
    rest->n -= next;
    return word;
}

struct str str_cut(struct str *rest, char sep)
{
    struct str before = *rest;
    const char *at = rest->n ? memchr(rest->p, sep, rest->n) : NULL;
    if (at) {
        before.n = (size_t)(at - rest->p);
        rest->p = at + 1;
        rest->n -= before.n + 1;
    } else {
        rest->p += rest->n;
        rest->n = 0;
    }
    return before;
}

bool text_ieq(const char *a, const char *b)
{
    return str_ieq(str_of(a), b);
}

bool text_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

int text_number(struct str s, uint64_t max, uint64_t *value)
{
    uint64_t v = 0;
    if (s.n == 0) {
        return ERR;
    }
    for (size_t i = 0; i < s.n; i++) {
        unsigned digit = (unsigned char)s.p[i] - (unsigned)'0';
        if (digit > 9 || digit > max || v > (max - digit) / 10) {
            return ERR;
        }
        v = v * 10 + digit;
    }
    *value = v;
    return OK;
}

size_t text_fmt(char *out, size_t cap, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out, cap, fmt, ap);
    va_end(ap);
    if (n < 0) {
        out[0] = '\0';
        return 0;
    }
    return (size_t)n < cap ? (size_t)n : cap - 1;
}

size_t text_put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

/* Returns the length of a UTF-8 character that its first byte announces; 0: none can begin so. */
static size_t announced_length(unsigned char first)
{
    if (first < 0x80) {
        return 1;
    }
    if (first < 0xC2 || first >= 0xF5) {
        return 0;
    }
    if (first < 0xE0) {
        return 2;
    }
    return first < 0xF0 ? 3 : 4;
}

size_t text_utf8_length(struct str s)
{
    unsigned char c = (unsigned char)s.p[0];
    size_t n = announced_length(c);
    if (n == 0 || n > s.n) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if (((unsigned char)s.p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    unsigned char second = n > 1 ? (unsigned char)s.p[1] : 0;
    bool overlong = (c == 0xE0 && second < 0xA0) || (c == 0xF0 && second < 0x90);
    bool surrogate_or_beyond = (c == 0xED && second >= 0xA0) || (c == 0xF4 && second >= 0x90);
    return overlong || surrogate_or_beyond ? 0 : n;
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7F;
}

char *text_printable(char *out, size_t cap, struct str s)
{
    size_t o = 0;
    while (s.n) {
        size_t n = text_utf8_length(s);
        bool bad = n == 0 || (n == 1 && is_control(s.p[0]));
        if (bad) {
            n = 1;
        }
        if (o + n >= cap) {
            break;
        }
        memcpy(out + o, bad ? "?" : s.p, n);
        o += n;
        s.p += n;
        s.n -= n;
    }
    out[o] = '\0';
    return out;
}

bool text_is_utf16(struct str s)
{
    if (s.n < 2) {
        return false;
    }
    return memcmp(s.p, "\xFF\xFE", 2) == 0 || memcmp(s.p, "\xFE\xFF", 2) == 0 ||
           (s.p[0] == '\0') != (s.p[1] == '\0');
}

struct str text_without_bom(struct str s)
{
    bool marked = s.n >= 3 && memcmp(s.p, "\xEF\xBB\xBF", 3) == 0;
    return marked ? (struct str){s.p + 3, s.n - 3} : s;
}

bool text_has_control(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (is_control(s.p[i])) {
            return true;
        }
    }
    return false;
}

void text_sanitize(char *s)
{
    for (; *s; s++) {
        if (is_control(*s)) {
            *s = ' ';
        }
    }
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void text_conceal(char *text, struct str secret)
{
    enum { LEAST = 4, PART = 12 };
    size_t n = strlen(text), part = secret.n < PART ? secret.n : PART, end = 0;
    for (size_t i = 0; i < n && secret.n >= LEAST; i++) {
        if (i + part <= n && memmem(secret.p, secret.n, text + i, part)) {
            end = i + part;
        }
        if (i < end) {
            text[i] = '*';
        }
    }
}

size_t text_base64(char *out, const void *in, size_t n)
{
    const unsigned char *p = in;
    char *o = out;
    for (size_t i = 0; i < n; i += 3) {
        size_t have = n - i < 3 ? n - i : 3;
        uint32_t v = (uint32_t)p[i] << 16;
        v |= have > 1 ? (uint32_t)p[i + 1] << 8 : 0;
        v |= have > 2 ? p[i + 2] : 0;
        *o++ = base64_digits[v >> 18];
        *o++ = base64_digits[v >> 12 & 63];
        *o++ = have > 1 ? base64_digits[v >> 6 & 63] : '=';
        *o++ = have > 2 ? base64_digits[v & 63] : '=';
    }
    *o = '\0';
    return (size_t)(o - out);
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    if (c == '+') {
        return 62;
    }
    return c == '/' ? 63 : -1;
}

int text_unbase64(void *out, size_t cap, struct str in, size_t *n)
{
    unsigned char *o = out;
    size_t written = 0;
    if (in.n % 4) {
        return ERR;
    }
    for (size_t i = 0; i < in.n; i += 4) {
        const char *q = in.p + i;
        bool last = i + 4 == in.n;
        size_t pad = 0;
        if (last && q[3] == '=') {
            pad = q[2] == '=' ? 2 : 1;
        }
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++) {
            int digit = k >= 4 - pad ? 0 : base64_value(q[k]);
            if (digit < 0) {
                return ERR;
            }
            v = v << 6 | (uint32_t)digit;
        }
        size_t bytes = 3 - pad;
        if ((v & ((1u << (8 * pad)) - 1)) != 0 || written + bytes > cap) {
            return ERR;
        }
        for (size_t k = 0; k < bytes; k++) {
            o[written++] = (unsigned char)(v >> (16 - 8 * k));
        }
    }
    *n = written;
    return OK;
}
