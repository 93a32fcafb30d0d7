/* Trusted certificates in a file: a bundle, as Linux distributions have one. */
#ifndef TPROXY_LIB_TLS_BUNDLE_H
#define TPROXY_LIB_TLS_BUNDLE_H

#include "lib/fail.h"

struct tls_roots;

/* Reads the PEM file `path`; when it is NULL, SSL_CERT_FILE or the first bundle found in the usual
 * places of the Linux distributions. Returns NULL and sets *err (FAIL_CONFIG, naming the file) when
 * the file is missing or has no usable certificate; tls_roots_left_out names single unusable
 * certificates. */
struct tls_roots *tls_bundle_load(const char *path, struct error *err);

#endif
