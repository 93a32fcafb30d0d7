/* Conducts the dialogue with the backend until the login is complete.
 *
 *   GREETING
 *      |--> HOPS, if another tproxy greets
 *      |        not known yet: CAPA --> CAPA_LIST --.
 *      v                                            |
 *   decide() <--------------------------------------'
 *      |   ^
 *      |   | pop3_login_secured()      .--> APOP ---------------------------.
 *      |   |                           |--> USER --> PASS ------------------|
 *      |--> STLS --> HANDSHAKE         |--> PLAIN --------------------------|
 *      '--> authenticate() ------------|--> PLAIN_START --> PLAIN_MESSAGE --+--> READY
 *                                      |                                    |
 *                                      '--> XOAUTH2 --> XOAUTH2_TOKEN ------'
 *                                                            | "+ {json}"
 *                                                            v
 *                                                      XOAUTH2_REFUSED
 *
 * Every state may end in FAILED. */
#include "pop3/login.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/destination.h"
#include "lib/digest.h"
#include "lib/mem.h"
#include "pop3/refusal_texts.h"

enum {
    CAPA_LINES_MAX = 256,
    OUT_MAX = 32 * 1024,
};

static const char *const awaited[] = {
    [POP3_LOGIN_GREETING] = "the greeting",
    [POP3_LOGIN_HOPS] = "the answer to XTPROXY",
    [POP3_LOGIN_CAPA] = "the answer to CAPA",
    [POP3_LOGIN_CAPA_LIST] = "the end of the answer to CAPA",
    [POP3_LOGIN_STLS] = "the answer to STLS",
    [POP3_LOGIN_HANDSHAKE] = "the TLS handshake",
    [POP3_LOGIN_APOP] = "the answer to APOP",
    [POP3_LOGIN_USER] = "the answer to USER",
    [POP3_LOGIN_PASS] = "the answer to PASS",
    [POP3_LOGIN_PLAIN_START] = "the answer to AUTH PLAIN",
    [POP3_LOGIN_PLAIN] = "the answer to AUTH PLAIN",
    [POP3_LOGIN_PLAIN_MESSAGE] = "the answer to AUTH PLAIN",
    [POP3_LOGIN_XOAUTH2] = "the answer to AUTH XOAUTH2",
    [POP3_LOGIN_XOAUTH2_TOKEN] = "the answer to the token",
    [POP3_LOGIN_XOAUTH2_REFUSED] = "the reason for the refusal of the token",
    [POP3_LOGIN_READY] = "the client to log in",
    [POP3_LOGIN_FAILED] = "nothing",
};
static_assert(ARRAY_LEN(awaited) == POP3_LOGIN_STATES, "every state has its text");

const char *pop3_login_awaited(const struct pop3_login *login)
{
    return awaited[login->state];
}

void pop3_login_init(struct pop3_login *login, const struct destination *dest, const char *user,
                     const struct secret *token, const struct pop3_memory *memory,
                     const char *own_id, bool secure)
{
    *login = (struct pop3_login){.dest = dest,
                                 .user = user ? user : dest->user,
                                 .token = token,
                                 .own_id = own_id,
                                 .memory = *memory,
                                 .secure = secure};
    buf_init(&login->out, OUT_MAX);
}

void pop3_login_wipe(struct pop3_login *login)
{
    buf_wipe(&login->out);
    secret_clear(&login->sent);
}

static struct pop3_caps *caps(struct pop3_login *login)
{
    return login->secure ? &login->memory.secure : &login->memory.clear;
}

static enum pop3_login_next login_fail(struct pop3_login *login, enum fail class, const char *text)
{
    /* The remembered capabilities may have caused the failure: forget them. */
    login->memory = (struct pop3_memory){0};
    login->state = POP3_LOGIN_FAILED;
    buf_drop(&login->out, buf_len(&login->out)); /* may be half a line whose rest did not fit */
    error_set(&login->err, class, "%s", text);
    return POP3_NEXT_FAIL;
}

