/* Fuzzes a server's answers to our ClientHello: no crash, no leak, no endless loop. The first byte
 * chooses the version and the size of the pieces. The random bytes are a fixed sequence, so that
 * the recorded TLS 1.3 session in the corpus is valid to its end, including tickets, data and
 * close_notify. */
#include "lib/tls.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/sys.h"

struct answer {
    const uint8_t *p;
    size_t n, piece;
};

static uint32_t chance;

static void not_random(void *out, size_t n)
{
    unsigned char *p = out;
    for (size_t i = 0; i < n; i++) {
        chance = chance * 1664525u + 1013904223u;
        p[i] = (unsigned char)(chance >> 24);
    }
}

static int swallow(void *arg, const unsigned char *p, size_t n)
{
    (void)arg, (void)p, (void)n;
    return OK;
}

static int give(void *arg, unsigned char *p, size_t cap, size_t *got)
{
    struct answer *answer = arg;
    *got = cap < answer->n ? cap : answer->n;
    *got = *got < answer->piece ? *got : answer->piece;
    memcpy(p, answer->p, *got);
    answer->p += *got;
    answer->n -= *got;
    return OK;
}

static void use(struct tls *tls, struct error *err)
{
    char data[100];
    size_t n;
    bool truncated;
    if (tls_write(tls, "QUIT\r\n", 6, err) != OK) {
        abort(); /* this wire takes everything */
    }
    while (tls_read(tls, data, sizeof(data), &n, &truncated, err) == OK && n) {
    }
    tls_shutdown(tls);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sys fixed;
    fixed = sys_real;
    fixed.random = not_random;
    sys = &fixed;
    chance = 1;
    if (size == 0) {
        return 0;
    }
    /* TLS 1.3 is chosen rarely because its ClientHello costs a key pair. */
    struct tls_settings settings = {
        .host = "mail.test",
        .trust_any = data[0] & 1,
        .check_host = true,
        .max = data[0] >= 0xF0 ? TLS_VERSION_ANY : TLS_VERSION_1_2,
    };
    struct answer answer = {data + 1, size - 1, data[0] & 2 ? 1 : SIZE_MAX};
    struct error err;
    struct tls_client *client = tls_client_new(NULL, &settings, &err);
    struct tls *tls = tls_new(client, (struct tls_wire){swallow, give, &answer}, &err);
    bool more;
    int result;
    while ((result = tls_handshake(tls, &more, &err)) == AGAIN) {
        if (!more) {
            abort(); /* this wire never says AGAIN */
        }
    }
    if (result == OK) {
        use(tls, &err);
    }
    tls_free(tls);
    tls_client_unref(client);
    return 0;
}
