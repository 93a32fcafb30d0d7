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

    /* The user's: bytes in it; how many of them, the last, are to leave together with what stands
     * behind them; and that, in memory. */
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
