/* Reads properties of a destination, and words what is wrong with them. */
#include "core/property_reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/mem.h"

static const char *const auth_names[] = {
    [AUTH_NONE] = "NoAuthentication",
    [AUTH_BASIC] = "BasicAuthentication",
    [AUTH_CLIENT_CREDENTIALS] = "OAuth2ClientCredentials",
    [AUTH_REFRESH_TOKEN] = "OAuth2RefreshToken",
    [AUTH_AUTHORIZATION_CODE] = "OAuth2AuthorizationCode",
};

const char *mail_auth_name(enum mail_auth auth)
{
    return auth_names[auth];
}

int reader_refuse(struct reader *r, enum verdict verdict, const char *field, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    r->problem->verdict = verdict;
    text_printable(r->problem->field, sizeof(r->problem->field), str_of(field));
    vsnprintf(r->problem->text, sizeof(r->problem->text), fmt, ap);
    va_end(ap);
    text_sanitize(r->problem->text);
    return ERR;
}

void reader_warn(struct reader *r, const char *fmt, ...)
{
    struct destination *d = r->dest;
    char text[FAIL_TEXT_MAX];
    if (d->n_warnings == DESTINATION_WARNINGS_MAX) {
        return;
    }
    if (d->n_warnings == DESTINATION_WARNINGS_MAX - 1) {
        text_fmt(text, sizeof(text), "there is more to say: correct the above first");
    } else {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
    }
    text_sanitize(text);
    d->warnings = mem_realloc(d->warnings, (d->n_warnings + 1) * sizeof(d->warnings[0]));
    d->warnings[d->n_warnings++] = mem_strdup(text);
}

const char *reader_show(struct reader *r, struct str value)
{
    return text_printable(r->shown, sizeof(r->shown), value);
}

bool reader_has(const struct reader *r, const char *name)
{
    return properties_get(r->props, name, NULL) != NULL;
}

struct str reader_value(const struct reader *r, const char *name)
{
    struct str v = {"", 0};
    const char *p = properties_get(r->props, name, &v.n);
    if (p) {
        v.p = p;
    }
    return str_trim(v);
}

int reader_wire_value(struct reader *r, const char *name, size_t max, struct str *value)
{
    *value = (struct str){"", 0};
    const char *p = properties_get(r->props, name, &value->n);
    if (!p) {
        return OK;
    }
    value->p = p;
    for (size_t i = 0; i < value->n; i++) {
        if (p[i] == '\r' || p[i] == '\n' || p[i] == '\0') {
            return reader_refuse(
                r, VERDICT_CONFIGURATION_FAILED, name,
                "contains a line break or a NUL character (at position %zu); remove it", i + 1);
        }
    }
    if (value->n > max) {
        return reader_refuse(r, VERDICT_CONFIGURATION_FAILED, name, "is longer than %zu bytes",
                             max);
    }
    return OK;
}

bool reader_flag(struct reader *r, const char *name, bool otherwise)
{
    struct str v = reader_value(r, name);
    if (!reader_has(r, name)) {
        return otherwise;
    }
    if (!str_ieq(v, "true") && !str_ieq(v, "false")) {
        reader_warn(r, "%s: \"%s\" is neither true nor false and counts as %s", name,
                    reader_show(r, v), otherwise ? "true" : "false");
        return otherwise;
    }
    return str_ieq(v, "true");
}
