#include <math.h>

#include "matcher/engine/index.h"

/* The typed key under which a constant and every value equal to it meet. What an int64 can hold is
 * an int (programs have no double that could be one), so ints, doubles and decimals of one value
 * meet. */
struct key {
    enum mr_const_kind kind;
    uint64_t bits;
    struct mr_str text;
};

static uint64_t hash_key(const struct mr_engine *engine, const struct mr_group *group,
                         uint32_t slot, const struct key *key)
{
    uint64_t seed = group->hash + slot;
    if (key->kind == MR_CONST_STRING)
        return mr_hash_bytes(seed ^ engine->seed, key->text.data, key->text.len);
    return mr_hash_mix(seed ^ engine->seed, key->bits + ((uint64_t)key->kind << 56));
}

static uint64_t double_bits(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

static bool key_from_const(const struct mr_const *value, struct key *key)
{
    *key = (struct key){.kind = value->kind};
    switch (value->kind) {
    case MR_CONST_NULL:
        return true;
    case MR_CONST_BOOL:
        key->bits = value->boolean;
        return true;
    case MR_CONST_INT:
        key->bits = (uint64_t)value->integer;
        return true;
    case MR_CONST_DOUBLE:
        key->bits = double_bits(value->number);
        return true;
    case MR_CONST_STRING:
        key->text = value->string;
        return true;
    case MR_CONST_LIST:
        break;
    }
    return false;
}

static bool key_from_value(const struct mr_value *value, struct key *key)
{
    *key = (struct key){.kind = MR_CONST_INT};
    switch (value->kind) {
    case MR_VALUE_STRING:
        key->kind = MR_CONST_STRING;
        key->text = value->bytes;
        return true;
    case MR_VALUE_INT:
        key->bits = (uint64_t)value->integer;
        return true;
    case MR_VALUE_DOUBLE:
        if (isnan(value->number))
            return false;
        if (value->number >= -0x1p63 && value->number < 0x1p63 &&
            value->number == (double)(int64_t)value->number) {
            key->bits = (uint64_t)(int64_t)value->number;
            return true;
        }
        key->kind = MR_CONST_DOUBLE;
        key->bits = double_bits(value->number);
        return true;
    case MR_VALUE_DECIMAL: /* no int64; equal to the constant that is its nearest double */
        key->kind = MR_CONST_DOUBLE;
        key->bits = double_bits(value->number);
        return true;
    case MR_VALUE_BOOL:
        key->kind = MR_CONST_BOOL;
        key->bits = (uint64_t)value->integer;
        return true;
    case MR_VALUE_NULL:
        key->kind = MR_CONST_NULL;
        return true;
    default:
        return false;
    }
}

bool mr_index_hashable(const struct mr_const *value)
{
    struct key key;
    return key_from_const(value, &key);
}

static bool key_matches(const struct mr_const *value, const struct key *key)
{
    if (value->kind != key->kind)
        return false;
    if (key->kind == MR_CONST_STRING)
        return mr_str_equal(value->string, key->text);
    struct key other;
    return key_from_const(value, &other) && other.bits == key->bits;
}

struct mr_index_predicate *mr_index_predicate_lookup(const struct mr_engine *engine,
                                                     const struct mr_group *group, uint32_t slot,
                                                     const struct mr_value *value)
{
    struct key key;
    if (!key_from_value(value, &key))
        return NULL;
    uint64_t hash = hash_key(engine, group, slot, &key);
    const struct mr_table *table = &engine->predicates.parts[hash >> 58];
    for (uint64_t at = hash;; at++) {
        const struct mr_table_entry *entry = mr_table_at(table, at);
        if (!entry->item)
            return NULL;
        if (entry->hash != hash)
            continue;
        struct mr_index_predicate *p = entry->item;
        if (p->op == MR_PRED_EQ && p->group == group && p->slot == slot &&
            key_matches(&p->value, &key))
            return p;
    }
}

static uint64_t hash_predicate(const struct mr_engine *engine, const struct mr_group *group,
                               uint32_t slot, enum mr_predicate_op op, const struct mr_const *value)
{
    struct key key;
    uint64_t hash = 0;
    if (value->kind != MR_CONST_LIST) {
        (void)key_from_const(value, &key);
        hash = hash_key(engine, group, slot, &key);
    } else {
        for (uint32_t i = 0; i < value->list.count; i++) {
            (void)key_from_const(&value->list.items[i], &key);
            hash = mr_hash_mix(hash, hash_key(engine, group, slot, &key));
        }
        hash = mr_hash_mix(hash ^ group->hash, slot);
    }
    /* "==" keeps the key's own hash: that is what a document's value is looked up by. */
    return op == MR_PRED_EQ && value->kind != MR_CONST_LIST ? hash
                                                            : mr_hash_mix(hash, (uint64_t)op);
}

static bool const_equal(const struct mr_const *a, const struct mr_const *b)
{
    struct key key;
    if (a->kind != MR_CONST_LIST)
        return key_from_const(a, &key) && key_matches(b, &key);
    if (b->kind != MR_CONST_LIST || a->list.count != b->list.count)
        return false;
    for (uint32_t i = 0; i < a->list.count; i++)
        if (!key_from_const(&a->list.items[i], &key) || !key_matches(&b->list.items[i], &key))
            return false;
    return true;
}

static size_t text_bytes(const struct mr_const *value)
{
    return value->kind == MR_CONST_STRING ? value->string.len : 0;
}

/* Copy a scalar; its text goes to *text, which moves on. */
static struct mr_const copy_scalar(const struct mr_const *value, char **text)
{
    struct mr_const copy = *value;
    if (value->kind == MR_CONST_STRING) {
        if (value->string.len)
            memcpy(*text, value->string.data, value->string.len);
        copy.string.data = *text;
        *text += value->string.len;
    }
    return copy;
}

static struct mr_index_predicate *create(struct mr_engine *engine, const struct mr_const *value)
{
    uint32_t count = value->kind == MR_CONST_LIST ? value->list.count : 0;
    size_t size =
        sizeof(struct mr_index_predicate) + count * sizeof(struct mr_const) + text_bytes(value);
    for (uint32_t i = 0; i < count; i++)
        size += text_bytes(&value->list.items[i]);
    struct mr_index_predicate *p = mr_index_alloc(engine, size);
    if (!p)
        return NULL;
    *p = (struct mr_index_predicate){.size = (uint32_t)size};
    struct mr_const *items = (struct mr_const *)(p + 1);
    char *text = (char *)(items + count);
    if (value->kind != MR_CONST_LIST) {
        p->value = copy_scalar(value, &text);
        return p;
    }
    for (uint32_t i = 0; i < count; i++)
        items[i] = copy_scalar(&value->list.items[i], &text);
    p->value = (struct mr_const){.kind = MR_CONST_LIST};
    p->value.list.items = items;
    p->value.list.count = count;
    return p;
}

struct mr_index_predicate *mr_index_predicate_get(struct mr_engine *engine, struct mr_group *group,
                                                  struct mr_slot *slot, enum mr_predicate_op op,
                                                  const struct mr_const *value)
{
    uint64_t hash = hash_predicate(engine, group, slot->index, op, value);
    struct mr_table *table = mr_tables_part(&engine->predicates, hash);
    for (uint64_t at = hash;; at++) {
        const struct mr_table_entry *entry = mr_table_at(table, at);
        if (!entry->item)
            break;
        struct mr_index_predicate *p = entry->item;
        if (entry->hash == hash && p->op == (uint32_t)op && p->group == group &&
            p->slot == slot->index && const_equal(&p->value, value)) {
            p->refs++;
            return p;
        }
    }
    struct mr_index_predicate *p = mr_table_reserve(table) ? create(engine, value) : NULL;
    if (!p)
        return NULL;
    p->hash = hash;
    p->group = group;
    p->slot = slot->index;
    p->op = (uint32_t)op;
    p->refs = 1;
    slot->refs++;
    mr_table_put(table, hash, p);
    return p;
}

void mr_index_predicate_release(struct mr_engine *engine, struct mr_index_predicate *p)
{
    MR_ASSERT(p->refs > 0);
    if (--p->refs > 0)
        return;
    MR_ASSERT(p->postings.count == 0);
    mr_table_remove(mr_tables_part(&engine->predicates, p->hash), p->hash, p);
    struct mr_slot *slot = p->group->slots[p->slot];
    slot->refs--;
    mr_slot_release(engine, p->group, slot);
    mr_index_free(engine, p, p->size);
}
