/* matcher/engine/node.h: looking up a key among a trie node's children. Up to 8 bytes a key is its
 * own tag; a longer one is found by the hash of all of it, and then compared. */
#ifndef MR_MATCHER_ENGINE_NODE_H
#define MR_MATCHER_ENGINE_NODE_H
#include "matcher/engine/index.h"

/* word: the first 8 bytes, zeros behind the key's end. */
static inline uint64_t mr_node_tag(const struct mr_engine *engine, uint64_t word, const char *key,
                                   size_t len)
{
    return len <= 8 ? word : mr_hash_bytes(engine->seed, key, len);
}

/* node has children. The factor is odd and unknown to who chooses keys. */
static inline uint32_t mr_node_home(const struct mr_engine *engine, const struct mr_node *node,
                                    uint64_t tag)
{
    uint64_t mixed = tag * (engine->seed | 1);
    return (uint32_t)((mixed ^ mixed >> 32) * UINT32_C(0x9e3779b9) >> 16) &
           ((UINT32_C(1) << node->bits) - 1);
}

static inline mr_ref mr_node_child(const struct mr_engine *engine, const struct mr_node *node,
                                   uint64_t tag, const char *key, uint32_t len)
{
    if (!node->entries)
        return 0;
    const struct mr_node_entry *entries = mr_at(engine, node->entries);
    uint32_t mask = (UINT32_C(1) << node->bits) - 1;
    for (uint32_t at = mr_node_home(engine, node, tag);; at = (at + 1) & mask) {
        const struct mr_node_entry *entry = &entries[at];
        if (!entry->node)
            return 0;
        if (entry->tag != tag || entry->key_len != len)
            continue;
        if (len <= 8 ||
            memcmp(((const struct mr_node *)mr_at(engine, entry->node))->key, key, len) == 0)
            return entry->node;
    }
}

/* Scratch for so many slots. False: out of memory. */
MR_MUST_USE bool mr_found_reserve(struct mr_engine *engine, uint32_t slots);
#endif
