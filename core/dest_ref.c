/* Copies and compares references to destinations. */
#include "core/dest_ref.h"

#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"
#include "lib/text.h"

static const char *copy(const char *text)
{
    return text ? mem_strdup(text) : NULL;
}

struct dest_ref dest_ref_copy(const struct dest_ref *ref)
{
    struct dest_ref c = *ref;
    c.name = copy(ref->name);
    c.level = copy(ref->level);
    c.fragment = copy(ref->fragment);
    c.fragment_level = copy(ref->fragment_level);
    c.chain = copy(ref->chain);
    c.instance = copy(ref->instance);
    c.tenant = copy(ref->tenant);
    if (ref->n_variables) {
        struct dest_variable *list = mem_alloc(ref->n_variables * sizeof(*list));
        for (size_t i = 0; i < ref->n_variables; i++) {
            list[i].name = copy(ref->variables[i].name);
            list[i].value = copy(ref->variables[i].value);
        }
        c.variables = list;
    }
    return c;
}

void dest_ref_clear(struct dest_ref *ref)
{
    for (size_t i = 0; i < ref->n_variables; i++) {
        free((char *)ref->variables[i].name);
        free((char *)ref->variables[i].value);
    }
    free((struct dest_variable *)ref->variables);
    free((char *)ref->name);
    free((char *)ref->level);
    free((char *)ref->fragment);
    free((char *)ref->fragment_level);
    free((char *)ref->chain);
    free((char *)ref->instance);
    free((char *)ref->tenant);
    *ref = (struct dest_ref){0};
}

bool dest_ref_equal(const struct dest_ref *a, const struct dest_ref *b)
{
    if (!text_same(a->name, b->name) || !text_same(a->level, b->level) ||
        !text_same(a->fragment, b->fragment) || !text_same(a->fragment_level, b->fragment_level) ||
        a->fragment_optional != b->fragment_optional || !text_same(a->chain, b->chain) ||
        a->n_variables != b->n_variables || !text_same(a->instance, b->instance) ||
        !text_same(a->tenant, b->tenant)) {
        return false;
    }
    for (size_t i = 0; i < a->n_variables; i++) {
        if (!text_same(a->variables[i].name, b->variables[i].name) ||
            !text_same(a->variables[i].value, b->variables[i].value)) {
            return false;
        }
    }
    return true;
}

/* Appends a text with its NUL. "\001" stands for a missing text. It differs from every other text,
 * because a reference has no control characters. */
static int add(struct buf *out, const char *text)
{
    return text ? buf_add(out, text, strlen(text) + 1) : buf_add(out, "\001", 2);
}

int dest_ref_key(struct buf *out, const struct dest_ref *ref)
{
    const char *const texts[] = {
        ref->name,
        ref->level,
        ref->fragment,
        ref->fragment_level,
        ref->fragment_optional ? "?" : "",
        ref->chain,
        ref->instance,
        ref->tenant,
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (add(out, texts[i]) < 0) {
            return ERR;
        }
    }
    for (size_t i = 0; i < ref->n_variables; i++) {
        if (add(out, ref->variables[i].name) < 0 || add(out, ref->variables[i].value) < 0) {
            return ERR;
        }
    }
    return OK;
}
