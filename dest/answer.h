/* Reads the answer of the Destination service to "find destination" (help.sap.com, "Destination
 * Service REST API", v1 and v2). Pure. */
#ifndef TPROXY_DEST_ANSWER_H
#define TPROXY_DEST_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/destination.h"
#include "http/proto.h"
#include "lib/base.h"
#include "lib/fail.h"
#include "lib/mem.h"
#include "lib/text.h"

/* Maximum length of an answer in octets. */
enum { DEST_ANSWER_MAX = 1024 * 1024 };

/* The question to the service. */
struct dest_question {
    const char *instance;                 /* of the Destination service; for messages */
    const char *level, *fragment, *chain; /* as in struct dest_ref */
    struct str access_token; /* the one that the service was sent; kept out of messages */
    bool with_token;         /* ask for a mail server's token, if the destination takes one */
    struct str user_token;   /* the client's refresh token or code that was sent for a token;
                                empty: none; kept out of messages */
    bool allow_loopback;     /* as for destination_new */
};

/* The result of the question. */
struct dest_found {
    const struct destination *dest; /* with one reference; NULL: see verdict and err */
    enum verdict verdict;           /* VERDICT_OK if and only if there is a dest */
    /* set without dest, or without the wanted token. After a failure that may pass
     * (fail_may_pass) and after a redirect, the destination known before stays valid; after
     * other failures it does not */
    struct error err;
    struct secret token;         /* the wanted token, unchanged. For AUTH_CLIENT_CREDENTIALS it
                                    may be empty beside a dest: FAIL_TOKEN */
    int64_t token_lifetime;      /* from its receipt, microseconds; 0: unknown */
    struct secret refresh_token; /* replaces the client's refresh token; empty: that one stays */
};

/* Reads an answer, whose body may be anything with any status. The caller clears *found. Without a
 * destination the verdict is that of destination_new (FAIL_CONFIG), or
 * - NOT_FOUND or FRAGMENT_NOT_FOUND: FAIL_CONFIG;
 * - CONFIGURATION_FAILED, because the service does not take the chain: FAIL_CONFIG;
 * - UNREADABLE: FAIL_CONFIG when the service refuses the instance (401, 403) or redirects,
 *   FAIL_REMOTE for other statuses, FAIL_PROTOCOL for a malformed answer, FAIL_AUTH when the
 *   service has no token for the client's, FAIL_TOKEN when it has one of an unusable type. */
void dest_answer_read(const struct dest_question *question, const struct http_head *head,
                      struct str body, struct dest_found *found);

/* Frees and wipes the contents of *found. May be called more than once. */
void dest_found_clear(struct dest_found *found);

#endif
