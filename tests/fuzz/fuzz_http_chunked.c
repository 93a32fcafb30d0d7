/* Fuzzes the decoding of a chunked body. It gives the same result whole and in pieces, whose length
 * the first octet chooses. */
#include "http/proto.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct outcome {
    int res;
    size_t body_len, taken;
    char body[8192];
};

static void decode(struct str in, size_t piece, struct outcome *o)
{
    struct http_chunked c = {0};
    *o = (struct outcome){.res = AGAIN};
    while (in.n && o->res == AGAIN) {
        struct str part = {in.p, in.n < piece ? in.n : piece}, data;
        size_t n = part.n;
        while ((o->res = http_chunked_next(&c, &part, &data)) == OK && data.n) {
            if (data.p < in.p || data.p + data.n > in.p + n) {
                abort();
            }
            memcpy(o->body + o->body_len, data.p, data.n);
            o->body_len += data.n;
        }
        o->taken += n - part.n;
        in.p += n;
        in.n -= n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct outcome whole, pieces;
    if (size < 1 || size > sizeof(whole.body)) {
        return 0;
    }
    struct str in = {(const char *)data + 1, size - 1};
    decode(in, in.n, &whole);
    decode(in, 1 + data[0] % 16, &pieces);
    if (whole.res != pieces.res || whole.taken != pieces.taken ||
        whole.body_len != pieces.body_len || memcmp(whole.body, pieces.body, whole.body_len) != 0) {
        abort();
    }
    return 0;
}
