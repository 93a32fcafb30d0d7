/* Random bytes for mbedTLS. For the files of lib/tls. */
#ifndef TPROXY_LIB_TLS_RANDOM_H
#define TPROXY_LIB_TLS_RANDOM_H

#include <stddef.h>

/* Fills out[0, n) with random bytes, for mbedTLS, which asks for them as f_rng. Returns 0. */
int tls_random(void *arg, unsigned char *out, size_t n);

#endif
