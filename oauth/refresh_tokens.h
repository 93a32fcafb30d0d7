/* Refresh tokens that took the place of others. An authorization server may answer with a new one
 * and not know the old one any more (RFC 6749 section 6), but a client keeps sending what it has:
 * the new one is kept in memory, under a digest of where the old one counts. */
#ifndef TPROXY_OAUTH_REFRESH_TOKENS_H
#define TPROXY_OAUTH_REFRESH_TOKENS_H

#include "lib/base.h"
#include "lib/digest.h"
#include "lib/mem.h"

/* So many are kept; beyond, the one that was not asked for longest is lost. */
enum { ROTATIONS_MAX = 1024 };

struct rotations;

struct rotations *rotations_new(void);

/* Wipes all. NULL is allowed. */
void rotations_free(struct rotations *rotations);

/* What is to be sent instead, valid until the next call with these rotations; NULL: nothing. */
const struct secret *rotations_find(struct rotations *rotations,
                                    const unsigned char digest[DIGEST_SHA256_SIZE]);

/* Takes a copy, in place of the one that was kept under this digest. */
void rotations_keep(struct rotations *rotations, const unsigned char digest[DIGEST_SHA256_SIZE],
                    const struct secret *token);

/* The one that was kept is refused. */
void rotations_drop(struct rotations *rotations, const unsigned char digest[DIGEST_SHA256_SIZE]);

#endif