static enum pop3_login_next login_fail_reply(struct pop3_login *login, enum fail class,
                                             const char *text)
{
    char sentence[FAIL_TEXT_MAX];
    text_fmt(sentence, sizeof(sentence), "%s: %s", text, login->reply);
    return login_fail(login, class, sentence);
}

/* Puts word and argument into `out` as one line, and waits for the answer in `state`. */
static enum pop3_login_next send_parts(struct pop3_login *login, enum pop3_login_state state,
                                       const char *word, const char *argument)
{
    int rc = buf_add(&login->out, word, strlen(word));
    rc |= buf_add(&login->out, argument, strlen(argument));
    rc |= buf_add(&login->out, "\r\n", 2);
    if (rc != OK) {
        return login_fail(login, FAIL_LIMIT, "the credentials are too long for a POP3 line");
    }
    login->state = state;
    return POP3_NEXT_LINE;
}

static enum pop3_login_next ready(struct pop3_login *login)
{
    if (login->stls_refused) {
        login->memory.clear = (struct pop3_caps){0}; /* the next login asks again for STLS */
    }
    login->state = POP3_LOGIN_READY;
    return POP3_NEXT_DONE;
}

/* ---- mechanisms ---- */

static enum pop3_login_next start_apop(struct pop3_login *login)
{
    /* RFC 1939 section 7: MD5 over the timestamp with its brackets and the shared secret. */
    struct str parts[] = {str_of(login->timestamp), secret_str(&login->dest->password)};
    char line[DESTINATION_USER_MAX + 40];
    char digest[DIGEST_MD5_HEX_SIZE];
    digest_md5_hex(digest, parts, ARRAY_LEN(parts));
    text_fmt(line, sizeof(line), "%s %s", login->user, digest);
    login->shows = true;
    secret_set(&login->sent, digest, strlen(digest));
    return send_parts(login, POP3_LOGIN_APOP, "APOP ", line);
}

static enum pop3_login_next send_pass(struct pop3_login *login)
{
    login->shows = true;
    return send_parts(login, POP3_LOGIN_PASS, "PASS ", login->dest->password.p);
}

/* Sends AUTH PLAIN (RFC 4616), in one line if that is not longer than RFC 5034 section 4 allows. */
static enum pop3_login_next send_plain(struct pop3_login *login, bool message_only)
{
    const struct destination *dest = login->dest;
    char message[DESTINATION_USER_MAX + DESTINATION_PASSWORD_MAX + 3];
    char base64[TEXT_BASE64_SIZE(sizeof(message))];
    size_t user = strlen(login->user), n = 0;
    message[n++] = '\0'; /* no authorization id: some backends refuse even an equal one */
    memcpy(message + n, login->user, user);
    n += user;
    message[n++] = '\0';
    memcpy(message + n, dest->password.p, dest->password.n);
    n += dest->password.n;
    size_t length = text_base64(base64, message, n);
    bool one_line = strlen("AUTH PLAIN \r\n") + length <= POP3_COMMAND_MAX;
    enum pop3_login_next next;
    login->shows = message_only || one_line;
    secret_set(&login->sent, base64, length);
    if (message_only) {
        next = send_parts(login, POP3_LOGIN_PLAIN_MESSAGE, base64, "");
    } else if (one_line) {
        next = send_parts(login, POP3_LOGIN_PLAIN, "AUTH PLAIN ", base64);
    } else {
        next = send_parts(login, POP3_LOGIN_PLAIN_START, "AUTH PLAIN", "");
    }
    mem_wipe(message, sizeof(message));
    mem_wipe(base64, sizeof(base64));
    return next;
}

/* Returns the message of XOAUTH2 in base64: user=U ^A auth=Bearer T ^A ^A. The caller wipes and
 * frees it. */
