/* Fuzzes the parser of response heads. Slices stay inside the head, and no prefix of a good head
 * parses as a head. */
#include "http/proto.h"

#include <stdint.h>
#include <stdlib.h>

static void check_inside(struct str s, struct str in)
{
    if (s.p < in.p || s.p + s.n > in.p + in.n) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_head head, again;
    struct str in = {(const char *)data, size};
    if (http_parse_response(in, 4096, false, &head) != OK) {
        return 0;
    }
    struct str whole = {in.p, head.size};
    if (head.size > in.n || head.size > 4096) {
        abort();
    }
    if (head.status < 100 || head.status > 599) {
        abort();
    }
    for (size_t i = 0; i < head.header_count; i++) {
        check_inside(head.headers[i].name, whole);
        check_inside(head.headers[i].value, whole);
    }
    for (size_t n = 0; n < head.size; n++) {
        if (http_parse_response((struct str){in.p, n}, 4096, false, &again) != AGAIN) {
            abort();
        }
    }
    if (http_parse_response(whole, 4096, false, &again) != OK || again.size != head.size) {
        abort();
    }
    return 0;
}
