/* The answers of token endpoints. */
#include "core/token_answer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"

#define DEFAULT_LIFETIME SECONDS(300)
#define LIFETIME_MAX_S ((uint64_t)24 * 60 * 60)

/* ---- words of a peer ---- */

/* RFC 7235 section 2.1: the characters of a token68. */
static bool is_token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("-._~+/=", c));
}

/* Long and as if by chance. Host names, paths, UUIDs and class names are not. */
static bool looks_like_token(struct str run)
{
    bool digit = false, upper = false, mark = false;
    for (size_t i = 0; i < run.n; i++) {
        char c = run.p[i];
        digit |= c >= '0' && c <= '9';
        upper |= c >= 'A' && c <= 'Z';
        mark |= strchr("-._~+/=", c) != NULL;
    }
    return run.n >= 20 && digit && (upper || !mark);
}

static void printable(char *out, size_t cap, struct str s)
{
    size_t used = 0;
    out[0] = '\0';
    while (s.n && used + 1 < cap) {
        bool token = is_token_char(s.p[0]);
        struct str run = {s.p, 1};
        while (run.n < s.n && is_token_char(s.p[run.n]) == token) {
            run.n++;
        }
        s.p += run.n;
        s.n -= run.n;
        text_printable(out + used, cap - used,
                       token && looks_like_token(run) ? str_of("***") : run);
        used += strlen(out + used);
    }
}

char *token_said(char *out, size_t cap, struct json_value v, const struct str *known, size_t n)
{
    struct str said = {.n = 0};
    char *words = json_strdup(v, &said.n);
    bool secret = false;
    for (size_t i = 0; i < n && said.n; i++) {
        secret |= known[i].n && memmem(words, said.n, known[i].p, known[i].n);
    }
    said.p = words;
    if (secret) {
        said = str_of("(not shown: a secret is in it)");
    }
    size_t used = text_fmt(out, cap, "%s", said.n ? ": " : "");
    printable(out + used, cap - used, said);
    free(words);
    return out;
}

/* ---- numbers ---- */

int64_t token_lifetime(struct json_value v)
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

bool token_is_bearer(struct json_value type)
{
    char space[16];
    struct buf text = BUF_ON(space);
    return !json_exists(type) ||
           (json_string(type, &text) == OK && str_ieq(buf_str(&text), "bearer"));
}

static int take_token(struct json_value root, struct token_answer *answer, struct error *err)
{
    struct json_value token = json_get(root, "access_token");
    if (json_type(token) != JSON_STRING || json_is(token, "")) {
        return error_set(err, FAIL_TOKEN, "gives no token: its answer has no access_token");
    }
    if (!token_is_bearer(json_get(root, "token_type"))) {
        return error_set(err, FAIL_TOKEN,
                         "gives no token that can be used: it is not of type Bearer");
    }
    answer->lifetime = token_lifetime(json_get(root, "expires_in"));
    if (answer->lifetime < 0) {
        answer->lifetime = DEFAULT_LIFETIME;
    }
    answer->access_token.p = json_strdup(token, &answer->access_token.n);
    struct json_value refresh = json_get(root, "refresh_token");
    if (json_type(refresh) == JSON_STRING && !json_is(refresh, "")) {
        answer->refresh_token.p = json_strdup(refresh, &answer->refresh_token.n);
    }
    return OK;
}

/* ---- a refusal ---- */

/* Error codes that blame the client (RFC 6749 section 5.2; "unauthorized" is UAA's). */
static bool blames_client(struct json_value code)
{
    return json_is(code, "invalid_client") || json_is(code, "unauthorized_client") ||
           json_is(code, "unauthorized");
}

static int refusal(int status, struct json_value root, const struct str *known, size_t n,
                   struct error *err)
{
    char error[48], description[160];
    struct json_value code = json_get(root, "error");
    token_said(error, sizeof(error), code, known, n);
    token_said(description, sizeof(description), json_get(root, "error_description"), known, n);

    enum fail fail = FAIL_TOKEN;
    const char *what = "gives no token";
    if (json_is(code, "invalid_grant")) {
        fail = FAIL_AUTH;
        what = "refuses the refresh token or code";
    } else if (status == 401 || status == 403 || (status == 400 && blames_client(code))) {
        fail = FAIL_AUTH;
        what = "refuses the client";
    } else if (status == 404) {
        fail = FAIL_CONFIG;
        what = "knows no such tenant";
    } else if (status == 408 || status == 429 || status >= 500) {
        fail = FAIL_REMOTE;
    }
    return error_set(err, fail, "%s (%d%s%s)", what, status, error, description);
}

int token_answer_read(int status, struct str body, const struct str *known, size_t n,
                      struct token_answer *answer, struct error *err)
{
    struct error malformed;
    struct json *doc = json_parse(body, &malformed);
    int rc;
    *answer = (struct token_answer){0};
    if (status != 200) {
        rc = refusal(status, json_root(doc), known, n, err);
    } else if (!doc) {
        rc = error_set(err, FAIL_TOKEN, "gives no token: %s", malformed.text);
    } else {
        rc = take_token(json_root(doc), answer, err);
    }
    json_free(doc);
    return rc;
}

void token_answer_clear(struct token_answer *answer)
{
    secret_clear(&answer->access_token);
    secret_clear(&answer->refresh_token);
}
