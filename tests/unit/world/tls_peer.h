/* TLS servers and certificates for a test: tls_peer.py, beside this file, runs as a child
 * process. */
#ifndef TPROXY_TESTS_WORLD_TLS_PEER_H
#define TPROXY_TESTS_WORLD_TLS_PEER_H

#include <stddef.h>
#include <stdint.h>

/* Writes the path of a certificate. */
void tls_peer_path(char *out, size_t cap, const char *file);

int tls_peer_start(void);

int tls_peer_stop(void);

/* Returns the server's port; 0: there is no server with that name. */
uint16_t tls_peer_port(const char *server);

#endif
