/* The texts are in a table of phrases. The first matching row counts. The order keeps
 * similar texts apart: "account is locked" and "mailbox is locked", "too many invalid logon
 * attempts" and "too many connections", "authentication failure" and "temporary authentication
 * failure". */
#include "pop3/refusal_texts.h"

#include <stdbool.h>

#include "lib/base.h"
#include "lib/text.h"

/* A row matches when all its phrases occur, in any order; the words of a phrase stand side by side.
 */
static const struct {
    enum refusal about;
    const char *phrases[2];
} rows[] = {
    /* qpopper: "Maildrop lock busy!  Is another session active?" (pop_dropcopy.c); "Mailbox is
     * locked by another process". */
    {REFUSAL_IN_USE, {"another session"}},
    {REFUSAL_IN_USE, {"another process"}},
    {REFUSAL_IN_USE, {"another client"}},
    {REFUSAL_IN_USE, {"another connection"}},
    {REFUSAL_IN_USE, {"lock busy"}},

    /* A locked account must not be tried again: RFC 3206 section 4 counts an expired account and a
     * violated policy among the problems with credentials. hMailServer: "Invalid user name or
     * password. Too many invalid logon attempts." (POP3Connection.cpp). */
    {REFUSAL_CREDENTIALS, {"account", "locked"}},
    {REFUSAL_CREDENTIALS, {"account", "blocked"}},
    {REFUSAL_CREDENTIALS, {"account", "disabled"}},
    {REFUSAL_CREDENTIALS, {"account", "suspended"}},
    {REFUSAL_CREDENTIALS, {"account", "expired"}},
    {REFUSAL_CREDENTIALS, {"locked out"}},
    {REFUSAL_CREDENTIALS, {"too many", "attempts"}},
    {REFUSAL_CREDENTIALS, {"too many", "failed"}},
    {REFUSAL_CREDENTIALS, {"too many", "failures"}},
    {REFUSAL_CREDENTIALS, {"too many", "invalid"}},

    /* RFC 1939: "maildrop already locked", "unable to lock maildrop". Cyrus: "Unable to lock
     * maildrop" (pop3d.c). hMailServer: "Your mailbox is already locked". SLMail: "unable to lock
     * mailbox". VPOP3: "Mailbox Locked" (helpdesk.pscs.co.uk/612651). MDaemon: "Maildrop already
     * locked" (altn.com FAQ 247). */
    {REFUSAL_IN_USE, {"already locked"}},
    {REFUSAL_IN_USE, {"unable to lock"}},
    {REFUSAL_IN_USE, {"cannot lock"}},
    {REFUSAL_IN_USE, {"can't lock"}},
    {REFUSAL_IN_USE, {"could not lock"}},
    {REFUSAL_IN_USE, {"failed to lock"}},
    {REFUSAL_IN_USE, {"in use"}},
    {REFUSAL_IN_USE, {"already open"}},
    {REFUSAL_IN_USE, {"already opened"}},
    {REFUSAL_IN_USE, {"already logged in"}},
    {REFUSAL_IN_USE, {"locked"}},

    /* Exchange: "Server Unavailable. 21", at the greeting and at PASS
     * (jaapwesselius.com/2012/03). Dovecot: "Temporary authentication failure." (login-common.h).
     * Courier: "Temporary problem, please try again later" (pop3login.c). */
    {REFUSAL_TEMPORARY, {"temporary"}},
    {REFUSAL_TEMPORARY, {"temporarily"}},
    {REFUSAL_TEMPORARY, {"unavailable"}},
    {REFUSAL_TEMPORARY, {"not available"}},
    {REFUSAL_TEMPORARY, {"internal error"}},
    {REFUSAL_TEMPORARY, {"internal server error"}},
    {REFUSAL_TEMPORARY, {"server error"}},
    {REFUSAL_TEMPORARY, {"system error"}},
    {REFUSAL_TEMPORARY, {"system problem"}},
    {REFUSAL_TEMPORARY, {"later"}},
    {REFUSAL_TEMPORARY, {"maintenance"}},
    {REFUSAL_TEMPORARY, {"shutting down"}},
    {REFUSAL_TEMPORARY, {"timeout"}},
    {REFUSAL_TEMPORARY, {"timed out"}},
    {REFUSAL_TEMPORARY, {"out of memory"}},

    /* Exchange: "Logon failure: unknown user name or bad password." hMailServer: "Invalid user name
     * or password." Courier: "Login failed." qmail-popup: "authorization failed". RFC 1939:
     * "invalid password", "sorry, no mailbox for frated here", "never heard of mailbox name". */
    {REFUSAL_CREDENTIALS, {"password"}},
    {REFUSAL_CREDENTIALS, {"passwd"}},
    {REFUSAL_CREDENTIALS, {"credentials"}},
    {REFUSAL_CREDENTIALS, {"user name"}},
    {REFUSAL_CREDENTIALS, {"username"}},
    {REFUSAL_CREDENTIALS, {"unknown user"}},
    {REFUSAL_CREDENTIALS, {"no such user"}},
    {REFUSAL_CREDENTIALS, {"invalid user"}},
    {REFUSAL_CREDENTIALS, {"no mailbox"}},
    {REFUSAL_CREDENTIALS, {"never heard"}},
    {REFUSAL_CREDENTIALS, {"login failed"}},
    {REFUSAL_CREDENTIALS, {"login failure"}},
    {REFUSAL_CREDENTIALS, {"login incorrect"}},
    {REFUSAL_CREDENTIALS, {"invalid login"}},
    {REFUSAL_CREDENTIALS, {"logon failure"}},
    {REFUSAL_CREDENTIALS, {"authentication failed"}},
    {REFUSAL_CREDENTIALS, {"authentication failure"}},
    {REFUSAL_CREDENTIALS, {"authorization failed"}},
    {REFUSAL_CREDENTIALS, {"access denied"}},
    {REFUSAL_CREDENTIALS, {"permission denied"}},

    /* qmail-popup: "aack, child crashed", "unable to fork", "out of memory" (qmail-popup.c);
     * qmail-pop3d: "unable to scan $HOME/Maildir". */
    {REFUSAL_TEMPORARY, {"try again"}},
    {REFUSAL_TEMPORARY, {"too many"}},
    {REFUSAL_TEMPORARY, {"too busy"}},
    {REFUSAL_TEMPORARY, {"busy"}},
    {REFUSAL_TEMPORARY, {"overloaded"}},
    {REFUSAL_TEMPORARY, {"overload"}},
    {REFUSAL_TEMPORARY, {"system load"}},
    {REFUSAL_TEMPORARY, {"limit"}},
    {REFUSAL_TEMPORARY, {"exceeded"}},
    {REFUSAL_TEMPORARY, {"too often"}},
    {REFUSAL_TEMPORARY, {"too frequent"}},
    {REFUSAL_TEMPORARY, {"too frequently"}},
    {REFUSAL_TEMPORARY, {"too soon"}},
    {REFUSAL_TEMPORARY, {"crashed"}},
    {REFUSAL_TEMPORARY, {"unable to fork"}},
    {REFUSAL_TEMPORARY, {"unable to open"}},
    {REFUSAL_TEMPORARY, {"unable to scan"}},
    {REFUSAL_TEMPORARY, {"unable to read"}},
    {REFUSAL_TEMPORARY, {"unable to connect"}},
    {REFUSAL_TEMPORARY, {"cannot connect"}},
    {REFUSAL_TEMPORARY, {"cannot open"}},
    {REFUSAL_TEMPORARY, {"can't open"}},
    {REFUSAL_TEMPORARY, {"failed to open"}},
};

