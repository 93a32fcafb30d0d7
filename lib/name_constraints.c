/* Judges names by the name constraints of CAs. It works on the bytes of the extension.
 *
 *     NameConstraints ::= SEQUENCE {
 *         permittedSubtrees [0] GeneralSubtrees OPTIONAL,
 *         excludedSubtrees  [1] GeneralSubtrees OPTIONAL }
 *     GeneralSubtree ::= SEQUENCE {
 *         base GeneralName, minimum [0] INTEGER DEFAULT 0, maximum [1] INTEGER OPTIONAL }
 */
#include "lib/name_constraints.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "lib/der.h"

enum {
    CONTEXT = 0x80,
    CONSTRUCTED = 0x20,
    TAG_NUMBER = 0x1f,
    PERMITTED = CONTEXT | CONSTRUCTED | 0,
    EXCLUDED = CONTEXT | CONSTRUCTED | 1,
    MINIMUM = CONTEXT | 0,
    MAXIMUM = CONTEXT | 1,
    ATTRIBUTES_MAX = 16, /* of one relative distinguished name; one is usual */
};

/* Tells whether a name is in a subtree, or why that cannot be told. */
enum within { WITHIN_NO, WITHIN_YES, WITHIN_BAD_BASE, WITHIN_BAD_NAME };

struct subtree {
    enum name_form form;
    struct str base;
    bool bounded; /* it has a minimum other than 0, or a maximum */
};

/* ---- DNS names and mail addresses ---- */

static bool same_text(struct str a, struct str b)
{
    return a.n == b.n && strncasecmp(a.p, b.p, a.n) == 0;
}

static struct str last(struct str s, size_t n)
{
    return (struct str){s.p + s.n - n, n};
}

/* Tells whether the name is the base or below it. A base that begins with a dot stands for the
 * names below it alone. RFC 5280 has it for URIs only, but it is widely used. */
static bool dns_below(struct str base, struct str name)
{
    if (base.n == 0) {
        return true;
    }
    if (name.n < base.n || !same_text(base, last(name, base.n))) {
        return false;
    }
    return name.n == base.n || base.p[0] == '.' || name.p[name.n - base.n - 1] == '.';
}

/* Tells whether one of the names for which "*.rest" stands is the base itself. */
static bool wildcard_reaches(struct str base, struct str name)
{
    if (name.n < 2 || name.p[0] != '*' || name.p[1] != '.' || base.n == 0 || base.p[0] == '.') {
        return false;
    }
    struct str rest = base;
    str_cut(&rest, '.');
    return same_text(rest, (struct str){name.p + 2, name.n - 2});
}

static enum within dns_within(struct str base, struct str name, bool excluded)
{
    return dns_below(base, name) || (excluded && wildcard_reaches(base, name)) ? WITHIN_YES
                                                                               : WITHIN_NO;
}

/* Tells whether the address is in the base: a mailbox, a host, or ".domain" for all hosts below
 * it. */
static enum within mail_within(struct str base, struct str name)
{
    const char *at = memrchr(name.p, '@', name.n), *base_at = memrchr(base.p, '@', base.n);
    if (!at) {
        return WITHIN_BAD_NAME;
    }
    struct str host = {at + 1, (size_t)(name.p + name.n - at - 1)};
    if (!base_at && base.n && base.p[0] == '.') {
        return host.n > base.n && same_text(base, last(host, base.n)) ? WITHIN_YES : WITHIN_NO;
    }
    if (base_at && base_at != base.p) { /* case matters before the @ */
        size_t n = (size_t)(base_at - base.p);
        if (n != (size_t)(at - name.p) || memcmp(base.p, name.p, n) != 0) {
            return WITHIN_NO;
        }
    }
    struct str base_host = base_at ? last(base, (size_t)(base.p + base.n - base_at - 1)) : base;
    return same_text(base_host, host) ? WITHIN_YES : WITHIN_NO;
}

/* ---- addresses ---- */

