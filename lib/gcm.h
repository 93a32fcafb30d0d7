/* AES-GCM (NIST SP 800-38D) for mbedTLS, in place of its own: on x86-64, with AES-NI and PCLMULQDQ,
 * it takes eight blocks at a time. mbedtls/gcm.h declares the functions that compute. The compiler
 * leaves all of this to mbedTLS on other machines, and with `make GCM=mbedtls`. */
#ifndef TPROXY_LIB_GCM_H
#define TPROXY_LIB_GCM_H

#include <stdbool.h>

/* Tells whether AES-GCM uses the instructions of the CPU, and so costs less than ChaCha20. */
bool gcm_is_fast(void);

/* For tests: lets the keys that are set from now on use the instructions (initially true), or
 * computes with them as a CPU without the instructions does. */
void gcm_allow_hardware(bool allowed);

#endif
