/* Reads a properties file in two steps for each logical line:
 *
 *   next_line   skips blank lines and comments, and joins lines at a backslash; escapes stay
 *   take_line   finds the end of the key and the start of the value, and resolves the escapes */
#include "local/properties_file.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"

struct reader {
    struct str text;
    size_t at;
    size_t line_at; /* the position where the logical line begins, for messages */
    bool latin1;
    struct properties *props;
    struct error *err;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\f';
}

static bool is_line_end(char c)
{
    return c == '\n' || c == '\r';
}

static int refuse_line(const struct reader *r, const char *wrong)
{
    unsigned line = 1;
    for (size_t i = 0; i < r->line_at; i++) {
        bool first_of_two = r->text.p[i] == '\r' && i + 1 < r->text.n && r->text.p[i + 1] == '\n';
        line += is_line_end(r->text.p[i]) && !first_of_two;
    }
    return error_set(r->err, FAIL_CONFIG, "line %u: %s", line, wrong);
}

/* ---- logical lines ---- */

static bool at_end(const struct reader *r)
{
    return r->at == r->text.n;
}

static void skip_blanks(struct reader *r)
{
    while (!at_end(r) && is_blank(r->text.p[r->at])) {
        r->at++;
    }
}

static void skip_to_line_end(struct reader *r)
{
    while (!at_end(r) && !is_line_end(r->text.p[r->at])) {
        r->at++;
    }
}

/* Goes to the first character of the next line that is neither blank nor a comment. */
static void skip_to_content(struct reader *r)
{
    while (!at_end(r)) {
        char c = r->text.p[r->at];
        if (c == '#' || c == '!') {
            skip_to_line_end(r);
        } else if (is_blank(c) || is_line_end(c)) {
            r->at++;
        } else {
            return;
        }
    }
}

/* Skips the line end and the blanks that the next line begins with. */
static void join_next_line(struct reader *r)
{
    if (r->text.p[r->at] == '\r' && r->at + 1 < r->text.n && r->text.p[r->at + 1] == '\n') {
        r->at++;
    }
    r->at++;
    skip_blanks(r);
}

/* Copies the next logical line to `out`, which has room for the whole text. Returns AGAIN when the
 * file has no further line. */
static int next_line(struct reader *r, char *out, size_t *n)
{
    bool escaped = false;
    *n = 0;
    skip_to_content(r);
    r->line_at = r->at;
    if (at_end(r)) {
        return AGAIN;
    }
    while (!at_end(r)) {
        char c = r->text.p[r->at];
        if (!is_line_end(c)) {
            out[(*n)++] = c;
            escaped = c == '\\' && !escaped;
            r->at++;
        } else if (!escaped) {
            return OK;
        } else {
            escaped = false;
            --*n;
            join_next_line(r);
            if (*n == 0) {
                skip_to_content(r); /* a line of nothing but a backslash has not begun yet */
            }
        }
    }
    *n -= escaped; /* drops a backslash at the end of the file */
    return *n ? OK : AGAIN;
}

/* ---- key and value ---- */

/* Takes "\uXXXX" off *s. */
static int take_unit(struct str *s, uint32_t *unit)
{
    *unit = 0;
    if (s->n < 6 || s->p[0] != '\\' || s->p[1] != 'u') {
        return ERR;
    }
    for (size_t i = 2; i < 6; i++) {
        int digit = text_hex_value(s->p[i]);
        if (digit < 0) {
            return ERR;
        }
        *unit = *unit << 4 | (uint32_t)digit;
    }
    *s = (struct str){s->p + 6, s->n - 6};
    return OK;
}

/* Takes an escaped character off *s. It may be written as a surrogate pair. */
static int take_unicode(const struct reader *r, struct str *s, uint32_t *c)
{
    uint32_t low;
    if (take_unit(s, c) != OK) {
        return refuse_line(r, "\\u must be followed by four hexadecimal digits");
    }
    if (*c < 0xD800 || *c > 0xDFFF) {
        return OK;
    }
    if (*c > 0xDBFF || take_unit(s, &low) != OK || low < 0xDC00 || low > 0xDFFF) {
        return refuse_line(r, "\\u with half of a surrogate pair");
    }
    *c = 0x10000 + ((*c - 0xD800) << 10) + (low - 0xDC00);
    return OK;
}

