/* Fuzzes the parser of request heads. Slices stay inside the head, and no prefix of a good head
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
    if (http_parse_request(in, 4096, &head) != OK) {
        return 0;
    }
    struct str whole = {in.p, head.size};
    if (head.size > in.n || head.size > 4096) {
        abort();
    }
    check_inside(head.method, whole);
    check_inside(head.target, whole);
    for (size_t i = 0; i < head.header_count; i++) {
        check_inside(head.headers[i].name, whole);
        check_inside(head.headers[i].value, whole);
    }
    for (size_t n = 0; n < head.size; n++) {
        if (http_parse_request((struct str){in.p, n}, 4096, &again) != AGAIN) {
            abort();
        }
    }
    if (http_parse_request(whole, 4096, &again) != OK || again.size != head.size) {
        abort();
    }
    return 0;
}
