/* Makes a grant from a service key. */
#include "btp/service_grant.h"

#include <string.h>

#include "core/service_key.h"
#include "core/tenant.h"
#include "lib/text.h"

enum { URL_MAX = 16 * 1024 };

int service_grant(const struct service_key *key, const char *tenant, struct buf *url,
                  struct oauth_grant *grant, struct error *err)
{
    char shown[80];
    struct str own = str_of(key->token_url);
    buf_init(url, URL_MAX);
    int rc = tenant ? tenant_url(own, tenant, url) : buf_add(url, own.p, own.n);
    if (rc == ERR || buf_add(url, "", 1) == ERR) {
        return error_set(err, FAIL_CONFIG,
                         "tenant \"%s\" cannot take the place of the provider in the URL of the "
                         "service key's authorization server",
                         text_printable(shown, sizeof(shown), str_of(tenant ? tenant : "")));
    }
    *grant = (struct oauth_grant){
        .url = buf_str(url).p,
        .property = key->certificate && !key->ias ? "certurl of the service key"
                                                  : "url (or token_service_url) of the service key",
        .allow_local = true,
        .client_id = key->client_id,
        .client_secret = key->certificate ? NULL : &key->client_secret,
        .certificate = key->certificate,
        .key = key->certificate ? &key->private_key : NULL,
        .tenant = tenant,
    };
    return OK;
}
