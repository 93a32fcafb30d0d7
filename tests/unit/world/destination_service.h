/* A source of destinations, with a Destination service and an authorization server that the test
 * plays. */
#ifndef TPROXY_TESTS_WORLD_DESTINATION_SERVICE_H
#define TPROXY_TESTS_WORLD_DESTINATION_SERVICE_H

#include "core/dest_source.h"
#include "core/service_key.h"
#include "core/token.h"
#include "dest.h"
#include "tests/unit/world/tokens.h"

#define SECRET "s3cret-of-the-instance"
#define PASSWORD "wonderland"
#define TOKEN "access-token-of-the-instance"
#define MAIL_TOKEN "access-token-for-the-mail-server"
#define MAIL                                                                                       \
    "\"Name\":\"inbox\",\"Type\":\"MAIL\",\"ProxyType\":\"Internet\","                             \
    "\"mail.transport.protocol\":\"pop3s\",\"mail.pop3s.host\":\"mail.example.com\","              \
    "\"mail.user\":\"alice\""

#define BASIC "{\"destinationConfiguration\":{" MAIL ",\"mail.password\":\"" PASSWORD "\"}}"
#define MOVED                                                                                      \
    "{\"destinationConfiguration\":{" MAIL ",\"mail.pop3s.port\":\"9950\","                        \
    "\"mail.password\":\"" PASSWORD "\"}}"

#define NOT_FOUND "{\"ErrorMessage\":\"Configuration with the specified name was not found\"}"

extern struct dest *dest;
extern struct dest_source *source;
extern struct http_peer auth, service;

/* The answers of the two servers. */
extern int status, auth_status;
extern const char *headers, *body;
extern bool silent, auth_silent;
extern int refuse_tokens;  /* the number of requests that still get a 401 */
extern unsigned tokens;    /* the number of tokens given */
extern char bearer[256];   /* the token in the last request to the service */
extern char target[1024];  /* the target of that request */
extern char client[64];    /* the client of the last request to the authorization server */
extern char authority[64]; /* the host of that request, without the port */
extern bool with_secret;   /* that client has sent a secret */
extern char shown[1024];   /* the fields "X-..." of the last request to the service */
extern unsigned with_user;

/* The authorization server's answer to the client of a destination. */
extern int own_status;
extern const char *own_body;
extern unsigned own_requests;
extern char own_authority[64];

/* One asker and its answer. */
struct asker {
    struct dest_request *request;
    int answers;
    enum verdict verdict;
    uint16_t port; /* the destination's port; 0: there is no destination */
    enum mail_auth auth;
    char token[64];
    struct token *last; /* valid as long as the cache has it */
    int64_t expires;
    struct error err;
};

/* ---- the servers ---- */

void serve(int with, const char *text);

/* Returns a destination with a token service at the authorization server. `auth_tokens` is the
 * value of authTokens, or NULL. */
const char *oauth_body(const char *kind, const char *more, const char *auth_tokens);

/* Returns an answer with a token for the mail server. */
const char *token_body(const char *kind, const char *more, const char *token,
                       const char *expires_in, const char *refresh_token);

const char *with_token(const char *token, const char *expires_in);

/* ---- the world ---- */

extern const char *dest_hosts;

/* Sets the service key of an instance. `uri`: the service's; NULL: that of the test's server. */
void set_key(const char *instance, const char *id, const char *secret, const char *uri);

int setup(void **state);

int teardown(void **state);

/* ---- asking ---- */

void ask_ref(struct asker *a, const struct dest_ref *ref, enum dest_purpose purpose,
             const struct dest_user *user);

void ask_for(struct asker *a, const char *instance, const char *name, enum dest_purpose purpose);

void ask(struct asker *a, enum dest_purpose purpose);

/* Checks that the destination is found at this port. */
void expect_port(enum dest_purpose purpose, uint16_t port);

void expect_refusal(enum dest_purpose purpose, enum verdict verdict, enum fail fail,
                    const char *text);

#endif
