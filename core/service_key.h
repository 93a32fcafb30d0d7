/* The service key of a Destination service instance, out of the Secret that holds it: whole as JSON
 * under one key, or spread over one key a field, as SAP's BTP service operator writes it. Pure. */
#ifndef TPROXY_CORE_SERVICE_KEY_H
#define TPROXY_CORE_SERVICE_KEY_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/json.h"
#include "lib/mem.h"

/* What a key opens, and so which fields it must have. */
enum service_key_use {
    SERVICE_KEY_DESTINATION,  /* the Destination service: `uri`, and `url` of the authorization
                                 server */
    SERVICE_KEY_CONNECTIVITY, /* the Connectivity Proxy: `token_service_url`, or `url` */
};

/* An immutable snapshot, shared by reference count. No text in it contains NUL; certificate and
 * private key may have CR and LF, no other does. */
struct service_key {
    unsigned refs;
    char *client_id;
    struct secret client_secret; /* empty with a certificate */
    char *certificate;           /* X.509: the chain, PEM; NULL: there is none */
    struct secret private_key;   /* its key, PEM; empty: see service_key_complete */
    bool ias;            /* of Cloud Identity Services: the service wants mutual TLS, too, and has
                            no v2 */
    char *token_url;     /* of the token endpoint, complete: "https://.../oauth/token" */
    char *uri;           /* of the service, without a slash at its end; "" for CONNECTIVITY */
    char *identity_zone; /* the provider's subdomain; "" when the key does not say */
};

/* Reads a Secret. json_key: the entry that holds the whole key as JSON; NULL or "": one entry a
 * field. The key may be in an object "credentials", as the cf command line prints it, and client
 * and authorization server in an object "uaa". Blanks around a value are dropped. On NULL, *err
 * (FAIL_CONFIG) is a clause that names the entry or the field and what it should be ("the entry
 * \"clientid\" is missing; ..."), never its value; the caller names the Secret. */
const struct service_key *service_key_from_secret(struct json_value secret, const char *json_key,
                                                  enum service_key_use use, struct error *err);

/* Has it all that a client needs? Else it has a certificate whose key is kept apart. */
bool service_key_complete(const struct service_key *key);

/* A new one, complete: `key` with the private key (PEM) out of an entry of another Secret. NULL and
 * *err as above. */
const struct service_key *service_key_with_private_key(const struct service_key *key,
                                                       struct json_value secret, const char *entry,
                                                       struct error *err);

/* Counts references; the last unref wipes the secrets. unref takes NULL. */
const struct service_key *service_key_ref(const struct service_key *key);
void service_key_unref(const struct service_key *key);

bool service_key_equal(const struct service_key *a, const struct service_key *b);

#endif
