/* A controller in a world that a test plays: the cluster (world/cluster.h), the destinations, the
 * clock, and which ports other processes have. Behind it are the real POP3 proxy, the real list of
 * instances, and listeners on loopback: each is bound to a free port and stands for the one that it
 * was asked for. */
#ifndef TPROXY_TESTS_WORLD_CONTROLLER_H
#define TPROXY_TESTS_WORLD_CONTROLLER_H

#include <stdio.h>
#include <sys/socket.h>

#include "btp/connectivity.h"
#include "configuration/config.h"
#include "controller/controller.h"
#include "controller/health.h"
#include "controller/plan.h"
#include "core/dest_source.h"
#include "core/destination.h"
#include "core/properties.h"
#include "dest.h"
#include "lib/dns.h"
#include "lib/log.h"
#include "oauth.h"
#include "pop3.h"
#include "tests/unit/world/cluster.h"
#include "tests/unit/world/streams.h"

/* Turns and deeds after which a world that has not come to rest is taken for a busy loop. */
enum { WORLD_DEEDS_MAX = 20000, WORLD_QUIET = 3, WORLD_DESTINATIONS = 64 };

enum { FIRST_PORT = 20000, LAST_PORT = 20099, ALL_PORTS = 65536 };

/* Descriptors from here on are only pretended, for tests that need more than there may be. */
enum { PRETENDED = 8192, DESCRIPTORS = 32768 };

#define HOME "home"

/* A destination as the source knows it: "name", or for one tenant "name@tenant". */
struct known {
    char name[64];
    const struct destination *dest; /* NULL: see verdict */
    enum verdict verdict;
};

struct world {
    struct loop *loop;
    struct dns *dns;
    struct oauth *oauth;
    struct connectivity *connectivity;
    struct dest *dest;
    struct pop3 *pop3;
    char asked[64];          /* the instance that was asked last; "": none was named */
    struct control *control; /* NULL: not started */
    struct control_settings settings;
    bool shuffled; /* what can be done next is done in any order */
    uint64_t deeds_max;
    int nowhere; /* where the log goes */

    struct dest_source source;
    struct list requests;
    struct known known[WORLD_DESTINATIONS];
    const struct destination *any; /* what every other one is; NULL: not found */
    bool source_mute;
    bool wordy;        /* it words each refusal differently */
    const char *hangs; /* the tenant whose destinations are never answered; or NULL */
    unsigned finds;
    size_t waiting, most_waiting; /* questions */

    int listeners[ALL_PORTS];    /* the descriptor that stands for a port; 0: none */
    uint16_t bound[DESCRIPTORS]; /* which port it stands for */
    int refuses[ALL_PORTS];      /* errno of bind; EADDRINUSE: another process has the port */
    int next_pretended;          /* descriptor; 0: listeners are real */
    uint64_t chance;             /* state of the generator */

    unsigned configured, changed, gone;
    size_t instances; /* of the configuration that came last */
    char last[256];   /* "namespace/name reason port" of the condition that changed last */
};
extern struct world world;

/* ---- chance, ports ---- */

size_t world_rand(size_t n);

size_t count_listeners(void);

/* Connects to what stands for the port. */
int dial_port(uint16_t port);

/* ---- destinations ---- */

const struct destination *make_destination(const char *name, const char *protocol,
                                           const char *host);

/* There is a destination of that name, with this protocol and host. */
void serve_at(const char *name, const char *protocol, const char *host);

void serve(const char *name);

void refuse(const char *name, enum verdict verdict);

/* ---- the world goes on ---- */

/* One deed: the first that is possible, or any. False: there is none. */
bool world_deed(void);

/* Until nothing happens any more while time stands still. */
void settle(void);

/* What is to happen now happens, then time goes on. */
void pass(int64_t time);

/* In steps, so that what is due again and again comes as often as it does. */
void pass_slowly(int64_t time, int64_t step);

/* ---- the controller ---- */

void start_control(void);

void stop_control(void);

/* A controller that knows nothing, as after kill -9. */
void restart_control(void);

void world_forget_journal(void);

/* Exactly these calls have been made since it was asked last. */
#define expect_calls(lines) check_calls(lines, __FILE__, __LINE__)

void check_calls(const char *lines, const char *file, int line);

unsigned calls_made(void);

/* ---- objects ---- */

#define CRD "CustomResourceDefinition", "", "destinations.destination.connectivity.api.sap"

void put_namespace(const char *name);

/* A CR of that name for a destination; more: of its spec, beginning with a comma. */
void put_cr(const char *namespace, const char *name, const char *destination, const char *more);

/* The annotation that names a CR's tenants; NULL: none. */
void put_tenants(const char *namespace, const char *name, const char *annotation);

/* The configuration, of its spec without braces. */
void configure(const char *spec);

/* A text of an object that has to be there; valid until the next call. */
const char *text_at(const char *kind, const char *namespace, const char *name, const char *path);

bool exists(const char *kind, const char *namespace, const char *name);

/* A member of the condition Available, "" when there is none. */
const char *condition_of(const char *namespace, const char *name, const char *member);

#define expect_reason(namespace, name, reason)                                                     \
    assert_string_equal(condition_of(namespace, name, "reason"), reason)

/* A number of the first port of a Service. */
uint16_t port_of(const char *namespace, const char *name, const char *member);

uint16_t target_port(const char *name);

/* ---- life ---- */

void start_world(bool in_cluster);

/* An installation that is configured, a namespace "apps", and a destination "inbox". */
int setup(void **state);

int teardown(void **state);

#endif
