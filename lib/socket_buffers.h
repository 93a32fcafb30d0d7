/* Bounds for the memory that the kernel keeps for the sockets of sessions. A control group is
 * charged for it, and without a bound one client that stops reading makes the kernel keep megabytes
 * on both sides of its session.
 *
 * Every socket of a session has small buffers. A bulk transfer borrows wide ones, because nothing
 * else needs them; the number of loans is bounded. A loan ends with the socket. It also ends when
 * another transfer asks for a loan, none is left, and the buffers of this one are empty. */
#ifndef TPROXY_LIB_SOCKET_BUFFERS_H
#define TPROXY_LIB_SOCKET_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sizes that are requested from the kernel in bytes. It grants twice as much and counts its own
 * overhead in it (socket(7), SO_RCVBUF), and never more than net.core.rmem_max and wmem_max, which
 * are SOCKET_WIDE_MIN unless somebody has configured them. */
enum {
    SOCKET_BULK_SMALL = 16 * 1024,    /* in the direction of the answers, backend to client */
    SOCKET_COMMANDS_SMALL = 8 * 1024, /* in the direction of the commands */
    SOCKET_WIDE_MIN = 208 * 1024,     /* of a loan; a larger one costs less CPU per octet */
    SOCKET_WIDE_MAX = 4 * 1024 * 1024,
};

/* Bytes that the kernel may keep for one socket of a session without a loan. */
enum { SOCKET_MEMORY = 2 * (SOCKET_BULK_SMALL + SOCKET_COMMANDS_SMALL) };

/* The side of a session that a socket is on: answers come in from the backend and go out to the
 * client. */
enum socket_side { SOCKET_OF_CLIENT, SOCKET_OF_BACKEND };

/* A loan to one socket. Its owner keeps a pointer to it, which is NULL while there is no loan. */
struct socket_loan;

/* Sets how many loans there may be at a time, and the size that each requests. The default is 64
 * loans of SOCKET_WIDE_MIN. socket_loans returns how many there are. */
void socket_loans_set(size_t n, int size);
size_t socket_loans(void);

/* Makes the buffer for the answers of a backend small. (A client's socket inherits small buffers
 * from its listener.) The socket must be connected: an unconnected one would keep a small window
 * for good. */
void socket_buffers_small(int fd);

/* Makes the buffer for the commands to a backend small. Call it when SOCKET_COMMANDS_SMALL octets
 * were sent: the kernel cannot hold more before that, and most sessions never need the call. */
void socket_commands_small(int fd);

/* Widens the buffer for the answers, and makes *loan the loan, if there is none yet. Returns false
 * when all loans are taken; the buffers stay small. The pointer must stay where it is until the
 * loan ends: *loan is then NULL again. */
bool socket_loan_take(struct socket_loan **loan, int fd, enum socket_side side);

/* Ends the loan, if there is one, without telling the kernel: the socket is about to be closed. */
void socket_loan_drop(struct socket_loan **loan);

#endif
