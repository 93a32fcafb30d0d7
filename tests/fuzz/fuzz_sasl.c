/* Fuzzes what clients send to log in. The result is either credentials within bounds that can be
 * sent to a server, or a sentence that says what to send and repeats nothing of the input. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pop3/sasl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void check_sentence(const char *wrong)
{
    must(wrong && wrong[0]);
    must(strcspn(wrong, "\r\n") == strlen(wrong));
}

/* Credentials fit into a command of the mail session and into a header field. */
static void check_credentials(const struct sasl_credentials *c)
{
    must(strlen(c->user) > 0 && strlen(c->user) <= SASL_USER_MAX);
    must(c->secret.n > 0 && c->secret.n <= SASL_SECRET_MAX);
    must(!text_has_control(str_of(c->user)));
    must(!text_has_control((struct str){c->secret.p, c->secret.n}));
}

static void try_response(enum sasl_mechanism mechanism, struct str base64)
{
    struct sasl_credentials c = {0};
    const char *wrong = NULL;
    if (pop3_sasl_read(&c, mechanism, base64, &wrong) == OK) {
        check_credentials(&c);
    } else {
        check_sentence(wrong);
    }
    pop3_sasl_wipe(&c);
}

/* Splits the text at the first LF into the user and the secret of AUTH LOGIN. */
static void try_halves(struct str text, bool is_base64)
{
    struct sasl_credentials c = {0};
    const char *wrong = NULL;
    struct str user = str_cut(&text, '\n');
    if (pop3_sasl_set_user(&c, user, is_base64, &wrong) == OK &&
        pop3_sasl_set_secret(&c, text, is_base64, &wrong) == OK) {
        check_credentials(&c);
    } else {
        check_sentence(wrong);
    }
    pop3_sasl_wipe(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    enum sasl_mechanism mechanism;
    char *base64 = malloc(TEXT_BASE64_SIZE(size));
    must(base64 != NULL);
    size_t n = text_base64(base64, data, size);
    for (size_t m = SASL_XOAUTH2; m < SASL_MECHANISMS; m++) {
        if (m != SASL_LOGIN) {
            try_response(m, text);
            try_response(m, (struct str){base64, n}); /* so that the fuzzer gets past the decoder */
        }
    }
    try_halves(text, true);
    try_halves(text, false);
    must(pop3_sasl_find(text, &mechanism) != OK || str_ieq(text, pop3_sasl_name(mechanism)));
    free(base64);
    return 0;
}
