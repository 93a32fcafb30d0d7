/* The borrowers form a list. A borrower that was asked for its loan in vain moves to the end. */
#include "lib/socket_buffers.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "lib/list.h"
#include "lib/mem.h"
#include "lib/sys.h"

struct socket_loan {
    struct list link;
    struct socket_loan **owner; /* the pointer that leads here */
    int fd;
    enum socket_side side;
};

static struct list borrowers = {.next = &borrowers, .prev = &borrowers};
static size_t loans, loans_max = 64;
static int wide = SOCKET_WIDE_MIN;
static int64_t reclaim_next; /* on the monotonic clock */

/* The pause after a borrower was asked in vain. Without it, sessions that wait for a loan would ask
 * at each piece that they relay. */
#define RECLAIM_PAUSE MILLIS(10)

void socket_loans_set(size_t n, int size)
{
    loans_max = n;
    wide = size;
}

size_t socket_loans(void)
{
    return loans;
}

static void set_size(int fd, int name, int bytes)
{
    sys->setsockopt(fd, SOL_SOCKET, name, &bytes, sizeof(bytes));
}

/* Sets the window as well, because a receive buffer of a fixed size leaves it at what it was when
 * the connection was made (tcp(7), TCP_WINDOW_CLAMP). */
static void set_window(int fd, int bytes)
{
    sys->setsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &bytes, sizeof(bytes));
}

static int answers_option(enum socket_side side)
{
    return side == SOCKET_OF_CLIENT ? SO_SNDBUF : SO_RCVBUF;
}

void socket_buffers_small(int fd)
{
    set_size(fd, SO_RCVBUF, SOCKET_BULK_SMALL);
}

void socket_commands_small(int fd)
{
    set_size(fd, SO_SNDBUF, SOCKET_COMMANDS_SMALL);
}

static void end_loan(struct socket_loan *loan)
{
    *loan->owner = NULL;
    list_remove(&loan->link);
    free(loan);
    loans--;
}

void socket_loan_drop(struct socket_loan **loan)
{
    if (*loan) {
        end_loan(*loan);
    }
}

static bool is_empty(const struct socket_loan *loan)
{
    int n = 0;
    int rc = loan->side == SOCKET_OF_CLIENT ? sys->unsent(loan->fd, &n) : sys->unread(loan->fd, &n);
    return rc == 0 && n == 0;
}

/* Takes a loan back from a socket that does not use it. Each call asks one borrower. */
static bool reclaim(void)
{
    int64_t now = sys->now();
    if (list_empty(&borrowers) || now < reclaim_next) {
        return false;
    }
    struct socket_loan *first = container_of(borrowers.next, struct socket_loan, link);
    list_remove(&first->link);
    list_append(&borrowers, &first->link);
    if (!is_empty(first)) {
        reclaim_next = now + RECLAIM_PAUSE;
        return false;
    }
    set_size(first->fd, answers_option(first->side), SOCKET_BULK_SMALL);
    end_loan(first);
    return true;
}

bool socket_loan_take(struct socket_loan **loan, int fd, enum socket_side side)
{
    if (*loan) {
        return true;
    }
    if (loans >= loans_max && !reclaim()) {
        return false;
    }
    struct socket_loan *taken = mem_alloc(sizeof(*taken));
    *taken = (struct socket_loan){.owner = loan, .fd = fd, .side = side};
    list_init(&taken->link);
    list_append(&borrowers, &taken->link);
    *loan = taken;
    loans++;
    set_size(fd, answers_option(side), wide);
    if (side == SOCKET_OF_BACKEND) {
        set_window(fd, wide);
    }
    return true;
}
