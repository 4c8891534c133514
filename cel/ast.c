/* cel/ast.c: see cel/ast.h. */
#include "cel/ast.h"

struct mr_cel_node *mr_cel_node_append(struct mr_cel_node *parent, struct mr_cel_node *last,
                                       struct mr_cel_node *child)
{
    if (last)
        last->next = child;
    else
        parent->first = child;
    parent->count++;
    if (child->height >= parent->height)
        parent->height = child->height + 1;
    return child;
}

struct mr_cel_node *mr_cel_node_child(const struct mr_cel_node *node, uint32_t index)
{
    struct mr_cel_node *child = node->first;
    while (child && index-- > 0)
        child = child->next;
    return child;
}
