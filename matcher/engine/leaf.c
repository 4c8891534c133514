#include <math.h>

#include "matcher/engine/index.h"

static uint64_t double_bits(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

/* What an int64 can hold is an int (programs have no double that could be one), so ints, doubles
 * and decimals of one value meet. */
static void key_from_double(double number, struct mr_key *key)
{
    if (number >= -0x1p63 && number < 0x1p63 && number == (double)(int64_t)number)
        *key = (struct mr_key){.kind = MR_CONST_INT, .bits = (uint64_t)(int64_t)number};
    else
        *key = (struct mr_key){.kind = MR_CONST_DOUBLE, .bits = double_bits(number)};
}

static bool key_from_const(const struct mr_const *value, struct mr_key *key)
{
    *key = (struct mr_key){.kind = value->kind};
    switch (value->kind) {
    case MR_CONST_BOOL:
        key->bits = value->boolean;
        return true;
    case MR_CONST_INT:
    case MR_CONST_DATE:
        key->bits = (uint64_t)value->integer;
        return true;
    case MR_CONST_DOUBLE:
        key->bits = double_bits(value->number);
        return true;
    case MR_CONST_STRING:
        key->text = value->string;
        return true;
    case MR_CONST_NULL:
        return true;
    case MR_CONST_LIST:
        break;
    }
    return false;
}

bool mr_key_from_value(const struct mr_value *value, struct mr_key *key,
                       char buffer[MR_VALUE_OID_TEXT])
{
    *key = (struct mr_key){.kind = MR_CONST_INT, .bits = (uint64_t)value->integer};
    switch (value->kind) {
    case MR_VALUE_STRING:
    case MR_VALUE_OID:
        key->kind = MR_CONST_STRING;
        key->text = mr_value_text(value, buffer);
        return true;
    case MR_VALUE_INT:
        return true;
    case MR_VALUE_DATE:
        key->kind = MR_CONST_DATE;
        return true;
    case MR_VALUE_DOUBLE:
        key_from_double(value->number, key);
        return !isnan(value->number);
    case MR_VALUE_DECIMAL: /* no int64; equal to the constant that is its nearest double */
        key->kind = MR_CONST_DOUBLE;
        key->bits = double_bits(value->number);
        return true;
    case MR_VALUE_BOOL:
        key->kind = MR_CONST_BOOL;
        return true;
    case MR_VALUE_NULL:
        key->kind = MR_CONST_NULL;
        key->bits = 0;
        return true;
    default:
        return false;
    }
}

uint32_t mr_key_hash(const struct mr_engine *engine, const struct mr_group *group, uint32_t slot,
                     enum mr_predicate_op op, const struct mr_key *key)
{
    uint64_t seed = engine->seed ^ ((uint64_t)slot << 40 | (uint64_t)op << 32 | group->hash);
    uint64_t hash;
    if (key->kind == MR_CONST_STRING)
        hash = mr_hash_bytes(seed, key->text.data, key->text.len);
    else
        hash = mr_hash_mix(seed, key->bits + ((uint64_t)key->kind << 56));
    return (uint32_t)(hash >> 32);
}

bool mr_leaf_is_key(enum mr_predicate_op op, enum mr_const_kind kind)
{
    return (op == MR_PRED_EQ || op == MR_PRED_CONTAINS || op == MR_PRED_PREFIX) &&
           kind != MR_CONST_LIST;
}

/* ---- constants ---- */

static const struct mr_const *items_of(const struct mr_leaf *leaf)
{
    return (const struct mr_const *)(leaf + 1);
}

struct mr_str mr_leaf_text(const struct mr_leaf *leaf)
{
    return (struct mr_str){leaf->len <= sizeof leaf->text ? leaf->text : (const char *)(leaf + 1),
                           leaf->len};
}

struct mr_const mr_leaf_const(const struct mr_leaf *leaf)
{
    struct mr_const value = {.kind = (enum mr_const_kind)leaf->kind};
    switch (value.kind) {
    case MR_CONST_BOOL:
        value.boolean = leaf->bits != 0;
        break;
    case MR_CONST_INT:
    case MR_CONST_DATE:
        value.integer = (int64_t)leaf->bits;
        break;
    case MR_CONST_DOUBLE:
        value.number = leaf->number;
        break;
    case MR_CONST_STRING:
        value.string = mr_leaf_text(leaf);
        break;
    case MR_CONST_LIST:
        value.list.items = items_of(leaf);
        value.list.count = leaf->len;
        break;
    case MR_CONST_NULL:
        break;
    }
    return value;
}

static size_t item_text(const struct mr_const *value)
{
    return value->kind == MR_CONST_STRING ? value->string.len : 0;
}

static size_t leaf_bytes(const struct mr_const *value)
{
    size_t size = sizeof(struct mr_leaf);
    if (value->kind == MR_CONST_STRING)
        return value->string.len > sizeof((struct mr_leaf *)0)->text ? size + value->string.len
                                                                     : size;
    if (value->kind != MR_CONST_LIST)
        return size;
    size += value->list.count * sizeof(struct mr_const);
    for (uint32_t i = 0; i < value->list.count; i++)
        size += item_text(&value->list.items[i]);
    return size;
}

static void store_list(struct mr_leaf *leaf, const struct mr_const *value)
{
    struct mr_const *items = (struct mr_const *)(leaf + 1);
    char *text = (char *)(items + value->list.count);
    leaf->len = value->list.count;
    for (uint32_t i = 0; i < value->list.count; i++) {
        items[i] = value->list.items[i];
        if (items[i].kind != MR_CONST_STRING)
            continue;
        memcpy(text, items[i].string.data, items[i].string.len);
        items[i].string.data = text;
        text += items[i].string.len;
    }
}

static void store_const(struct mr_leaf *leaf, const struct mr_const *value)
{
    struct mr_key key;
    leaf->kind = (uint8_t)value->kind;
    if (value->kind == MR_CONST_LIST) {
        store_list(leaf, value);
    } else if (value->kind == MR_CONST_STRING) {
        size_t len = value->string.len;
        leaf->len = (uint32_t)len;
        if (len > 0)
            memcpy(len <= sizeof leaf->text ? leaf->text : (char *)(leaf + 1), value->string.data,
                   len);
    } else {
        (void)key_from_const(value, &key);
        leaf->bits = key.bits;
    }
}

/* ---- finding ---- */

static bool const_equal(const struct mr_const *a, const struct mr_const *b)
{
    struct mr_key left, right;
    if (a->kind != b->kind)
        return false;
    if (a->kind == MR_CONST_STRING)
        return mr_str_equal(a->string, b->string);
    if (a->kind == MR_CONST_LIST) {
        if (a->list.count != b->list.count)
            return false;
        for (uint32_t i = 0; i < a->list.count; i++)
            if (!const_equal(&a->list.items[i], &b->list.items[i]))
                return false;
        return true;
    }
    (void)key_from_const(a, &left);
    (void)key_from_const(b, &right);
    return left.bits == right.bits;
}

static uint32_t hash_leaf(const struct mr_engine *engine, const struct mr_group *group,
                          uint32_t slot, const struct mr_predicate *p)
{
    struct mr_key key;
    uint64_t hash = 0;
    if (p->value.kind != MR_CONST_LIST) {
        (void)key_from_const(&p->value, &key);
        /* By what a document's string can be looked up by: not more than its first bytes. */
        if (p->op == MR_PRED_PREFIX && key.text.len > MR_PREFIX_BYTES_MAX)
            key.text.len = MR_PREFIX_BYTES_MAX;
        return mr_key_hash(engine, group, slot, p->op, &key);
    }
    for (uint32_t i = 0; i < p->value.list.count; i++) {
        (void)key_from_const(&p->value.list.items[i], &key);
        hash = mr_hash_mix(hash, mr_key_hash(engine, group, slot, p->op, &key));
    }
    return (uint32_t)(hash >> 32) ^ (uint32_t)hash ^ slot;
}

/* ---- life ---- */

/* A prefix has come or gone: keep the lengths to look up. */
static bool count_prefix(struct mr_engine *engine, struct mr_slot *slot, size_t len, int step)
{
    const size_t size = (MR_PREFIX_BYTES_MAX + 1) * sizeof(uint32_t);
    if (!slot->prefix_counts) {
        slot->prefix_counts = mr_heap_alloc(&engine->heap, size);
        if (!slot->prefix_counts)
            return false;
        memset(mr_at(engine, slot->prefix_counts), 0, size);
    }
    uint32_t *counts = mr_at(engine, slot->prefix_counts);
    size_t index = len > MR_PREFIX_BYTES_MAX ? MR_PREFIX_BYTES_MAX : len;
    counts[index] += (uint32_t)step;
    uint64_t bit = index ? UINT64_C(1) << (index - 1) : 0;
    slot->prefix_lens = counts[index] ? slot->prefix_lens | bit : slot->prefix_lens & ~bit;
    if (slot->prefix_lens == 0 && counts[0] == 0) {
        mr_heap_free(&engine->heap, slot->prefix_counts, size);
        slot->prefix_counts = 0;
    }
    return true;
}

static bool count_key(struct mr_engine *engine, struct mr_slot *slot, enum mr_predicate_op op,
                      size_t len, int step)
{
    if (op == MR_PRED_PREFIX)
        return count_prefix(engine, slot, len, step);
    *(op == MR_PRED_EQ ? &slot->eq_keys : &slot->member_keys) += (uint32_t)step;
    return true;
}

static mr_ref leaf_create(struct mr_engine *engine, struct mr_group *group, struct mr_slot *slot,
                          uint32_t hash, const struct mr_predicate *p)
{
    bool key = mr_leaf_is_key(p->op, p->value.kind);
    struct mr_table *table = key ? &group->keys : &group->others;
    struct mr_bloom_stats *stats = key ? &engine->bloom : &engine->other;
    if (!mr_table_reserve(table, &engine->heap, hash, stats))
        return 0;
    mr_ref ref = mr_heap_alloc(&engine->heap, leaf_bytes(&p->value));
    if (!ref)
        return 0;
    if (key && !count_key(engine, slot, p->op, p->value.string.len, 1)) {
        mr_heap_free(&engine->heap, ref, leaf_bytes(&p->value));
        return 0;
    }
    struct mr_leaf *leaf = mr_at(engine, ref);
    *leaf = (struct mr_leaf){.hash = hash,
                             .refs = 1,
                             .group = group->ref,
                             .slot = slot ? slot->index : MR_SLOT_NONE,
                             .op = (uint8_t)p->op,
                             .cel = p->cel};
    store_const(leaf, &p->value);
    if (p->op == MR_PRED_CODE && !mr_code_load(engine, leaf)) {
        mr_heap_free(&engine->heap, ref, leaf_bytes(&p->value));
        return 0;
    }
    if (slot)
        slot->refs++;
    mr_table_put(table, &engine->heap, hash, ref);
    return ref;
}

static mr_ref leaf_get(struct mr_engine *engine, struct mr_group *group, struct mr_slot *slot,
                       const struct mr_predicate *p)
{
    uint32_t index = slot ? slot->index : MR_SLOT_NONE;
    uint32_t hash = hash_leaf(engine, group, index, p);
    bool key = mr_leaf_is_key(p->op, p->value.kind);
    struct mr_table_probe probe;
    mr_ref ref = mr_table_find(key ? &group->keys : &group->others, &engine->heap, hash, &probe);
    for (; ref; ref = mr_table_next(&probe)) {
        struct mr_leaf *leaf = mr_at(engine, ref);
        struct mr_const value = mr_leaf_const(leaf);
        if (leaf->op == p->op && leaf->slot == index && const_equal(&value, &p->value)) {
            leaf->refs++;
            return ref;
        }
    }
    return leaf_create(engine, group, slot, hash, p);
}

mr_ref mr_leaf_get(struct mr_engine *engine, struct mr_group *group, const struct mr_predicate *p)
{
    struct mr_slot *slot = NULL;
    if (p->op != MR_PRED_CODE) {
        slot = mr_slot_get(engine, group, p->path, p->cel);
        if (!slot)
            return 0;
    }
    mr_ref ref = leaf_get(engine, group, slot, p);
    if (!ref && slot)
        mr_slot_release(engine, group, slot);
    return ref;
}

mr_ref mr_leaf_get_equal(struct mr_engine *engine, struct mr_group *group, uint32_t slot_index,
                         const struct mr_const *value)
{
    struct mr_slot *slot = mr_group_slot(engine, group, slot_index);
    const struct mr_predicate p = {.op = MR_PRED_EQ, .cel = slot->cel, .value = *value};
    return leaf_get(engine, group, slot, &p);
}

void mr_leaf_release(struct mr_engine *engine, mr_ref ref)
{
    struct mr_leaf *leaf = mr_at(engine, ref);
    MR_ASSERT(leaf->refs > 0);
    if (--leaf->refs > 0)
        return;
    struct mr_group *group = mr_at(engine, leaf->group);
    struct mr_const value = mr_leaf_const(leaf);
    enum mr_predicate_op op = (enum mr_predicate_op)leaf->op;
    bool key = mr_leaf_is_key(op, value.kind);
    MR_ASSERT(!leaf->bucket.sets && !leaf->bucket.one);
    if (op == MR_PRED_CODE)
        mr_code_unload(engine, leaf);
    mr_table_remove(key ? &group->keys : &group->others, &engine->heap, leaf->hash, ref,
                    key ? &engine->bloom : &engine->other);
    if (leaf->slot != MR_SLOT_NONE) {
        struct mr_slot *slot = mr_group_slot(engine, group, leaf->slot);
        if (key)
            (void)count_key(engine, slot, op, leaf->len, -1);
        slot->refs--;
        mr_slot_release(engine, group, slot);
    }
    mr_heap_free(&engine->heap, ref, leaf_bytes(&value));
}

/* ---- evaluation ---- */

/* What an evaluation costs that looks at every element, in steps of code: about. */
enum { STEP_BYTES = 8 };

static void do_pulse(struct mr_engine *engine)
{
    engine->work = 0;
    if (engine->pulse)
        engine->pulse(engine->pulse_context);
}

static bool predicate_holds(struct mr_engine *engine, const struct mr_leaf *leaf)
{
    static const struct mr_value missing = {.kind = MR_VALUE_MISSING};
    const struct mr_found *found = &engine->found[leaf->slot];
    const struct mr_value *value = found->event == engine->event ? &found->value : &missing;
    const struct mr_const constant = mr_leaf_const(leaf);
    bool walks = leaf->op == MR_PRED_CONTAINS || leaf->op == MR_PRED_NOT_CONTAINS;
    engine->work += walks && (value->kind == MR_VALUE_ARRAY || value->kind == MR_VALUE_DOCUMENT)
                        ? value->bytes.len / STEP_BYTES
                        : 1;
    return mr_value_holds(value, (enum mr_predicate_op)leaf->op, &constant, NULL);
}

bool mr_leaf_holds(struct mr_engine *engine, struct mr_leaf *leaf)
{
    if (leaf->memo >> 1 == engine->event)
        return leaf->memo & 1;
    if (leaf->op == MR_PRED_CODE &&
        leaf->resting) /* not remembered: each filter that asks counts */
        return mr_code_holds(engine, leaf);
    bool result =
        leaf->op == MR_PRED_CODE ? mr_code_holds(engine, leaf) : predicate_holds(engine, leaf);
    engine->stats.evaluations++;
    if (engine->work >= MR_ENGINE_PULSE_STEPS)
        do_pulse(engine);
    leaf->memo = engine->event << 1 | result;
    return result;
}
