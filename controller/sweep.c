/* Resources that arrive during the sweep are added behind the swept ones. */
#include "controller/sweep.h"

enum { SWEPT_A_TURN = 256 };

static void sweep_some(struct task *t)
{
    struct controller *c = container_of(t, struct controller, sweep.task);
    struct sweep *s = &c->sweep;
    for (int i = 0; i < SWEPT_A_TURN && s->left && !list_empty(&c->resources); i++) {
        struct resource *r = container_of(c->resources.next, struct resource, link);
        list_remove(&r->link);
        list_append(&c->resources, &r->link);
        s->left--;
        s->visit(r, s->flags);
    }
    if (s->left && !list_empty(&c->resources)) {
        loop_next_turn(c->loop, &s->task, sweep_some);
        return;
    }
    unsigned flags = s->flags;
    s->flags = 0;
    s->over(c, flags);
}

void sweep_init(struct controller *c, void (*visit)(struct resource *r, unsigned flags),
                void (*over)(struct controller *controller, unsigned flags))
{
    task_init(&c->sweep.task);
    c->sweep.visit = visit;
    c->sweep.over = over;
}

void sweep_begin(struct controller *c, unsigned flags)
{
    c->sweep.flags |= flags;
    c->sweep.left = c->n_resources;
    if (!c->stopped) {
        loop_soon(c->loop, &c->sweep.task, sweep_some);
    }
}

void sweep_stop(struct controller *c)
{
    task_cancel(&c->sweep.task);
}

void controller_wake_all(struct controller *c)
{
    sweep_begin(c, SWEEP_WAKE);
}
