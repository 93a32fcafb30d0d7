/* JSON, strictly (RFC 8259): a text is parsed once into a document, and its values are read through
 * cursors.
 *
 * The parser accepts exactly what the RFC's grammar allows, in UTF-8 without byte order mark, with
 * escaped surrogates only in pairs, no deeper than JSON_MAX_DEPTH and no longer than JSON_MAX_SIZE.
 *
 *     struct json *doc = json_parse(text, &err);
 *     struct json_value port = json_get(json_get(json_root(doc), "spec"), "port");
 *     if (json_int64(port, &n) < 0) ...
 *     json_free(doc);
 *
 * A missing value has the type JSON_NONE. Every function accepts it, so look-ups can be chained. */
#ifndef TPROXY_LIB_JSON_H
#define TPROXY_LIB_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"
#include "lib/text.h"

/* The bounds of a document: nesting of arrays and objects, and bytes. Its memory is at most 10
 * times the text. */
enum { JSON_MAX_DEPTH = 64, JSON_MAX_SIZE = 16 * 1024 * 1024 };

/* A parsed document: an index into the text it was made from, not a copy of it. */
struct json;

enum json_type {
    JSON_NONE, /* no such value */
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
    JSON_OMITTED, /* only from json_parse_cut: a value that was left out, hence unknown */
};

/* A place in a document; valid as long as the document and its text. {0} is JSON_NONE. */
struct json_value {
    const struct json *doc;
    uint32_t token;
};

/* Parses the whole of `text`, which must stay unchanged until json_free. Takes time linear in its
 * length. Returns NULL and sets *err when the text is not JSON (FAIL_PROTOCOL) or passes a bound
 * (FAIL_LIMIT). The error says where and why ("line 3, column 14: expected ',' or '}'", columns
 * counted in characters), but does not repeat any of the text's strings. */
struct json *json_parse(struct str text, struct error *err);

/* The octet that stands for a value that lib/json_cutter has left out. It is not JSON. */
#define JSON_OMISSION '~'

/* Parses, as json_parse does, a text from lib/json_cutter, in which values may be left out. */
struct json *json_parse_cut(struct str text, struct error *err);

/* Frees the document. NULL is allowed. */
void json_free(struct json *doc);

struct json_value json_root(const struct json *doc);

enum json_type json_type(struct json_value v);

/* Returns "nothing", "null", "a boolean", "a number", "a string", "an array", "an object" or "too
 * large", for messages. Static storage. */
const char *json_type_name(enum json_type type);

static inline bool json_exists(struct json_value v)
{
    return v.doc != NULL;
}

/* Tells whether the value is there and is not null. */
bool json_given(struct json_value v);

/* ---- inside objects and arrays ---- */

/* Returns the member called `key` of an object; JSON_NONE when v has no such member or is not an
 * object. When several members have that name, the last one counts. Takes time linear in the number
 * of members. */
struct json_value json_get(struct json_value v, const char *key);

/* Loop over elements, or over members in the order of the text:
 *     for (struct json_value m = json_first(v); json_exists(m); m = json_next(m))
 * Return JSON_NONE when there is none, or no further one. */
struct json_value json_first(struct json_value v);
struct json_value json_next(struct json_value v);

/* Returns the name (a JSON_STRING) of a member of an object; JSON_NONE when the value is not a
 * member. */
struct json_value json_key(struct json_value member);

/* ---- contents ---- */

/* Returns the piece of the text that v was written as, a string with its quotes: it is JSON itself.
 * Empty for JSON_NONE. */
struct str json_text(struct json_value v);

/* Reads true or false. ERR: v is neither. */
int json_bool(struct json_value v, bool *value) warn_unused;

/* Reads a whole number. ERR: v is not a number, is written with a fraction or an exponent, or does
 * not fit. */
int json_int64(struct json_value v, int64_t *value) warn_unused;

/* Appends the decoded string, UTF-8, to *out; an escaped U+0000 is a NUL byte like any other. ERR,
 * with nothing appended: v is not a string, or does not fit, by its length as written. */
int json_string(struct json_value v, struct buf *out) warn_unused;

/* Returns the decoded string, NUL-terminated; the caller frees it, or gives it to a struct secret.
 * *n is its length; with n NULL, a string that contains U+0000 is refused. Returns NULL when v is
 * not a string, or is refused. */
char *json_strdup(struct json_value v, size_t *n);

/* Tells whether v is a string and equal to s. */
bool json_is(struct json_value v, const char *s);

/* ---- writing ---- */

/* Appends s as a JSON string with its quotes. The result is always valid JSON in UTF-8: control
 * characters are escaped, bytes that are not UTF-8 become U+FFFD. ERR, with nothing appended: it
 * does not fit. */
int json_quote(struct buf *out, struct str s) warn_unused;

/* Appends JSON after a template. An apostrophe in it stands for a quotation mark, %s for a string
 * (written as by json_quote), %d for an int; there is nothing else.
 *     json_fmt(&out, "{'name':%s,'port':%d}", name, port)
 * ERR, with nothing appended: it does not fit. */
int json_fmt(struct buf *out, const char *fmt, ...) warn_unused printf_like(2, 3);

/* ---- comparing ---- */

/* Returns a digest of what v says. The order of an object's members, members that are null, white
 * space and the way strings are escaped do not count; numbers count as they are written. The digest
 * detects changes that happen by chance, but an attacker can make two values with the same one. */
uint64_t json_digest(struct json_value v);

#endif
