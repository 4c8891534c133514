#include <math.h>

#include "matcher/engine/index.h"

/* A key as the walk and the trie see it. Up to 7 bytes it is its word alone. */
struct path_key {
    const char *data;
    uint32_t len;
    uint64_t word, hash;
};

#define BYTES_ONES  UINT64_C(0x0101010101010101)
#define BYTES_HIGHS UINT64_C(0x8080808080808080)

static inline uint64_t hash_key(uint64_t seed, uint64_t word, const char *data, size_t len)
{
    return len <= 8 ? mr_hash_mix(word, seed) : mr_hash_bytes(seed, data, len);
}

static struct path_key key_of(uint64_t seed, struct mr_str part)
{
    struct path_key key = {.data = part.data, .len = (uint32_t)part.len};
    memcpy(&key.word, part.data, part.len < 8 ? part.len : 8);
    key.hash = hash_key(seed, key.word, part.data, part.len);
    return key;
}

static inline struct mr_trie_node *child_of(const struct mr_trie_node *node,
                                            const struct path_key *key)
{
    for (uint64_t at = key->hash;; at++) {
        const struct mr_table_entry *entry = mr_table_at(&node->children, at);
        struct mr_trie_node *child = entry->item;
        if (!child)
            return NULL;
        if (entry->hash == key->hash && child->word == key->word && child->key_len == key->len &&
            (key->len <= 8 || memcmp(child->key, key->data, key->len) == 0))
            return child;
    }
}

/* Read the key at "at" and leave *at behind its NUL. False: it does not end within the document. */
static inline bool read_key(const uint8_t **at, const uint8_t *end, struct path_key *key)
{
    const uint8_t *start = *at;
    size_t rest = (size_t)(end - start);
    uint64_t word = 0, zeros;
    if (rest >= 8)
        memcpy(&word, start, 8);
    else
        memcpy(&word, start, rest); /* a zero behind the end is no terminator: checked below */
    zeros = (word - BYTES_ONES) & ~word & BYTES_HIGHS;
    size_t len;
    if (zeros != 0) {
        len = (size_t)__builtin_ctzll(zeros) >> 3;
        word &= (UINT64_C(1) << (8 * len)) - 1;
    } else {
        const uint8_t *nul = memchr(start + 8, 0, rest - 8);
        if (!nul)
            return false;
        len = (size_t)(nul - start);
    }
    if (len >= rest)
        return false;
    *key = (struct path_key){.data = (const char *)start, .len = (uint32_t)len, .word = word};
    *at = start + len + 1;
    return true;
}

static void found(struct mr_engine *engine, uint32_t slot, const struct mr_value *value)
{
    double number = NAN;
    if (value->kind == MR_VALUE_INT)
        number = (double)value->integer;
    else if (value->kind == MR_VALUE_DOUBLE || value->kind == MR_VALUE_DECIMAL)
        number = value->number;
    engine->found[slot] =
        (struct mr_found){.event = engine->event, .number = number, .value = *value};
    engine->found_slots[engine->found_count++] = slot;
}

/* Visit one level. Recursion is as deep as the trie, which program_load limits to 32 parts. */
static bool walk(struct mr_engine *engine, const struct mr_trie_node *node, const uint8_t *data,
                 uint32_t len)
{
    const uint8_t *at = data + 4, *end = data + len - 1;
    uint32_t wanted = node->children.count;
    bool sound = true;
    while (at < end && wanted > 0) {
        struct path_key key;
        uint8_t type = *at++;
        if (!read_key(&at, end, &key))
            return false;
        int64_t size = mr_bson_value_size(type, at, end);
        if (size < 0)
            return false;
        const struct mr_bson_value value = {.type = type, .data = at, .len = (uint32_t)size};
        at += size;
        key.hash = hash_key(engine->seed, key.word, key.data, key.len);
        struct mr_trie_node *child = child_of(node, &key);
        if (!child || child->seen == engine->event)
            continue;
        child->seen = engine->event;
        wanted--;
        if (child->slot) {
            struct mr_value seen = mr_value_from_bson(&value);
            found(engine, child->slot->index, &seen);
        }
        if (child->children.count > 0 && (type == MR_BSON_DOCUMENT || type == MR_BSON_ARRAY))
            sound &= walk(engine, child, value.data, value.len);
    }
    return sound;
}

bool mr_paths_extract(struct mr_engine *engine, struct mr_group *group, struct mr_str document)
{
    struct mr_bson_iter iter;
    if (group->root->children.count == 0 || document.len == 0)
        return true;
    if (mr_bson_iter_init(&iter, document.data, document.len) != MR_OK)
        return false;
    return walk(engine, group->root, (const uint8_t *)document.data, (uint32_t)document.len);
}

static struct mr_trie_node *node_create(struct mr_engine *engine, struct mr_trie_node *parent,
                                        const struct path_key *key)
{
    struct mr_trie_node *node = mr_index_alloc(engine, sizeof *node + key->len);
    if (!node)
        return NULL;
    *node = (struct mr_trie_node){
        .parent = parent, .word = key->word, .hash = key->hash, .key_len = key->len};
    mr_table_init(&node->children);
    memcpy(node->key, key->data, key->len);
    return node;
}

