/* What an HTTP peer answers, made fit for people: one line, bounded, without secrets. Pure. */
#ifndef TPROXY_CORE_PEER_WORDS_H
#define TPROXY_CORE_PEER_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/http_proto.h"
#include "lib/json.h"
#include "lib/text.h"

/* Secrets that the peer was told, or may know: no word that it says may repeat them. Empty ones
 * are allowed. */
struct peer_secrets {
    const struct str *list;
    size_t n;
};

/* Writes ": " and what the string v says, sanitised as by text_printable, with one blank in place
 * of line ends and tabs; nothing when v is no string or says nothing. All is left out when one of
 * the secrets is in it, also percent-encoded; a part of a long one, what looks like a token, and
 * what is base64 of a secret become "***" or asterisks. Returns out. */
char *peer_said(char *out, size_t cap, struct json_value v, struct peer_secrets secrets);

/* Does the answer redirect (RFC 9110 section 15.4)? Then writes "to URL", without the URL's query,
 * or "without saying where to" into out; the same secrets are left out. */
bool peer_redirects(const struct http_head *head, char *out, size_t cap,
                    struct peer_secrets secrets);

/* Writes "; its text is coded as gzip", with the name of the coding, when the body has a coding,
 * which tproxy never asks for; else nothing. Returns out. */
char *peer_coding(char *out, size_t cap, const struct http_head *head);

/* Returns the body without the byte order mark that some servers begin with (RFC 8259 section 8.1
 * lets a reader ignore it). */
struct str peer_body(struct str body);

#endif
