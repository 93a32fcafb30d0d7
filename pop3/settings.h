/* The settings of the POP3 proxy. */
#ifndef TPROXY_POP3_SETTINGS_H
#define TPROXY_POP3_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pop3_settings {
    int64_t login_timeout;  /* from the greeting to the login, microseconds */
    int64_t answer_timeout; /* upper bound for the backend's answer to one step of the login */
    int64_t idle_timeout; /* of a relayed session without a byte; RFC 1939 section 3 wants at least
                             10 minutes */
    size_t max_sessions;  /* at most half of them for one target, three quarters for one owner */
    bool allow_local;     /* backends on loopback and link-local addresses */
    bool no_listeners;    /* targets do not listen, and so have no sessions: they are only judged */
};

#endif
