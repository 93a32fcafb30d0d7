/* Tests pop3/refusal_texts: refusals without a code, in the words of known servers. */
#include "pop3/refusal_texts.h"

#include <ctype.h>

#include "tests/unit/check.h"

static const struct {
    const char *text;
    enum refusal about;
} rows[] = {
    /* RFC 1939 */
    {"maildrop already locked", REFUSAL_IN_USE},
    {"unable to lock maildrop", REFUSAL_IN_USE},
    {"invalid password", REFUSAL_CREDENTIALS},
    {"sorry, no mailbox for frated here", REFUSAL_CREDENTIALS},
    {"never heard of mailbox name", REFUSAL_CREDENTIALS},
    {"permission denied", REFUSAL_CREDENTIALS},
    /* Exchange, Exchange Online */
    {"Server Unavailable. 21", REFUSAL_TEMPORARY},
    {"Logon failure: unknown user name or bad password.", REFUSAL_CREDENTIALS},
    {"Authentication failure: unknown user name or bad password.", REFUSAL_CREDENTIALS},
    /* Gmail, Yahoo, without their codes */
    {"Username and password not accepted.", REFUSAL_CREDENTIALS},
    {"Temporary System Problem", REFUSAL_TEMPORARY},
    {"Server error - Please try again later", REFUSAL_TEMPORARY},
    /* Dovecot */
    {"Authentication failed.", REFUSAL_CREDENTIALS},
    {"Temporary authentication failure. [host:2026-01-01 00:00:00]", REFUSAL_TEMPORARY},
    {"Internal error occurred. Refer to server log for more information.", REFUSAL_TEMPORARY},
    /* Courier */
    {"Login failed.", REFUSAL_CREDENTIALS},
    {"Temporary problem, please try again later", REFUSAL_TEMPORARY},
    /* Cyrus */
    {"Unable to lock maildrop", REFUSAL_IN_USE},
    {"Unable to open maildrop", REFUSAL_TEMPORARY},
    {"Invalid login", REFUSAL_CREDENTIALS},
    /* qpopper */
    {"Maildrop lock busy!  Is another session active?", REFUSAL_IN_USE},
    {"/var/mail/.joe.pop lock busy!  Is another session active? (11)", REFUSAL_IN_USE},
    {"Password supplied for \"joe\" is incorrect.", REFUSAL_CREDENTIALS},
    /* qmail-popup, qmail-pop3d */
    {"authorization failed", REFUSAL_CREDENTIALS},
    {"aack, child crashed", REFUSAL_TEMPORARY},
    {"unable to scan $HOME/Maildir", REFUSAL_TEMPORARY},
    /* hMailServer */
    {"Your mailbox is already locked", REFUSAL_IN_USE},
    {"Invalid user name or password.", REFUSAL_CREDENTIALS},
    {"Invalid user name or password. Too many invalid logon attempts.", REFUSAL_CREDENTIALS},
    /* SLMail, VPOP3, MDaemon */
    {"unable to lock mailbox", REFUSAL_IN_USE},
    {"Mailbox Locked", REFUSAL_IN_USE},
    {"Maildrop already locked", REFUSAL_IN_USE},
    /* others */
    {"Mailbox is locked by another process", REFUSAL_IN_USE},
    {"Mailbox is locked. Try later.", REFUSAL_IN_USE},
    {"mailbox in use", REFUSAL_IN_USE},
    {"too many connections", REFUSAL_TEMPORARY},
    {"Too many simultaneous connections from your address", REFUSAL_TEMPORARY},
    {"try again", REFUSAL_TEMPORARY},
    {"the service is overloaded", REFUSAL_TEMPORARY},
    {"wrong password, try again", REFUSAL_CREDENTIALS},
    {"account is locked", REFUSAL_CREDENTIALS},
    {"Your account has been locked out: wrong password", REFUSAL_CREDENTIALS},
    {"this account is disabled", REFUSAL_CREDENTIALS},
    {"too many failed logins", REFUSAL_CREDENTIALS},
    {"account temporarily locked", REFUSAL_CREDENTIALS},
    {"no", REFUSAL_UNKNOWN},
    {"", REFUSAL_UNKNOWN},
    {"   \t..,", REFUSAL_UNKNOWN},
    /* Only complete words count. */
    {"unlocked", REFUSAL_UNKNOWN},
    {"in-use", REFUSAL_IN_USE},
    {"begin user", REFUSAL_UNKNOWN},
    {"busybox", REFUSAL_UNKNOWN},
    {"in the use", REFUSAL_UNKNOWN},
};

static void check(const char *text, enum refusal about)
{
    enum refusal got = pop3_refusal_texts_read(text);
    if (got != about) {
        fail_msg("\"%s\": %d", text, (int)got);
    }
}

static void texts_of_servers(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char other[128];
        check(rows[i].text, rows[i].about);
        text_fmt(other, sizeof(other), "%s", rows[i].text);
        for (char *p = other; *p; p++) {
            *p = (char)toupper((unsigned char)*p);
        }
        check(other, rows[i].about);
        text_fmt(other, sizeof(other), " (%s)", rows[i].text);
        check(other, rows[i].about);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_of_servers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