/* Remove a node that nothing needs, and its ancestors that were only on the way to it. */
static void prune(struct mr_engine *engine, struct mr_trie_node *node)
{
    while (node->parent && !node->slot && node->children.count == 0) {
        struct mr_trie_node *parent = node->parent;
        mr_table_remove(&parent->children, node->hash, node);
        mr_index_free(engine, node, sizeof *node + node->key_len);
        node = parent;
    }
}

/* The node of a path, made with all above it where missing. NULL: out of memory, nothing is left.
 */
static struct mr_trie_node *node_get(struct mr_engine *engine, struct mr_trie_node *root,
                                     struct mr_str path)
{
    struct mr_trie_node *node = root;
    while (path.len > 0) {
        const char *dot = memchr(path.data, '.', path.len);
        size_t len = dot ? (size_t)(dot - path.data) : path.len;
        struct path_key key = key_of(engine->seed, (struct mr_str){path.data, len});
        struct mr_trie_node *child = child_of(node, &key);
        if (!child) {
            child = mr_table_reserve(&node->children) ? node_create(engine, node, &key) : NULL;
            if (!child) {
                prune(engine, node);
                return NULL;
            }
            mr_table_put(&node->children, key.hash, child);
        }
        node = child;
        size_t step = dot ? len + 1 : len;
        path = (struct mr_str){path.data + step, path.len - step};
    }
    return node;
}

/* Room in the group for one more slot, and in the engine's scratch for as many. */
static bool reserve_slot(struct mr_engine *engine, struct mr_group *group)
{
    while (group->slot_free < group->slot_capacity && group->slots[group->slot_free])
        group->slot_free++;
    if (group->slot_free >= group->slot_capacity) {
        uint32_t capacity = group->slot_capacity ? group->slot_capacity * 2 : 4;
        struct mr_slot **slots =
            mr_index_resize(engine, group->slots, group->slot_capacity * sizeof(struct mr_slot *),
                            capacity * sizeof(struct mr_slot *));
        if (!slots)
            return false;
        for (uint32_t i = group->slot_capacity; i < capacity; i++)
            slots[i] = NULL;
        group->slots = slots;
        group->slot_capacity = capacity;
    }
    if (group->slot_capacity <= engine->found_capacity)
        return true;
    uint32_t old = engine->found_capacity, capacity = group->slot_capacity;
    struct mr_found *all =
        mr_index_resize(engine, engine->found, old * sizeof *all, capacity * sizeof *all);
    if (!all)
        return false;
    memset(all + old, 0, (capacity - old) * sizeof *all);
    engine->found = all;
    uint32_t *order =
        mr_index_resize(engine, engine->found_slots, old * sizeof *order, capacity * sizeof *order);
    if (!order) { /* found is larger than it says; give that back to the books */
        engine->stats.bytes -= (capacity - old) * sizeof *all;
        return false;
    }
    engine->found_slots = order;
    engine->found_capacity = capacity;
    return true;
}

struct mr_slot *mr_slot_get(struct mr_engine *engine, struct mr_group *group, struct mr_str path)
{
    bool is_id = mr_str_equal(path, MR_STR("_id"));
    struct mr_trie_node *node = NULL;
    if (is_id) {
        if (group->slots && group->slots[MR_SLOT_ID])
            return group->slots[MR_SLOT_ID];
    } else {
        node = node_get(engine, group->root, path);
        if (!node || node->slot)
            return node ? node->slot : NULL;
    }
    if (group->slot_free == MR_SLOT_ID) /* kept for the document id */
        group->slot_free = 1;
    struct mr_slot *slot =
        reserve_slot(engine, group) ? mr_index_alloc(engine, sizeof *slot) : NULL;
    if (!slot) {
        if (node)
            prune(engine, node);
        return NULL;
    }
    *slot = (struct mr_slot){.node = node, .index = is_id ? MR_SLOT_ID : group->slot_free};
    if (node)
        node->slot = slot;
    group->slots[slot->index] = slot;
    group->slot_count++;
    return slot;
}

void mr_slot_release(struct mr_engine *engine, struct mr_group *group, struct mr_slot *slot)
{
    if (slot->refs > 0)
        return;
    MR_ASSERT(slot->presence.count == 0 && slot->keys == 0);
    group->slots[slot->index] = NULL;
    group->slot_count--;
    if (slot->index != MR_SLOT_ID && slot->index < group->slot_free)
        group->slot_free = slot->index;
    if (slot->node) {
        slot->node->slot = NULL;
        prune(engine, slot->node);
    }
    mr_index_free(engine, slot, sizeof *slot);
}

void mr_slots_fini(struct mr_engine *engine, struct mr_group *group)
{
    MR_ASSERT(group->slot_count == 0 && group->root->children.count == 0);
    mr_index_free(engine, group->slots, group->slot_capacity * sizeof(struct mr_slot *));
    mr_index_free(engine, group->root, sizeof *group->root);
}
