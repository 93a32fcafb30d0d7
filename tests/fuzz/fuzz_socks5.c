/* Fuzzes the answers of a SOCKS5 proxy. The dialogue ends the same, given whole or octet by octet.
 * The first octet chooses how tproxy logs in to the proxy. */
#include "lib/socks5.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct outcome {
    int result;
    size_t taken, said;
    struct error err;
};

/* Gives the dialogue the octets that have come and were not taken, as a conn does. The copy has
 * their exact size, so that the sanitizer sees a read beyond the end. */
static void give(struct socks5 *s, struct outcome *o, const uint8_t *data, size_t come)
{
    size_t taken = 1;
    while (o->result == AGAIN && taken) {
        struct str say;
        size_t n = come - o->taken;
        char *rest = malloc(n ? n : 1);
        memcpy(rest, data + o->taken, n);
        o->result = socks5_next(s, (struct str){rest, n}, &taken, &say, &o->err);
        free(rest);
        if (taken > n || (taken == 0 && say.n)) {
            abort();
        }
        o->taken += taken;
        o->said += say.n;
    }
}

static struct outcome talk(bool with_token, const uint8_t *data, size_t n, size_t piece)
{
    static char text[] = "eyJhbGciOiJSUzI1NiJ9";
    static const struct secret token = {text, sizeof(text) - 1};
    struct socks5_settings settings = {
        .host = "mail.corp", .port = 110, .token = with_token ? &token : NULL};
    struct socks5 s;
    struct outcome o = {.result = AGAIN};
    struct str say;
    if (socks5_start(&s, &settings, &say, &o.err) != OK) {
        abort();
    }
    for (size_t come = piece; o.result == AGAIN && come <= n; come += piece) {
        give(&s, &o, data, come);
    }
    if ((s.state == SOCKS5_OPEN) != (o.result == OK) ||
        (s.state == SOCKS5_FAILED) != (o.result == ERR) || strstr(o.err.text, text)) {
        abort();
    }
    socks5_clear(&s);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    bool with_token = data[0] & 1;
    struct outcome whole = talk(with_token, data + 1, size - 1, size - 1);
    struct outcome pieces = talk(with_token, data + 1, size - 1, 1);
    if (whole.result != pieces.result || whole.taken != pieces.taken || whole.said != pieces.said ||
        whole.err.fail != pieces.err.fail || strcmp(whole.err.text, pieces.err.text) != 0) {
        abort();
    }
    return 0;
}
