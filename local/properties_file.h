/* Reads a Java properties file, the older form in which the BTP cockpit exports a destination. It
 * has comments after '#' and '!', lines "Key=value", "Key: value" or "Key value", a backslash at
 * the end of a line that goes on in the next one, and the escapes \t \n \r \f \uXXXX. Any other
 * escaped character stands for itself.
 *
 * The file is read like java.util.Properties.load (Java SE API), with these differences: a text
 * that is valid UTF-8 is UTF-8, any other one ISO-8859-1; a byte order mark of UTF-8 is skipped; a
 * NUL byte, NUL in a key, and an escaped half of a surrogate pair are errors. Pure. */
#ifndef TPROXY_LOCAL_PROPERTIES_FILE_H
#define TPROXY_LOCAL_PROPERTIES_FILE_H

#include "core/properties.h"
#include "lib/base.h"
#include "lib/fail.h"
#include "lib/text.h"

/* Reads a whole file. The text may be freed afterwards. The caller frees the properties. Returns
 * NULL and *err (FAIL_CONFIG, FAIL_LIMIT), "line 3: ...", when the file is malformed; the message
 * does not repeat the text. */
struct properties *properties_from_file(struct str text, struct error *err);

#endif
