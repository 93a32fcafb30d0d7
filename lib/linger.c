/* Lingering conns: discard what comes until the peer has taken everything and closed. */
#include "lib/linger.h"

#include <stdint.h>
#include <stdlib.h>

#include "lib/base.h"
#include "lib/conn.h"
#include "lib/loop.h"
#include "lib/mem.h"

/* STALL: how long a lingering conn waits for the peer's kernel to take more bytes.
 * LAST: how long it then waits for the peer to close. */
#define STALL SECONDS(60)
#define LAST SECONDS(2)

struct lingering {
    struct conn *conn;
    struct list link;
    struct linger_group *group;
    int64_t taken_at; /* when it was last seen that the peer's kernel took bytes */
    size_t untaken;   /* the number of bytes that were left then */
    bool ended;       /* the peer will send no more */
};

/* `everybody` is the group of the conns that linger_close has closed. `groups` lists all groups and
 * begins with it. */
static struct linger_group everybody;
static struct list groups = {.next = &everybody.link, .prev = &everybody.link};
static struct linger_group everybody = {
    .link = {.next = &groups, .prev = &groups},
    .conns = {.next = &everybody.conns, .prev = &everybody.conns},
    .max = 4096,
};

static void end(struct lingering *l)
{
    conn_close(l->conn);
    l->group->n--;
    list_remove(&l->link);
    free(l);
}

static void wait_on(struct lingering *l, size_t untaken)
{
    int64_t now = loop_now(conn_loop(l->conn));
    l->untaken = untaken;
    l->taken_at = now;
    conn_deadline(l->conn, now + LAST);
}

/* Events do not tell whether the peer's kernel still takes bytes of ours; as long as it does,
 * closing could destroy the rest. */
static void look(struct lingering *l)
{
    int64_t now = loop_now(conn_loop(l->conn));
    size_t untaken = conn_untaken(l->conn);
    if (untaken != l->untaken) {
        wait_on(l, untaken);
    } else if (untaken && now - l->taken_at < STALL) {
        conn_deadline(l->conn, now + LAST);
    } else {
        end(l);
    }
}

static void on_event(struct conn *c, enum conn_event event, void *arg)
{
    struct lingering *l = arg;
    l->ended |= event == CONN_EOF;
    if (event == CONN_FAILED || (l->ended && conn_pending(c) == 0)) {
        end(l);
    } else if (event == CONN_DRAINED) {
        wait_on(l, 0);
    } else if (event == CONN_TIMEOUT) {
        look(l);
    }
}

void linger_close_among(struct conn *c, struct linger_group *group)
{
    if (!c || !conn_discard(c)) {
        conn_close(c);
        return;
    }
    if (group->n >= group->max) {
        linger_group_drop(group);
    }
    struct lingering *l = mem_alloc(sizeof(*l));
    *l = (struct lingering){.conn = c, .group = group};
    list_init(&l->link);
    list_append(&group->conns, &l->link);
    group->n++;
    conn_set_handler(c, (struct conn_handler){.event = on_event, .arg = l});
    wait_on(l, conn_pending(c));
}

void linger_close(struct conn *c)
{
    linger_close_among(c, &everybody);
}

/* ---- groups ---- */

void linger_group_init(struct linger_group *group, size_t max)
{
    *group = (struct linger_group){.max = max};
    list_init(&group->conns);
    list_init(&group->link);
    list_append(&groups, &group->link);
}

bool linger_group_drop(struct linger_group *group)
{
    if (list_empty(&group->conns)) {
        return false;
    }
    end(container_of(group->conns.next, struct lingering, link));
    return true;
}

static void close_conns(struct linger_group *group)
{
    while (linger_group_drop(group)) {
    }
}

void linger_group_close(struct linger_group *group)
{
    close_conns(group);
    list_remove(&group->link);
}

void linger_close_all(void)
{
    LIST_EACH (it, &groups) {
        close_conns(container_of(it, struct linger_group, link));
    }
}

void linger_set_max(size_t n)
{
    everybody.max = n;
}

size_t linger_count(void)
{
    size_t n = 0;
    LIST_EACH (it, &groups) {
        n += container_of(it, struct linger_group, link)->n;
    }
    return n;
}
