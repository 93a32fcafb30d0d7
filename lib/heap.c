/* A tree in which each node comes before its children. */
#include "lib/heap.h"

#include <stddef.h>

/* Melds two trees: the one whose root is later becomes the first child of the other. NULL is an
 * empty tree. */
static struct heap_node *meld(const struct heap *heap, struct heap_node *a, struct heap_node *b)
{
    if (!a || !b) {
        return a ? a : b;
    }
    if (heap->before(b, a)) {
        struct heap_node *earlier = b;
        b = a;
        a = earlier;
    }
    b->prev = a;
    b->next = a->child;
    if (b->next) {
        b->next->prev = b;
    }
    a->child = b;
    return a;
}

static struct heap_node *detach(struct heap_node *node)
{
    node->next = node->prev = NULL;
    return node;
}

/* Melds siblings: first in pairs, then the pairs from the last to the first. */
static struct heap_node *meld_siblings(const struct heap *heap, struct heap_node *first)
{
    struct heap_node *pairs = NULL, *root = NULL;
    while (first) {
        struct heap_node *a = first, *b = a->next;
        first = b ? b->next : NULL;
        detach(a);
        a = meld(heap, a, b ? detach(b) : NULL);
        a->next = pairs;
        pairs = a;
    }
    while (pairs) {
        struct heap_node *a = pairs;
        pairs = a->next;
        root = meld(heap, root, detach(a));
    }
    return root;
}

void heap_add(struct heap *heap, struct heap_node *node)
{
    *node = (struct heap_node){0};
    heap->root = meld(heap, heap->root, node);
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
    struct heap_node *below = meld_siblings(heap, node->child);
    if (node == heap->root) {
        heap->root = below;
        return;
    }
    if (node->prev->child == node) {
        node->prev->child = node->next;
    } else {
        node->prev->next = node->next;
    }
    if (node->next) {
        node->next->prev = node->prev;
    }
    heap->root = meld(heap, heap->root, below);
}
