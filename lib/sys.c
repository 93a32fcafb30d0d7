/* The table of the operating system. */
#include "lib/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static int64_t read_clock(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t real_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

static int64_t real_boottime(void)
{
    return read_clock(CLOCK_BOOTTIME);
}

static void real_random(void *out, size_t n)
{
    unsigned char *p = out;
    while (n) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno != EINTR) {
            abort(); /* without random bytes there is no TLS and no safe DNS: better no process */
        }
        if (got > 0) {
            p += got;
            n -= (size_t)got;
        }
    }
}

static ssize_t real_splice(int in, int64_t *in_off, int out, int64_t *out_off, size_t n,
                           unsigned flags)
{
    return splice(in, in_off, out, out_off, n, flags);
}

static int real_unread(int fd, int *n)
{
    return ioctl(fd, FIONREAD, n);
}

static int real_unsent(int fd, int *n)
{
    return ioctl(fd, SIOCOUTQ, n);
}

static int real_set_pipe_size(int fd, int size)
{
    return fcntl(fd, F_SETPIPE_SZ, size);
}

const struct sys sys_real = {
    .now = real_now,
    .boottime = real_boottime,
    .random = real_random,
    .socket = socket,
    .bind = bind,
    .listen = listen,
    .accept4 = accept4,
    .connect = connect,
    .recv = recv,
    .unread = real_unread,
    .send = send,
    .unsent = real_unsent,
    .shutdown = shutdown,
    .getsockopt = getsockopt,
    .setsockopt = setsockopt,
    .getsockname = getsockname,
    .close = close,
    .pipe2 = pipe2,
    .set_pipe_size = real_set_pipe_size,
    .read = read,
    .splice = real_splice,
    .epoll_create1 = epoll_create1,
    .epoll_ctl = epoll_ctl,
    .epoll_wait = epoll_wait,
};

const struct sys *sys = &sys_real;

static bool (*relieve_full)(void *arg);
static void *relieve_arg;

void sys_on_full(bool (*relieve)(void *arg), void *arg)
{
    relieve_full = relieve;
    relieve_arg = arg;
}

int sys_socket(int domain, int type, int protocol)
{
    int fd = sys->socket(domain, type, protocol);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE) && relieve_full &&
        relieve_full(relieve_arg)) {
        fd = sys->socket(domain, type, protocol);
    }
    return fd;
}
