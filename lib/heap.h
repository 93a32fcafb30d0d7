/* A priority queue whose nodes live in the objects: a pairing heap (Fredman, Sedgewick, Sleator and
 * Tarjan 1986). Adding takes constant time, removing any node logarithmic time on average. */
#ifndef TPROXY_LIB_HEAP_H
#define TPROXY_LIB_HEAP_H

#include <stdbool.h>

#include "lib/base.h"

struct heap_node {
    struct heap_node *child, *next;
    struct heap_node *prev; /* the sibling before it, or a first child's parent; NULL: the root */
};

struct heap {
    struct heap_node *root;
    /* Returns true when `a` comes before `b`. The order of nodes in a heap must not change. */
    bool (*before)(const struct heap_node *a, const struct heap_node *b);
};

static inline void heap_init(struct heap *heap,
                             bool (*before)(const struct heap_node *a, const struct heap_node *b))
{
    *heap = (struct heap){.before = before};
}

/* Returns the node that comes before all others. NULL when the heap is empty. */
static inline struct heap_node *heap_first(const struct heap *heap)
{
    return heap->root;
}

/* Adds a node that is in no heap. */
void heap_add(struct heap *heap, struct heap_node *node);

/* Removes a node that is in this heap. */
void heap_remove(struct heap *heap, struct heap_node *node);

#endif
