/* TLS as client: the settings for a server, its remembered sessions, and the connections.
 *
 *   tls_new -> HANDSHAKE --(steps)--> OPEN --tls_shutdown--> CLOSED (still reads)
 *                  |                    |                       |
 *                  '------- ERR --------+-----------------------'---> DEAD
 *
 * TLS 1.2 gives a session with the handshake, and that session serves any number of connections.
 * TLS 1.3 gives tickets at any time later, each for one connection (RFC 8446 appendix C.4); a few
 * are kept, and the newest is used first. */
#include "lib/tls.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/platform.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ciphersuites.h>
#include <psa/crypto.h>

#include "lib/buf.h"
#include "lib/gcm.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "lib/tls_certificate.h"
#include "lib/tls_chain.h"
#include "lib/tls_credentials.h"
#include "lib/tls_judge.h"
#include "lib/tls_random.h"
#include "lib/tls_roots.h"

enum {
    HOST_MAX = 253,
    SESSIONS_MAX = 4,
    TICKET_MAX = 2048,      /* our ClientHello must hold it, in one record of 4 KiB */
    FLIGHT_MAX = 64 * 1024, /* far more than a client says in a handshake */
    IDLE_RECORDS_MAX = 64,  /* records in a row that bring nothing to read */
    FIRST_BYTES = 5,        /* the octets of a record that mbedTLS reads before it examines it */
    KEY_UPDATE = 24,        /* a type of message (RFC 8446 section 4) that mbedTLS does not know */
};

struct session {
    mbedtls_ssl_session data;
    bool once; /* TLS 1.3: for one connection */
};

struct tls_client {
    unsigned refs;
    struct tls_roots *roots;
    struct tls_identity identity;
    struct tls_credentials *own; /* NULL: none */
    bool trust_any, check_host, may_1_3;
    bool no_sessions; /* servers behind this name have no version in common: offer no session */
    mbedtls_ssl_config config;
    struct session *sessions[SESSIONS_MAX]; /* the newest is the last */
    size_t session_count;
    struct tls_shown *shown; /* NULL: no certificate yet */
};

enum tls_state { TLS_HANDSHAKE, TLS_OPEN, TLS_CLOSED, TLS_DEAD };

struct tls {
    enum tls_state state;
    struct tls_client *client;
    struct tls_wire wire;
    mbedtls_ssl_context ssl;
    struct tls_judge judge;
    struct buf flight; /* what the handshake sends, gathered until it waits for an answer */
    unsigned char first[FIRST_BYTES]; /* the first bytes that the server sent */
    size_t first_count;               /* the number of bytes in `first` */
    bool offered;                     /* a session was offered for resumption */
    bool offered_1_2;                 /* the offered session allows TLS 1.2 only */
    bool starved;                     /* the wire said AGAIN in this call */
    bool ended;                       /* the wire said that the stream has ended */
    bool broken;                      /* the wire failed */
    bool resumed;
    bool asks_for_ours; /* the server asks for a client certificate */
    struct error death; /* TLS_DEAD: the error that every call returns */
};

/* The number of clients. mbedTLS's crypto core lives as long as there is one. */
static size_t client_count;

static void session_free(struct session *session)
{
    mbedtls_ssl_session_free(&session->data);
    free(session);
}

static void forget_sessions(struct tls_client *client)
{
    while (client->session_count) {
        session_free(client->sessions[--client->session_count]);
    }
}

/* Takes the session, or the ticket, that mbedTLS has for us at this moment. */
static void remember_session(struct tls *tls)
{
    struct tls_client *client = tls->client;
    struct session *session = mem_zalloc(sizeof(*session));
    session->once = mbedtls_ssl_get_version_number(&tls->ssl) == MBEDTLS_SSL_VERSION_TLS1_3;
    mbedtls_ssl_session_init(&session->data);
    int bad = mbedtls_ssl_get_session(&tls->ssl, &session->data);
    if (bad || session->data.MBEDTLS_PRIVATE(ticket_len) > TICKET_MAX) {
        session_free(session);
        return;
    }
    if (client->session_count && client->sessions[0]->once != session->once) {
        forget_sessions(client);
    }
    if (client->session_count == (session->once ? SESSIONS_MAX : 1)) {
        session_free(client->sessions[0]);
        client->session_count--;
        memmove(client->sessions, client->sessions + 1,
                client->session_count * sizeof(client->sessions[0]));
    }
    client->sessions[client->session_count++] = session;
}

