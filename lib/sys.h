/* The clock, random bytes and the socket calls as one table, so that tests can put a simulated
 * world in their place. Every other file of tproxy reaches them through `sys` only. */
#ifndef TPROXY_LIB_SYS_H
#define TPROXY_LIB_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "lib/base.h"

/* Each entry behaves like the system call of its name: it returns -1 and sets errno on failure. */
struct sys {
    int64_t (*now)(void); /* monotonic clock, microseconds; stands still while the machine sleeps */
    int64_t (*boottime)(void); /* the same, but goes on then (CLOCK_BOOTTIME) */
    void (*random)(void *out,
                   size_t n); /* unpredictable bytes; never fails, never blocks after boot */

    int (*socket)(int domain, int type, int protocol);
    int (*bind)(int fd, const struct sockaddr *addr, socklen_t n);
    int (*listen)(int fd, int backlog);
    int (*accept4)(int fd, struct sockaddr *addr, socklen_t *n, int flags);
    int (*connect)(int fd, const struct sockaddr *addr, socklen_t n);
    ssize_t (*recv)(int fd, void *p, size_t n, int flags);
    int (*unread)(int fd, int *n); /* ioctl(FIONREAD): octets that recv would return now */
    ssize_t (*send)(int fd, const void *p, size_t n, int flags);
    int (*unsent)(int fd, int *n); /* ioctl(SIOCOUTQ): octets that the peer has not acknowledged */
    int (*shutdown)(int fd, int how);
    int (*getsockopt)(int fd, int level, int name, void *value, socklen_t *n);
    int (*setsockopt)(int fd, int level, int name, const void *value, socklen_t n);
    int (*getsockname)(int fd, struct sockaddr *addr, socklen_t *n);
    int (*close)(int fd);

    int (*pipe2)(int fds[2], int flags);
    int (*set_pipe_size)(int fd, int size);     /* fcntl(F_SETPIPE_SZ) */
    ssize_t (*read)(int fd, void *p, size_t n); /* from a pipe */
    ssize_t (*splice)(int in, int64_t *in_off, int out, int64_t *out_off, size_t n, unsigned flags);

    int (*epoll_create1)(int flags);
    int (*epoll_ctl)(int epfd, int op, int fd, struct epoll_event *event);
    int (*epoll_wait)(int epfd, struct epoll_event *events, int max, int timeout_ms);
};

/* The table in force: the real one at the start; tests assign another one before anything is
 * open. */
extern const struct sys *sys;

/* The table of the operating system. */
extern const struct sys sys_real;

/* Calls socket() of the table in force, for a connection that somebody waits for. When no
 * descriptor is left, calls the function given to sys_on_full, which may close one, and tries once
 * more. */
int sys_socket(int domain, int type, int protocol);

/* Sets the function that frees a descriptor: `relieve` closes one and returns true, or returns
 * false. NULL: no function. */
void sys_on_full(bool (*relieve)(void *arg), void *arg);

#endif