/* Tells whether the mask has one bits first and then only zero bits (RFC 4632 section 3.1). */
static bool is_mask(struct str mask)
{
    bool over = false;
    for (size_t i = 0; i < mask.n; i++) {
        unsigned char c = (unsigned char)mask.p[i], zeros = (unsigned char)~c;
        if ((over && c != 0) || (zeros & (zeros + 1)) != 0) {
            return false;
        }
        over = zeros != 0;
    }
    return true;
}

static enum within address_within(struct str base, struct str name)
{
    enum { V4 = 4, V6 = 16 };
    if (name.n != V4 && name.n != V6) {
        return WITHIN_BAD_NAME;
    }
    if (base.n != 2 * V4 && base.n != 2 * V6) {
        return WITHIN_BAD_BASE;
    }
    struct str mask = last(base, base.n / 2);
    if (!is_mask(mask)) {
        return WITHIN_BAD_BASE;
    }
    if (base.n != 2 * name.n) {
        return WITHIN_NO;
    }
    for (size_t i = 0; i < name.n; i++) {
        if ((name.p[i] ^ base.p[i]) & mask.p[i]) {
            return WITHIN_NO;
        }
    }
    return WITHIN_YES;
}

/* ---- directory names ---- */

enum string_tag {
    UTF8_STRING = 0x0c,
    PRINTABLE_STRING = 0x13,
    TELETEX_STRING = 0x14,
    IA5_STRING = 0x16,
    VISIBLE_STRING = 0x1a,
    UNIVERSAL_STRING = 0x1c,
    BMP_STRING = 0x1e,
};

/* Returns how many octets a character of a string of this type has, at least; 0: not a string. */
static size_t string_width(unsigned tag)
{
    switch (tag) {
    case UTF8_STRING:
    case PRINTABLE_STRING:
    case TELETEX_STRING:
    case IA5_STRING:
    case VISIBLE_STRING:
        return 1;
    case BMP_STRING:
        return 2;
    case UNIVERSAL_STRING:
        return 4;
    default:
        return 0;
    }
}

enum { STRING_END = -1 };

/* Takes one UTF-8 character off *s. An octet that is not part of one stands for itself. */
static int32_t take_utf8(struct str *s)
{
    size_t n = text_utf8_length(*s);
    int32_t c = (unsigned char)s->p[0];
    if (n > 1) {
        c &= 0x7f >> n;
        for (size_t i = 1; i < n; i++) {
            c = c << 6 | (s->p[i] & 0x3f);
        }
    }
    n = n ? n : 1;
    s->p += n;
    s->n -= n;
    return c;
}

static int32_t take_character(unsigned tag, struct str *s)
{
    size_t width = string_width(tag);
    if (s->n < width || s->n == 0) {
        return STRING_END;
    }
    if (tag == UTF8_STRING) {
        return take_utf8(s);
    }
    uint32_t c = 0;
    for (size_t i = 0; i < width; i++) {
        c = c << 8 | (unsigned char)s->p[i];
    }
    s->p += width;
    s->n -= width;
    return (int32_t)(c & INT32_MAX);
}

