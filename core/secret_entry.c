/* Out of a Secret. Every value is a secret until it is known to be none. */
#include "core/secret_entry.h"

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

/* Base64, in place. */
static int decode(struct secret *value)
{
    size_t n;
    if (text_unbase64(value->p, value->n, (struct str){value->p, value->n}, &n) < 0) {
        return ERR;
    }
    mem_wipe(value->p + n, value->n - n);
    value->n = n;
    return OK;
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
        return secret_entry_refuse(err, name, "is no string");
    }
    value->p = json_strdup(v, &value->n);
    if (coded && decode(value) < 0) {
        return secret_entry_refuse(err, name, "is no base64");
    }
    text_fmt(wrong, sizeof(wrong), "is longer than %zu octets", max);
    return value->n > max ? secret_entry_refuse(err, name, wrong) : OK;
}
