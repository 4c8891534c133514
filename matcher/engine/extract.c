/* What one pass over a document brings to the slots of a group. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "matcher/engine/node.h"

#define BYTES_ONES  UINT64_C(0x0101010101010101)
#define BYTES_HIGHS UINT64_C(0x8080808080808080)

bool mr_found_reserve(struct mr_engine *engine, uint32_t slots)
{
    if (slots <= engine->found_capacity)
        return true;
    struct mr_found *found = calloc(slots, sizeof *found);
    mr_ref *order = calloc(slots, sizeof *order);
    if (!found || !order) {
        free(found);
        free(order);
        return false;
    }
    free(engine->found);
    free(engine->found_slots);
    engine->found = found;
    engine->found_slots = order;
    engine->found_capacity = slots;
    return true;
}

double mr_string_number(struct mr_str text)
{
    uint64_t word = 0;
    memcpy(&word, text.data ? text.data : "", text.len < 6 ? text.len : 6);
    return (double)(__builtin_bswap64(word) >> 16);
}

static void order_number(struct mr_found *found, double number, bool exact)
{
    found->order = isnan(number) ? MR_ORDER_NONE : MR_ORDER_NUMBER;
    found->exact = exact;
    found->low = exact ? number : nextafter(number, -INFINITY);
    found->high = exact ? number : nextafter(number, INFINITY);
}

static bool fits_double(int64_t integer)
{
    return integer >= -(INT64_C(1) << 53) && integer <= INT64_C(1) << 53;
}

void mr_extract_put(struct mr_engine *engine, mr_ref slot, uint32_t index,
                    const struct mr_value *value)
{
    struct mr_found *found = &engine->found[index];
    found->event = engine->event;
    found->order = MR_ORDER_NONE;
    found->exact = false;
    found->value = *value;
    engine->found_slots[engine->found_count++] = slot;
    switch (value->kind) {
    case MR_VALUE_DOUBLE:
        order_number(found, value->number, true);
        break;
    case MR_VALUE_INT:
        order_number(found, (double)value->integer, fits_double(value->integer));
        break;
    case MR_VALUE_DECIMAL:
        order_number(found, value->number, false);
        break;
    case MR_VALUE_DATE:
        order_number(found, (double)value->integer, fits_double(value->integer));
        found->order = MR_ORDER_DATE;
        break;
    case MR_VALUE_STRING:
        found->order = MR_ORDER_STRING;
        found->low = found->high = mr_string_number(value->bytes);
        break;
    default:
        break;
    }
}

/* Read the key at "at" and leave *at behind its NUL. False: it does not end within the document. */
static inline bool read_key(const uint8_t **at, const uint8_t *end, uint64_t *word, size_t *len)
{
    const uint8_t *start = *at;
    size_t rest = (size_t)(end - start);
    uint64_t bytes = 0;
    memcpy(&bytes, start, rest >= 8 ? 8 : rest); /* a zero behind the end is checked below */
    uint64_t zeros = (bytes - BYTES_ONES) & ~bytes & BYTES_HIGHS;
    if (zeros != 0) {
        *len = (size_t)__builtin_ctzll(zeros) >> 3;
        *word = bytes & ((UINT64_C(1) << (8 * *len)) - 1);
    } else {
        const uint8_t *nul = memchr(start + 8, 0, rest - 8);
        if (!nul)
            return false;
        *len = (size_t)(nul - start);
        *word = bytes;
    }
    *at = start + *len + 1;
    return *len < rest;
}

/* Of two equal keys the first counts. */
static bool first_time(struct mr_engine *engine, const struct mr_child *child, bool in_array)
{
    for (int cel = 0; cel < 2 - in_array; cel++)
        if (child->slots[cel])
            return engine->found[child->slot_index[cel]].event != engine->event;
    struct mr_node *node = mr_at(engine, child->node);
    bool first = node->seen != engine->event;
    node->seen = engine->event;
    return first;
}

/* Visit one level. Recursion is as deep as the trie, which program_load limits to 32 parts.
 * in_array: on the way here was an array, which CEL's paths do not enter. */
static bool walk(struct mr_engine *engine, const struct mr_node *node,
                 const struct mr_bson_value *level, bool in_array)
{
    const uint8_t *at = level->data + 4, *end = level->data + level->len - 1;
    uint32_t wanted = node->child_count;
    bool sound = true;
    in_array |= level->type == MR_BSON_ARRAY;
    while (at < end && wanted > 0) {
        uint64_t word;
        size_t len;
        uint8_t type = *at++;
        const char *key = (const char *)at;
        if (!read_key(&at, end, &word, &len))
            return false;
        int64_t size = mr_bson_value_size(type, at, end);
        if (size < 0)
            return false;
        const struct mr_bson_value value = {.type = type, .data = at, .len = (uint32_t)size};
        at += size;
        const struct mr_child *child =
            mr_node_child(engine, node, mr_node_tag(engine, word, key, len), key, (uint32_t)len);
        if (!child || !first_time(engine, child, in_array))
            continue;
        wanted--;
        for (int cel = 0; cel < 2 - in_array; cel++) {
            if (!child->slots[cel])
                continue;
            struct mr_value seen = mr_value_from_bson(&value, cel);
            mr_extract_put(engine, child->slots[cel], child->slot_index[cel], &seen);
        }
        if (type != MR_BSON_DOCUMENT && type != MR_BSON_ARRAY)
            continue;
        const struct mr_node *below = mr_at(engine, child->node);
        if (below->child_count > 0)
            sound &= walk(engine, below, &value, in_array);
    }
    return sound;
}

bool mr_paths_extract(struct mr_engine *engine, struct mr_group *group, struct mr_str document)
{
    struct mr_bson_iter iter;
    const struct mr_node *root = mr_at(engine, group->root);
    if (root->child_count == 0 || document.len == 0)
        return true;
    if (mr_bson_iter_init(&iter, document.data, document.len) != MR_OK)
        return false;
    const struct mr_bson_value whole = {.type = MR_BSON_DOCUMENT,
                                        .data = (const uint8_t *)document.data,
                                        .len = (uint32_t)document.len};
    return walk(engine, root, &whole, false);
}
