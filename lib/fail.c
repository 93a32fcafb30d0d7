/* The table of failure classes. */
#include "lib/fail.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "lib/text.h"

static const struct {
    const char *name;
    bool may_pass;
} classes[] = {
    [FAIL_NONE] = {"none", false},        [FAIL_CONFIG] = {"config", false},
    [FAIL_DNS] = {"dns", true},           [FAIL_CONNECT] = {"connect", true},
    [FAIL_SOCKS] = {"socks", true},       [FAIL_TLS] = {"tls", true},
    [FAIL_CERT] = {"certificate", false}, [FAIL_TOKEN] = {"token", true},
    [FAIL_AUTH] = {"auth", false},        [FAIL_PROTOCOL] = {"protocol", true},
    [FAIL_TIMEOUT] = {"timeout", true},   [FAIL_REMOTE] = {"remote", true},
    [FAIL_LIMIT] = {"limit", true},       [FAIL_INTERNAL] = {"internal", true},
};
static_assert(ARRAY_LEN(classes) == FAIL_COUNT, "every class has its row");

const char *fail_name(enum fail fail)
{
    return classes[fail].name;
}

bool fail_may_pass(enum fail fail)
{
    return classes[fail].may_pass;
}

int error_set(struct error *err, enum fail fail, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err->fail = fail;
        err->code = 0;
        err->on_the_way = false;
        vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
        text_sanitize(err->text);
    }
    return ERR;
}
