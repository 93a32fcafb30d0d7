#ifndef TPROXY_BENCH_WIRE_H
#define TPROXY_BENCH_WIRE_H

#include <stddef.h>
#include <stdint.h>

/* The parts that the backend, the load generator and the relay share: the text of the two messages,
 * so that the load generator can check every octet, and a few socket calls on the loopback address.
 * A helper that fails ends the program, so that a failed measurement has no result. */

/* Messages are cut from one block of numbered 64-octet lines, repeated without end. */
#define WIRE_BLOCK ((size_t)1 << 20)
#define WIRE_SMALL ((size_t)2048) /* RETR 1, without the final dot */

/* Prints the text and, if errno is set, its meaning; exits with status 1. */
__attribute__((format(printf, 1, 2), noreturn)) void wire_die(const char *format, ...);

/* Returns the block, which the first call fills. The block is owned by this module. */
const char *wire_block(void);

/* Returns a non-blocking listener on 127.0.0.1 (port 0: any); connections inherit its
 * TCP_NODELAY. */
int wire_listen(uint16_t port);

/* Returns the port to which the socket is bound. */
uint16_t wire_port(int fd);

/* Returns a non-blocking socket that is connected to 127.0.0.1 or is connecting. */
int wire_connect(uint16_t port);

/* Lets the process open as many descriptors as its hard limit permits. */
void wire_raise_limit(void);

/* Returns the monotonic clock in microseconds. */
int64_t wire_now(void);

/* Reads a number from 0 to max; any other text ends the program with an error that names the
 * option. */
long wire_number(const char *option, const char *text, long max);

#endif
