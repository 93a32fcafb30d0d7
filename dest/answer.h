/* What the Destination service answers to "find destination" (help.sap.com, "Destination Service
 * REST API", v1 and v2). Pure. */
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

/* Longest answer, octets. */
enum { DEST_ANSWER_MAX = 1024 * 1024 };

/* What was asked. */
struct dest_question {
    const char *instance;                 /* of the Destination service; for messages */
    const char *level, *fragment, *chain; /* as in struct dest_ref */
    struct str access_token;              /* that was shown to it; for no message */
    bool with_token;                      /* for the mail server, if the destination takes one */
    struct str user_token; /* the client's refresh token or code, for which it was asked; empty:
                                none; for no message */
    bool allow_loopback;   /* as for destination_new */
};

/* What came of it. */
struct dest_found {
    const struct destination *dest; /* with one reference; NULL: see verdict and err */
    enum verdict verdict;           /* VERDICT_OK with dest */
    /* set without dest, or without a token that was asked for. After a failure that may pass
     * (fail_may_pass) and after a redirect, the destination known before stays valid; after
     * other failures it does not */
    struct error err;
    struct secret token;         /* that was asked for; as it came. Of AUTH_CLIENT_CREDENTIALS
                                       the service may have none: FAIL_TOKEN */
    int64_t token_lifetime;      /* from its receipt, microseconds; 0: not said */
    struct secret refresh_token; /* takes the place of the client's; empty: none does */
};

/* Reads an answer; any body may come with any status. The verdict is destination_new's, or
 * NOT_FOUND or FRAGMENT_NOT_FOUND (FAIL_CONFIG), or CONFIGURATION_FAILED when the service does not
 * take the chain (FAIL_CONFIG), or UNREADABLE: FAIL_CONFIG when the service refuses the instance
 * (401, 403) or redirects, FAIL_REMOTE for other statuses, FAIL_PROTOCOL when the answer makes no
 * sense, FAIL_AUTH when the service has no token for what the client sent, FAIL_TOKEN when that is
 * of a type that cannot be used. Cleared by the caller. */
void dest_answer_read(const struct dest_question *question, const struct http_head *head,
                      struct str body, struct dest_found *found);

/* Idempotent. */
void dest_found_clear(struct dest_found *found);

#endif