static bool is_blank(int32_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Returns the next character for comparison (RFC 5280 section 7.1, in the way of OpenSSL and
 * others): ASCII in lower case, one blank for several. Leaves out blanks at the end; the caller
 * skips those at the beginning. */
static int32_t take_folded(unsigned tag, struct str *s)
{
    int32_t c = take_character(tag, s);
    if (!is_blank(c)) {
        return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
    }
    struct str ahead = *s;
    while (is_blank(c = take_character(tag, &ahead))) {
        *s = ahead;
    }
    return c == STRING_END ? STRING_END : ' ';
}

static void skip_blanks(unsigned tag, struct str *s)
{
    struct str ahead = *s;
    while (is_blank(take_character(tag, &ahead))) {
        *s = ahead;
    }
}

static bool same_value(struct der_item a, struct der_item b)
{
    if (!string_width(a.tag) || !string_width(b.tag)) {
        return a.tag == b.tag && a.contents.n == b.contents.n &&
               memcmp(a.contents.p, b.contents.p, a.contents.n) == 0;
    }
    skip_blanks(a.tag, &a.contents);
    skip_blanks(b.tag, &b.contents);
    int32_t c;
    while ((c = take_folded(a.tag, &a.contents)) == take_folded(b.tag, &b.contents)) {
        if (c == STRING_END) {
            return true;
        }
    }
    return false;
}

struct attribute {
    struct der_item type, value;
};

/* Takes the next relative distinguished name off *name and lists its attributes. */
static int take_rdn(struct str *name, struct attribute *list, size_t *count)
{
    struct str set, pair;
    *count = 0;
    if (der_take(name, DER_SET, &set) != OK) {
        return ERR;
    }
    while (set.n) {
        if (*count == ATTRIBUTES_MAX) {
            return ERR;
        }
        struct attribute *attribute = &list[*count];
        if (der_take(&set, DER_SEQUENCE, &pair) != OK || der_next(&pair, &attribute->type) != OK ||
            der_next(&pair, &attribute->value) != OK || pair.n) {
            return ERR;
        }
        ++*count;
    }
    return OK;
}

static bool holds_attribute(const struct attribute *list, size_t count,
                            const struct attribute *wanted)
{
    for (size_t i = 0; i < count; i++) {
        struct str a = list[i].type.whole, b = wanted->type.whole;
        if (a.n == b.n && memcmp(a.p, b.p, a.n) == 0 && same_value(list[i].value, wanted->value)) {
            return true;
        }
    }
    return false;
}

/* Tells whether the base is the beginning of the name. */
static enum within directory_within(struct str base_item, struct str name_item)
{
    struct str base, name;
    struct attribute wanted[ATTRIBUTES_MAX], found[ATTRIBUTES_MAX];
    size_t wanted_count, found_count;
    if (der_take(&base_item, DER_SEQUENCE, &base) != OK || base_item.n) {
        return WITHIN_BAD_BASE;
    }
    if (der_take(&name_item, DER_SEQUENCE, &name) != OK || name_item.n) {
        return WITHIN_BAD_NAME;
    }
    while (base.n) {
        if (take_rdn(&base, wanted, &wanted_count) != OK) {
            return WITHIN_BAD_BASE;
        }
        if (name.n == 0) {
            return WITHIN_NO;
        }
        if (take_rdn(&name, found, &found_count) != OK) {
            return WITHIN_BAD_NAME;
        }
        for (size_t i = 0; i < wanted_count; i++) {
            if (!holds_attribute(found, found_count, &wanted[i])) {
                return WITHIN_NO;
            }
        }
        if (wanted_count != found_count) {
            return WITHIN_NO;
        }
    }
    return WITHIN_YES;
}

/* ---- the extension ---- */

/* Tells whether the subtree is about names like this one. Names of the form "other" are of many
 * kinds; the object identifier at their beginning tells them apart. */
static bool concerns(const struct subtree *subtree, const struct general_name *name)
{
    struct der_item a, b;
    struct str base = subtree->base, value = name->value;
    if (subtree->form != name->form) {
        return false;
    }
    if (name->form != NAME_OTHER || der_next(&base, &a) != OK || der_next(&value, &b) != OK) {
        return true;
    }
    return a.whole.n == b.whole.n && memcmp(a.whole.p, b.whole.p, a.whole.n) == 0;
}

static enum name_verdict compare(const struct subtree *subtree, const struct general_name *name,
                                 bool excluded, bool *inside)
{
    enum within within = WITHIN_NO;
    if (subtree->bounded) {
        return NAME_BAD_SUBTREE;
    }
    switch (name->form) {
    case NAME_DNS:
        within = dns_within(subtree->base, name->value, excluded);
        break;
    case NAME_ADDRESS:
        within = address_within(subtree->base, name->value);
        break;
    case NAME_DIRECTORY:
        within = directory_within(subtree->base, name->value);
        break;
    case NAME_MAIL:
        within = mail_within(subtree->base, name->value);
        break;
    case NAME_OTHER:
    case NAME_X400:
    case NAME_EDI_PARTY:
    case NAME_URI:
    case NAME_REGISTERED_ID:
        return NAME_NOT_COMPARED;
    }
    *inside = within == WITHIN_YES;
    return within == WITHIN_BAD_BASE   ? NAME_BAD_SUBTREE
           : within == WITHIN_BAD_NAME ? NAME_MALFORMED
                                       : NAME_ALLOWED;
}

static bool is_zero(struct str integer)
{
    return integer.n == 1 && integer.p[0] == 0;
}

/* Takes the next subtree off *list. */
static int take_subtree(struct str *list, struct subtree *subtree)
{
    /* Names that consist of several items are constructed. */
    static const bool constructed[] = {
        [NAME_OTHER] = true,     [NAME_X400] = true,           [NAME_DIRECTORY] = true,
        [NAME_EDI_PARTY] = true, [NAME_REGISTERED_ID] = false,
    };
    struct str parts;
    struct der_item item;
    if (der_take(list, DER_SEQUENCE, &parts) != OK || der_next(&parts, &item) != OK) {
        return ERR;
    }
    unsigned number = item.tag & TAG_NUMBER;
    if (number >= ARRAY_LEN(constructed) ||
        item.tag != (CONTEXT | (constructed[number] ? CONSTRUCTED : 0) | number)) {
        return ERR;
    }
    *subtree = (struct subtree){.form = (enum name_form)number, .base = item.contents};
    unsigned before = 0;
    while (parts.n) {
        if (der_next(&parts, &item) != OK || (item.tag != MINIMUM && item.tag != MAXIMUM) ||
            item.tag <= before) {
            return ERR;
        }
        before = item.tag;
        subtree->bounded = subtree->bounded || item.tag == MAXIMUM || !is_zero(item.contents);
    }
    return OK;
}

/* Judges the name by one list of subtrees; with NULL, only checks that the list can be read. Reads
 * the whole list in any case. */
static enum name_verdict judge_list(struct str list, const struct general_name *name, bool excluded,
                                    size_t *budget)
{
    bool concerned = false, inside = false;
    enum name_verdict verdict = NAME_ALLOWED;
    struct subtree subtree;
    while (list.n) {
        if (*budget == 0) {
            return NAME_TOO_MANY;
        }
        --*budget;
        if (take_subtree(&list, &subtree) != OK) {
            return NAME_MALFORMED;
        }
        if (!name || verdict != NAME_ALLOWED || !concerns(&subtree, name)) {
            continue;
        }
        bool here = false;
        verdict = compare(&subtree, name, excluded, &here);
        concerned = true;
        inside = inside || here;
    }
    if (verdict != NAME_ALLOWED || !concerned) {
        return verdict;
    }
    if (excluded) {
        return inside ? NAME_EXCLUDED : NAME_ALLOWED;
    }
    return inside ? NAME_ALLOWED : NAME_NOT_PERMITTED;
}

static enum name_verdict judge(struct str extension, const struct general_name *name,
                               size_t *budget)
{
    struct str lists;
    struct der_item list;
    enum name_verdict verdict = NAME_ALLOWED;
    unsigned before = 0;
    if (der_take(&extension, DER_SEQUENCE, &lists) != OK || extension.n) {
        return NAME_MALFORMED;
    }
    while (lists.n) {
        if (der_next(&lists, &list) != OK || (list.tag != PERMITTED && list.tag != EXCLUDED) ||
            list.tag <= before) {
            return NAME_MALFORMED;
        }
        before = list.tag;
        enum name_verdict here = judge_list(list.contents, name, list.tag == EXCLUDED, budget);
        if (here == NAME_MALFORMED || here == NAME_TOO_MANY) {
            return here;
        }
        verdict = verdict == NAME_ALLOWED ? here : verdict;
    }
    return verdict;
}

enum name_verdict name_constraints_judge(struct str extension, struct general_name name,
                                         size_t *budget)
{
    return judge(extension, &name, budget);
}

enum name_verdict name_constraints_check(struct str extension, size_t *budget)
{
    return judge(extension, NULL, budget);
}