static void offer_session(struct tls *tls)
{
    struct tls_client *client = tls->client;
    if (client->session_count == 0 || client->no_sessions) {
        return;
    }
    struct session *session = client->sessions[client->session_count - 1];
    tls->offered = mbedtls_ssl_set_session(&tls->ssl, &session->data) == 0;
    tls->offered_1_2 = tls->offered && !session->once;
    if (session->once) {
        session_free(session);
        client->session_count--;
    }
}

static int identity_set(struct tls_identity *identity, const char *host)
{
    struct str name = str_of(host);
    if (name.n > 2 && name.p[0] == '[' && name.p[name.n - 1] == ']') {
        name.p++;
        name.n -= 2;
    }
    if (name.n && name.p[name.n - 1] == '.') {
        name.n--;
    }
    if (name.n > HOST_MAX) {
        return ERR;
    }
    identity->host = mem_strndup(name.p, name.n);
    if (inet_pton(AF_INET, identity->host, identity->addr) == 1) {
        identity->addr_len = 4;
    } else if (inet_pton(AF_INET6, identity->host, identity->addr) == 1) {
        identity->addr_len = 16;
    }
    return OK;
}

static mbedtls_ssl_protocol_version version_number(enum tls_version version,
                                                   mbedtls_ssl_protocol_version any)
{
    switch (version) {
    case TLS_VERSION_ANY:
        return any;
    case TLS_VERSION_1_2:
        return MBEDTLS_SSL_VERSION_TLS1_2;
    case TLS_VERSION_1_3:
        return MBEDTLS_SSL_VERSION_TLS1_3;
    }
    return any;
}

