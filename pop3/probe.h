/* A probe of a mailbox: a session like that of a client who asks STAT and quits, whose steps are
 * reported with their times. It goes the way of every session, so it counts as one, makes one
 * login, and does not show credentials again that the mail server has just refused. It deletes
 * nothing. */
#ifndef TPROXY_POP3_PROBE_H
#define TPROXY_POP3_PROBE_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/text.h"

struct pop3_probe;
struct target;

/* One fact about a step, printable. */
struct pop3_probe_detail {
    const char *name; /* "cipher"; static storage */
    const char *value;
};

enum { POP3_PROBE_DETAILS_MAX = 4 };

/* A step that is over. Valid during the call. */
struct pop3_probe_step {
    const char *name;        /* "the connection", "the answer to CAPA"; static storage */
    int64_t took;            /* microseconds */
    const char *text;        /* what it has brought, printable; "": nothing to say */
    const struct error *err; /* NULL: it has succeeded */
    const struct pop3_probe_detail *details;
    size_t n_details;
};

/* The functions are called from the loop, never from inside a call of pop3_probe_*. */
struct pop3_probe_handler {
    void (*step)(const struct pop3_probe_step *step, void *arg);

    /* The probe is over, and is freed after this call. err NULL: all steps have succeeded. */
    void (*ended)(const struct error *err, void *arg);

    void *arg;
};

/* The user as whom a probe logs in where each client brings a token. Only read during the call. */
struct pop3_probe_user {
    const char *name;
    struct str token; /* a refresh token or an authorization code, in one line */
};

/* Starts a probe of a target, as `user` if it has to be somebody (NULL: nobody is known), for which
 * there must be room for one more session; pop3_probe in pop3.h sees to that. Returns NULL and sets
 * *err (FAIL_INTERNAL) when the system refuses. */
struct pop3_probe *pop3_probe_new(struct target *target, const struct pop3_probe_user *user,
                                  struct pop3_probe_handler handler, struct error *err);

/* Ends the probe as when a client goes; no function of the handler is called any more. NULL is
 * allowed. */
void pop3_probe_cancel(struct pop3_probe *probe);

#endif
