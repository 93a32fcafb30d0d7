/* Chooses which chain of a server's certificates is judged. For lib/tls.c. */
#ifndef TPROXY_LIB_TLS_CHAIN_H
#define TPROXY_LIB_TLS_CHAIN_H

struct tls_judge;

/* Set and clear the judge for the two functions that read and verify a server's certificates.
 * mbedTLS has no hook for these functions, so the linker puts ours in their place (--wrap, see the
 * Makefile). */
void tls_chain_begin(struct tls_judge *judge);
void tls_chain_end(void);

#endif