static char *xoauth2_message(const char *user, const struct secret *token, size_t *n)
{
    size_t cap = strlen(user) + token->n + sizeof("user=\1auth=Bearer \1\1");
    char *message = mem_alloc(cap);
    size_t length = text_fmt(message, cap, "user=%s\1auth=Bearer %s\1\1", user, token->p);
    char *base64 = mem_alloc(TEXT_BASE64_SIZE(length));
    *n = text_base64(base64, message, length);
    mem_wipe(message, cap);
    free(message);
    return base64;
}

static enum pop3_login_next send_xoauth2(struct pop3_login *login, bool message_only)
{
    size_t n;
    char *base64 = xoauth2_message(login->user, login->token, &n);
    bool one_line =
        !login->dest->xoauth2_two_lines && strlen("AUTH XOAUTH2 \r\n") + n <= POP3_COMMAND_MAX;
    enum pop3_login_next next;
    login->shows = message_only || one_line;
    secret_set(&login->sent, base64, n);
    if (message_only) {
        next = send_parts(login, POP3_LOGIN_XOAUTH2_TOKEN, base64, "");
    } else if (one_line) {
        next = send_parts(login, POP3_LOGIN_XOAUTH2_TOKEN, "AUTH XOAUTH2 ", base64);
    } else {
        next = send_parts(login, POP3_LOGIN_XOAUTH2, "AUTH XOAUTH2", "");
    }
    mem_wipe(base64, n);
    free(base64);
    return next;
}

/* ---- the next command ---- */

static enum pop3_login_next ask_capa(struct pop3_login *login)
{
    login->learning = (struct pop3_caps){.known = true};
    login->capa_lines = 0;
    return send_parts(login, POP3_LOGIN_CAPA, "CAPA", "");
}

static bool must_ask(const struct pop3_login *login, const struct pop3_caps *offered)
{
    return !offered->known && login->dest->ask_capa;
}

/* Starts the first usable mechanism in the order of preference, or sends CAPA if that decides
 * whether it is usable. */
static enum pop3_login_next authenticate(struct pop3_login *login)
{
    const struct pop3_caps *offered = caps(login);
    for (size_t i = 0; i < login->dest->n_mechanisms; i++) {
        switch (login->dest->mechanisms[i]) {
        case MECH_USER_PASS:
            return send_parts(login, POP3_LOGIN_USER, "USER ", login->user);
        case MECH_APOP:
            if (login->timestamp[0]) {
                return start_apop(login);
            }
            break;
        case MECH_PLAIN:
            if (must_ask(login, offered)) {
                return ask_capa(login);
            }
            if (offered->plain) {
                return send_plain(login, false);
            }
            break;
        case MECH_XOAUTH2:
            if (must_ask(login, offered)) {
                return ask_capa(login);
            }
            /* Without CAPA (disablecapa) XOAUTH2 is tried anyway: no other mechanism of ours takes
             * a token. */
            if (offered->xoauth2 || !offered->known) {
                return send_xoauth2(login, false);
            }
            break;
        case MECH_COUNT:
            break;
        }
    }
    return login_fail(
        login, FAIL_CONFIG,
        "the mail server offers none of the login mechanisms that the destination allows");
}

static enum pop3_login_next decide(struct pop3_login *login)
{
    const struct pop3_caps *offered = caps(login);
    bool required = login->dest->tls == TLS_STLS_REQUIRED;
    bool wanted = required || login->dest->tls == TLS_STLS_WANTED;
    if (wanted && !login->secure && !login->stls_refused) {
        if (must_ask(login, offered)) {
            return ask_capa(login);
        }
        if (offered->stls || !offered->known) {
            return send_parts(login, POP3_LOGIN_STLS, "STLS", "");
        }
        if (required) {
            return login_fail(
                login, FAIL_CONFIG,
                "the mail server does not offer STLS, which the destination requires");
        }
        login->stls_refused = true;
    }
    return login->dest->auth == AUTH_NONE ? ready(login) : authenticate(login);
}

