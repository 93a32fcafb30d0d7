/* Kernel pipes for splice(2), lent and taken back. Their number is bounded, for the kernel charges
 * all pipes of a user id on the machine to one account; who gets none copies. */
#ifndef TPROXY_LIB_PIPES_H
#define TPROXY_LIB_PIPES_H

#include <stddef.h>

#include "lib/base.h"

enum { PIPES_MAX = 32, PIPE_BEHIND_MAX = 8 };

struct pipe {
    int read_end, write_end;
    size_t size; /* bytes that it takes */

    /* The fields below belong to the user. fill: bytes in the pipe. held: how many of the last ones
     * have to leave together with the bytes that follow them; behind: those bytes, in memory. */
    size_t fill;
    unsigned char held, behind_n;
    char behind[PIPE_BEHIND_MAX];
};

/* An empty pipe, or NULL. */
struct pipe *pipe_take(void);

/* Takes it back; one that still holds bytes is thrown away with them. NULL is allowed. */
void pipe_give(struct pipe *p);

/* Closes the pipes that nobody uses: for the end of the process. */
void pipes_close(void);

#endif
