#include <string.h>

#include "matcher/engine/node.h"

mr_ref mr_paths_create(struct mr_engine *engine)
{
    mr_ref ref = mr_heap_alloc(&engine->heap, sizeof(struct mr_node));
    if (ref)
        *(struct mr_node *)mr_at(engine, ref) = (struct mr_node){0};
    return ref;
}

static size_t children_bytes(uint32_t bits)
{
    return (sizeof(uint64_t) + sizeof(struct mr_child)) << bits;
}

static void put_child(const struct mr_engine *engine, const struct mr_node *node, uint64_t tag,
                      const struct mr_child *child)
{
    uint64_t *tags = mr_node_tags(engine, node);
    uint32_t mask = (UINT32_C(1) << node->bits) - 1;
    uint32_t at = mr_node_home(engine, node, tag);
    while (tags[at])
        at = (at + 1) & mask;
    tags[at] = tag;
    *mr_node_child_at(engine, node, at) = *child;
}

/* Put all children into a table of another size. */
static bool rehash(struct mr_engine *engine, struct mr_node *node, uint32_t bits)
{
    const struct mr_node old = *node;
    mr_ref ref = mr_heap_alloc(&engine->heap, children_bytes(bits));
    if (!ref)
        return false;
    memset(mr_at(engine, ref), 0, children_bytes(bits));
    node->children = ref;
    node->bits = bits;
    for (uint32_t i = 0; old.children && i < UINT32_C(1) << old.bits; i++)
        if (mr_node_tags(engine, &old)[i])
            put_child(engine, node, mr_node_tags(engine, &old)[i],
                      mr_node_child_at(engine, &old, i));
    if (old.children)
        mr_heap_free(&engine->heap, old.children, children_bytes(old.bits));
    return true;
}

static bool reserve_child(struct mr_engine *engine, struct mr_node *node)
{
    if (!node->children)
        return rehash(engine, node, 1);
    if ((node->child_count + 1) * 2 <= UINT32_C(1) << node->bits)
        return true;
    return rehash(engine, node, node->bits + 1);
}

/* Removal without tombstones, as in table.c. */
static void remove_child(struct mr_engine *engine, struct mr_node *node, mr_ref child)
{
    uint64_t *tags = mr_node_tags(engine, node);
    struct mr_child *children = mr_node_child_at(engine, node, 0);
    uint32_t mask = (UINT32_C(1) << node->bits) - 1;
    uint32_t hole = 0;
    while (!tags[hole] || children[hole].node != child)
        hole++;
    for (uint32_t at = (hole + 1) & mask; tags[at]; at = (at + 1) & mask) {
        uint32_t distance = (at - mr_node_home(engine, node, tags[at])) & mask;
        if (distance >= ((at - hole) & mask)) {
            tags[hole] = tags[at];
            children[hole] = children[at];
            hole = at;
        }
    }
    tags[hole] = 0;
    if (--node->child_count == 0) {
        mr_heap_free(&engine->heap, node->children, children_bytes(node->bits));
        node->children = 0;
        node->bits = 0;
    } else if (node->bits > 3 && node->child_count * 8 < UINT32_C(1) << node->bits) {
        (void)rehash(engine, node, node->bits - 1);
    }
}

/* A node's slots have changed: its parent knows of them. */
static void note_slots(struct mr_engine *engine, mr_ref ref)
{
    const struct mr_node *node = mr_at(engine, ref);
    const struct mr_node *parent = mr_at(engine, node->parent);
    struct mr_child *child = mr_node_child(engine, parent, node->tag, node->key, node->key_len);
    MR_ASSERT(child && child->node == ref);
    for (int cel = 0; cel < 2; cel++) {
        child->slots[cel] = node->slots[cel];
        if (node->slots[cel])
            child->slot_index[cel] =
                ((const struct mr_slot *)mr_at(engine, node->slots[cel]))->index;
    }
}

static size_t node_bytes(uint32_t key_len)
{
    return sizeof(struct mr_node) + key_len;
}

/* Remove a node that nothing needs, and its ancestors that were only on the way to it. */
static void prune(struct mr_engine *engine, mr_ref ref)
{
    struct mr_node *node = mr_at(engine, ref);
    while (node->parent && !node->slots[0] && !node->slots[1] && node->child_count == 0) {
        mr_ref parent = node->parent;
        remove_child(engine, mr_at(engine, parent), ref);
        mr_heap_free(&engine->heap, ref, node_bytes(node->key_len));
        ref = parent;
        node = mr_at(engine, ref);
    }
}

static mr_ref child_create(struct mr_engine *engine, mr_ref parent_ref, struct mr_str part,
                           uint64_t tag)
{
    struct mr_node *parent = mr_at(engine, parent_ref);
    if (!reserve_child(engine, parent))
        return 0;
    mr_ref ref = mr_heap_alloc(&engine->heap, node_bytes((uint32_t)part.len));
    if (!ref)
        return 0;
    struct mr_node *node = mr_at(engine, ref);
    *node = (struct mr_node){.tag = tag, .parent = parent_ref, .key_len = (uint32_t)part.len};
    memcpy(node->key, part.data, part.len);
    put_child(engine, parent, tag, &(struct mr_child){.node = ref, .key_len = node->key_len});
    parent->child_count++;
    return ref;
}

