/* Composes the status of a TransparentProxy object: its conditions, in words. Pure. */
#ifndef TPROXY_CONFIGURATION_PROXY_STATUS_H
#define TPROXY_CONFIGURATION_PROXY_STATUS_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/json.h"

/* Maximum length of a condition's message in octets. */
enum { PROXY_SENTENCES_MAX = 8 * 1024 };

/* Sentences that make a message. All zero: there is none. */
struct proxy_sentences {
    size_t n; /* length of `text`, which is always terminated */
    char text[PROXY_SENTENCES_MAX];
};

/* The status of the oldest object, which is the configuration. All zero but `known`: nothing is
 * wrong, and no configuration is in force. */
struct proxy_status {
    bool known;      /* all other members are filled */
    bool processing; /* the configuration in force comes from the object, and has not had its full
                        effect yet */
    bool in_force;   /* a configuration is in force; if not, only `wrong` is shown */
    bool not_kept;   /* `wrong` only says that the configuration is not kept for the next start */
    bool ignored_is_warning;
    struct proxy_sentences wrong;   /* mistakes of the object */
    struct proxy_sentences secrets; /* problems with Secrets, and instances that are missing */
    struct proxy_sentences ignored; /* keys that have no effect */
    const char *onpremise;          /* the problem of the Connectivity Proxy; NULL: none */
};

/* Appends a sentence, and a full stop if it has none. A sentence that does not fit is left out,
 * because the first ones matter most. */
void proxy_status_add(struct proxy_sentences *to, const char *sentence);

/* Returns the message for which the status says Warning, valid as long as *status; NULL: there is
 * none. */
const char *proxy_status_warning(const struct proxy_status *status);

/* Tell whether a condition, as it is written below, says that something is wrong, or that keys are
 * ignored. */
bool proxy_status_is_problem(struct json_value condition);
bool proxy_status_is_ignored(struct json_value condition);

/* Tells whether the observed object shows Processing: from a change of its spec until the change
 * has had its full effect. What becomes of CRs later has states of its own, so the state does not
 * go to and fro. */
bool proxy_status_is_processing(const struct proxy_status *status, struct json_value observed);

/* Appends the merge patch that writes the status of the oldest object, which is known and not
 * Processing. `deleting`: the object is being deleted, so its state is Deleting, and the condition
 * Configured says what holds it. The other arguments, and the result, are those of
 * config_status. */
int proxy_status_put(struct buf *out, const struct proxy_status *status, bool deleting,
                     struct json_value observed, const char *now) warn_unused;

/* Appends the merge patch of an object that has no effect, because the one with the name `first` is
 * older. */
int proxy_status_put_other(struct buf *out, const char *first, bool deleting,
                           struct json_value observed, const char *now) warn_unused;

#endif
