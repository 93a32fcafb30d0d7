/* Doubly linked lists whose links live in the objects: an object can leave in constant time without
 * knowing which list it is on. A list head and an unlinked member are both linked to themselves. */
#ifndef TPROXY_LIB_LIST_H
#define TPROXY_LIB_LIST_H

#include <stdbool.h>

#include "lib/base.h"

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

/* Puts an unlinked member at the end. */
static inline void list_append(struct list *head, struct list *member)
{
    member->prev = head->prev;
    member->next = head;
    head->prev->next = member;
    head->prev = member;
}

/* Takes a member off whatever list it is on; does nothing to an unlinked one. */
static inline void list_remove(struct list *member)
{
    member->prev->next = member->next;
    member->next->prev = member->prev;
    list_init(member);
}

/* Loops over the members. The body may remove the current one, and no other. */
#define LIST_EACH(it, head)                                                                        \
    for (struct list *it = (head)->next, *it##_next = it->next; it != (head);                      \
         it = it##_next, it##_next = it->next)

#endif
