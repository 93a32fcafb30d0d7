#include "bench/wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#define LINE 64

void wire_die(const char *format, ...)
{
    int saved = errno;
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, saved ? ": %s\n" : "\n", strerror(saved));
    exit(1);
}

const char *wire_block(void)
{
    static char block[WIRE_BLOCK + 1];
    if (block[0] == 0) {
        for (size_t at = 0; at < WIRE_BLOCK; at += LINE) {
            snprintf(block + at, LINE + 1, "%08zx %.53s\r\n", at,
                     "the quick brown fox jumps over the lazy dog 0123456789");
        }
    }
    return block;
}

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int tcp_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        wire_die("socket");
    }
    return fd;
}

int wire_listen(uint16_t port)
{
    struct sockaddr_in address = loopback(port);
    int on = 1;
    int fd = tcp_socket();
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0) {
        wire_die("listen on port %u", port);
    }
    return fd;
}

uint16_t wire_port(int fd)
{
    struct sockaddr_in address = {0};
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0) {
        wire_die("getsockname");
    }
    return ntohs(address.sin_port);
}

int wire_connect(uint16_t port)
{
    struct sockaddr_in address = loopback(port);
    int fd = tcp_socket();
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
        wire_die("connect to port %u", port);
    }
    return fd;
}

void wire_raise_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int64_t wire_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

long wire_number(const char *option, const char *text, long max)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || value < 0 || value > max) {
        errno = 0;
        wire_die("%s: '%s' is not a number from 0 to %ld", option, text, max);
    }
    return value;
}