/* The node of a path, made with all above it where missing. 0: out of memory, nothing is left. */
static mr_ref node_get(struct mr_engine *engine, mr_ref root, struct mr_str path)
{
    mr_ref ref = root;
    while (path.len > 0) {
        const char *dot = memchr(path.data, '.', path.len);
        struct mr_str part = {path.data, dot ? (size_t)(dot - path.data) : path.len};
        uint64_t word = 0;
        memcpy(&word, part.data, part.len < 8 ? part.len : 8);
        uint64_t tag = mr_node_tag(engine, word, part.data, part.len);
        const struct mr_node *node = mr_at(engine, ref);
        const struct mr_child *known =
            mr_node_child(engine, node, tag, part.data, (uint32_t)part.len);
        mr_ref child = known ? known->node : child_create(engine, ref, part, tag);
        if (!child) {
            prune(engine, ref);
            return 0;
        }
        ref = child;
        size_t step = dot ? part.len + 1 : part.len;
        path = (struct mr_str){path.data + step, path.len - step};
    }
    return ref;
}

/* ---- slots ---- */

static bool grow_slots(struct mr_engine *engine, struct mr_group *group)
{
    uint32_t capacity = group->slot_capacity ? group->slot_capacity * 2 : 4;
    mr_ref ref = mr_heap_alloc(&engine->heap, capacity * sizeof(mr_ref));
    if (!ref)
        return false;
    mr_ref *slots = mr_at(engine, ref);
    memset(slots, 0, capacity * sizeof *slots);
    if (group->slots) {
        memcpy(slots, mr_at(engine, group->slots), group->slot_capacity * sizeof *slots);
        mr_heap_free(&engine->heap, group->slots, group->slot_capacity * sizeof *slots);
    }
    group->slots = ref;
    group->slot_capacity = capacity;
    return true;
}

/* Room in the group for one more slot, and in the engine's scratch for as many. */
static bool reserve_slot(struct mr_engine *engine, struct mr_group *group)
{
    for (;;) {
        const mr_ref *slots = mr_at(engine, group->slots);
        while (group->slot_free < group->slot_capacity && slots[group->slot_free])
            group->slot_free++;
        if (group->slot_free < group->slot_capacity)
            return mr_found_reserve(engine, group->slot_capacity);
        if (!grow_slots(engine, group))
            return false;
    }
}

static struct mr_slot *slot_create(struct mr_engine *engine, struct mr_group *group, mr_ref node,
                                   bool cel)
{
    if (group->slot_free == MR_SLOT_ID) /* kept for the document id */
        group->slot_free = 1;
    mr_ref ref =
        reserve_slot(engine, group) ? mr_heap_alloc(&engine->heap, sizeof(struct mr_slot)) : 0;
    if (!ref)
        return NULL;
    struct mr_slot *slot = mr_at(engine, ref);
    *slot =
        (struct mr_slot){.node = node, .index = node ? group->slot_free : MR_SLOT_ID, .cel = cel};
    for (int i = 0; i < MR_SLOT_SAMPLES; i++)
        slot->samples.numbers[i] = __builtin_nanf("");
    ((mr_ref *)mr_at(engine, group->slots))[slot->index] = ref;
    if (node) {
        ((struct mr_node *)mr_at(engine, node))->slots[cel] = ref;
        note_slots(engine, node);
    }
    group->slot_count++;
    return slot;
}

struct mr_slot *mr_slot_get(struct mr_engine *engine, struct mr_group *group, struct mr_str path,
                            bool cel)
{
    if (!cel && mr_str_equal(path, MR_STR("_id"))) {
        if (group->slots && *(const mr_ref *)mr_at(engine, group->slots))
            return mr_group_slot(engine, group, MR_SLOT_ID);
        return slot_create(engine, group, 0, false);
    }
    mr_ref ref = node_get(engine, group->root, path);
    if (!ref)
        return NULL;
    const struct mr_node *node = mr_at(engine, ref);
    if (node->slots[cel])
        return mr_at(engine, node->slots[cel]);
    struct mr_slot *slot = slot_create(engine, group, ref, cel);
    if (!slot)
        prune(engine, ref);
    return slot;
}

void mr_slot_release(struct mr_engine *engine, struct mr_group *group, struct mr_slot *slot)
{
    if (slot->refs > 0)
        return;
    MR_ASSERT(!slot->presence.one && !slot->presence.sets && slot->eq_keys == 0);
    mr_ref *place = (mr_ref *)mr_at(engine, group->slots) + slot->index;
    mr_ref ref = *place, node = slot->node;
    *place = 0;
    group->slot_count--;
    if (slot->index != MR_SLOT_ID && slot->index < group->slot_free)
        group->slot_free = slot->index;
    if (node) {
        ((struct mr_node *)mr_at(engine, node))->slots[slot->cel] = 0;
        note_slots(engine, node);
        prune(engine, node);
    }
    mr_heap_free(&engine->heap, ref, sizeof *slot);
}

void mr_paths_fini(struct mr_engine *engine, struct mr_group *group)
{
    MR_ASSERT(group->slot_count == 0);
    MR_ASSERT(((const struct mr_node *)mr_at(engine, group->root))->child_count == 0);
    mr_heap_free(&engine->heap, group->slots, group->slot_capacity * sizeof(mr_ref));
    mr_heap_free(&engine->heap, group->root, sizeof(struct mr_node));
}
