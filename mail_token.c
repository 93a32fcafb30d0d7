/* From a destination to a grant. */
#include "mail_token.h"

#include "core/destination.h"
#include "lib/buf.h"
#include "lib/mem.h"

enum { URL_MAX = 48 * 1024 };

static struct str text_of(const struct secret *secret)
{
    return secret->p ? (struct str){secret->p, secret->n} : str_of("");
}

static enum oauth_grant_type grant_type(enum mail_auth auth)
{
    switch (auth) {
    case AUTH_REFRESH_TOKEN:
        return OAUTH_REFRESH_TOKEN;
    case AUTH_AUTHORIZATION_CODE:
        return OAUTH_AUTHORIZATION_CODE;
    case AUTH_NONE:
    case AUTH_BASIC:
    case AUTH_CLIENT_CREDENTIALS:
        break;
    }
    return OAUTH_CLIENT_CREDENTIALS;
}

/* `url` gets the URL, with its NUL, to be wiped in any case. */
static int make_grant(const struct mail_token_of *of, struct buf *url, struct oauth_grant *grant)
{
    const struct token_service *service = of->dest->tokens;
    buf_init(url, URL_MAX);
    if (token_service_url(service, of->tenant, url) == ERR || buf_add(url, "", 1) == ERR) {
        return ERR;
    }
    *grant = (struct oauth_grant){
        .url = buf_str(url).p,
        .client_id = service->client_id,
        .client_secret = &service->client_secret,
        .type = grant_type(of->dest->auth),
        .user_token = of->user_token,
        .basic = service->basic,
        .headers = text_of(&service->headers),
        .form = text_of(&service->form),
        .connect_timeout = service->connect_timeout,
        .answer_timeout = service->answer_timeout,
    };
    return OK;
}

struct oauth_wait *mail_token_get(struct oauth *oauth, const struct mail_token_of *of,
                                  struct oauth_handler handler, struct error *err)
{
    struct oauth_grant grant;
    struct oauth_wait *wait = NULL;
    struct buf url;
    if (make_grant(of, &url, &grant) == OK) {
        wait = oauth_get(oauth, &grant, handler);
    } else {
        error_set(err, FAIL_CONFIG,
                  "tokenServiceURLType: Common needs a tenant, which becomes a part of the host of "
                  "tokenServiceURL, and there is none; use Dedicated");
    }
    buf_wipe(&url);
    return wait;
}

void mail_token_refused(struct oauth *oauth, const struct mail_token_of *of,
                        const struct token *token)
{
    struct oauth_grant grant;
    struct buf url;
    if (make_grant(of, &url, &grant) == OK) {
        oauth_refused(oauth, &grant, token);
    }
    buf_wipe(&url);
}
