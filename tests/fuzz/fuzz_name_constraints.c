/* Fuzzes name constraints and a name to compare with them. The first octet chooses the form of the
 * name, the second the length of the name that follows; the extension is the rest. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/name_constraints.h"

enum { BUDGET = 1000 };

/* Copies the bytes into a block of exactly their size, so that the sanitizer sees a read beyond its
 * end. */
static struct str copy(const uint8_t *p, size_t n)
{
    char *block = malloc(n ? n : 1);
    memcpy(block, p, n);
    return (struct str){block, n};
}

static void require(int truth)
{
    if (!truth) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    size_t n = data[1] < size - 2 ? data[1] : size - 2;
    enum name_form form = (enum name_form)(data[0] % (NAME_REGISTERED_ID + 1));
    struct str value = copy(data + 2, n), extension = copy(data + 2 + n, size - 2 - n);
    size_t for_check = BUDGET, for_judge = BUDGET, again = BUDGET;
    enum name_verdict check = name_constraints_check(extension, &for_check);
    enum name_verdict verdict =
        name_constraints_judge(extension, (struct general_name){form, value}, &for_judge);
    require(check == NAME_ALLOWED || check == NAME_MALFORMED || check == NAME_TOO_MANY);
    /* An extension that cannot be read never allows a name. */
    require(check == NAME_ALLOWED || (verdict != NAME_ALLOWED && for_judge <= BUDGET));
    if (form == NAME_DNS) { /* the comparison ignores case */
        char *text = (char *)value.p;
        for (size_t i = 0; i < n; i++) {
            text[i] = text[i] >= 'a' && text[i] <= 'z' ? (char)(text[i] - 'a' + 'A') : text[i];
        }
        require(verdict ==
                name_constraints_judge(extension, (struct general_name){form, value}, &again));
    }
    free((char *)value.p);
    free((char *)extension.p);
    return 0;
}