enum pop3_login_next pop3_login_secured(struct pop3_login *login)
{
    buf_drop(&login->out, buf_len(&login->out));
    login->shows = false;
    login->secure = true;
    return decide(login);
}

/* ---- replies ---- */

/* The number of octets of base64 that reveal part of a secret. text_conceal looks for parts of the
 * same length. */
enum { CODED_PART = 12 };

static size_t coded_run(const char *text)
{
    size_t n = 0;
    while ((text[n] >= 'A' && text[n] <= 'Z') || (text[n] >= 'a' && text[n] <= 'z') ||
           (text[n] >= '0' && text[n] <= '9') || text[n] == '+' || text[n] == '/') {
        n++;
    }
    return n;
}

/* Masks the pieces that `text` shares with a piece of base64. Only long words are examined: they
 * are few, and tokens are long. */
static void conceal_coded(char *text, struct str coded)
{
    size_t least = coded.n < CODED_PART ? coded.n : CODED_PART;
    while (*text) {
        size_t n = coded_run(text);
        if (n && n >= least) {
            char behind = text[n];
            text[n] = '\0';
            text_conceal(text, coded);
            text[n] = behind;
        }
        text += n + (n == 0);
    }
}

static bool has_coded(const char *text, size_t least)
{
    size_t n;
    for (; *text; text += n + (n == 0)) {
        n = coded_run(text);
        if (n && n >= least) {
            return true;
        }
    }
    return false;
}

/* Masks the base64 of a secret that is part of a longer coded text: 0, 1 or 2 octets before the
 * secret shift its base64. The first and last characters depend on the neighbours of the secret and
 * are left out. */
static void conceal_base64_of(char *text, struct str secret)
{
    enum { SHIFTS = 3, LEAST = 4 };
    static const size_t first[SHIFTS] = {0, 2, 3};
    size_t whole = secret.n * 4 / 3;
    if (secret.n < LEAST || !has_coded(text, whole - 3 < CODED_PART ? 1 : CODED_PART)) {
        return;
    }
    size_t cap = TEXT_BASE64_SIZE(secret.n + SHIFTS);
    char *shifted = mem_zalloc(secret.n + SHIFTS), *coded = mem_alloc(cap);
    for (size_t shift = 0; shift < SHIFTS; shift++) {
        memcpy(shifted + shift, secret.p, secret.n);
        text_base64(coded, shifted, secret.n + shift);
        size_t end = (secret.n + shift) * 4 / 3;
        conceal_coded(text, (struct str){coded + first[shift], end - first[shift]});
    }
    mem_wipe(shifted, secret.n + SHIFTS);
    mem_wipe(coded, cap);
    free(shifted);
    free(coded);
}

/* Masks the secrets in a text of the server. A server may repeat a secret that it received, at once
 * or later in the login, in part or in base64. A secret must not reach clients or the log. A user
 * name is not a secret. */
static void hide_secrets(const struct pop3_login *login, char *text)
{
    const struct str secrets[] = {secret_str(&login->dest->password), secret_str(login->token),
                                  secret_str(&login->sent)};
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
        if (secrets[i].n) {
            text_conceal(text, secrets[i]);
            conceal_base64_of(text, secrets[i]);
        }
    }
}

/* Copies a line of the server into out[cap], to be shown. Secrets are hidden before the line is
 * cut: a piece at its end would be too short to be recognised. */
static void take_text(const struct pop3_login *login, char *out, size_t cap, struct str line)
{
    char whole[POP3_BACKEND_LINE_MAX + 1];
    text_printable(whole, sizeof(whole), line);
    hide_secrets(login, whole);
    text_printable(out, cap, str_of(whole));
}

