/* Name constraints: for which names a CA may sign certificates (RFC 5280 section 4.2.1.10). */
#ifndef TPROXY_LIB_NAME_CONSTRAINTS_H
#define TPROXY_LIB_NAME_CONSTRAINTS_H

#include <stddef.h>

#include "lib/base.h"
#include "lib/text.h"

/* The forms of a GeneralName (RFC 5280 section 4.2.1.6), each with the number of its tag. */
enum name_form {
    NAME_OTHER = 0,
    NAME_MAIL = 1,
    NAME_DNS = 2,
    NAME_X400 = 3,
    NAME_DIRECTORY = 4,
    NAME_EDI_PARTY = 5,
    NAME_URI = 6,
    NAME_ADDRESS = 7,
    NAME_REGISTERED_ID = 8,
};

/* A name in a certificate. `value` is the contents of the GeneralName. For a directory name it is
 * the Name itself, tag and length included, as in the subject of a certificate. */
struct general_name {
    enum name_form form;
    struct str value;
};

enum name_verdict {
    NAME_ALLOWED,
    NAME_NOT_PERMITTED, /* subtrees of its form are permitted, but it is in none of them */
    NAME_EXCLUDED,      /* it is in an excluded subtree */
    /* the constraints have subtrees of its form, and this form is not compared here */
    NAME_NOT_COMPARED,
    NAME_BAD_SUBTREE, /* a subtree of its form has a minimum or a maximum, an invalid address or an
                         invalid mask */
    NAME_MALFORMED,   /* the extension, or a name, does not follow RFC 5280 */
    NAME_TOO_MANY,    /* *budget is used up */
};

/* Judges a name by one extension of name constraints. Compares DNS names, addresses, directory
 * names and mail addresses; names of other forms get NAME_NOT_COMPARED when the extension has
 * subtrees of their form. Takes one off *budget for each subtree.
 *
 * A DNS name with a wildcard is also in an excluded subtree when one of the names for which it
 * stands is. */
enum name_verdict name_constraints_judge(struct str extension, struct general_name name,
                                         size_t *budget);

/* Returns NAME_ALLOWED when the extension is well-formed, else NAME_MALFORMED or NAME_TOO_MANY. */
enum name_verdict name_constraints_check(struct str extension, size_t *budget);

#endif
