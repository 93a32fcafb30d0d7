/* Fuzzes the reading of the Connectivity Proxy's configuration. The result is either values that
 * make sense or an error of one line, and it does not depend on how lines end. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "configuration/connectivity_config.h"
#include "lib/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void add(struct buf *out, const char *text, size_t n)
{
    must(buf_add(out, text, n) == OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str yaml = {(const char *)data, size};
    struct connectivity_config config, again;
    struct error err = {.fail = FAIL_NONE};
    struct buf dos;
    int rc = connectivity_config_read(yaml, &config, &err);
    must(rc == OK || (err.fail == FAIL_CONFIG && err.text[0]));
    must(rc == OK || !text_has_control(str_of(err.text)));
    if (memchr(data, '\r', size)) {
        return 0;
    }
    buf_init(&dos, 2 * size + 2);
    while (yaml.n) {
        struct str line = str_cut(&yaml, '\n');
        add(&dos, line.p, line.n);
        add(&dos, "\r\n", 2);
    }
    must(connectivity_config_read(buf_str(&dos), &again, &err) == rc);
    must(rc == ERR || (config.shared == again.shared && config.port == again.port &&
                       config.authorization == again.authorization));
    buf_free(&dos);
    return 0;
}
