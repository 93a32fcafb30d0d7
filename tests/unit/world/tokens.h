/* The world of tests of tokens and destinations: servers that the test plays over loopback sockets,
 * and a log that must not contain secrets. Time stands still unless the test moves it. */
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

/* Opens the world. `secrets` are the test's, `hosts` is a file with the names of its servers. */
void world_open(const char *const *secrets, const char *hosts);

/* Opens the server on a free port, and lets it answer until the end. */
void world_add(struct http_peer *peer);

void expect_no_secret(const char *text);

/* Returns how often the log contains the text. */
int logged(const char *what);

/* Closes the world, after everything that uses oauth has been freed. */
void world_close(void);

bool settle_once(void);

void settle(void);

void pass(int64_t time);

/* Turns the loop until there is an answer. */
void await(const int *answers);

#endif
