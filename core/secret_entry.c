/* Reads entries of a Secret. Every value counts as a secret until it is known not to be one. */
#include "core/secret_entry.h"

#include <string.h>

#include "lib/text.h"

int secret_entry_refuse(struct error *err, const char *name, const char *wrong)
{
    char shown[80];
    return error_set(err, FAIL_CONFIG, "the entry \"%s\" %s",
                     text_printable(shown, sizeof(shown), str_of(name)), wrong);
}

static struct json_value find(struct json_value secret, const char *name, bool *coded)
{
    struct json_value plain = json_get(json_get(secret, "stringData"), name);
    *coded = !json_given(plain);
    return *coded ? json_get(json_get(secret, "data"), name) : plain;
}

bool secret_entry_given(struct json_value secret, const char *name)
{
    bool coded;
    return json_given(find(secret, name, &coded));
}

static void cut(struct secret *value, size_t n)
{
    mem_wipe(value->p + n, value->n - n);
    value->n = n;
}

static void drop_line_ends(struct secret *value)
{
    size_t n = 0;
    for (size_t i = 0; i < value->n; i++) {
        if (value->p[i] != '\r' && value->p[i] != '\n') {
            value->p[n++] = value->p[i];
        }
    }
    cut(value, n);
}

/* Decodes base64 in place, like the API server: line ends and the unused bits before padding are
 * ignored. */
static int decode(struct secret *value)
{
    size_t pad = 0, n;
    drop_line_ends(value);
    for (; pad < 2 && pad < value->n && value->p[value->n - 1 - pad] == '='; pad++) {
        value->p[value->n - 1 - pad] = 'A';
    }
    if (text_unbase64(value->p, value->n, secret_str(value), &n) < 0) {
        return ERR;
    }
    cut(value, n - pad);
    return OK;
}

static void drop_bom(struct secret *value)
{
    struct str rest = text_without_bom(secret_str(value));
    if (rest.n < value->n) {
        memmove(value->p, rest.p, rest.n);
        cut(value, rest.n);
    }
}

int secret_entry_read(struct json_value secret, const char *name, size_t max, struct secret *value,
                      struct error *err)
{
    bool coded;
    char wrong[64];
    struct json_value v = find(secret, name, &coded);
    if (!json_given(v)) {
        return OK;
    }
    if (json_type(v) != JSON_STRING) {
        return secret_entry_refuse(err, name, "is not a string");
    }
    value->p = json_strdup(v, &value->n);
    if (coded && decode(value) < 0) {
        return secret_entry_refuse(err, name, "is not base64");
    }
    if (text_is_utf16(secret_str(value))) {
        return secret_entry_refuse(err, name, "is UTF-16; save it as UTF-8");
    }
    drop_bom(value);
    text_fmt(wrong, sizeof(wrong), "is longer than %zu octets", max);
    return value->n > max ? secret_entry_refuse(err, name, wrong) : OK;
}
