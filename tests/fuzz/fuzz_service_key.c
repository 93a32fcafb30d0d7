/* A Secret, in both layouts: a service key whose texts are fit for a request, or an error that
 * holds nothing of a value. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/http_proto.h"
#include "core/service_key.h"
#include "lib/json.h"

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

static void check(const struct service_key *key)
{
    static const char path[] = "/oauth/token";
    struct http_url url;
    const char *wrong;
    one_line(str_of(key->client_id));
    one_line((struct str){key->client_secret.p, key->client_secret.n});
    one_line(str_of(key->identity_zone));
    must(key->client_id[0] && key->client_secret.n > 0 && key->client_secret.p[0]);
    must(http_parse_url(str_of(key->token_url), &url, &wrong) == OK && url.query.n == 0);
    must(url.path.n >= strlen(path));
    must(str_ieq((struct str){url.path.p + url.path.n - strlen(path), strlen(path)}, path));
    must(http_parse_url(str_of(key->uri), &url, &wrong) == OK && url.query.n == 0);
    must(key->uri[strlen(key->uri) - 1] != '/');
    must(service_key_equal(key, key));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const json_keys[] = {NULL, "", "k"};
    struct json *doc = json_parse((struct str){(const char *)data, size}, NULL);
    for (size_t i = 0; doc && i < ARRAY_LEN(json_keys); i++) {
        struct error err = {.fail = FAIL_NONE};
        const struct service_key *key = service_key_from_secret(json_root(doc), json_keys[i], &err);
        if (key) {
            check(key);
            must(err.fail == FAIL_NONE);
        } else {
            must(err.fail == FAIL_CONFIG && err.text[0] && !strstr(err.text, "s3cr3t"));
            one_line(str_of(err.text));
        }
        service_key_unref(key);
    }
    json_free(doc);
    return 0;
}
