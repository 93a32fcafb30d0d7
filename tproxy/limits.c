/* Reads what the system grants, and divides it between sessions, bulk transfers and clients that
 * linger. */
#include "tproxy/limits.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "lib/base.h"
#include "lib/conn.h"
#include "lib/linger.h"
#include "lib/loop.h"
#include "lib/socket_buffers.h"
#include "lib/text.h"

/* Descriptors for everything that is not a session, and for one session: a client, its backend, and
 * a client of an earlier session that lingers. */
enum { SPARE_DESCRIPTORS = 128, DESCRIPTORS_PER_SESSION = 3, LINGERING_LEAST = 64 };

/* One client of an earlier session may linger for each SESSIONS_PER_LINGERING sessions. */
enum { SESSIONS_PER_LINGERING = 4 };

/* Memory for everything that is not a session, out of the limit of the control group. */
#define BASE_MEMORY (16ull << 20)

/* One part in LOANS_SHARE of the rest is lent to bulk transfers, in at most LOANS_MAX loans. */
enum { LOANS_SHARE = 4, LOANS_MAX = 64 };

/* Bytes that a client and its server can make a session hold. */
enum {
    TLS_MEMORY = 48 * 1024, /* used by mbedTLS during a handshake */
    /* Answers that the client does not take, commands that the server does not take, and TLS
     * records that are not decrypted yet. */
    QUEUES_MEMORY = 3 * CONN_READ_SMALL + 8 * 1024,
    LINGERING_MEMORY = CONN_READ_SMALL + SOCKET_MEMORY,
    SESSION_MEMORY =
        TLS_MEMORY + QUEUES_MEMORY + 2 * SOCKET_MEMORY + LINGERING_MEMORY / SESSIONS_PER_LINGERING,
};

void limits_forbid_core_dumps(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
#ifndef __SANITIZE_ADDRESS__ /* its leak check has to trace the process */
    prctl(PR_SET_DUMPABLE, 0);
#endif
}

static uint64_t raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return 1024;
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

/* Returns the memory limit of the control group in bytes; UINT64_MAX when there is none. */
static uint64_t memory_limit(void)
{
    static const char *const files[] = {"/sys/fs/cgroup/memory.max",
                                        "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    uint64_t limit = UINT64_MAX;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char line[32] = "";
        FILE *f = fopen(files[i], "r");
        if (!f) {
            continue;
        }
        char *got = fgets(line, sizeof(line), f);
        fclose(f);
        struct str text = str_of(line);
        if (got && text_number(str_cut(&text, '\n'), UINT64_MAX, &limit) == OK) {
            break;
        }
    }
    return limit;
}

/* Returns the memory that sessions and loans share, in bytes. */
static uint64_t session_memory(void)
{
    uint64_t limit = memory_limit();
    return limit > BASE_MEMORY ? limit - BASE_MEMORY : 0;
}

/* Lends a share of the memory to bulk transfers (lib/socket_buffers.h), two loans to each: as many
 * as are useful, and wide ones when there is room. A loan costs the socket's buffer, of which the
 * kernel grants twice the size, and a longer queue. */
static void set_loans(uint64_t memory)
{
    uint64_t share = memory / LOANS_SHARE, size = share / LOANS_MAX / 2;
    size = size < SOCKET_WIDE_MIN ? SOCKET_WIDE_MIN : size;
    size = size > SOCKET_WIDE_MAX ? SOCKET_WIDE_MAX : size;
    uint64_t loans = share / (2 * size + LOOP_SCRATCH);
    socket_loans_set(loans < LOANS_MAX ? (size_t)loans : LOANS_MAX, (int)size);
}

static size_t session_limit(uint64_t memory, uint64_t descriptors)
{
    uint64_t by_memory = (memory - memory / LOANS_SHARE) / SESSION_MEMORY;
    uint64_t by_descriptors = descriptors > SPARE_DESCRIPTORS
                                  ? (descriptors - SPARE_DESCRIPTORS) / DESCRIPTORS_PER_SESSION
                                  : 2;
    uint64_t least = by_memory < by_descriptors ? by_memory : by_descriptors;
    return least < 2 ? 2 : (size_t)least;
}

size_t limits_set(size_t max_sessions)
{
    uint64_t descriptors = raise_descriptor_limit(), memory = session_memory();
    size_t sessions = max_sessions ? max_sessions : session_limit(memory, descriptors);
    size_t lingering = sessions / SESSIONS_PER_LINGERING;
    set_loans(memory);
    linger_set_max(lingering < LINGERING_LEAST ? LINGERING_LEAST : lingering);
    return sessions;
}