static int configure(struct tls_client *client, const struct tls_settings *settings)
{
    /* The groups that are cheapest to compute come first. */
    static const uint16_t groups[] = {
        MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1, MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
        MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1, MBEDTLS_SSL_IANA_TLS_GROUP_SECP521R1,
        MBEDTLS_SSL_IANA_TLS_GROUP_NONE,
    };
    /* AES-GCM costs least where lib/gcm.c is fast. Otherwise mbedTLS's own order stands, which
     * begins with ChaCha20. CBC is for old servers. */
    static const int gcm_first[] = {
        MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
        MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
        MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
        MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384,
        MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384,
        MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
        MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
        MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
        MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
        MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
        MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
        0,
    };
    mbedtls_ssl_config *config = &client->config;
    if (mbedtls_ssl_config_defaults(config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                    MBEDTLS_SSL_PRESET_DEFAULT)) {
        return ERR;
    }
    mbedtls_ssl_protocol_version min = version_number(settings->min, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_protocol_version max = version_number(settings->max, MBEDTLS_SSL_VERSION_TLS1_3);
    client->may_1_3 = max == MBEDTLS_SSL_VERSION_TLS1_3;
    mbedtls_ssl_conf_min_tls_version(config, min);
    mbedtls_ssl_conf_max_tls_version(config, max);
    mbedtls_ssl_conf_rng(config, tls_random, NULL);
    mbedtls_ssl_conf_groups(config, groups);
    if (gcm_is_fast()) {
        mbedtls_ssl_conf_ciphersuites(config, gcm_first);
    }
    /* The callback only has to be set: lib/tls_chain.c passes its real argument. */
    mbedtls_ssl_conf_ca_cb(config, tls_roots_find, NULL);
    /* With OPTIONAL mbedTLS accepts any purpose of the certificate, too. The judge still refuses a
     * wrong name. */
    mbedtls_ssl_conf_authmode(config, client->trust_any ? MBEDTLS_SSL_VERIFY_OPTIONAL
                                                        : MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(
        config, MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED);
    return min <= max ? OK : ERR;
}

static int set_own(struct tls_client *client, const struct tls_settings *settings,
                   struct error *err)
{
    if (!settings->certificate && !settings->key) {
        return OK;
    }
    client->own = tls_credentials_new(settings->certificate, settings->key, err);
    if (!client->own) {
        return ERR;
    }
    bool bad =
        mbedtls_ssl_conf_own_cert(&client->config, &client->own->chain, &client->own->key) != 0;
    return bad ? error_set(err, FAIL_INTERNAL, "no memory for the client certificate") : OK;
}

struct tls_client *tls_client_new(struct tls_roots *roots, const struct tls_settings *settings,
                                  struct error *err)
{
    struct tls_client *client = mem_zalloc(sizeof(*client));
    client->refs = 1;
    client->roots = roots ? tls_roots_ref(roots) : NULL;
    client->trust_any = settings->trust_any;
    client->check_host = settings->check_host;
    client_count++;
    mbedtls_ssl_config_init(&client->config);
    if (psa_crypto_init() != PSA_SUCCESS) {
        error_set(err, FAIL_INTERNAL, "the crypto library does not start");
    } else if (identity_set(&client->identity, settings->host) != OK) {
        error_set(err, FAIL_CONFIG, "the host name is longer than %d characters", HOST_MAX);
    } else if (settings->check_host && client->identity.host[0] == '\0') {
        error_set(err, FAIL_CONFIG, "there is no host name to compare with the certificate");
    } else if (configure(client, settings) != OK) {
        error_set(err, FAIL_CONFIG, "no TLS version is allowed");
    } else if (set_own(client, settings, err) == OK) {
        return client;
    }
    tls_client_unref(client);
    return NULL;
}

struct tls_client *tls_client_ref(struct tls_client *client)
{
    client->refs++;
    return client;
}

void tls_client_unref(struct tls_client *client)
{
    if (!client || --client->refs) {
        return;
    }
    forget_sessions(client);
    mbedtls_ssl_config_free(&client->config);
    tls_credentials_free(client->own);
    free(client->identity.host);
    free(client->shown);
    tls_roots_unref(client->roots);
    free(client);
    if (--client_count == 0) {
        mbedtls_psa_crypto_free();
    }
}

static int wire_send(void *arg, const unsigned char *p, size_t n)
{
    struct tls *tls = arg;
    int sent = tls->state == TLS_HANDSHAKE ? buf_add(&tls->flight, p, n)
                                           : tls->wire.send(tls->wire.arg, p, n);
    if (sent != OK) {
        tls->broken = true;
        return MBEDTLS_ERR_NET_SEND_FAILED;
    }
    return (int)n;
}

/* Sends the bytes that the handshake has gathered. */
static int send_flight(struct tls *tls)
{
    struct str out = buf_str(&tls->flight);
    if (out.n && !tls->broken &&
        tls->wire.send(tls->wire.arg, (const unsigned char *)out.p, out.n) != OK) {
        tls->broken = true;
    }
    buf_drop(&tls->flight, out.n);
    return tls->broken ? ERR : OK;
}

static int wire_recv(void *arg, unsigned char *p, size_t cap)
{
    struct tls *tls = arg;
    size_t got = 0;
    if (send_flight(tls) != OK) {
        return MBEDTLS_ERR_NET_SEND_FAILED;
    }
    int result = tls->ended ? OK : tls->wire.recv(tls->wire.arg, p, cap, &got);
    if (result == AGAIN) {
        tls->starved = true;
        return MBEDTLS_ERR_SSL_WANT_READ;
    }
    if (result != OK) {
        tls->broken = true;
        return MBEDTLS_ERR_NET_RECV_FAILED;
    }
    tls->ended = got == 0;
    for (size_t i = 0; i < got && tls->first_count < FIRST_BYTES; i++) {
        tls->first[tls->first_count++] = p[i];
    }
    return (int)got;
}

struct tls *tls_new(struct tls_client *client, struct tls_wire wire, struct error *err)
{
    struct tls *tls = mem_zalloc(sizeof(*tls));
    const struct tls_identity *identity = &client->identity;
    bool sni = identity->host[0] && identity->addr_len == 0; /* RFC 6066 section 3: no addresses */
    tls->client = tls_client_ref(client);
    tls->wire = wire;
    tls->judge = (struct tls_judge){
        .roots = client->roots,
        .identity = identity,
        .trust_any = client->trust_any,
        .check_host = client->check_host,
    };
    buf_init(&tls->flight, FLIGHT_MAX);
    mbedtls_ssl_init(&tls->ssl);
    if (mbedtls_ssl_setup(&tls->ssl, &client->config) ||
        mbedtls_ssl_set_hostname(&tls->ssl, sni ? identity->host : NULL)) {
        error_set(err, FAIL_INTERNAL, "no memory for a TLS connection");
        tls_free(tls);
        return NULL;
    }
    mbedtls_ssl_set_verify(&tls->ssl, tls_judge_certificate, &tls->judge);
    mbedtls_ssl_set_bio(&tls->ssl, tls, wire_send, wire_recv, NULL);
    offer_session(tls);
    return tls;
}

void tls_free(struct tls *tls)
{
    if (!tls) {
        return;
    }
    mbedtls_ssl_free(&tls->ssl);
    buf_free(&tls->flight);
    free(tls->judge.complaint);
    free(tls->judge.unreadable);
    tls_client_unref(tls->client);
    free(tls);
}

/* Returns the number of the fatal alert that was just received. mbedTLS has no function for it. */
static int alert_of(const struct tls *tls)
{
    return tls->ssl.MBEDTLS_PRIVATE(in_msg)[1];
}

/* Returns the type of the handshake message that was just received; 0: it was another message. */
static int message_type(const struct tls *tls)
{
    return tls->ssl.MBEDTLS_PRIVATE(in_msgtype) == MBEDTLS_SSL_MSG_HANDSHAKE
               ? tls->ssl.MBEDTLS_PRIVATE(in_msg)[0]
               : 0;
}

/* Tells whether the server ends the handshake because we have no client certificate. TLS 1.3 has an
 * alert for that; TLS 1.2 servers use any of these. */
static bool misses_certificate(const struct tls *tls, int alert)
{
    bool complains = (alert >= MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE &&
                      alert <= MBEDTLS_SSL_ALERT_MSG_CERT_UNKNOWN) ||
                     alert == MBEDTLS_SSL_ALERT_MSG_UNKNOWN_CA ||
                     alert == MBEDTLS_SSL_ALERT_MSG_ACCESS_DENIED;
    return tls->asks_for_ours && !tls->client->own && complains;
}

static const char *alert_name(int alert)
{
    switch (alert) {
    case MBEDTLS_SSL_ALERT_MSG_UNEXPECTED_MESSAGE:
        return "unexpected message";
    case MBEDTLS_SSL_ALERT_MSG_BAD_RECORD_MAC:
        return "bad record MAC";
    case MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE:
        return "handshake failure: nothing in common";
    case MBEDTLS_SSL_ALERT_MSG_BAD_CERT:
        return "bad certificate";
    case MBEDTLS_SSL_ALERT_MSG_UNSUPPORTED_CERT:
        return "unsupported certificate";
    case MBEDTLS_SSL_ALERT_MSG_CERT_REVOKED:
        return "certificate revoked";
    case MBEDTLS_SSL_ALERT_MSG_CERT_EXPIRED:
        return "certificate expired";
    case MBEDTLS_SSL_ALERT_MSG_UNKNOWN_CA:
        return "unknown CA: it does not trust our certificate";
    case MBEDTLS_SSL_ALERT_MSG_CERT_UNKNOWN:
        return "certificate unknown";
    case MBEDTLS_SSL_ALERT_MSG_ILLEGAL_PARAMETER:
        return "illegal parameter";
    case MBEDTLS_SSL_ALERT_MSG_ACCESS_DENIED:
        return "access denied";
    case MBEDTLS_SSL_ALERT_MSG_DECODE_ERROR:
        return "decode error";
    case MBEDTLS_SSL_ALERT_MSG_DECRYPT_ERROR:
        return "decrypt error";
    case MBEDTLS_SSL_ALERT_MSG_INSUFFICIENT_SECURITY:
        return "insufficient security";
    case MBEDTLS_SSL_ALERT_MSG_INTERNAL_ERROR:
        return "internal error";
    case MBEDTLS_SSL_ALERT_MSG_UNRECOGNIZED_NAME:
        return "unrecognized name: it does not know this host name";
    case MBEDTLS_SSL_ALERT_MSG_CERT_REQUIRED:
        return "certificate required: it wants a client certificate";
    default:
        return "see RFC 8446 section 6";
    }
}

/* Tells whether the first octets from the server begin a TLS record, an alert or a handshake. */
static bool speaks_tls(const struct tls *tls)
{
    return tls->first_count == 0 || tls->first[0] == MBEDTLS_SSL_MSG_ALERT ||
           tls->first[0] == MBEDTLS_SSL_MSG_HANDSHAKE;
}

/* Tells whether a handshake message is too long. mbedTLS fills its buffer first and only then
 * notices that. */
static bool is_too_long(const struct tls *tls)
{
    return tls->state == TLS_HANDSHAKE &&
           tls->ssl.MBEDTLS_PRIVATE(in_hslen) > MBEDTLS_SSL_IN_CONTENT_LEN;
}

/* Names the message that is too long. mbedTLS gathers its pieces in the buffer behind the space for
 * a sequence number and a record header. */
static const char *long_message(const struct tls *tls)
{
    enum { GATHERED_AT = 8 + 5 };
    bool certificate = tls->ssl.MBEDTLS_PRIVATE(in_buf)[GATHERED_AT] == MBEDTLS_SSL_HS_CERTIFICATE;
    return certificate ? "Certificate" : "handshake";
}

static bool is_x509_error(int code)
{
    int module = -code & 0x7F80; /* mbedtls/error.h: 0x2080 to 0x3000 are those of X.509 */
    return module >= 0x2080 && module <= 0x3000;
}

static bool is_version_error(const struct tls *tls, int code)
{
    return code == MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION ||
           (code == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE &&
            alert_of(tls) == MBEDTLS_SSL_ALERT_MSG_PROTOCOL_VERSION);
}

/* Ends the connection: every call from now on fails with this error. */
static int connection_dies(struct tls *tls, enum fail class, const char *fmt, ...)
    printf_like(3, 4);
static int connection_dies(struct tls *tls, enum fail class, const char *fmt, ...)
{
    char text[FAIL_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    tls->state = TLS_DEAD;
    return error_set(&tls->death, class, "%s", text);
}

/* Ends the connection with the meaning of an mbedTLS error, in the handshake or later. */
static int connection_dies_of(struct tls *tls, int code, const char *during)
{
    char why[120] = "";
    if (tls->broken) {
        return connection_dies(tls, FAIL_TLS, "the connection broke during the %s", during);
    }
    if (code == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE) {
        int alert = alert_of(tls);
        if (misses_certificate(tls, alert)) {
            return connection_dies(
                tls, FAIL_TLS,
                "the server asked for a client certificate, which we do not have, and "
                "ended the %s with TLS alert %d",
                during, alert);
        }
        return connection_dies(tls, FAIL_TLS, "the server ended the %s with TLS alert %d (%s)",
                               during, alert, alert_name(alert));
    }
    if (is_too_long(tls)) {
        return connection_dies(
            tls, FAIL_TLS,
            "the server's %s message of %zu octets is too long: at most %d are possible",
            long_message(tls), tls->ssl.MBEDTLS_PRIVATE(in_hslen), MBEDTLS_SSL_IN_CONTENT_LEN);
    }
    if (code == MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE && message_type(tls) == KEY_UPDATE) {
        return connection_dies(
            tls, FAIL_TLS,
            "the server wants to change its keys (KeyUpdate of TLS 1.3), which is not "
            "supported");
    }
    if (code == MBEDTLS_ERR_SSL_CONN_EOF || code == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) {
        return connection_dies(tls, FAIL_TLS, "the server closed the connection during the %s",
                               during);
    }
    if (code == MBEDTLS_ERR_SSL_ALLOC_FAILED) {
        return connection_dies(tls, FAIL_INTERNAL, "no memory during the %s", during);
    }
    mbedtls_strerror(code, why, sizeof(why));
    return connection_dies(tls, FAIL_TLS, "the %s failed: %s (-0x%04X)", during, why,
                           (unsigned)-code);
}

static int connection_dies_of_certificate(struct tls *tls)
{
    uint32_t found = mbedtls_ssl_get_verify_result(&tls->ssl);
    if (tls->judge.asked && found != UINT32_MAX &&
        found & (MBEDTLS_X509_BADCERT_KEY_USAGE | MBEDTLS_X509_BADCERT_EXT_KEY_USAGE)) {
        tls_judge_complain(&tls->judge, "it is not meant for servers (key usage)");
    }
    return connection_dies(tls, FAIL_CERT, "certificate of %s refused: %s",
                           tls->client->identity.host,
                           tls->judge.complaint ? tls->judge.complaint : "it cannot be understood");
}

static int handshake_failed(struct tls *tls, int code)
{
    if (tls->offered) {
        forget_sessions(tls->client);
    }
    if (!speaks_tls(tls)) {
        char said[2 * FIRST_BYTES];
        struct str first = {(const char *)tls->first, tls->first_count};
        return connection_dies(
            tls, FAIL_TLS,
            "the server does not speak TLS on this port: its answer begins with \"%s\"",
            text_printable(said, sizeof(said), first));
    }
    if (tls->judge.complaint || code == MBEDTLS_ERR_SSL_BAD_CERTIFICATE || is_x509_error(code)) {
        return connection_dies_of_certificate(tls);
    }
    if (is_version_error(tls, code) && tls->offered) {
        tls->client->no_sessions = true;
        return connection_dies(
            tls, FAIL_TLS,
            "the server does not speak the TLS version of the session before; the next "
            "connection starts afresh");
    }
    if (is_version_error(tls, code)) {
        return connection_dies(tls, FAIL_TLS,
                               "the server speaks none of the TLS versions allowed here");
    }
    return connection_dies_of(tls, code, "TLS handshake");
}

/* Notes what the server's certificate says of itself. A resumed session shows none. */
static void note_shown(struct tls_client *client, const mbedtls_x509_crt *crt)
{
    char names[TLS_NAMES_SIZE];
    if (!crt) {
        return;
    }
    const mbedtls_x509_time *until = &crt->valid_to;
    if (!tls_judge_names(names, crt)[0]) {
        tls_name_text(names, sizeof(names), tls_subject(crt));
    }
    size_t size = strlen(names) + 1;
    free(client->shown);
    client->shown = mem_alloc(sizeof(*client->shown) + size);
    memcpy(client->shown->names, names, size);
    text_fmt(client->shown->until, sizeof(client->shown->until), "%04d-%02d-%02dT%02d:%02d:%02dZ",
             until->year, until->mon, until->day, until->hour, until->min, until->sec);
}

/* Frees the server's certificates, which have been judged. They would take some KiB in every
 * connection and in every copy of the session. mbedTLS does without them, as in a resumed TLS 1.2
 * session. */
static void forget_certificates(struct tls *tls)
{
    mbedtls_ssl_session *session = tls->ssl.MBEDTLS_PRIVATE(session);
    mbedtls_x509_crt *chain = session->MBEDTLS_PRIVATE(peer_cert);
    if (chain) {
        mbedtls_x509_crt_free(chain);
        mbedtls_free(chain);
        session->MBEDTLS_PRIVATE(peer_cert) = NULL;
    }
}

static int handshake_done(struct tls *tls)
{
    /* mbedTLS makes sure of both; this is a second check. */
    if (tls->judge.complaint || (!tls->judge.asked && !tls->offered)) {
        return connection_dies(tls, FAIL_CERT, "the server showed no acceptable certificate");
    }
    buf_free(&tls->flight);
    tls->state = TLS_OPEN;
    tls->resumed = !tls->judge.asked; /* a full handshake shows a certificate */
    note_shown(tls->client, mbedtls_ssl_get_peer_cert(&tls->ssl));
    forget_certificates(tls);
    if (mbedtls_ssl_get_version_number(&tls->ssl) == MBEDTLS_SSL_VERSION_TLS1_2) {
        /* With a 1.2 session mbedTLS offers 1.2 only. After the server has declined it, the next
         * connection finds out anew which version is the best. */
        if (tls->offered_1_2 && !tls->resumed && tls->client->may_1_3) {
            forget_sessions(tls->client);
        } else {
            remember_session(tls);
        }
    }
    return OK;
}

/* Sets the error of a call in the wrong state. Returns ERR. */
static int refuse_call(const struct tls *tls, struct error *err)
{
    if (tls->state == TLS_DEAD) {
        *err = tls->death;
        return ERR;
    }
    return error_set(err, FAIL_INTERNAL, "there is no TLS %s",
                     tls->state == TLS_HANDSHAKE ? "session yet" : "handshake under way any more");
}

static int handshake_step(struct tls *tls)
{
    bool may_ask = tls->ssl.MBEDTLS_PRIVATE(state) == MBEDTLS_SSL_CERTIFICATE_REQUEST;
    tls_chain_begin(&tls->judge);
    int code = mbedtls_ssl_handshake_step(&tls->ssl);
    tls_chain_end();
    if (may_ask && code == 0) {
        tls->asks_for_ours = message_type(tls) == MBEDTLS_SSL_HS_CERTIFICATE_REQUEST;
    }
    return code;
}

int tls_handshake(struct tls *tls, bool *more, struct error *err)
{
    *more = false;
    if (tls->state != TLS_HANDSHAKE) {
        return refuse_call(tls, err);
    }
    tls->starved = false;
    int code = handshake_step(tls);
    bool over = mbedtls_ssl_is_handshake_over(&tls->ssl);
    /* mbedTLS also wants to read when it has skipped a record. */
    if ((code == 0 && !over) || (code == MBEDTLS_ERR_SSL_WANT_READ && !tls->starved)) {
        *more = true;
        return AGAIN;
    }
    int sent = send_flight(tls);
    if (sent == OK && code == MBEDTLS_ERR_SSL_WANT_READ) {
        return AGAIN;
    }
    int result = sent != OK || code ? handshake_failed(tls, code) : handshake_done(tls);
    return result == OK ? OK : refuse_call(tls, err);
}

/* Handles a read that failed or brought nothing. AGAIN: try once more, the wire may have
 * something. */
static int read_nothing(struct tls *tls, int code)
{
    switch (code) {
    case MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET:
        remember_session(tls);
        return AGAIN;
    case MBEDTLS_ERR_SSL_WANT_READ: /* a warning was skipped, or a ticket is about to come */
    case 0:                         /* an empty record */
        return AGAIN;
    default:
        return connection_dies_of(tls, code, "TLS session");
    }
}

int tls_read(struct tls *tls, void *p, size_t cap, size_t *n, bool *truncated, struct error *err)
{
    *n = 0;
    *truncated = false;
    if (tls->state != TLS_OPEN && tls->state != TLS_CLOSED) {
        return refuse_call(tls, err);
    }
    tls->starved = false;
    for (int idle = 0; idle < IDLE_RECORDS_MAX; idle++) {
        int code = mbedtls_ssl_read(&tls->ssl, p, cap);
        if (code > 0) {
            *n = (size_t)code;
            return OK;
        }
        if (code == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) {
            return OK;
        }
        if (code == 0 && tls->ended) {
            *truncated = true;
            return OK;
        }
        if (code == MBEDTLS_ERR_SSL_WANT_READ && tls->starved) {
            return AGAIN;
        }
        if (read_nothing(tls, code) != AGAIN) {
            return refuse_call(tls, err);
        }
    }
    (void)connection_dies(tls, FAIL_TLS, "the server sends TLS records without content");
    return refuse_call(tls, err);
}

int tls_write(struct tls *tls, const void *p, size_t n, struct error *err)
{
    const unsigned char *at = p;
    if (tls->state != TLS_OPEN) {
        return refuse_call(tls, err);
    }
    while (n) {
        int code = mbedtls_ssl_write(&tls->ssl, at, n); /* at most one record */
        if (code <= 0) {
            (void)connection_dies_of(tls, code, "TLS session");
            return refuse_call(tls, err);
        }
        at += code;
        n -= (size_t)code;
    }
    return OK;
}

void tls_shutdown(struct tls *tls)
{
    if (tls->state == TLS_OPEN) {
        /* The next read will notice a broken wire. */
        int ignored = mbedtls_ssl_close_notify(&tls->ssl);
        (void)ignored;
        tls->state = TLS_CLOSED;
    }
}

bool tls_resumed(const struct tls *tls)
{
    return tls->resumed;
}

const char *tls_version_name(const struct tls *tls)
{
    return mbedtls_ssl_get_version(&tls->ssl);
}

const char *tls_cipher_name(const struct tls *tls, char out[static TLS_CIPHER_SIZE])
{
    /* mbedTLS writes hyphens, and "TLS1-3-" before the suites of TLS 1.3. */
    static const char of_1_3[] = "TLS1-3-";
    const char *name = mbedtls_ssl_get_ciphersuite(&tls->ssl);
    bool is_1_3 = str_istarts(str_of(name), of_1_3);
    text_fmt(out, TLS_CIPHER_SIZE, "%s%s", is_1_3 ? "TLS_" : "",
             is_1_3 ? name + strlen(of_1_3) : name);
    for (char *c = out; *c; c++) {
        *c = *c == '-' ? '_' : *c;
    }
    return out;
}

const struct tls_shown *tls_shown(const struct tls *tls)
{
    return tls->client->shown;
}
