/* Fuzzes the answers of the Destination service. The result is either a destination, with a token
 * if it needs one, or a verdict and one line that does not repeat what the request carried. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dest/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void check(const struct dest_question *q, int status, const struct dest_found *found)
{
    if (found->dest) {
        enum mail_auth auth = found->dest->auth;
        bool user = auth == AUTH_REFRESH_TOKEN || auth == AUTH_AUTHORIZATION_CODE;
        bool wanted = q->with_token && (q->user_token.n ? user : auth == AUTH_CLIENT_CREDENTIALS);
        must(status == 200 && found->verdict == VERDICT_OK);
        must(found->token.n == 0 || wanted);
        must(!wanted || found->token.n > 0 || (!user && found->err.fail == FAIL_TOKEN));
        must(found->token_lifetime >= 0 && found->token_lifetime <= SECONDS(24 * 60 * 60));
    } else {
        must(found->verdict != VERDICT_OK && found->err.fail != FAIL_NONE);
        must(found->verdict == VERDICT_UNREADABLE || !fail_may_pass(found->err.fail));
        must(found->err.fail != FAIL_AUTH || q->user_token.n);
        must(found->verdict != VERDICT_FRAGMENT_NOT_FOUND || (status == 404 && q->fragment));
        must(found->err.text[0]);
        must(strcspn(found->err.text, "\r\n") == strlen(found->err.text));
        must(status == 200 || !strstr(found->err.text, q->access_token.p));
        must(!found->token.p && !found->refresh_token.p);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = {200, 302, 400, 401, 403, 404, 503};
    struct str body = {(const char *)data, size};
    for (size_t i = 0; i < 3 * ARRAY_LEN(statuses); i++) {
        const struct dest_question question = {
            .instance = "an instance",
            .level = i % 3 ? NULL : "subaccount",
            .fragment = i % 3 == 1 ? NULL : "a fragment",
            .chain = i % 3 == 2 ? NULL : "a chain",
            .access_token = str_of("access-token"),
            .with_token = i % 3 > 0,
            .user_token = str_of(i % 3 == 2 ? "refresh-token" : ""),
            .allow_loopback = size && data[size - 1] == '\n',
        };
        struct dest_found found;
        const struct http_head head = {.status = statuses[i / 3]};
        dest_answer_read(&question, &head, body, &found);
        check(&question, statuses[i / 3], &found);
        dest_found_clear(&found);
    }
    return 0;
}
