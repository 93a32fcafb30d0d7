/* JSON, strictly (RFC 8259): a text is parsed once into a document, values are read through
 * cursors.
 *
 * Accepted is exactly what the RFC's grammar allows, in UTF-8 without byte order mark, with escaped
 * surrogates only in pairs, no deeper than JSON_MAX_DEPTH and no longer than JSON_MAX_SIZE.
 *
 *     struct json *doc = json_parse(text, &err);
 *     struct json_value port = json_get(json_get(json_root(doc), "spec"), "port");
 *     if (json_int64(port, &n) < 0) ...
 *     json_free(doc);
 *
 * A value that is not there is of type JSON_NONE; every function takes it, so look-ups chain. */
#ifndef TPROXY_LIB_JSON_H
#define TPROXY_LIB_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"
#include "lib/text.h"

/* The bounds of a document: nesting of arrays and objects, bytes. Memory is at most 10 times the
 * text. */
enum { JSON_MAX_DEPTH = 64, JSON_MAX_SIZE = 16 * 1024 * 1024 };

/* A parsed document: an index into the text it was made from, no copy of it. */
struct json;

enum json_type {
    JSON_NONE, /* no such value */
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
    JSON_OMITTED, /* json_parse_cut alone: a value that was left out; nothing is known of it */
};

/* A place in a document; valid as long as the document and its text. {0} is JSON_NONE. */
struct json_value {
    const struct json *doc;
    uint32_t token;
};

/* Parses the whole of `text`, which must stay unchanged until json_free. Takes time linear in its
 * length. NULL and *err when it is no JSON (FAIL_PROTOCOL) or passes a bound (FAIL_LIMIT): "line 3,
 * column 14: expected ',' or '}'", columns counted in characters. Nothing of the text's strings is
 * repeated in it. */
struct json *json_parse(struct str text, struct error *err);

/* The octet that stands for a value which lib/json_cutter has left out. It is no JSON. */
#define JSON_OMISSION '~'

/* The same for a text from lib/json_cutter, in which values may be left out. */
struct json *json_parse_cut(struct str text, struct error *err);

/* NULL is allowed. */
void json_free(struct json *doc);

struct json_value json_root(const struct json *doc);

enum json_type json_type(struct json_value v);

/* "nothing", "null", "a boolean", "a number", "a string", "an array", "an object", "too large": for
 * messages. */
const char *json_type_name(enum json_type type);

static inline bool json_exists(struct json_value v)
{
    return v.doc != NULL;
}

/* Is it there, and not null? */
bool json_given(struct json_value v);

/* ---- inside objects and arrays ---- */

/* The member called `key` of an object; JSON_NONE when v has none or is no object. Of several
 * members of that name the last one counts. Takes time linear in the number of members. */
struct json_value json_get(struct json_value v, const char *key);

/* Loops over elements, or members in the order of the text:
 *     for (struct json_value m = json_first(v); json_exists(m); m = json_next(m))
 * JSON_NONE when there is none (any more). */
struct json_value json_first(struct json_value v);
struct json_value json_next(struct json_value v);

/* The name (a JSON_STRING) of a member of an object; JSON_NONE for what is no member. */
struct json_value json_key(struct json_value member);

/* ---- contents ---- */

/* The piece of the text that v was written as, a string with its quotes: JSON itself. Empty for
 * JSON_NONE. */
struct str json_text(struct json_value v);

/* ERR when v is not true or false. */
int json_bool(struct json_value v, bool *value) warn_unused;

/* ERR when v is no number, is written with a fraction or an exponent, or does not fit. */
int json_int64(struct json_value v, int64_t *value) warn_unused;

/* Appends the decoded string, UTF-8, to *out; an escaped U+0000 is a NUL byte like any other. ERR
 * and nothing appended when v is no string or does not fit, by its length as written. */
int json_string(struct json_value v, struct buf *out) warn_unused;

/* The decoded string, NUL-terminated; the caller frees it, or gives it to a struct secret. *n is
 * its length; with n NULL, a string that contains U+0000 is refused. NULL when v is no (such)
 * string. */
char *json_strdup(struct json_value v, size_t *n);

/* Is v a string, and equal to s? */
bool json_is(struct json_value v, const char *s);

/* ---- writing ---- */

/* Appends s as a JSON string with its quotes; always valid JSON in UTF-8: control characters are
 * escaped, bytes that are not UTF-8 become U+FFFD. ERR and nothing appended when it does not fit.
 */
int json_quote(struct buf *out, struct str s) warn_unused;

/* Appends JSON after a template: an apostrophe in it stands for a quotation mark, %s for a string
 * (written as by json_quote), %d for an int; there is nothing else.
 *     json_fmt(&out, "{'name':%s,'port':%d}", name, port)
 * ERR and nothing appended when it does not fit. */
int json_fmt(struct buf *out, const char *fmt, ...) warn_unused printf_like(2, 3);

/* ---- comparing ---- */

/* A digest of what v says. The order of an object's members, members that are null, white space and
 * the way strings are escaped do not count; numbers count as they are written. Against chance, not
 * against malice. */
uint64_t json_digest(struct json_value v);

#endif
