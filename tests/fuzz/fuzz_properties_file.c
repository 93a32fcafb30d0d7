/* Fuzzes the reader of properties files. The result is either an error of one line that repeats no
 * value, or properties that are read back unchanged after they have been written. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"
#include "local/properties_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

/* Writes the text with every special character and NUL escaped. */
static void put(struct buf *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        static const char special[] = " \t\f=:#!\\";
        if (s[i] == '\0') {
            must(buf_add(out, "\\u0000", 6) == OK);
        } else if (s[i] == '\n' || s[i] == '\r') {
            must(buf_add(out, s[i] == '\n' ? "\\n" : "\\r", 2) == OK);
        } else {
            must(buf_add(out, "\\", strchr(special, s[i]) != NULL) == OK);
            must(buf_add(out, s + i, 1) == OK);
        }
    }
}

static void write_and_read(const struct properties *props)
{
    struct buf text;
    struct error err;
    buf_init(&text, SIZE_MAX);
    must(buf_add(&text, "#\n", 2) == OK); /* so that the next octets are not a byte order mark */
    for (size_t i = 0; i < props->n; i++) {
        put(&text, props->list[i].name, strlen(props->list[i].name));
        must(buf_add(&text, "=", 1) == OK);
        put(&text, props->list[i].value, props->list[i].n);
        must(buf_add(&text, "\n", 1) == OK);
    }
    struct properties *again = properties_from_file(buf_str(&text), &err);
    must(again && again->n == props->n);
    for (size_t i = 0; i < props->n; i++) {
        const struct property *p = &props->list[i], *q = &again->list[i];
        must(strcmp(p->name, q->name) == 0 && p->n == q->n &&
             memcmp(p->value, q->value, p->n) == 0);
    }
    properties_free(again);
    buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct properties *props = properties_from_file((struct str){(const char *)data, size}, &err);
    if (!props) {
        must(err.text[0] && !text_has_control(str_of(err.text)));
        return 0;
    }
    must(props->n <= PROPERTIES_MAX);
    for (size_t i = 0; i < props->n; i++) {
        must(strlen(props->list[i].value) <= props->list[i].n);
    }
    write_and_read(props);
    properties_free(props);
    return 0;
}
