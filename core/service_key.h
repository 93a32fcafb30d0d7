/* Reads the service key of a service instance from its Secret. The whole key is JSON in one entry,
 * or each field has its own entry, as SAP's BTP service operator writes it. Pure. */
#ifndef TPROXY_CORE_SERVICE_KEY_H
#define TPROXY_CORE_SERVICE_KEY_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/json.h"
#include "lib/mem.h"

/* The service that a key is for. It decides which fields the key must have. */
enum service_key_use {
    SERVICE_KEY_DESTINATION,  /* the Destination service: `uri`, and `url` of the authorization
                                 server */
    SERVICE_KEY_CONNECTIVITY, /* the Connectivity Proxy: `token_service_url`, or `url` */
};

/* An immutable snapshot, shared by reference count. No text in it contains NUL. Only certificate
 * and private key may have CR and LF. */
struct service_key {
    unsigned refs;
    char *client_id;
    struct secret client_secret; /* empty with a certificate */
    char *certificate;           /* X.509: the chain in PEM; NULL: there is none */
    struct secret private_key;   /* of the certificate, PEM; empty: see service_key_complete */
    bool ias;            /* of Cloud Identity Services: the service wants mutual TLS, too, and has
                            no v2 */
    char *token_url;     /* the complete URL of the token endpoint: "https://.../oauth/token" */
    char *uri;           /* of the service, without a slash at its end; "" for CONNECTIVITY */
    char *identity_zone; /* the provider's subdomain; "" when the key has none */
};

/* Reads the key from a Secret. json_key names the entry that holds the whole key as JSON; NULL or
 * "": each field has its own entry. The key may be in an object "credentials", as the cf command
 * line prints it, and client and authorization server in an object "uaa". Blanks around a value are
 * dropped. Returns the key with one reference, or NULL. On NULL, *err (FAIL_CONFIG) is a clause
 * that names the entry or the field and what it should be ("the entry \"clientid\" is missing;
 * ..."), never its value; the caller names the Secret. */
const struct service_key *service_key_from_secret(struct json_value secret, const char *json_key,
                                                  enum service_key_use use, struct error *err);

/* Tells whether the key has all that a client needs. If not, it has a certificate whose private key
 * is in another Secret. */
bool service_key_complete(const struct service_key *key);

/* Makes a complete copy of `key`, with the private key (PEM) from an entry of another Secret.
 * Returns it with one reference, or NULL and *err as above. */
const struct service_key *service_key_with_private_key(const struct service_key *key,
                                                       struct json_value secret, const char *entry,
                                                       struct error *err);

/* Add and release a reference. The last unref wipes the secrets and frees the key. unref accepts
 * NULL. */
const struct service_key *service_key_ref(const struct service_key *key);
void service_key_unref(const struct service_key *key);

/* Tells whether two keys are equal in everything. */
bool service_key_equal(const struct service_key *a, const struct service_key *b);

#endif
