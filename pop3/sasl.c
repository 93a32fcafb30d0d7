/* Reads SASL responses: decodes base64, then splits the text at separators. */
#include "pop3/sasl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Maximum length of a coded response in octets: the longest line has no more. */
enum { RESPONSE_MAX = 16 * 1024 };

/* The separator between the fields of XOAUTH2 and OAUTHBEARER. */
#define SEPARATOR '\001'

static const char *const names[] = {
    [SASL_XOAUTH2] = "XOAUTH2",
    [SASL_OAUTHBEARER] = "OAUTHBEARER",
    [SASL_PLAIN] = "PLAIN",
    [SASL_LOGIN] = "LOGIN",
};
static_assert(ARRAY_LEN(names) == SASL_MECHANISMS, "every mechanism has its name");

const char *pop3_sasl_name(enum sasl_mechanism mechanism)
{
    return names[mechanism];
}

int pop3_sasl_find(struct str name, enum sasl_mechanism *mechanism)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_ieq(name, names[i])) {
            *mechanism = (enum sasl_mechanism)i;
            return OK;
        }
    }
    return ERR;
}

static int bad_response(const char **wrong, const char *why)
{
    *wrong = why;
    return ERR;
}

/* ---- the two values ---- */

/* Tells whether the text has no control characters. It becomes part of a line of another protocol
 * and must not end that line. */
static bool is_plain_text(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7F) {
            return false;
        }
    }
    return true;
}

static int take_user(struct sasl_credentials *c, struct str user, const char **wrong)
{
    if (user.n == 0) {
        return bad_response(wrong, "the mail user is missing");
    }
    if (user.n > SASL_USER_MAX || !is_plain_text(user)) {
        return bad_response(wrong, "the mail user is too long or contains control characters");
    }
    memcpy(c->user, user.p, user.n);
    c->user[user.n] = '\0';
    return OK;
}

static int take_secret(struct sasl_credentials *c, struct str secret, const char **wrong)
{
    if (secret.n == 0) {
        return bad_response(wrong, "the refresh token or authorization code is missing");
    }
    if (secret.n > SASL_SECRET_MAX || !is_plain_text(secret)) {
        return bad_response(wrong,
                            "the refresh token or authorization code is too long or contains "
                            "control characters");
    }
    secret_set(&c->secret, secret.p, secret.n);
    return OK;
}

/* ---- responses ---- */

/* Tells whether the text contains the four characters \x01. A person who follows the documentation
 * to the letter encodes a backslash, an x, a 0 and a 1. */
static bool has_typed_separator(struct str s)
{
    for (size_t i = 0; i + 4 <= s.n; i++) {
        if (memcmp(s.p + i, "\\x01", 4) == 0) {
            return true;
        }
    }
    return false;
}

static bool has_separator(struct str s)
{
    return memchr(s.p, SEPARATOR, s.n) != NULL;
}

/* Tells whether *field begins with `name`, and if so takes the name off. */
static bool cut_name(struct str *field, const char *name)
{
    size_t n = strlen(name);
    if (!str_istarts(*field, name)) {
        return false;
    }
    field->p += n;
    field->n -= n;
    return true;
}

/* Reads the fields after the user: "auth=Bearer <token>", others, and two separators at the end. */
static int read_auth(struct sasl_credentials *c, struct str rest, const char *form,
                     const char **wrong)
{
    if (rest.n < 2 || rest.p[rest.n - 1] != SEPARATOR || rest.p[rest.n - 2] != SEPARATOR) {
        return bad_response(wrong, form);
    }
    while (rest.n) {
        struct str field = str_cut(&rest, SEPARATOR);
        if (cut_name(&field, "auth=Bearer ")) {
            return take_secret(c, str_trim(field), wrong);
        }
    }
    return bad_response(wrong, form);
}

static int read_xoauth2(struct sasl_credentials *c, struct str text, const char **wrong)
{
    static const char form[] =
        "send base64 of user=<mail user>^Aauth=Bearer <refresh token or code>^A^A, where ^A is one "
        "byte of value 1";
    if (!has_separator(text) && has_typed_separator(text)) {
        return bad_response(wrong, "the four characters \\x01 were sent; send one byte of value 1 "
                                   "for each");
    }
    struct str user = str_cut(&text, SEPARATOR);
    if (!cut_name(&user, "user=")) {
        return bad_response(wrong, form);
    }
    return take_user(c, user, wrong) == OK ? read_auth(c, text, form, wrong) : ERR;
}

