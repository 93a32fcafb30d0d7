/* Parses http and https URLs, and encodes parts of them (RFC 9110 section 4.2, RFC 3986). Pure.
 * Every struct str in a result lies in the input and lives as long as that. */
#ifndef TPROXY_LIB_URL_H
#define TPROXY_LIB_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/text.h"

struct url {
    bool https;
    struct str host;      /* name or address, an IPv6 address without its brackets */
    uint16_t port;        /* the default port of the scheme when the URL has none */
    struct str authority; /* host and port as written: for the Host field */
    struct str path;      /* at least "/" */
    struct str query;     /* with its '?', or empty */
};

/* Parses an absolute http or https URL. Returns ERR and *wrong (static storage) for anything else,
 * and for a URL with a user name, a fragment, or characters that do not belong into a URL. */
int url_parse(struct str in, struct url *url, const char **wrong) warn_unused;

/* Appends s as one segment of a path, with everything but unreserved characters percent-encoded
 * (RFC 3986 section 2.3). Returns ERR when it does not fit, and for "", "." and "..", which would
 * change the path. */
int url_encode_segment(struct buf *out, struct str s) warn_unused;

/* Appends s as a name or value of application/x-www-form-urlencoded. Returns ERR when it does not
 * fit. */
int url_encode_form(struct buf *out, struct str s) warn_unused;

/* Decodes a form's text s into `out`, which has room for s.n octets. A '%' without a valid code
 * stays as it is. Returns the length. */
size_t url_decode_form(char *out, struct str s);

#endif
