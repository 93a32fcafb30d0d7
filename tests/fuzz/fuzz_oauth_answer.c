/* Fuzzes the answers of token endpoints. The result is either a token and a lifetime within bounds,
 * or one line that gives the reason and does not repeat what the request carried. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "oauth/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = {200, 302, 400, 401, 404, 503};
    static const char secret[] = "client-secret";
    struct str body = {(const char *)data, size};
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        struct token_answer answer;
        struct error err = {0};
        struct str known = str_of(secret);
        /* The body is also the Location, unless it contains a NUL, which a header field cannot
         * contain. */
        const struct http_head head = {.status = statuses[i],
                                       .header_count = memchr(data, '\0', size) ? 0 : 1,
                                       .headers = {{str_of("Location"), body}}};
        const struct token_question question = {.property = "a property", .secrets = {&known, 1}};
        int rc = oauth_answer_read(&question, &head, body, &answer, &err);
        must((rc == OK) == (answer.access_token.p != NULL));
        if (rc == OK) {
            must(statuses[i] == 200);
            must(answer.access_token.n > 0 && answer.access_token.n < size);
            must(answer.lifetime >= 0 && answer.lifetime <= SECONDS(24 * 60 * 60));
        } else {
            must(err.fail != FAIL_NONE && err.text[0]);
            must(strcspn(err.text, "\r\n") == strlen(err.text));
            must(!strstr(err.text, secret));
        }
        oauth_answer_clear(&answer);
    }
    return 0;
}
