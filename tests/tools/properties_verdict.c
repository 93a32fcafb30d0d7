/* Shows how local/properties_file reads texts, for a comparison with another parser.
 *
 * stdin: texts, each after its length (4 bytes, big-endian). stdout: a line for each: "refused", or
 * for each property the key and the value in hexadecimal: "6b=76 " */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"
#include "local/properties_file.h"

static void show(const char *s, size_t n, char end)
{
    for (size_t i = 0; i < n; i++) {
        printf("%02x", (unsigned char)s[i]);
    }
    putchar(end);
}

int main(void)
{
    unsigned char size[4];
    while (fread(size, 1, 4, stdin) == 4) {
        size_t n = (size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 | size[3];
        char *text = mem_alloc(n + 1);
        struct error err;
        if (fread(text, 1, n, stdin) != n) {
            return 1;
        }
        struct properties *props = properties_from_file((struct str){text, n}, &err);
        for (size_t i = 0; props && i < props->n; i++) {
            show(props->list[i].name, strlen(props->list[i].name), '=');
            show(props->list[i].value, props->list[i].n, ' ');
        }
        puts(props ? "" : "refused");
        properties_free(props);
        free(text);
    }
    return 0;
}
