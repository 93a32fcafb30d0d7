/* Fuzzes the parser of URLs. Slices stay inside the URL (except the default path "/"), host and
 * port are usable, and the parts put together give the URL again. */
#include "lib/url.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct url url;
    const char *wrong = NULL;
    struct str in = {(const char *)data, size};
    if (url_parse(in, &url, &wrong) != OK) {
        if (!wrong) {
            abort();
        }
        return 0;
    }
    if (url.host.n == 0 || url.port == 0 || url.host.p < url.authority.p ||
        url.host.p + url.host.n > url.authority.p + url.authority.n) {
        abort();
    }
    bool added = url.path.p < in.p || url.path.p >= in.p + in.n;
    size_t scheme = url.https ? 8 : 7;
    if ((added && !str_eq(url.path, "/")) ||
        scheme + url.authority.n + (added ? 0 : url.path.n) + url.query.n != in.n ||
        url.path.p[0] != '/' || (url.query.n && url.query.p[0] != '?')) {
        abort();
    }
    struct buf out;
    buf_init(&out, 3 * size);
    if (url_encode_form(&out, in) == ERR) {
        abort();
    }
    buf_free(&out);
    return 0;
}
