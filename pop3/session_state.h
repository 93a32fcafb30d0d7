/* The structs that session.c, session_login.c and session_log.c share. No functions. */
#ifndef TPROXY_POP3_SESSION_STATE_H
#define TPROXY_POP3_SESSION_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/addr.h"
#include "lib/dial.h"
#include "lib/fail.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "pop3/client.h"
#include "pop3/login.h"
#include "pop3/sasl.h"
#include "pop3/trials.h"

struct conn;
struct dest_request;
struct mailbox;
struct relay;
struct session;
struct target;
struct token;

/* The event for which the answer to the client waits; drawn in session.c. */
enum wait { WAIT_NOTHING, WAIT_KIND, WAIT_LOGIN, WAIT_MAILBOX };

/* How far the login at the mail server is; drawn in session_login.c. */
enum backend_state {
    BACKEND_NONE,
    BACKEND_FINDING,  /* the source is asked for the destination */
    BACKEND_DIALLING, /* the connection is made */
    BACKEND_SECURING, /* TLS is started before the greeting, for pop3s */
    BACKEND_LOGIN,    /* the dialogue of the login, before it shows credentials */
    BACKEND_VERDICT,  /* the mail server has credentials and has not judged them */
    BACKEND_READY,
    BACKEND_FAILED,
    BACKEND_REFUSED, /* failed, by the mail server's last reply */
};

/* An observer of a login; embedded in its owner. It must not touch the session. */
struct pop3_observer {
    /* Called when the login has perhaps gone on: s->state and s->attempt tell how far. */
    void (*step)(struct pop3_observer *observer, const struct session *s);

    /* Called when the connection has come further, see lib/dial.h. */
    void (*came)(struct pop3_observer *observer, const struct session *s, enum dial_stage stage,
                 const char *addresses);

    /* Called when the relay starts, or the session ends: the observer hears nothing more. */
    void (*left)(struct pop3_observer *observer);
};

/* A login at the backend under way. It is freed when the relay starts, because there are many idle
 * sessions. */
struct attempt {
    struct dest_request *request;
    int64_t dest_received;        /* see struct dest_answer */
    struct token *token;          /* to log in with; NULL: the destination's password */
    struct token *proxy_token;    /* shown to the Connectivity Proxy; NULL: no token is shown */
    struct credential credential; /* shown to the mail server */
    struct dial *dial;
    struct pop3_login login;
    int64_t started;
    bool token_renewed;       /* `token` is the second one */
    bool proxy_token_renewed; /* `proxy_token` is the second one */
    unsigned pauses_before;   /* the pauses that the refusal of the first token counted */
    struct session *session;
    void (*changed)(struct session *); /* see pop3_session_login_start */
    struct trial_seat seat;            /* in the trial of `credential` */
    struct task turn;                  /* runs when a wait for another session's trial is over */
    struct error err;
};

/* State that is needed while tproxy itself answers the client. It is freed when the relay starts,
 * too. */
struct dialogue {
    struct session *session;
    struct list silent; /* among the silent sessions of all targets */
    struct pop3_client pop3;
    struct sasl_credentials *credentials; /* NULL: the client's credentials do not count */
    char *failure; /* the line that told the client about a failed login; NULL: none has failed */
    const char *result;             /* the result of a session whose client has gone */
    struct pop3_observer *observer; /* NULL: none */
};

struct session {
    struct target *target;
    struct list link; /* among the target's `silent` or `members` */
    struct task task;
    uint64_t id;
    struct conn *client; /* NULL: it has gone, and the session ends with the backend's verdict */
    struct conn *backend;
    struct dialogue *dialogue; /* NULL: the relay has started, or the session has ended */
    struct attempt *attempt;
    struct relay *relay;
    struct mailbox *mailbox; /* of the last attempt */
    int64_t started;
    union addr peer;
    enum wait wait : 8;
    enum backend_state state : 8;
    unsigned char failures;
    enum fail failed : 8; /* the last failure that the client was told */
    bool client_ended;    /* it will send no more */
    bool knows_kind;      /* how the client has to log in is known; until then the dialogue's kind
                             is a guess */
    bool spared;          /* it did not give way, although it was its turn */
    bool tried;           /* a login was tried */
    bool logged_in;
    bool ended;
};

#endif
