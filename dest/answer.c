/* Reads the answers of the Destination service: a destination with its tokens, or a refusal. */
#include "dest/answer.h"

#include <stdlib.h>
#include <string.h>

#include "core/properties.h"
#include "http/peer_words.h"
#include "lib/json.h"
#include "oauth/answer.h"

/* ---- the token ---- */

/* Properties that hold secrets. A token service might repeat them in its error. */
static const char *const secret_properties[] = {
    "clientSecret",
    "tokenServicePassword",
    "Password",
    "mail.password",
};

/* The reason why there is no token: an error of the service, or the type of a token that cannot be
 * used. Both may be JSON_NONE. */
struct lack {
    struct json_value error, type;
};

static int no_token(const struct dest_question *q, const struct lack *lack,
                    const struct properties *props, struct error *err)
{
    struct str known[ARRAY_LEN(secret_properties) + 1] = {0};
    const struct peer_secrets secrets = {known, ARRAY_LEN(known)};
    char said[170];
    for (size_t i = 0; i < ARRAY_LEN(secret_properties); i++) {
        known[i].p = properties_get(props, secret_properties[i], &known[i].n);
    }
    known[ARRAY_LEN(secret_properties)] = q->user_token;
    if (json_exists(lack->type) && !json_exists(lack->error)) {
        return error_set(err, FAIL_TOKEN,
                         "the Destination service has no access token for it that can be used: its "
                         "type is %s, not Bearer",
                         oauth_answer_type_shown(said, sizeof(said), lack->type, secrets));
    }
    http_peer_said(said, sizeof(said), lack->error, secrets);
    if (q->user_token.n) {
        return error_set(err, FAIL_AUTH,
                         "the Destination service gets no access token with the refresh token or "
                         "code that was sent%s",
                         said);
    }
    return error_set(err, FAIL_TOKEN, "the Destination service has no access token for it%s", said);
}

static void take_refresh_token(struct json_value value, struct dest_found *found)
{
    if (json_type(value) == JSON_STRING && !json_is(value, "")) {
        found->refresh_token.p = json_strdup(value, &found->refresh_token.n);
    }
}

/* Takes the first usable token into *found. Returns ERR and found->err when there is none, which
 * happens with status 200, too. */
static int take_token(const struct dest_question *q, struct json_value tokens,
                      const struct properties *props, struct dest_found *found)
{
    struct lack lack = {0};
    for (struct json_value t = json_first(tokens); json_exists(t); t = json_next(t)) {
        struct json_value error = json_get(t, "error"), value = json_get(t, "value");
        if (json_type(error) == JSON_STRING && !json_is(error, "")) {
            lack.error = json_exists(lack.error) ? lack.error : error;
        } else if (json_type(value) != JSON_STRING || json_is(value, "")) {
            continue;
        } else if (!oauth_answer_is_bearer(json_get(t, "type"))) {
            lack.type = json_exists(lack.type) ? lack.type : json_get(t, "type");
        } else {
            int64_t lifetime = oauth_answer_lifetime(json_get(t, "expires_in"));
            found->token_lifetime = lifetime > 0 ? lifetime : 0;
            found->token.p = json_strdup(value, &found->token.n);
            take_refresh_token(json_get(t, "refresh_token"), found);
            return OK;
        }
    }
    return no_token(q, &lack, props, &found->err);
}

/* ---- the destination ---- */

static bool wants_token(const struct dest_question *q, enum mail_auth auth)
{
    bool user_token = auth == AUTH_REFRESH_TOKEN || auth == AUTH_AUTHORIZATION_CODE;
    return q->with_token && (q->user_token.n ? user_token : auth == AUTH_CLIENT_CREDENTIALS);
}

static void take(const struct dest_question *q, const struct properties *props,
                 struct json_value tokens, struct dest_found *found)
{
    struct destination_problem problem;
    const struct destination *dest = destination_new(props, q->allow_loopback, &problem);
    if (!dest) {
        found->verdict = problem.verdict;
        error_set(&found->err, FAIL_CONFIG, "%s: %s", problem.field, problem.text);
    } else if (wants_token(q, dest->auth) && take_token(q, tokens, props, found) == ERR &&
               q->user_token.n) {
        destination_unref(dest);
    } else {
        found->verdict = VERDICT_OK;
        found->dest = dest;
    }
}

static void no_destination(const struct dest_question *q, const char *why, struct error *err)
{
    error_set(err, FAIL_PROTOCOL,
              "received invalid configuration from Destination service instance \"%.100s\": %s",
              q->instance, why);
}

