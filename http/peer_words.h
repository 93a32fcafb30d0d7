/* Turns the words of an HTTP peer into a line for people: bounded, without secrets. Pure. */
#ifndef TPROXY_HTTP_PEER_WORDS_H
#define TPROXY_HTTP_PEER_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "http/proto.h"
#include "lib/json.h"
#include "lib/text.h"

/* Secrets that the peer received or may know; they are removed from its words. Empty ones are
 * allowed. */
struct peer_secrets {
    const struct str *list;
    size_t n;
};

/* Writes ": " and the text of the string v, sanitised as by text_printable, with one blank in place
 * of line ends and tabs; writes nothing when v is not a string or is empty. The whole text is left
 * out when it contains one of the secrets, also percent-encoded. A part of a long secret, a word
 * that looks like a token, and base64 of a secret become "***" or asterisks. Returns out. */
char *http_peer_said(char *out, size_t cap, struct json_value v, struct peer_secrets secrets);

/* Tells whether the answer redirects (RFC 9110 section 15.4). If so, writes "to URL", without the
 * URL's query, or "without saying where to" into out; the secrets are left out as above. */
bool http_peer_redirects(const struct http_head *head, char *out, size_t cap,
                         struct peer_secrets secrets);

/* Writes "; its text is coded as gzip", with the name of the coding, when the body has a coding
 * (tproxy never asks for one); else writes nothing. Returns out. */
char *http_peer_coding(char *out, size_t cap, const struct http_head *head);

/* Returns the body without the byte order mark that some servers begin with (RFC 8259 section 8.1
 * lets a reader ignore it). */
struct str http_peer_body(struct str body);

#endif
