/* Fuzzes the properties of destinations. The result is either a snapshot whose fields keep their
 * promises or a verdict that names a field. No message contains a secret. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/destination.h"
#include "core/properties.h"
#include "lib/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void one_line(const char *text, size_t max)
{
    size_t n = strlen(text);
    must(n <= max && strcspn(text, "\r\n") == n);
}

static void check(const struct destination *d, bool allow_loopback)
{
    one_line(d->name, DESTINATION_NAME_MAX);
    one_line(d->host, DESTINATION_HOST_MAX + 1);
    one_line(d->tls_name, DESTINATION_HOST_MAX);
    one_line(d->user, DESTINATION_USER_MAX);
    one_line(d->location_id, 255);
    must(d->name[0] && d->tls_name[0] && d->port);
    must(allow_loopback || d->proxy == PROXY_ON_PREMISE || strncmp(d->host, "127.", 4) != 0 ||
         strspn(d->host, "0123456789.") != strlen(d->host));
    must((d->auth == AUTH_BASIC) == (d->password.p != NULL));
    must((d->auth == AUTH_NONE) == (d->n_mechanisms == 0));
    must(!d->password.p || (d->password.n == strlen(d->password.p) && d->password.n > 0));
    must(d->tls_min <= d->tls_max && d->n_mechanisms <= MECH_COUNT);
    must(d->connect_timeout >= SECONDS(1) && d->connect_timeout <= SECONDS(60));
    must(d->answer_timeout >= SECONDS(1) && d->answer_timeout <= SECONDS(60));
    must(d->n_warnings <= DESTINATION_WARNINGS_MAX);
    for (size_t i = 0; i < d->n_warnings; i++) {
        one_line(d->warnings[i], FAIL_TEXT_MAX);
    }
    must(destination_equal(d, d));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err;
    bool allow_loopback = size && data[size - 1] == '\n';
    struct json *doc = json_parse((struct str){(const char *)data, size}, &err);
    struct properties *props = doc ? properties_from_json(json_root(doc), &err) : NULL;
    if (props) {
        struct destination_problem problem;
        const struct destination *d = destination_new(props, allow_loopback, &problem);
        must((d == NULL) == (problem.verdict != VERDICT_OK));
        if (d) {
            check(d, allow_loopback);
            const struct destination *again = destination_new(props, true, &problem);
            must(again && destination_equal(d, again));
            destination_unref(again);
        } else {
            must(problem.field[0] && problem.text[0]);
            one_line(problem.field, sizeof(problem.field));
            one_line(problem.text, FAIL_TEXT_MAX);
        }
        destination_unref(d);
    }
    properties_free(props);
    json_free(doc);
    return 0;
}
