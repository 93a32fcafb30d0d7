/* lib/tls.h with a simple protocol. Both sides say HELLO, then send records: length (2 bytes, big
 * endian), text. An empty record is close_notify. Thereby a simulated server can cut its records at
 * every size, which no real one does on demand. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"
#include "lib/tls.h"

enum { HELLO = 5, RECORD_MAX = 16384, WRITE_MAX = 4096 };

struct tls_client {
    unsigned refs;
};

struct tls {
    struct tls_wire wire;
    bool hello_sent, at_end, dead;
    unsigned char record[2 + RECORD_MAX];
    size_t have, shown; /* octets of the current record; octets of its text */
};

struct tls_client *tls_client_new(struct tls_roots *roots, const struct tls_settings *settings,
                                  struct error *err)
{
    (void)roots;
    (void)settings;
    (void)err;
    struct tls_client *client = mem_zalloc(sizeof(*client));
    client->refs = 1;
    return client;
}

struct tls_client *tls_client_ref(struct tls_client *client)
{
    client->refs++;
    return client;
}

void tls_client_unref(struct tls_client *client)
{
    if (client && --client->refs == 0) {
        free(client);
    }
}

struct tls *tls_new(struct tls_client *client, struct tls_wire wire, struct error *err)
{
    (void)client;
    (void)err;
    struct tls *t = mem_zalloc(sizeof(*t));
    t->wire = wire;
    return t;
}

void tls_free(struct tls *t)
{
    free(t);
}

/* Reads until the first n bytes of the record are complete. */
static int fill(struct tls *t, size_t n, struct error *err)
{
    while (t->have < n) {
        size_t got = 0;
        int rc = t->dead ? ERR : t->wire.recv(t->wire.arg, t->record + t->have, n - t->have, &got);
        if (rc == OK && got == 0) {
            t->at_end = true;
            return AGAIN;
        }
        t->dead = t->dead || rc == ERR; /* for good, because lib/tls repeats an error */
        if (t->dead) {
            return error_set(err, FAIL_REMOTE, "wire");
        }
        if (rc != OK) {
            return rc;
        }
        t->have += got;
    }
    return OK;
}

int tls_handshake(struct tls *t, bool *more, struct error *err)
{
    if (!t->hello_sent) {
        t->hello_sent = true;
        *more = true;
        return t->wire.send(t->wire.arg, (const unsigned char *)"HELLO", HELLO) == OK ? AGAIN : ERR;
    }
    *more = false;
    int rc = fill(t, HELLO, err);
    if (t->at_end) {
        return error_set(err, FAIL_TLS, "the end in the middle of the handshake");
    }
    if (rc == OK && memcmp(t->record, "HELLO", HELLO) != 0) {
        return error_set(err, FAIL_TLS, "this is no HELLO");
    }
    if (rc == OK) {
        t->have = 0;
    }
    return rc;
}

int tls_read(struct tls *t, void *p, size_t cap, size_t *n, bool *truncated, struct error *err)
{
    *n = 0;
    *truncated = false;
    while (!t->at_end) {
        int rc = fill(t, 2, err);
        size_t length = (size_t)t->record[0] << 8 | t->record[1];
        if (rc == OK) {
            assert(length <= RECORD_MAX);
            rc = fill(t, 2 + length, err);
        }
        if (rc != OK) {
            if (t->at_end) {
                break;
            }
            return rc;
        }
        if (length == 0) {
            t->at_end = true;
            break;
        }
        size_t left = length - t->shown;
        *n = left < cap ? left : cap;
        memcpy(p, t->record + 2 + t->shown, *n);
        t->shown += *n;
        if (t->shown == length) {
            t->have = t->shown = 0;
        }
        return OK;
    }
    return OK;
}

static int write_record(struct tls *t, const void *p, size_t n)
{
    unsigned char record[2 + WRITE_MAX] = {(unsigned char)(n >> 8), (unsigned char)n};
    if (n) {
        memcpy(record + 2, p, n);
    }
    return t->wire.send(t->wire.arg, record, 2 + n);
}

int tls_write(struct tls *t, const void *p, size_t n, struct error *err)
{
    (void)err;
    for (size_t at = 0; at < n; at += WRITE_MAX) {
        size_t piece = n - at < WRITE_MAX ? n - at : WRITE_MAX;
        if (write_record(t, (const char *)p + at, piece) != OK) {
            return ERR;
        }
    }
    return OK;
}

void tls_shutdown(struct tls *t)
{
    int rc = write_record(t, NULL, 0);
    assert(rc == OK);
    (void)rc;
}

bool tls_resumed(const struct tls *t)
{
    (void)t;
    return false;
}

const char *tls_version_name(const struct tls *t)
{
    (void)t;
    return "toy";
}

const char *tls_cipher_name(const struct tls *t, char out[static TLS_CIPHER_SIZE])
{
    (void)t;
    out[0] = '\0';
    return out;
}

const struct tls_shown *tls_shown(const struct tls *t)
{
    (void)t;
    return NULL;
}