static bool is_of_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '\'';
}

/* Takes the next word off *rest. Returns "" at the end. */
static struct str next_word(struct str *rest)
{
    size_t from = 0;
    while (from < rest->n && !is_of_word(rest->p[from])) {
        from++;
    }
    size_t to = from;
    while (to < rest->n && is_of_word(rest->p[to])) {
        to++;
    }
    struct str word = {rest->p + from, to - from};
    *rest = (struct str){rest->p + to, rest->n - to};
    return word;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool same_word(struct str a, struct str b)
{
    bool same = a.n == b.n;
    for (size_t i = 0; same && i < a.n; i++) {
        same = lower(a.p[i]) == lower(b.p[i]);
    }
    return same;
}

static bool begins_with(struct str text, struct str phrase)
{
    for (struct str word = next_word(&phrase); word.n; word = next_word(&phrase)) {
        if (!same_word(next_word(&text), word)) {
            return false;
        }
    }
    return true;
}

static bool has_phrase(struct str text, const char *phrase)
{
    while (text.n) {
        if (begins_with(text, str_of(phrase))) {
            return true;
        }
        next_word(&text);
    }
    return false;
}

enum refusal pop3_refusal_texts_read(const char *text)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *second = rows[i].phrases[1];
        if (has_phrase(str_of(text), rows[i].phrases[0]) &&
            (!second || has_phrase(str_of(text), second))) {
            return rows[i].about;
        }
    }
    return REFUSAL_UNKNOWN;
}
