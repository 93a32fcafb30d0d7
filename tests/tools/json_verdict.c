/* Shows what lib/json makes of texts, for a comparison with another parser.
 *
 * stdin: texts, each after its length (4 bytes, little-endian). stdout: a line for each: "refused",
 * or the value: null true false   #<number as written>   '<string in hexadecimal>'   [v v ]
 * {'name'v 'name'v } */
#include <stdio.h>
#include <stdlib.h>

#include "lib/json.h"
#include "lib/mem.h"

static void show_string(struct json_value v)
{
    size_t n;
    char *s = json_strdup(v, &n);
    putchar('\'');
    for (size_t i = 0; i < n; i++) {
        printf("%02x", (unsigned char)s[i]);
    }
    putchar('\'');
    free(s);
}

static void show(struct json_value v);

static void show_all(struct json_value container)
{
    for (struct json_value v = json_first(container); json_exists(v); v = json_next(v)) {
        if (json_exists(json_key(v))) {
            show_string(json_key(v));
        }
        show(v);
        putchar(' ');
    }
}

static void show(struct json_value v)
{
    switch (json_type(v)) {
    case JSON_NULL:
    case JSON_BOOL:
        printf("%.*s", STR_ARG(json_text(v)));
        break;
    case JSON_NUMBER:
        printf("#%.*s", STR_ARG(json_text(v)));
        break;
    case JSON_STRING:
        show_string(v);
        break;
    case JSON_ARRAY:
        putchar('[');
        show_all(v);
        putchar(']');
        break;
    case JSON_OBJECT:
        putchar('{');
        show_all(v);
        putchar('}');
        break;
    case JSON_NONE:
    case JSON_OMITTED:
        abort();
    }
}

int main(void)
{
    unsigned char head[4];
    while (fread(head, sizeof(head), 1, stdin) == 1) {
        size_t n = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        char *text = mem_alloc(n);
        if (fread(text, 1, n, stdin) != n) {
            return EXIT_FAILURE;
        }
        struct json *doc = json_parse((struct str){text, n}, NULL);
        if (doc) {
            show(json_root(doc));
        } else {
            printf("refused");
        }
        putchar('\n');
        json_free(doc);
        free(text);
    }
    return EXIT_SUCCESS;
}
