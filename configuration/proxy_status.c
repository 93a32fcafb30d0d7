/* Composes the status of TransparentProxy objects. */
#include "configuration/proxy_status.h"

#include <string.h>

#include "configuration/config.h"
#include "lib/text.h"

/* The sentence about an object that is being deleted: without a finalizer it would have gone. */
#define HELD "The object is being deleted, and a finalizer holds it; see its metadata.finalizers."

void proxy_status_add(struct proxy_sentences *to, const char *sentence)
{
    struct buf out = {.data = to->text, .end = to->n, .cap = sizeof(to->text)};
    bool ends = sentence[strlen(sentence) - 1] == '.';
    out.max = out.cap - 1;
    if (buf_fmt(&out, "%s%s%s", to->n ? " " : "", sentence, ends ? "" : ".") == OK) {
        to->n = out.end;
        to->text[to->n] = '\0';
    }
}

const char *proxy_status_warning(const struct proxy_status *s)
{
    return s->wrong.n ? s->wrong.text : s->secrets.n ? s->secrets.text : s->onpremise;
}

static bool is_of_ignored(struct json_value condition)
{
    return json_is(json_get(condition, "type"), "SomeKeysIgnored");
}

bool proxy_status_is_problem(struct json_value condition)
{
    return json_is(json_get(condition, "status"), "False") && !is_of_ignored(condition);
}

bool proxy_status_is_ignored(struct json_value condition)
{
    return json_is(json_get(condition, "status"), "True") && is_of_ignored(condition);
}

/* Returns the reason of the condition Configured. */
static const char *reason_of(const struct proxy_status *s)
{
    if (!s->wrong.n) {
        return "ConfigurationApplied";
    }
    return s->not_kept ? "NotKept" : "InvalidConfiguration";
}

/* Fills the message of the condition Configured. */
static void put_configured(struct proxy_sentences *out, const struct proxy_status *s, bool deleting)
{
    *out = s->wrong;
    if (!out->n) {
        proxy_status_add(out, "The configuration is in force.");
    }
    if (deleting) {
        proxy_status_add(out, HELD);
    }
}

bool proxy_status_is_processing(const struct proxy_status *s, struct json_value observed)
{
    return s->processing && !config_status_is_outcome(observed);
}

int proxy_status_put(struct buf *out, const struct proxy_status *s, bool deleting,
                     struct json_value observed, const char *now)
{
    struct proxy_sentences configured;
    put_configured(&configured, s, deleting);
    struct config_condition conditions[] = {
        {.type = "Configured",
         .status = !s->wrong.n,
         .reason = reason_of(s),
         .message = configured.text},
        {.type = "CredentialsAvailable",
         .status = !s->secrets.n,
         .reason = s->secrets.n ? "SecretNotUsable" : "SecretsRead",
         .message =
             s->secrets.n ? s->secrets.text : "The service keys of all instances have been read."},
        {.type = "SomeKeysIgnored",
         .status = s->ignored.n,
         .reason = s->ignored.n ? "NoEffect" : "AllHonoured",
         .message = s->ignored.n ? s->ignored.text : "Every key that is set has its effect."},
        /* It is the last one, because it is only shown when there is a problem. */
        {.type = "ConnectivityProxyUsable",
         .status = false,
         .reason = "NotUsable",
         .message = s->onpremise},
    };
    size_t n = s->in_force ? ARRAY_LEN(conditions) - !s->onpremise : 1;
    bool warning = proxy_status_warning(s) || s->ignored_is_warning;
    enum config_state state = warning ? CONFIG_WARNING : CONFIG_READY;
    return config_status(out, observed, deleting ? CONFIG_DELETING : state, conditions, n, now);
}

int proxy_status_put_other(struct buf *out, const char *first, bool deleting,
                           struct json_value observed, const char *now)
{
    char message[512];
    text_fmt(message, sizeof(message),
             "Custom Resource with name \"%s\" already exists in this namespace.%s%s", first,
             deleting ? " " : "", deleting ? HELD : "");
    struct config_condition condition = {
        .type = "Configured", .status = false, .reason = "AlreadyExists", .message = message};
    return config_status(out, observed, deleting ? CONFIG_DELETING : CONFIG_ERROR, &condition, 1,
                         now);
}
