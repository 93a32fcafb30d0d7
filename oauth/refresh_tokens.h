/* Keeps newer refresh tokens. An authorization server may answer with a new refresh token and not
 * know the old one any more (RFC 6749 section 6), but a client keeps sending the old one. So the
 * new one is kept in memory, under a digest of the old one and of the place where it counts. */
#ifndef TPROXY_OAUTH_REFRESH_TOKENS_H
#define TPROXY_OAUTH_REFRESH_TOKENS_H

#include "lib/base.h"
#include "lib/digest.h"
#include "lib/mem.h"

/* Maximum number of entries; beyond it the least recently used one is dropped. */
enum { REFRESH_TOKENS_MAX = 1024 };

struct refresh_tokens;

/* Creates an object without tokens. */
struct refresh_tokens *oauth_refresh_tokens_new(void);

/* Wipes all tokens and frees the object. NULL is allowed. */
void oauth_refresh_tokens_free(struct refresh_tokens *tokens);

/* Returns the token to be sent instead, valid until the next call with these tokens. Returns
 * NULL when there is no newer one. */
const struct secret *oauth_refresh_tokens_find(struct refresh_tokens *tokens,
                                               const unsigned char digest[DIGEST_SHA256_SIZE]);

/* Keeps a copy of the token, in place of the one that was kept under this digest. */
void oauth_refresh_tokens_keep(struct refresh_tokens *tokens,
                               const unsigned char digest[DIGEST_SHA256_SIZE],
                               const struct secret *token);

/* Forgets the token that was kept, because it was refused. */
void oauth_refresh_tokens_drop(struct refresh_tokens *tokens,
                               const unsigned char digest[DIGEST_SHA256_SIZE]);

#endif