static void take_timestamp(struct pop3_login *login, struct str line)
{
    const char *open = memchr(line.p, '<', line.n);
    const char *close = open ? memchr(open, '>', line.n - (size_t)(open - line.p)) : NULL;
    const char *at = close ? memchr(open, '@', (size_t)(close - open)) : NULL;
    if (at && (size_t)(close - open) + 1 < sizeof(login->timestamp)) {
        memcpy(login->timestamp, open, (size_t)(close - open) + 1);
    }
}

/* Tells the tproxy behind us which way the login has come. */
static enum pop3_login_next say_hops(struct pop3_login *login)
{
    struct hops hops = {0};
    char list[HOPS_TEXT_MAX];
    if (login->before) {
        hops = *login->before;
    }
    if (pop3_hops_add(&hops, login->own_id) != OK) {
        return login_fail(login, FAIL_CONFIG,
                          "the login has come through too many tproxies: a loop?");
    }
    pop3_hops_text(&hops, list);
    return send_parts(login, POP3_LOGIN_HOPS, "XTPROXY ", list);
}

/* Reads the words of the mail server's -ERR, without the code in front of them. */
static enum refusal read_refusal(struct pop3_login *login)
{
    enum refusal refusal = pop3_refusal_texts_read(login->reply + strlen("-ERR"));
    login->in_use = refusal == REFUSAL_IN_USE;
    return refusal;
}

static enum pop3_login_next on_greeting(struct pop3_login *login, struct str line, bool ok)
{
    if (!ok) {
        read_refusal(login);
        return login_fail_reply(login, FAIL_REMOTE, "the mail server refuses sessions");
    }
    if (login->own_id[0] && strstr(login->reply, login->own_id)) {
        return login_fail(login, FAIL_CONFIG,
                          "the destination's host and port lead back to tproxy itself: a loop");
    }
    if (login->own_id[0] && pop3_hops_greeting(line)) {
        return say_hops(login);
    }
    take_timestamp(login, line);
    return decide(login);
}

/* An older tproxy does not know XTPROXY; its refusal is ignored and the login goes on. */
static enum pop3_login_next on_hops(struct pop3_login *login, bool ok)
{
    bool auth = str_istarts(str_of(login->reply), "-ERR [AUTH]");
    if (ok || auth || !pop3_has_response_code(login->reply)) {
        return decide(login);
    }
    bool permanent = str_istarts(str_of(login->reply), "-ERR [SYS/PERM]");
    return login_fail_reply(login, permanent ? FAIL_CONFIG : FAIL_REMOTE,
                            "the tproxy behind this one refuses the login");
}

static enum pop3_login_next on_capability(struct pop3_login *login, struct str line)
{
    struct str word = str_word(&line);
    if (str_eq(word, ".")) {
        *caps(login) = login->learning;
        return decide(login);
    }
    if (++login->capa_lines > CAPA_LINES_MAX) {
        return login_fail(login, FAIL_PROTOCOL, "the mail server's answer to CAPA is too long");
    }
    login->learning.stls |= str_ieq(word, "STLS");
    login->learning.auth_codes |= str_ieq(word, "AUTH-RESP-CODE");
    while (str_ieq(word, "SASL") && line.n) {
        struct str mechanism = str_word(&line);
        login->learning.plain |= str_ieq(mechanism, "PLAIN");
        login->learning.xoauth2 |= str_ieq(mechanism, "XOAUTH2");
    }
    return POP3_NEXT_LINE;
}

static enum pop3_login_next on_capa(struct pop3_login *login, bool ok)
{
    if (ok) {
        login->state = POP3_LOGIN_CAPA_LIST;
        return POP3_NEXT_LINE;
    }
    *caps(login) = login->learning; /* the server is older than RFC 2449: it has USER and PASS */
    return decide(login);
}