static void read_destination(const struct dest_question *q, struct json_value root,
                             struct dest_found *found)
{
    struct json_value config = json_get(root, "destinationConfiguration");
    struct error err;
    if (json_type(config) != JSON_OBJECT) {
        no_destination(q, "it has no object destinationConfiguration", &found->err);
        return;
    }
    struct properties *props = properties_from_json(root, &err);
    if (!props) {
        no_destination(q, err.text, &found->err);
        return;
    }
    take(q, props, json_get(root, "authTokens"), found);
    properties_free(props);
}

/* ---- a refusal ---- */

/* Tells whether the fragment is missing and not the destination. The answer has no code for it, so
 * its words decide. */
static bool is_about_fragment(struct json_value message)
{
    size_t n;
    char *words = json_type(message) == JSON_STRING ? json_strdup(message, &n) : NULL;
    bool yes = words && strcasestr(words, "fragment");
    free(words);
    return yes;
}

static void not_found(const struct dest_question *q, struct json_value message, const char *said,
                      struct dest_found *found)
{
    if (q->fragment && is_about_fragment(message)) {
        found->verdict = VERDICT_FRAGMENT_NOT_FOUND;
        error_set(&found->err, FAIL_CONFIG,
                  "Destination service instance \"%.100s\" does not have the fragment \"%.60s\"%s",
                  q->instance, q->fragment, said);
    } else {
        found->verdict = VERDICT_NOT_FOUND;
        error_set(&found->err, FAIL_CONFIG,
                  "Destination service instance \"%.100s\" does not have it%s%s%s", q->instance,
                  q->level ? " at level " : "", q->level ? q->level : "", said);
    }
}

static void redirected(const struct dest_question *q, int status, const char *where,
                       struct error *err)
{
    error_set(
        err, FAIL_CONFIG,
        "Destination service instance \"%.100s\": the service redirects %s (%d), which is not "
        "followed: uri of the service key has to name that address",
        q->instance, where, status);
}

static void read_refusal(const struct dest_question *q, const struct http_head *head,
                         const struct json *doc, struct dest_found *found)
{
    char said[170], coding[48], where[120];
    const struct str known[] = {q->access_token, q->user_token};
    const struct peer_secrets secrets = {known, ARRAY_LEN(known)};
    struct json_value message = json_get(json_root(doc), "ErrorMessage");
    int status = head->status;
    http_peer_said(said, sizeof(said), message, secrets);
    http_peer_coding(coding, sizeof(coding), head);

    struct error *err = &found->err;
    if (http_peer_redirects(head, where, sizeof(where), secrets)) {
        redirected(q, status, where, err);
    } else if (status == 404 && doc) {
        not_found(q, message, said, found);
    } else if (status == 404) {
        /* The answer comes from a gateway before the service, or the address is wrong. */
        error_set(err, FAIL_REMOTE,
                  "Destination service instance \"%.100s\": there is no Destination service at "
                  "the uri of its service key (404%s)",
                  q->instance, coding);
    } else if (status == 401) {
        error_set(err, FAIL_CONFIG,
                  "Destination service instance \"%.100s\": the service refuses its access token "
                  "(401%s%s)",
                  q->instance, said, coding);
    } else if (status == 403) {
        error_set(err, FAIL_CONFIG,
                  "Destination service instance \"%.100s\" is not allowed to read it (403%s%s)",
                  q->instance, said, coding);
    } else if (status == 400 && q->user_token.n) {
        error_set(err, FAIL_AUTH,
                  "Destination service instance \"%.100s\" does not take the refresh token or code "
                  "that was sent (400%s%s)",
                  q->instance, said, coding);
    } else if (status == 400 && q->chain && said[0]) {
        found->verdict = VERDICT_CONFIGURATION_FAILED;
        error_set(err, FAIL_CONFIG,
                  "Destination service instance \"%.100s\" does not take spec.chainRef (400%s)",
                  q->instance, said);
    } else {
        error_set(err, FAIL_REMOTE,
                  "Destination service instance \"%.100s\" does not serve (%d%s%s)", q->instance,
                  status, said, coding);
    }
}

void dest_answer_read(const struct dest_question *q, const struct http_head *head, struct str body,
                      struct dest_found *found)
{
    struct error malformed;
    struct json *doc = json_parse(http_peer_body(body), &malformed);
    *found = (struct dest_found){.verdict = VERDICT_UNREADABLE};
    if (head->status != 200) {
        read_refusal(q, head, doc, found);
    } else if (!doc) {
        no_destination(q, malformed.text, &found->err);
    } else {
        read_destination(q, json_root(doc), found);
    }
    json_free(doc);
}

void dest_found_clear(struct dest_found *found)
{
    destination_unref(found->dest);
    found->dest = NULL;
    secret_clear(&found->token);
    secret_clear(&found->refresh_token);
}
