/* The POP3 proxy: targets that listen, and the sessions of their clients.
 *
 * A target is a listening port for one mailbox. Each client is greeted at once. Its first login or
 * mailbox command makes tproxy ask the target's source for the destination, dial the mail server
 * and log in there; from then on bytes are relayed. */
#ifndef TPROXY_POP3_H
#define TPROXY_POP3_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"
#include "pop3/settings.h"

struct dest_ref;
struct dest_source;
struct destination;
struct dns;
struct loop;
struct pop3;
struct pop3_probe;
struct pop3_probe_handler;
struct pop3_probe_user;
struct target;
struct tls_roots;
union addr;

/* Creates the proxy without targets. The roots are referenced; the other objects stay the caller's
 * and must outlive the proxy. Returns NULL and sets *err when the system refuses. */
struct pop3 *pop3_new(struct loop *loop, struct dns *dns, struct tls_roots *roots,
                      const struct pop3_settings *settings, struct error *err);

/* Frees the proxy. All targets and sessions must be gone (pop3_abort). */
void pop3_free(struct pop3 *pop3);

/* Sets the certificates that are trusted (referenced; NULL: none) for connections from now on. */
void pop3_set_roots(struct pop3 *pop3, struct tls_roots *roots);

/* The settings of a target. pop3_open copies them and references `dest`. */
struct pop3_target {
    const char *name;               /* in the log */
    const char *owner;              /* its namespace. While there are targets of several owners none
                                       may have all sessions. NULL: no owner, and no such bound */
    struct dest_source *source;     /* the source that sessions ask; it stays the caller's */
    const struct dest_ref *ref;     /* the destination that they ask for; clients are told its
                                       name */
    const struct destination *dest; /* that destination at present; NULL: not known */
};

/* Opens a listener at an address (port 0: any). Returns NULL and sets *err when it cannot listen:
 * FAIL_LIMIT when the port is taken, or not for us; FAIL_CONFIG when the address is not ours. */
struct target *pop3_open(struct pop3 *pop3, const struct pop3_target *what, const union addr *at,
                         struct error *err);

/* Gives the target another destination, or one that has changed. New sessions use it, and what was
 * remembered of the old one (capabilities, TLS session, refused credentials) is forgotten. With
 * dest NULL they learn from the source what is wrong. */
void pop3_change(struct target *target, const struct dest_ref *ref, const struct destination *dest);

/* Closes the listener at once; sessions may go on for 60 s and are then cut, without QUIT. */
void pop3_close(struct target *target);

/* Returns the port that the target listens on. */
uint16_t pop3_port(const struct target *target);

/* Starts a probe (pop3/probe.h) of the target with this name. `again`: also if the mail server has
 * refused the destination's password before, so that it would be shown once more. `user` may be
 * NULL. Returns NULL and sets *err: FAIL_CONFIG without such a target, FAIL_AUTH for a refused
 * password, FAIL_LIMIT when there are too many sessions, FAIL_INTERNAL when the system refuses. */
struct pop3_probe *pop3_probe(struct pop3 *pop3, const char *name, bool again,
                              const struct pop3_probe_user *user,
                              const struct pop3_probe_handler *handler, struct error *err);

/* Stops listening everywhere, a few listeners in each turn of the loop; sessions go on. Until its
 * listener is closed a target accepts clients, and serves them. No target may be opened any
 * more. */
void pop3_drain(struct pop3 *pop3);

/* Stops listening everywhere and ends the sessions without QUIT, a few in each turn. */
void pop3_cut(struct pop3 *pop3);

/* Tells whether the end that pop3_drain or pop3_cut began has been reached. */
bool pop3_is_drained(const struct pop3 *pop3);

/* Ends all sessions and targets at once, without QUIT. */
void pop3_abort(struct pop3 *pop3);

/* Returns the number of sessions. */
size_t pop3_sessions(const struct pop3 *pop3);

/* Appends the metrics of the proxy. */
void pop3_metrics(const struct pop3 *pop3, struct buf *out);

#endif