/* Takes an escape other than \u off *s. */
static char take_escape(struct str *s)
{
    static const char letters[] = "tnrf", meanings[] = "\t\n\r\f";
    char c = s->p[1];
    const char *letter = c ? strchr(letters, c) : NULL;
    *s = (struct str){s->p + 2, s->n - 2};
    return letter ? meanings[letter - letters] : c;
}

/* Returns `s` with its escapes resolved, NUL-terminated; the caller wipes and frees it. Returns
 * NULL when an escape is malformed. */
static char *unescape(const struct reader *r, struct str s, size_t *n)
{
    char *out = mem_alloc(2 * s.n + 1);
    *n = 0;
    while (s.n) {
        uint32_t c = (unsigned char)s.p[0];
        bool is_byte = s.p[0] != '\\' || s.n == 1;
        if (is_byte) {
            s = (struct str){s.p + 1, s.n - 1};
        } else if (s.p[1] != 'u') {
            c = (unsigned char)take_escape(&s);
            is_byte = true;
        } else if (take_unicode(r, &s, &c) != OK) {
            mem_wipe(out, *n);
            free(out);
            return NULL;
        }
        if (is_byte && !r->latin1) {
            out[(*n)++] = (char)c;
        } else {
            *n += text_put_utf8(out + *n, c);
        }
    }
    out[*n] = '\0';
    return out;
}

/* Returns the length of the key that a line begins with. */
static size_t key_length(struct str line)
{
    bool escaped = false;
    for (size_t i = 0; i < line.n; i++) {
        char c = line.p[i];
        if (!escaped && (c == '=' || c == ':' || is_blank(c))) {
            return i;
        }
        escaped = c == '\\' && !escaped;
    }
    return line.n;
}

/* Skips the separator between key and value: blanks with at most one '=' or ':' among them. */
static struct str skip_separator(struct str rest)
{
    bool seen = false;
    while (rest.n && (is_blank(rest.p[0]) || (!seen && (rest.p[0] == '=' || rest.p[0] == ':')))) {
        seen |= !is_blank(rest.p[0]);
        rest = (struct str){rest.p + 1, rest.n - 1};
    }
    return rest;
}

static int take_line(const struct reader *r, struct str line)
{
    size_t key_n = key_length(line), name_n;
    struct property p = {.name = unescape(r, (struct str){line.p, key_n}, &name_n)};
    if (!p.name) {
        return ERR;
    }
    if (strlen(p.name) < name_n) {
        free(p.name);
        return refuse_line(r, "the key contains a NUL character");
    }
    p.value = unescape(r, skip_separator((struct str){line.p + key_n, line.n - key_n}), &p.n);
    if (!p.value) {
        free(p.name);
        return ERR;
    }
    return properties_add(r->props, p, r->err);
}

/* ---- the file ---- */

static bool is_utf8(struct str s)
{
    while (s.n) {
        size_t n = text_utf8_length(s);
        if (n == 0) {
            return false;
        }
        s = (struct str){s.p + n, s.n - n};
    }
    return true;
}

static int check_encoding(struct reader *r)
{
    const char *nul = memchr(r->text.p, '\0', r->text.n);
    if (text_is_utf16(r->text)) {
        return error_set(r->err, FAIL_CONFIG, "is UTF-16: save it as UTF-8");
    }
    if (nul) {
        r->line_at = (size_t)(nul - r->text.p);
        return refuse_line(r, "contains a NUL byte, so this is not text");
    }
    r->text = text_without_bom(r->text);
    r->latin1 = !is_utf8(r->text);
    return OK;
}

struct properties *properties_from_file(struct str text, struct error *err)
{
    struct reader r = {.text = text, .props = mem_zalloc(sizeof(*r.props)), .err = err};
    char *line = mem_alloc(text.n + 1);
    size_t n = 0, most = 0;
    int rc = check_encoding(&r);
    while (rc == OK && (rc = next_line(&r, line, &n)) == OK) {
        most = n > most ? n : most;
        rc = take_line(&r, (struct str){line, n});
    }
    mem_wipe(line, most);
    free(line);
    if (rc == ERR) {
        properties_free(r.props);
        return NULL;
    }
    return r.props;
}
