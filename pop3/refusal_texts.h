/* Finds out the reason for a mail server's -ERR without a response code. RFC 1939 has no codes, so
 * servers say in words that a mailbox is locked, that they are too busy, or that a password is
 * wrong. */
#ifndef TPROXY_POP3_REFUSAL_TEXTS_H
#define TPROXY_POP3_REFUSAL_TEXTS_H

enum refusal {
    REFUSAL_UNKNOWN,     /* the words say nothing */
    REFUSAL_CREDENTIALS, /* wrong user, password or token, or a locked, disabled, expired account */
    REFUSAL_IN_USE,      /* another session has the mailbox */
    REFUSAL_TEMPORARY,   /* the server is too busy, too slow or unavailable at present */
};

/* Returns the reason that the text of a refusal gives. Only whole words count, in any case. */
enum refusal pop3_refusal_texts_read(const char *text);

#endif
