/* Handles text from outside: slices, numbers, case, base64, and making it safe to print. ASCII
 * only; the locale plays no part. */
#ifndef TPROXY_LIB_TEXT_H
#define TPROXY_LIB_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/base.h"

/* Bytes that belong to somebody else; not NUL-terminated. */
struct str {
    const char *p;
    size_t n;
};

static inline struct str str_of(const char *s)
{
    return (struct str){s, strlen(s)};
}

/* Arguments for printf's "%.*s". */
#define STR_ARG(s) (int)(s).n, (s).p

/* Tell whether the character is a digit of ASCII, or a digit or a letter. */
bool text_is_digit(char c);
bool text_is_alnum(char c);

/* Returns the lower-case form of a letter of ASCII, and any other character as it is. */
char text_lower(char c);

/* Returns the value of a hexadecimal digit, -1 when the character is not one. */
int text_hex_value(char c);

/* Tells whether all of s is visible ASCII: neither blanks nor control characters. */
bool text_is_visible(struct str s);

/* Tells whether s is a token of HTTP (RFC 9110 section 5.6.2), as the name of a header field must
 * be. */
bool text_is_token(struct str s);

/* Tell whether a slice equals a C string. str_ieq ignores ASCII case. */
bool str_eq(struct str a, const char *b);
bool str_ieq(struct str a, const char *b);

/* Tells whether `a` begins with `prefix`, ASCII case ignored. */
bool str_istarts(struct str a, const char *prefix);

/* Returns s without leading and trailing blanks (space and tab). */
struct str str_trim(struct str s);

/* Takes the first word (up to a blank) off *rest, and the blanks behind it. Returns an empty word
 * when there is none. */
struct str str_word(struct str *rest);

/* Cuts *rest at the first `sep`: returns the part before it and leaves the part behind it in *rest,
 * which is empty when there was no `sep`. */
struct str str_cut(struct str *rest, char sep);

/* Tells whether two C strings are equal, ASCII case ignored. */
bool text_ieq(const char *a, const char *b);

/* Tells whether two C strings are equal, or both NULL. */
bool text_same(const char *a, const char *b);

/* Reads a decimal number that fills the whole of s and is at most `max`. ERR: s is anything
 * else. */
int text_number(struct str s, uint64_t max, uint64_t *value) warn_unused;

/* Formats into out[cap]. The text is cut at the end and always terminated. Returns the length
 * written. */
size_t text_fmt(char *out, size_t cap, const char *fmt, ...) printf_like(3, 4);

/* Copies s into out[cap] for people to read: control bytes, DEL and bytes that are not valid UTF-8
 * become '?'. The text is cut at a character boundary. Returns out. */
char *text_printable(char *out, size_t cap, struct str s);

/* Returns the length of the UTF-8 character (RFC 3629 section 4) that the non-empty s begins with,
 * 0 when it does not begin with one. */
size_t text_utf8_length(struct str s);

/* Writes a character as UTF-8 (at most 4 bytes). Returns the number of bytes. */
size_t text_put_utf8(char *out, uint32_t c);

/* Tells whether the first two bytes look like UTF-16: a byte order mark, or an ASCII character. */
bool text_is_utf16(struct str s);

/* Returns s without a byte order mark of UTF-8 at its beginning. */
struct str text_without_bom(struct str s);

/* Tells whether a control byte, or DEL, is in s. */
bool text_has_control(struct str s);

/* Replaces control bytes by spaces, in place. */
void text_sanitize(char *s);

/* Masks the parts of a text that it has in common with a secret, for words of a peer that may
 * repeat what it was told. A short secret is masked where it stands whole, a long one also in every
 * part of a dozen octets. A secret of less than 4 octets could be a part of any word and is
 * left. */
void text_conceal(char *text, struct str secret);

/* The number of bytes that the base64 form of n bytes needs, with padding and NUL (RFC 4648 section
 * 4). */
#define TEXT_BASE64_SIZE(n) (((n) + 2) / 3 * 4 + 1)

/* Writes the base64 form with padding, terminated, to out, which has TEXT_BASE64_SIZE(n) bytes.
 * Returns the length of the form. */
size_t text_base64(char *out, const void *in, size_t n);

/* Decodes strict base64 (padding required, no line breaks, unused bits zero) into out[cap]; *n is
 * the number of bytes. ERR: malformed or too long. `out` may be `in.p` itself. */
int text_unbase64(void *out, size_t cap, struct str in, size_t *n) warn_unused;

#endif
