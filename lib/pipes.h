/* Kernel pipes for splice(2), lent and taken back. Their number is bounded, for the kernel charges
 * all pipes of a user id on the machine to one account; who gets none copies. */
#ifndef TPROXY_LIB_PIPES_H
#define TPROXY_LIB_PIPES_H

#include <stddef.h>

#include "lib/base.h"

enum { PIPES_MAX = 32 };

struct pipe {
    int read_end, write_end;
    size_t size; /* bytes that it takes */
    size_t fill; /* bytes in it; counted by the user */
};

/* An empty pipe, or NULL. */
struct pipe *pipe_take(void);

/* Takes it back; one that still holds bytes is thrown away with them. NULL is allowed. */
void pipe_give(struct pipe *p);

/* Closes the pipes that nobody uses: for the end of the process. */
void pipes_close(void);

#endif
