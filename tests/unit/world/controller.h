/* A controller in a world that a test plays: the cluster (world/cluster.h), the destinations, the
 * clock, and the ports that other processes have. Behind it are the real POP3 proxy, the real list
 * of instances, and real listeners: each is bound to a free port on loopback and stands for the
 * port that was requested.
 *
 * There may be several replicas of it, each with an address of its own. Most functions are about
 * one of them: `replica`, the first one until world_use() says otherwise. Only replicas that lead
 * may make calls and read destinations; the world checks it. */
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

/* The number of turns and deeds after which a world that does not come to rest counts as a busy
 * loop. */
enum { WORLD_DEEDS_MAX = 20000, WORLD_QUIET = 3, WORLD_DESTINATIONS = 64 };

enum { FIRST_PORT = 20000, LAST_PORT = 20099, ALL_PORTS = 65536 };

/* Descriptors from PRETENDED on do not exist, for tests that need more than the system allows. */
enum { PRETENDED = 8192, DESCRIPTORS = 32768 };

#define HOME "home"

/* A destination as the source knows it: "name", or "name@tenant" for one tenant. */
struct known {
    char name[64];
    const struct destination *dest; /* NULL: see `verdict` */
    enum verdict verdict;
};

/* One process: a controller with its parts. */
struct replica {
    struct oauth *oauth; /* NULL: world_use() has not been called for it */
    struct connectivity *connectivity;
    struct dest *dest;
    struct pop3 *pop3;
    struct dest_source source;
    struct controller *controller; /* NULL: not started */
    bool leads;                    /* it has been told to lead */

    int listeners[ALL_PORTS]; /* the descriptor that stands for a port; 0: none */
    int refuses[ALL_PORTS];   /* errno of bind; EADDRINUSE: another process has the port */
};
extern struct replica *replica;

struct world {
    struct loop *loop;
    struct dns *dns;
    struct replica replicas[FAKE_CLIENTS];
    char asked[64]; /* the instance of the last question; "": none was named */
    struct controller_settings settings;
    bool shuffled; /* things happen in random order */
    uint64_t deeds_max;
    int nowhere; /* the log's descriptor */

    struct list requests;
    struct known known[WORLD_DESTINATIONS];
    const struct destination *any; /* every destination without an entry; NULL: they do not exist */
    bool source_mute;
    bool wordy;        /* each refusal has different words */
    const char *hangs; /* the tenant whose destinations are never answered, or NULL */
    unsigned finds;
    size_t waiting, most_waiting; /* unanswered questions */

    uint16_t bound[DESCRIPTORS];            /* the port that a descriptor stands for */
    struct replica *bound_for[DESCRIPTORS]; /* and the replica that has it */
    int next_pretended; /* the next pretended descriptor; 0: listeners are real */
    uint64_t chance;    /* the state of the random number generator */

    unsigned configured, changed, gone;
    size_t instances; /* instances in the last configuration */
    char last[256];   /* "namespace/name reason port" of the last change of a condition */
};
extern struct world world;

/* ---- random numbers, ports ---- */

size_t world_rand(size_t n);

size_t count_listeners(void);

/* Connects to the listener that stands for the port. */
int dial_port(uint16_t port);

/* ---- destinations ---- */

const struct destination *make_destination(const char *name, const char *protocol,
                                           const char *host);

/* Adds a destination with this name, protocol and host. */
void serve_at(const char *name, const char *protocol, const char *host);

void serve(const char *name);

void refuse(const char *name, enum verdict verdict);

/* ---- progress ---- */

/* Does one possible thing: the first, or a random one. Returns false if there is none. */
bool world_deed(void);

/* Goes on until nothing more happens while time stands still. */
void settle(void);

/* Goes on until nothing more happens, then moves the clock. */
void pass(int64_t time);

/* Moves the clock in steps, so that repeated actions occur as often as they would. */
void pass_slowly(int64_t time, int64_t step);

/* ---- the controller ---- */

/* Makes this one the replica that the functions are about. */
void world_use(size_t number);

/* Starts a controller that leads. */
void start_controller(void);

/* Starts a controller that does not lead. */
void start_follower(void);

/* Tells the controller whether it leads. */
void world_lead(bool leads);

void stop_controller(void);

/* Starts a new controller that knows nothing, as after kill -9. */
void restart_controller(void);

void world_forget_journal(void);

/* Checks that exactly these calls have been made since the last check. */
#define expect_calls(lines) check_calls(lines, __FILE__, __LINE__)

void check_calls(const char *lines, const char *file, int line);

unsigned calls_made(void);

/* Returns the number of calls since then whose journal lines begin with `start`. */
unsigned count_calls(const char *start);

/* ---- objects ---- */

#define CRD "CustomResourceDefinition", "", "destinations.destination.connectivity.api.sap"

void put_namespace(const char *name);

/* Writes a CR with this name for a destination. `more`: other members of the spec, beginning with a
 * comma. */
void put_cr(const char *namespace, const char *name, const char *destination, const char *more);

/* Writes the annotation that names a CR's tenants; NULL: removes it. */
void put_tenants(const char *namespace, const char *name, const char *annotation);

/* Writes the configuration, given as the members of its spec. */
void configure(const char *spec);

/* Returns a text in an object that has to exist; valid until the next call. */
const char *text_at(const char *kind, const char *namespace, const char *name, const char *path);

bool exists(const char *kind, const char *namespace, const char *name);

/* Returns a member of the condition Available; "" if there is none. */
const char *condition_of(const char *namespace, const char *name, const char *member);

#define expect_reason(namespace, name, reason)                                                     \
    assert_string_equal(condition_of(namespace, name, "reason"), reason)

/* Returns a number of the first port of a Service. */
uint16_t port_of(const char *namespace, const char *name, const char *member);

uint16_t target_port(const char *name);

/* ---- set-up ---- */

void start_world(bool in_cluster);

/* Sets up an installation with a configuration, a namespace "apps", and a destination "inbox". */
int setup(void **state);

int teardown(void **state);

#endif
