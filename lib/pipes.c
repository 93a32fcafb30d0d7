/* Kernel pipes for splice(2), lent and taken back. */
#include "lib/pipes.h"

#include <fcntl.h>
#include <stdlib.h>

#include "lib/mem.h"
#include "lib/sys.h"

/* A larger pipe than the default moves a bulk transfer with fewer wake-ups of its sender, which
 * saves a quarter of the CPU time. The kernel refuses it to a user id beyond its quota, which keeps
 * the default (pipe(7)). */
enum { SIZE = 131072, DEFAULT_SIZE = 65536 };

/* Idle pipes beyond this number are closed, so that a burst of bulk transfers leaves little
 * behind. */
enum { IDLE_MAX = 8 };

static struct pipe *idle[IDLE_MAX];
static int idle_count, count;

static void destroy(struct pipe *p)
{
    sys->close(p->read_end);
    sys->close(p->write_end);
    free(p);
    count--;
}

struct pipe *pipe_take(void)
{
    if (idle_count) {
        return idle[--idle_count];
    }
    int fds[2];
    if (count == PIPES_MAX || sys->pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
        return NULL;
    }
    struct pipe *p = mem_zalloc(sizeof(*p));
    p->read_end = fds[0];
    p->write_end = fds[1];
    p->size = sys->set_pipe_size(fds[1], SIZE) < 0 ? DEFAULT_SIZE : SIZE;
    count++;
    return p;
}

void pipe_give(struct pipe *p)
{
    if (!p) {
        return;
    }
    p->held = p->behind_n = 0;
    if (p->fill || idle_count == IDLE_MAX) {
        destroy(p);
    } else {
        idle[idle_count++] = p;
    }
}

void pipes_close(void)
{
    while (idle_count) {
        destroy(idle[--idle_count]);
    }
}
