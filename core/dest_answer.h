/* What the Destination service answers to "find destination" (help.sap.com, "Destination Service
 * REST API", v1). Pure. */
#ifndef TPROXY_CORE_DEST_ANSWER_H
#define TPROXY_CORE_DEST_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/destination.h"
#include "lib/base.h"
#include "lib/fail.h"
#include "lib/mem.h"
#include "lib/text.h"

/* Longest answer, octets. */
enum { DEST_ANSWER_MAX = 1024 * 1024 };

/* What was asked. */
struct dest_question {
    const char *instance;    /* of the Destination service; for messages */
    struct str access_token; /* that was shown to it; for no message */
    bool with_token;         /* for the mail server, if the destination takes one */
    bool allow_loopback;     /* as for destination_new */
};

/* What came of it. */
struct dest_found {
    const struct destination *dest; /* with one reference; NULL: see verdict and err */
    enum verdict verdict;           /* VERDICT_OK with dest */
    struct error err;               /* without dest. fail_may_pass tells an answer that counts (what
                                       was known of the destination holds no more) from none */
    struct secret token;            /* for AUTH_CLIENT_CREDENTIALS when it was asked for; not empty
                                       then; as it came */
    int64_t token_lifetime;         /* from its receipt, microseconds; 0: not said */
};

/* Reads an answer of that HTTP status; any body may come with any status. The verdict is
 * destination_new's, or NOT_FOUND (FAIL_CONFIG), or UNREADABLE: FAIL_CONFIG when the service
 * refuses the instance (401, 403), FAIL_REMOTE for other statuses, FAIL_PROTOCOL when the answer
 * makes no sense, FAIL_TOKEN when it lacks the token. Cleared by the caller. */
void dest_answer_read(const struct dest_question *question, int status, struct str body,
                      struct dest_found *found);

/* Idempotent. */
void dest_found_clear(struct dest_found *found);

#endif
