/* Turns the words of an HTTP peer into one safe line for people. */
#include "http/peer_words.h"

#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"
#include "lib/url.h"

/* ---- secrets ---- */

static bool has_secret(struct str text, struct peer_secrets secrets)
{
    for (size_t i = 0; i < secrets.n; i++) {
        struct str secret = secrets.list[i];
        if (secret.n && text.n && memmem(text.p, text.n, secret.p, secret.n)) {
            return true;
        }
    }
    return false;
}

/* Tells whether the text contains a secret, as it is or as a form encodes it. A server may repeat
 * the form or the header field that it was sent. */
static bool repeats_secret(struct str text, struct peer_secrets secrets)
{
    char *decoded = mem_alloc(text.n + 1);
    size_t n = url_decode_form(decoded, text);
    bool yes = has_secret(text, secrets) || has_secret((struct str){decoded, n}, secrets);
    mem_wipe(decoded, n);
    free(decoded);
    return yes;
}

/* ---- tokens ---- */

/* Tells whether the character may be part of a token68 (RFC 7235 section 2.1). */
static bool is_token_char(char c)
{
    return text_is_alnum(c) || (c && strchr("-._~+/=", c));
}

/* Tells whether the word looks like a token: long and random. Host names, paths, UUIDs and class
 * names do not. */
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

/* Tells whether the word is base64 of a text with a secret in it, as in "Authorization: Basic". */
static bool is_coded_secret(struct str run, struct peer_secrets secrets)
{
    size_t n = 0;
    char *decoded = mem_alloc(run.n + 1);
    bool yes = text_unbase64(decoded, run.n, run, &n) == OK &&
               has_secret((struct str){decoded, n}, secrets);
    mem_wipe(decoded, n);
    free(decoded);
    return yes;
}

/* Writes s with "***" in place of tokens and coded secrets. `apart` is a character that separates
 * words, although it may also be part of a token. */
static void print(char *out, size_t cap, struct str s, char apart, struct peer_secrets secrets)
{
    size_t used = 0;
    out[0] = '\0';
    while (s.n && used + 1 < cap) {
        bool token = is_token_char(s.p[0]) && s.p[0] != apart;
        struct str run = {s.p, 1};
        while (run.n < s.n && (is_token_char(s.p[run.n]) && s.p[run.n] != apart) == token) {
            run.n++;
        }
        s.p += run.n;
        s.n -= run.n;
        bool hide = token && (looks_like_token(run) || is_coded_secret(run, secrets));
        text_printable(out + used, cap - used, hide ? str_of("***") : run);
        used += strlen(out + used);
    }
}

/* ---- words ---- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Puts one blank in place of each run of blanks and line ends, and '?' in place of a NUL; removes
 * blanks at both ends. Returns the length. */
static size_t fold(char *words, size_t n)
{
    size_t o = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_space(words[i])) {
            words[o++] = words[i] ? words[i] : '?';
        } else if (o && words[o - 1] != ' ') {
            words[o++] = ' ';
        }
    }
    o -= o && words[o - 1] == ' ';
    words[o] = '\0';
    return o;
}

/* Writes the words after a prefix. They are a NUL-terminated text of n octets, which is changed.
 * For `apart` see print(). */
static void say(char *out, size_t cap, const char *prefix, char *words, size_t n, char apart,
                struct peer_secrets secrets)
{
    bool secret = repeats_secret((struct str){words, n}, secrets);
    n = fold(words, n);
    size_t used = text_fmt(out, cap, "%s", n ? prefix : "");
    if (secret) {
        text_fmt(out + used, cap - used, "(not shown: a secret is in it)");
        return;
    }
    for (size_t i = 0; i < secrets.n; i++) {
        text_conceal(words, secrets.list[i]);
    }
    print(out + used, cap - used, (struct str){words, n}, apart, secrets);
}

char *http_peer_said(char *out, size_t cap, struct json_value v, struct peer_secrets secrets)
{
    size_t n = 0;
    char *words = json_strdup(v, &n);
    out[0] = '\0';
    if (words) {
        say(out, cap, ": ", words, n, '\0', secrets);
        mem_wipe(words, n);
        free(words);
    }
    return out;
}

bool http_peer_redirects(const struct http_head *head, char *out, size_t cap,
                         struct peer_secrets secrets)
{
    static const int redirects[] = {301, 302, 303, 307, 308};
    struct str location = {.n = 0};
    bool yes = false;
    for (size_t i = 0; i < ARRAY_LEN(redirects); i++) {
        yes |= head->status == redirects[i];
    }
    if (yes && http_find_header(head, "Location", &location)) {
        location = str_cut(&location, '?');
    }
    if (location.n) {
        char *words = mem_strndup(location.p, location.n);
        say(out, cap, "to ", words, location.n, '/', secrets);
        mem_wipe(words, location.n);
        free(words);
    } else {
        text_fmt(out, cap, "%s", yes ? "without saying where to" : "");
    }
    return yes;
}

char *http_peer_coding(char *out, size_t cap, const struct http_head *head)
{
    struct str coding;
    char name[24];
    out[0] = '\0';
    if (http_find_coding(head, &coding)) {
        text_fmt(out, cap, "; its text is coded as %s", text_printable(name, sizeof(name), coding));
    }
    return out;
}

struct str http_peer_body(struct str body)
{
    static const char mark[] = "\xEF\xBB\xBF";
    size_t n = strlen(mark);
    return body.n >= n && memcmp(body.p, mark, n) == 0 ? (struct str){body.p + n, body.n - n}
                                                       : body;
}
