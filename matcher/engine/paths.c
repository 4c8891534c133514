#include <string.h>

#include "matcher/engine/node.h"

mr_ref mr_paths_create(struct mr_engine *engine)
{
    mr_ref ref = mr_heap_alloc(&engine->heap, sizeof(struct mr_node));
    if (ref)
        *(struct mr_node *)mr_at(engine, ref) = (struct mr_node){0};
    return ref;
}

static size_t entries_bytes(const struct mr_node *node)
{
    return sizeof(struct mr_node_entry) << node->bits;
}

static void put_entry(const struct mr_engine *engine, struct mr_node *node,
                      struct mr_node_entry entry)
{
    struct mr_node_entry *entries = mr_at(engine, node->entries);
    uint32_t mask = (UINT32_C(1) << node->bits) - 1;
    uint32_t at = mr_node_home(engine, node, entry.tag);
    while (entries[at].node)
        at = (at + 1) & mask;
    entries[at] = entry;
}

/* Put all entries but one into a table of another size. bits 0 with no children: none at all. */
static bool rehash(struct mr_engine *engine, struct mr_node *node, uint32_t bits, mr_ref without)
{
    struct mr_node old = *node;
    mr_ref ref = mr_heap_alloc(&engine->heap, sizeof(struct mr_node_entry) << bits);
    if (!ref)
        return false;
    memset(mr_at(engine, ref), 0, sizeof(struct mr_node_entry) << bits);
    node->entries = ref;
    node->bits = bits;
    const struct mr_node_entry *entries = mr_at(engine, old.entries);
    for (uint32_t i = 0; old.entries && i < UINT32_C(1) << old.bits; i++)
        if (entries[i].node && entries[i].node != without)
            put_entry(engine, node, entries[i]);
    if (old.entries)
        mr_heap_free(&engine->heap, old.entries, entries_bytes(&old));
    return true;
}

static bool reserve_child(struct mr_engine *engine, struct mr_node *node)
{
    if (!node->entries)
        return rehash(engine, node, 1, 0);
    if ((node->child_count + 1) * 2 <= UINT32_C(1) << node->bits)
        return true;
    return rehash(engine, node, node->bits + 1, 0);
}

/* Removal without tombstones, as in table.c. */
static void remove_child(struct mr_engine *engine, struct mr_node *node, mr_ref child)
{
    struct mr_node_entry *entries = mr_at(engine, node->entries);
    uint32_t mask = (UINT32_C(1) << node->bits) - 1;
    uint32_t hole = 0;
    while (entries[hole].node != child)
        hole++;
    for (uint32_t at = (hole + 1) & mask; entries[at].node; at = (at + 1) & mask) {
        uint32_t distance = (at - mr_node_home(engine, node, entries[at].tag)) & mask;
        if (distance >= ((at - hole) & mask)) {
            entries[hole] = entries[at];
            hole = at;
        }
    }
    entries[hole].node = 0;
    if (--node->child_count == 0) {
        mr_heap_free(&engine->heap, node->entries, entries_bytes(node));
        node->entries = 0;
        node->bits = 0;
    } else if (node->bits > 3 && node->child_count * 8 < UINT32_C(1) << node->bits) {
        (void)rehash(engine, node, node->bits - 1, 0);
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
    put_entry(engine, parent, (struct mr_node_entry){tag, ref, node->key_len});
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
        mr_ref child = mr_node_child(engine, node, tag, part.data, (uint32_t)part.len);
        if (!child)
            child = child_create(engine, ref, part, tag);
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
    if (node)
        ((struct mr_node *)mr_at(engine, node))->slots[cel] = ref;
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
