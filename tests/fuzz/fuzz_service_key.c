/* Fuzzes the reading of a Secret, in both layouts. The result is either a service key whose texts
 * are fit for a request, or an error that contains nothing of a value. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/service_key.h"
#include "lib/json.h"
#include "lib/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void one_line(struct str s)
{
    must(!text_has_control(s));
}

static bool ends_with(struct str s, const char *end)
{
    size_t n = strlen(end);
    return s.n >= n && str_ieq((struct str){s.p + s.n - n, n}, end);
}

static void check(const struct service_key *key, enum service_key_use use)
{
    struct url url;
    const char *wrong;
    one_line(str_of(key->client_id));
    one_line((struct str){key->client_secret.p, key->client_secret.n});
    one_line(str_of(key->identity_zone));
    must(key->client_id[0] && (key->certificate != NULL) == (key->client_secret.n == 0));
    must(key->certificate || (key->client_secret.p[0] && !key->ias && !key->private_key.n));
    must(!key->certificate || strstr(key->certificate, "-----BEGIN "));
    must(!key->private_key.n || strlen(key->private_key.p) == key->private_key.n);
    must(url_parse(str_of(key->token_url), &url, &wrong) == OK && url.query.n == 0);
    must(ends_with(url.path, key->ias ? "/oauth2/token" : "/oauth/token"));
    if (use == SERVICE_KEY_CONNECTIVITY) {
        must(!key->uri[0]);
    } else {
        must(url_parse(str_of(key->uri), &url, &wrong) == OK && url.query.n == 0);
        must(key->uri[strlen(key->uri) - 1] != '/');
    }
    must(service_key_equal(key, key));
}

static void check_error(const struct error *err)
{
    must(err->fail == FAIL_CONFIG && err->text[0] && !strstr(err->text, "s3cr3t"));
    one_line(str_of(err->text));
}

/* Uses the Secret also as the one that holds the private key. */
static void complete(const struct service_key *key, struct json_value secret)
{
    struct error err;
    const struct service_key *whole = service_key_with_private_key(key, secret, "k", &err);
    if (whole) {
        must(service_key_complete(whole) && !service_key_equal(key, whole));
    } else {
        check_error(&err);
    }
    service_key_unref(whole);
}

static void run(struct json_value secret, const char *json_key, enum service_key_use use)
{
    struct error err = {.fail = FAIL_NONE};
    const struct service_key *key = service_key_from_secret(secret, json_key, use, &err);
    if (!key) {
        check_error(&err);
        return;
    }
    check(key, use);
    must(err.fail == FAIL_NONE);
    if (!service_key_complete(key)) {
        complete(key, secret);
    }
    service_key_unref(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const json_keys[] = {NULL, "", "k"};
    struct json *doc = json_parse((struct str){(const char *)data, size}, NULL);
    for (size_t i = 0; doc && i < ARRAY_LEN(json_keys); i++) {
        run(json_root(doc), json_keys[i], SERVICE_KEY_DESTINATION);
        run(json_root(doc), json_keys[i], SERVICE_KEY_CONNECTIVITY);
    }
    json_free(doc);
    return 0;
}