static enum pop3_login_next on_stls(struct pop3_login *login, bool ok)
{
    if (ok) {
        login->state = POP3_LOGIN_HANDSHAKE;
        return POP3_NEXT_TLS;
    }
    if (login->dest->tls == TLS_STLS_REQUIRED) {
        return login_fail_reply(login, FAIL_TLS, "the mail server refused STLS");
    }
    login->stls_refused = true;
    return decide(login);
}

/* Tells whether the reply calls AUTH an unknown command. Servers word it in their own ways:
 * "Unknown command" (Dovecot, qpopper, hMailServer), "Unrecognized command" (Cyrus), "Invalid
 * command" (Courier), "unimplemented" (qmail-popup), "bad command" (Gmail). It happens when CAPA
 * lists more than the login module supports, or when a device on the way does not let AUTH through.
 */
static bool calls_auth_unknown(const struct pop3_login *login)
{
    static const char *const phrases[] = {
        "unknown command",  "command unknown",      "command not recogni", "unrecognized command",
        "invalid command",  "unrecognised command", "unimplemented",       "not implemented",
        "command not supp", "unsupported command",  "bad command",         "syntax error",
    };
    bool first = login->state == POP3_LOGIN_PLAIN || login->state == POP3_LOGIN_PLAIN_START ||
                 login->state == POP3_LOGIN_XOAUTH2;
    for (size_t i = 0; i < ARRAY_LEN(phrases) && first; i++) {
        if (strcasestr(login->reply, phrases[i])) {
            return true;
        }
    }
    return false;
}

/* Fails a login whose credentials the server has not examined: a person has to choose another
 * mechanism. */
static enum pop3_login_next auth_unknown(struct pop3_login *login)
{
    char text[160];
    if (login->state == POP3_LOGIN_XOAUTH2) {
        return login_fail_reply(
            login, FAIL_CONFIG,
            "the mail server does not know AUTH, and so takes no access tokens");
    }
    text_fmt(
        text, sizeof(text),
        "the mail server does not know AUTH, though its CAPA lists it; mail.%s.auth.mechanisms "
        "can choose another login (LOGIN)",
        mail_protocol_name(login->dest->protocol));
    return login_fail_reply(login, FAIL_CONFIG, text);
}

/* Tells whether the refusal of a login blames the credentials. The code [AUTH] does. A server that
 * announces AUTH-RESP-CODE always says [AUTH] when it blames them (RFC 3206 section 6); RESP-CODES
 * alone does not promise that. Without any code and AUTH-RESP-CODE the words decide, and words that
 * tell nothing count as blame: a wrong password that is shown again and again would lock the
 * account. */
static bool blames_credentials(struct pop3_login *login)
{
    if (pop3_has_response_code(login->reply)) {
        return str_istarts(str_of(login->reply), "-ERR [AUTH]");
    }
    switch (read_refusal(login)) {
    case REFUSAL_IN_USE:
    case REFUSAL_TEMPORARY:
        return false;
    case REFUSAL_UNKNOWN:
    case REFUSAL_CREDENTIALS:
        break;
    }
    return !caps(login)->auth_codes;
}

static enum pop3_login_next login_refused(struct pop3_login *login)
{
    if (!pop3_has_response_code(login->reply) && calls_auth_unknown(login)) {
        return auth_unknown(login);
    }
    if (blames_credentials(login)) {
        return login_fail_reply(login, FAIL_AUTH, "the mail server refused the login");
    }
    /* RFC 2449 section 8.1.2: IN-USE means that the authentication was successful. */
    login->proved =
        login->state != POP3_LOGIN_USER && str_istarts(str_of(login->reply), "-ERR [IN-USE]");
    return login_fail_reply(login, FAIL_REMOTE, "the mail server did not open the mailbox");
}

static enum pop3_login_next on_challenge(struct pop3_login *login, struct str base64)
{
    char json[256];
    size_t n = 0;
    if (base64.n <= sizeof(json) && text_unbase64(json, sizeof(json), base64, &n) == OK) {
        take_text(login, login->challenge, sizeof(login->challenge), (struct str){json, n});
    }
    return send_parts(login, POP3_LOGIN_XOAUTH2_REFUSED, "", "");
}

