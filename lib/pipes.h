/* Kernel pipes for splice(2), lent and taken back. Their number is bounded, because the kernel
 * charges all pipes of a user id on the machine to one account. A caller that gets no pipe
 * copies. */
#ifndef TPROXY_LIB_PIPES_H
#define TPROXY_LIB_PIPES_H

#include <stddef.h>

#include "lib/base.h"

enum { PIPES_MAX = 32, PIPE_BEHIND_MAX = 8 };

struct pipe {
    int read_end, write_end;
    size_t size; /* the number of bytes that it can hold */

    /* The fields below belong to the user. fill: bytes in the pipe. held: how many of the last ones
     * have to leave together with the bytes that follow them. behind: the bytes that follow, in
     * memory. */
    size_t fill;
    unsigned char held, behind_n;
    char behind[PIPE_BEHIND_MAX];
};

/* Returns an empty pipe, or NULL when there is none to be had. */
struct pipe *pipe_take(void);

/* Takes a pipe back. A pipe that still holds bytes is closed. NULL is allowed. */
void pipe_give(struct pipe *p);

/* Closes the idle pipes, for the end of the process. */
void pipes_close(void);

#endif
