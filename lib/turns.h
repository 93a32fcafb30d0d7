/* Members that wait for the same thing, in groups that take turns: after a member of one group
 * comes a member of each other group, so a group with many members does not delay the others. A
 * group that has had no members since its last turn comes first, so a single member does not wait
 * for all groups; afterwards it takes turns with them (as flows do in FQ-CoDel, RFC 8290 section
 * 4.2). */
#ifndef TPROXY_LIB_TURNS_H
#define TPROXY_LIB_TURNS_H

#include <stdbool.h>

#include "lib/list.h"

struct turns {
    struct list fresh;  /* groups that have members after a round without any */
    struct list others; /* groups that may have members; the next one comes first */
};

struct turns_group {
    struct list link;    /* on one of these lists */
    struct list members; /* in the order in which they came */
};

static inline void turns_init(struct turns *turns)
{
    list_init(&turns->fresh);
    list_init(&turns->others);
}

static inline void turns_group_init(struct turns_group *group)
{
    list_init(&group->link);
    list_init(&group->members);
}

/* Adds an unlinked member behind the others of its group. list_remove takes it away again. */
static inline void turns_add(struct turns *turns, struct turns_group *group, struct list *member)
{
    list_append(&group->members, member);
    if (list_empty(&group->link)) {
        list_append(&turns->fresh, &group->link);
    }
}

/* Takes the next member of one of these groups, as turns_next does. */
static inline struct list *turns_next_of(struct turns *turns, struct list *groups,
                                         bool (*may)(const struct turns_group *group))
{
    LIST_EACH (it, groups) {
        struct turns_group *group = container_of(it, struct turns_group, link);
        struct list *member = group->members.next;
        if (list_empty(&group->members)) {
            if (groups->next == it) { /* it is its turn */
                list_remove(&group->link);
            }
        } else if (!may || may(group)) {
            list_remove(member);
            list_remove(&group->link);
            list_append(&turns->others, &group->link); /* even without members: it had its turn */
            return member;
        }
    }
    return NULL;
}

/* Takes the next member away and returns it. A group for which `may` returns false keeps its turn
 * for later; `may` NULL allows all. Returns NULL when no member waits. */
static inline struct list *turns_next(struct turns *turns,
                                      bool (*may)(const struct turns_group *group))
{
    struct list *member = turns_next_of(turns, &turns->fresh, may);
    return member ? member : turns_next_of(turns, &turns->others, may);
}

#endif
