/* TLS 1.2 and 1.3 as client, over mbedTLS. It knows no sockets: bytes come and go through two
 * functions. Only this module, lib/digest and
 * lib/gcm include mbedTLS. */
#ifndef TPROXY_LIB_TLS_H
#define TPROXY_LIB_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/stamp.h"
#include "lib/text.h"

struct secret;
struct tls_roots;

/* The settings for TLS with one server; shared by the connections to it, reference-counted. A
 * client keeps the sessions that its next connections resume and drops them when it is freed, so an
 * owner with a client of its own shares no sessions. */
struct tls_client;

enum tls_version { TLS_VERSION_ANY, TLS_VERSION_1_2, TLS_VERSION_1_3 };

struct tls_settings {
    const char *host; /* name or address that the certificate must carry; a name is also sent as
                         SNI; not NULL, empty: neither */
    bool trust_any;   /* accept any certificate chain (mail.<p>.ssl.trust) */
    bool check_host;  /* compare name or address with the subject alternative names (RFC 6125); the
                         common name does not count (RFC 9525) */
    enum tls_version min, max; /* ANY: 1.2 and 1.3 */

    /* For a server that asks for a client certificate; both or neither. PEM: our certificate, then
     * those above it (roots are not sent); its key, RSA or EC, in PKCS #1, SEC 1 or PKCS #8, not
     * encrypted. */
    const char *certificate;
    const struct secret *key;
};

/* Creates a client. Takes a reference on roots; NULL: no certificate is trusted, which leaves
 * trust_any. The settings are not needed afterwards; the client's copy of the key is wiped when it
 * is freed. Returns NULL and sets *err (FAIL_CONFIG) when the settings make no sense. */
struct tls_client *tls_client_new(struct tls_roots *roots, const struct tls_settings *settings,
                                  struct error *err);
struct tls_client *tls_client_ref(struct tls_client *client);
void tls_client_unref(struct tls_client *client);

/* One connection. After a call has returned ERR, every call does, with the same error. */
struct tls;

/* The way to the wire. send takes all n bytes (it queues those that the socket refuses) and returns
 * OK, or ERR. recv returns OK with *got > 0, AGAIN, OK with *got = 0 at the end of the stream, or
 * ERR. Neither may call a tls_ function. */
struct tls_wire {
    int (*send)(void *arg, const unsigned char *p, size_t n);
    int (*recv)(void *arg, unsigned char *p, size_t cap, size_t *got);
    void *arg;
};

/* Creates a connection. Takes a reference on client and sends nothing yet. Returns NULL and sets
 * *err when there is no memory. */
struct tls *tls_new(struct tls_client *client, struct tls_wire wire, struct error *err);

/* Frees and wipes the connection. Only tls_shutdown says goodbye (close_notify). NULL is
 * allowed. */
void tls_free(struct tls *tls);

/* Makes one step of some twenty; most of them take microseconds, a few a millisecond or two. OK:
 * the handshake is done. AGAIN with *more set: there is another step to do now; without: wait for
 * input. ERR: FAIL_TLS, or FAIL_CERT when the certificate is to blame, with what is wrong with it
 * (not trusted, expired, wrong name ...). By the time the handshake waits or ends, everything that
 * its steps have to send has gone to wire.send. */
int tls_handshake(struct tls *tls, bool *more, struct error *err) warn_unused;

/* Reads decrypted bytes. OK and *n > 0; OK and *n = 0 at the end of the stream; AGAIN; or ERR. An
 * end without close_notify only sets *truncated, because POP3 answers are delimited. More may be
 * left inside until AGAIN was returned, which happens only when wire.recv said so: a caller that
 * stops earlier comes back without waiting for the socket. Takes session tickets in passing. cap >
 * 0. */
int tls_read(struct tls *tls, void *p, size_t cap, size_t *n, bool *truncated,
             struct error *err) warn_unused;

/* Makes records of at most 4 KiB from all n bytes, and calls wire.send once for each. */
int tls_write(struct tls *tls, const void *p, size_t n, struct error *err) warn_unused;

/* Sends close_notify, once; reading goes on. Does nothing before the handshake is done. */
void tls_shutdown(struct tls *tls);

/* Tells whether an earlier session was resumed. Known after the handshake. */
bool tls_resumed(const struct tls *tls);

/* Returns "TLSv1.3" or the like; known after the handshake. */
const char *tls_version_name(const struct tls *tls);

/* Writes the name under which IANA has registered the cipher suite: "TLS_AES_128_GCM_SHA256".
 * Returns out. Known after the handshake. */
enum { TLS_CIPHER_SIZE = 64 };
const char *tls_cipher_name(const struct tls *tls, char out[static TLS_CIPHER_SIZE]);

/* The certificate that a server has shown. */
struct tls_shown {
    char until[STAMP_SIZE]; /* the end of its validity: "2027-01-31T10:15:20Z" */
    char names[];           /* its DNS names and addresses, at most three of them; without any, its
                               common name */
};

/* Returns the certificate of the client's last full handshake, which a resumed session stands on.
 * NULL before the first one. Valid until the next handshake. */
const struct tls_shown *tls_shown(const struct tls *tls);

#endif
