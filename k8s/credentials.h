/* A service account as files: its token, the API server's certificate authority, its namespace. The
 * files are followed, because they are replaced while we run. */
#ifndef TPROXY_K8S_CREDENTIALS_H
#define TPROXY_K8S_CREDENTIALS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/mem.h"

struct k8s_credentials;
struct tls_client;

/* Reads the files of `dir`. `host` is the API server's, for TLS; NULL: there is no TLS, and ca.crt
 * is not read. Returns NULL and sets *err (FAIL_CONFIG) when the token or ca.crt is missing or
 * unusable. */
struct k8s_credentials *k8s_credentials_new(const char *dir, const char *host, int64_t now,
                                            struct error *err);

/* Frees the credentials. NULL is allowed. */
void k8s_credentials_free(struct k8s_credentials *c);

/* Returns the token: one line of visible ASCII, valid until the next call. The file is read again
 * when a minute has passed, or after k8s_credentials_token_refused. */
const struct secret *k8s_credentials_token(struct k8s_credentials *c, int64_t now);
void k8s_credentials_token_refused(struct k8s_credentials *c);

/* Returns the TLS client, valid until k8s_credentials_ca_changed. */
struct tls_client *k8s_credentials_tls(const struct k8s_credentials *c);

/* Looks at ca.crt. Returns true when it has changed; k8s_credentials_tls is another client then. */
bool k8s_credentials_ca_changed(struct k8s_credentials *c);

/* Returns the namespace, or NULL when there is none. */
const char *k8s_credentials_namespace(const struct k8s_credentials *c);

#endif
