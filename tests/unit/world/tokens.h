/* What tests of tokens and destinations share: servers that the test plays over loopback sockets,
 * and a log in which no secret may be. Time stands still unless the test moves it. */
#ifndef TPROXY_TESTS_WORLD_TOKENS_H
#define TPROXY_TESTS_WORLD_TOKENS_H

#include <stdio.h>

#include "lib/dns.h"
#include "lib/log.h"
#include "oauth.h"
#include "tests/unit/world/http_peer.h"

extern struct loop *loop;
extern struct dns *dns;
extern struct oauth *oauth;

/* secrets: those of the test. hosts: the file with the names of its servers. */
void world_open(const char *const *secrets, const char *hosts);

/* Opens it on a free port, and lets it answer until the end. */
void world_add(struct http_peer *peer);

void expect_no_secret(const char *text);

/* How often the log says so. */
int logged(const char *what);

/* Who works with oauth has been freed. */
void world_close(void);

bool settle_once(void);

void settle(void);

void pass(int64_t time);

/* Until there is one answer. */
void await(const int *answers);

#endif