/* Reads the GS2 header (RFC 5801 section 4) without channel binding, "n,a=<user>,". The user is
 * written with =3D for '=' and =2C for ','. */
static int read_gs2_user(struct sasl_credentials *c, struct str header, const char *form,
                         const char **wrong)
{
    char user[SASL_USER_MAX];
    size_t n = 0;
    if (header.n < 4 || (header.p[0] != 'n' && header.p[0] != 'y') || header.p[1] != ',' ||
        header.p[header.n - 1] != ',') {
        return bad_response(wrong, form);
    }
    struct str name = {header.p + 2, header.n - 3};
    if (!cut_name(&name, "a=")) {
        return bad_response(wrong, form);
    }
    for (size_t i = 0; i < name.n; i++) {
        char byte = name.p[i];
        if (byte == '=' && i + 2 < name.n && str_istarts((struct str){name.p + i, 3}, "=2C")) {
            byte = ',';
            i += 2;
        } else if (byte == '=' && i + 2 < name.n &&
                   str_istarts((struct str){name.p + i, 3}, "=3D")) {
            i += 2;
        } else if (byte == '=' || byte == ',') {
            return bad_response(wrong, form);
        }
        if (n == sizeof(user)) {
            return bad_response(wrong, "the mail user is too long or contains control characters");
        }
        user[n++] = byte;
    }
    return take_user(c, (struct str){user, n}, wrong);
}

static int read_oauthbearer(struct sasl_credentials *c, struct str text, const char **wrong)
{
    static const char form[] =
        "send base64 of n,a=<mail user>,^Aauth=Bearer <refresh token or code>^A^A, where ^A is one "
        "byte of value 1";
    struct str header = str_cut(&text, SEPARATOR);
    return read_gs2_user(c, header, form, wrong) == OK ? read_auth(c, text, form, wrong) : ERR;
}

/* Reads [authzid] NUL authcid NUL passwd. The authzid is not used. */
static int read_plain(struct sasl_credentials *c, struct str text, const char **wrong)
{
    const char *end = text.p + text.n;
    const char *first = memchr(text.p, '\0', text.n);
    const char *second = first ? memchr(first + 1, '\0', (size_t)(end - first - 1)) : NULL;
    if (!second) {
        return bad_response(wrong, "send base64 of NUL <mail user> NUL <refresh token or code>");
    }
    struct str user = {first + 1, (size_t)(second - first - 1)};
    struct str secret = {second + 1, (size_t)(end - second - 1)};
    return take_user(c, user, wrong) == OK ? take_secret(c, secret, wrong) : ERR;
}

/* ---- base64 ---- */

/* Calls `read` with the decoded text, which is wiped afterwards. */
static int decoded(struct sasl_credentials *c, struct str base64, const char **wrong,
                   int (*read)(struct sasl_credentials *, struct str, const char **))
{
    size_t n;
    if (base64.n > RESPONSE_MAX) {
        return bad_response(wrong, "the response is too long");
    }
    char *text = mem_alloc(base64.n + 1);
    int rc = text_unbase64(text, base64.n, base64, &n);
    rc = rc == OK
             ? read(c, (struct str){text, n}, wrong)
             : bad_response(wrong, "the response is not base64 (RFC 4648, with padding, on one "
                                   "line)");
    mem_wipe(text, base64.n);
    free(text);
    return rc;
}

int pop3_sasl_read(struct sasl_credentials *c, enum sasl_mechanism mechanism, struct str base64,
                   const char **wrong)
{
    switch (mechanism) {
    case SASL_XOAUTH2:
        return decoded(c, base64, wrong, read_xoauth2);
    case SASL_OAUTHBEARER:
        return decoded(c, base64, wrong, read_oauthbearer);
    case SASL_PLAIN:
        return decoded(c, base64, wrong, read_plain);
    case SASL_LOGIN:
    case SASL_MECHANISMS:
        break;
    }
    assert(false);
    return ERR;
}

int pop3_sasl_set_user(struct sasl_credentials *c, struct str text, bool is_base64,
                       const char **wrong)
{
    return is_base64 ? decoded(c, text, wrong, take_user) : take_user(c, text, wrong);
}

int pop3_sasl_set_secret(struct sasl_credentials *c, struct str text, bool is_base64,
                         const char **wrong)
{
    return is_base64 ? decoded(c, text, wrong, take_secret) : take_secret(c, text, wrong);
}

void pop3_sasl_wipe(struct sasl_credentials *c)
{
    secret_clear(&c->secret);
    mem_wipe(c->user, sizeof(c->user));
}
