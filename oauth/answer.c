/* Reads the answers of token endpoints: a token or a refusal. */
#include "oauth/answer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"

#define DEFAULT_LIFETIME SECONDS(300)
#define LIFETIME_MAX_S ((uint64_t)24 * 60 * 60)

/* ---- numbers ---- */

int64_t oauth_answer_lifetime(struct json_value v)
{
    char space[32];
    struct buf decoded = BUF_ON(space);
    struct str text = json_type(v) == JSON_NUMBER ? json_text(v) : (struct str){NULL, 0};
    uint64_t seconds;
    if (json_string(v, &decoded) == OK) {
        text = str_trim(buf_str(&decoded));
    }
    if (text_number(text, UINT64_MAX, &seconds) == ERR) {
        return -1;
    }
    return SECONDS(seconds < LIFETIME_MAX_S ? seconds : LIFETIME_MAX_S);
}

/* ---- a token ---- */

bool oauth_answer_is_bearer(struct json_value type)
{
    char space[16];
    struct buf text = BUF_ON(space);
    if (!json_given(type)) {
        return true;
    }
    return json_string(type, &text) == OK &&
           (str_ieq(buf_str(&text), "bearer") || str_ieq(buf_str(&text), "bearertoken"));
}

char *oauth_answer_type_shown(char *out, size_t cap, struct json_value type,
                              struct peer_secrets secrets)
{
    char said[48];
    http_peer_said(said, sizeof(said), type, secrets);
    if (json_type(type) == JSON_STRING) {
        text_fmt(out, cap, "\"%s\"", said[0] ? said + strlen(": ") : "");
    } else {
        text_fmt(out, cap, "%s", json_type_name(json_type(type)));
    }
    return out;
}

static int unusable(const struct token_question *q, struct json_value type, struct error *err)
{
    char shown[60];
    return error_set(err, FAIL_TOKEN,
                     "gives no token that can be used: its token_type is %s, not Bearer",
                     oauth_answer_type_shown(shown, sizeof(shown), type, q->secrets));
}

static void take_token(struct json_value root, struct token_answer *answer)
{
    struct json_value refresh = json_get(root, "refresh_token");
    answer->lifetime = oauth_answer_lifetime(json_get(root, "expires_in"));
    if (answer->lifetime < 0) {
        answer->lifetime = DEFAULT_LIFETIME;
    }
    answer->access_token.p = json_strdup(json_get(root, "access_token"), &answer->access_token.n);
    if (json_type(refresh) == JSON_STRING && !json_is(refresh, "")) {
        answer->refresh_token.p = json_strdup(refresh, &answer->refresh_token.n);
    }
}

/* ---- a refusal ---- */

static const char no_token[] = "gives no token", no_client[] = "refuses the client",
                  no_grant[] = "refuses the refresh token or code";

/* Codes and their meanings. They are from RFC 6749 sections 4.1.2.1 and 5.2, RFC 8628 section 3.5
 * and RFC 8707 section 2; UAA says "unauthorized", Entra ID "invalid_resource", GitHub the last
 * three ("Troubleshooting OAuth app access token request errors"). */
static const struct meaning {
    const char *code;
    enum fail fail;
    const char *what;
} meanings[] = {
    {"invalid_grant", FAIL_AUTH, no_grant},
    {"invalid_client", FAIL_AUTH, no_client},
    {"unauthorized_client", FAIL_AUTH, no_client},
    {"unauthorized", FAIL_AUTH, no_client},
    {"invalid_request", FAIL_CONFIG, no_token},
    {"invalid_scope", FAIL_CONFIG, no_token},
    {"invalid_target", FAIL_CONFIG, no_token},
    {"invalid_resource", FAIL_CONFIG, no_token},
    {"unsupported_grant_type", FAIL_CONFIG, no_token},
    {"unsupported_response_type", FAIL_CONFIG, no_token},
    {"server_error", FAIL_REMOTE, no_token},
    {"temporarily_unavailable", FAIL_REMOTE, no_token},
    {"slow_down", FAIL_REMOTE, no_token},
    {"bad_verification_code", FAIL_AUTH, no_grant},
    {"bad_refresh_token", FAIL_AUTH, no_grant},
    {"incorrect_client_credentials", FAIL_AUTH, no_client},
};

static struct meaning meaning_of(int status, struct json_value code)
{
    bool passing = status == 408 || status == 429 || status >= 500, absent = status == 404;
    for (size_t i = 0; i < ARRAY_LEN(meanings) && !passing && !absent; i++) {
        if (json_is(code, meanings[i].code)) {
            return meanings[i];
        }
    }
    if (status == 401 || status == 403) {
        return (struct meaning){NULL, FAIL_AUTH, no_client};
    }
    if (absent) {
        return (struct meaning){NULL, FAIL_CONFIG, "knows no such tenant"};
    }
    return (struct meaning){NULL, passing ? FAIL_REMOTE : FAIL_TOKEN, no_token};
}

/* Finds the error's code and its words: {"error": CODE, "error_description": WORDS}, or in the form
 * of Google's and Microsoft's newer services {"error": {"status" or "code": CODE, "message":
 * WORDS}}. */
static void find_error(struct json_value root, struct json_value *code, struct json_value *words)
{
    *code = json_get(root, "error");
    *words = json_get(root, "error_description");
    if (json_type(*code) == JSON_OBJECT) {
        struct json_value object = *code;
        *words = json_get(object, "message");
        *code = json_get(object, "status");
        *code = json_type(*code) == JSON_STRING ? *code : json_get(object, "code");
    }
    if (!json_given(*words)) {
        *words = json_get(root, "message");
    }
}

static int refusal(const struct token_question *q, const struct http_head *head,
                   struct json_value root, struct error *err)
{
    char error[48], description[160], coding[48], where[140];
    struct json_value code, words;
    if (http_peer_redirects(head, where, sizeof(where), q->secrets)) {
        return error_set(err, FAIL_CONFIG,
                         "redirects %s (%d), which is not followed: %s has to name that address",
                         where, head->status, q->property);
    }
    find_error(root, &code, &words);
    http_peer_said(error, sizeof(error), code, q->secrets);
    http_peer_said(description, sizeof(description), words, q->secrets);
    struct meaning meaning = meaning_of(head->status, code);
    return error_set(err, meaning.fail, "%s (%d%s%s%s)", meaning.what, head->status, error,
                     description, http_peer_coding(coding, sizeof(coding), head));
}

int oauth_answer_read(const struct token_question *q, const struct http_head *head, struct str body,
                      struct token_answer *answer, struct error *err)
{
    struct error malformed;
    struct json *doc = json_parse(http_peer_body(body), &malformed);
    struct json_value root = json_root(doc), token = json_get(root, "access_token");
    bool has_token = json_type(token) == JSON_STRING && !json_is(token, "");
    int rc = ERR;
    *answer = (struct token_answer){0};
    if (head->status != 200 || (!has_token && json_given(json_get(root, "error")))) {
        refusal(q, head, root, err);
    } else if (!doc) {
        error_set(err, FAIL_TOKEN, "gives no token: %s", malformed.text);
    } else if (!has_token) {
        error_set(err, FAIL_TOKEN, "gives no token: its answer has no access_token");
    } else if (!oauth_answer_is_bearer(json_get(root, "token_type"))) {
        unusable(q, json_get(root, "token_type"), err);
    } else {
        take_token(root, answer);
        rc = OK;
    }
    json_free(doc);
    return rc;
}

void oauth_answer_clear(struct token_answer *answer)
{
    secret_clear(&answer->access_token);
    secret_clear(&answer->refresh_token);
}