/* Handles "+ ...", by which the server asks for the next message of AUTH. */
static enum pop3_login_next on_continuation(struct pop3_login *login, struct str data)
{
    switch (login->state) {
    case POP3_LOGIN_PLAIN_START:
    case POP3_LOGIN_PLAIN: /* the server does not take an initial response */
        return send_plain(login, true);
    case POP3_LOGIN_XOAUTH2:
        return send_xoauth2(login, true);
    case POP3_LOGIN_XOAUTH2_TOKEN:
        return on_challenge(login, data);
    case POP3_LOGIN_GREETING:
    case POP3_LOGIN_HOPS:
    case POP3_LOGIN_CAPA:
    case POP3_LOGIN_CAPA_LIST:
    case POP3_LOGIN_STLS:
    case POP3_LOGIN_HANDSHAKE:
    case POP3_LOGIN_APOP:
    case POP3_LOGIN_USER:
    case POP3_LOGIN_PASS:
    case POP3_LOGIN_PLAIN_MESSAGE:
    case POP3_LOGIN_XOAUTH2_REFUSED:
    case POP3_LOGIN_READY:
    case POP3_LOGIN_FAILED:
    case POP3_LOGIN_STATES:
        break;
    }
    return login_fail_reply(login, FAIL_PROTOCOL,
                            "the mail server sent an unexpected continuation");
}

static enum pop3_login_next on_status(struct pop3_login *login, struct str line, bool ok)
{
    switch (login->state) {
    case POP3_LOGIN_GREETING:
        return on_greeting(login, line, ok);
    case POP3_LOGIN_HOPS:
        return on_hops(login, ok);
    case POP3_LOGIN_CAPA:
        return on_capa(login, ok);
    case POP3_LOGIN_STLS:
        return on_stls(login, ok);
    case POP3_LOGIN_USER:
        return ok ? send_pass(login) : login_refused(login);
    case POP3_LOGIN_APOP:
    case POP3_LOGIN_PASS:
    case POP3_LOGIN_PLAIN:
    case POP3_LOGIN_PLAIN_MESSAGE:
    case POP3_LOGIN_XOAUTH2_TOKEN:
        return ok ? ready(login) : login_refused(login);
    case POP3_LOGIN_PLAIN_START:
    case POP3_LOGIN_XOAUTH2:
    case POP3_LOGIN_XOAUTH2_REFUSED:
        return ok ? login_fail_reply(login, FAIL_PROTOCOL,
                                     "the mail server sent +OK before the login was complete")
                  : login_refused(login);
    case POP3_LOGIN_CAPA_LIST:
    case POP3_LOGIN_HANDSHAKE:
    case POP3_LOGIN_READY:
    case POP3_LOGIN_FAILED:
    case POP3_LOGIN_STATES:
        break;
    }
    return login_fail_reply(login, FAIL_PROTOCOL, "the mail server sent an unexpected line");
}

enum pop3_login_next pop3_login_line(struct pop3_login *login, struct str line)
{
    bool status = login->state != POP3_LOGIN_CAPA_LIST;
    if (status) {
        take_text(login, login->reply, sizeof(login->reply), line);
    }
    buf_drop(&login->out, buf_len(&login->out));
    login->shows = false;
    if (!status) {
        return on_capability(login, line);
    }
    /* Status indicators are upper case (RFC 1939 section 3). */
    struct str rest = line;
    struct str word = str_word(&rest);
    if (str_eq(word, "+OK") || str_eq(word, "-ERR")) {
        return on_status(login, line, line.p[0] == '+');
    }
    if (str_eq(word, "+")) {
        return on_continuation(login, rest);
    }
    return login_fail_reply(login, FAIL_PROTOCOL, "the mail server does not speak POP3");
}
