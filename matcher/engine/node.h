/* matcher/engine/node.h: looking up a key among a trie node's children. Up to 8 bytes a key is its
 * own tag; a longer one is found by the hash of all of it, and then compared. */
#ifndef MR_MATCHER_ENGINE_NODE_H
#define MR_MATCHER_ENGINE_NODE_H
#include "matcher/engine/index.h"

/* word: the first 8 bytes, zeros behind the key's end. The empty key has no tag: no path has it. */
static inline uint64_t mr_node_tag(const struct mr_engine *engine, uint64_t word, const char *key,
                                   size_t len)
{
    return len <= 8 ? word : mr_hash_bytes(engine->seed, key, len) | 1;
}

/* node has children. The factor is odd and unknown to who chooses keys. */
static inline uint32_t mr_node_home(const struct mr_engine *engine, const struct mr_node *node,
                                    uint64_t tag)
{
    return (uint32_t)(tag * (engine->seed | 1) >> (64 - node->bits));
}

static inline uint64_t *mr_node_tags(const struct mr_engine *engine, const struct mr_node *node)
{
    return mr_at(engine, node->children);
}
static inline struct mr_child *mr_node_child_at(const struct mr_engine *engine,
                                                const struct mr_node *node, uint32_t at)
{
    return (struct mr_child *)(mr_node_tags(engine, node) + ((size_t)1 << node->bits)) + at;
}

/* NULL: there is none. */
static inline struct mr_child *mr_node_child(const struct mr_engine *engine,
                                             const struct mr_node *node, uint64_t tag,
                                             const char *key, uint32_t len)
{
    if (!node->children)
        return NULL;
    const uint64_t *tags = mr_node_tags(engine, node);
    uint32_t mask = (UINT32_C(1) << node->bits) - 1;
    for (uint32_t at = mr_node_home(engine, node, tag);; at = (at + 1) & mask) {
        if (tags[at] != tag) {
            if (!tags[at])
                return NULL;
            continue;
        }
        if (tag == 0)
            return NULL;
        struct mr_child *child = mr_node_child_at(engine, node, at);
        if (child->key_len == len &&
            (len <= 8 ||
             memcmp(((const struct mr_node *)mr_at(engine, child->node))->key, key, len) == 0))
            return child;
    }
}

/* Scratch for so many slots. False: out of memory. */
MR_MUST_USE bool mr_found_reserve(struct mr_engine *engine, uint32_t slots);
#endif
