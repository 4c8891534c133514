/* cel/container.c: lists and maps, wherever their elements are; see fn.h. */
#include "cel/find.h"

static const struct mr_str no_detail = {NULL, 0};

/* What an element of this form is as a value: cells are in programs only. */
static struct mr_cel_val element(uint8_t form, const struct mr_cel_val *at)
{
    return form == MR_CEL_FORM_CONST ? mr_cel_cell_load(at) : mr_cel_get(at);
}

static const struct mr_cel_val *map_entries(struct mr_cel_val map)
{
    return map.form == MR_CEL_FORM_CONST
               ? (const void *)((const char *)map.map + map.map->entries_offset)
               : map.map->entries;
}

static const uint32_t *map_slots(struct mr_cel_val map)
{
    return map.form == MR_CEL_FORM_CONST
               ? (const void *)((const char *)map.map + map.map->slots_offset)
               : map.map->slots;
}

void mr_cel_iter_init(struct mr_cel_iter *it, struct mr_cel_ctx *ctx, struct mr_cel_val container)
{
    MR_ASSERT(container.kind == MR_CEL_LIST || container.kind == MR_CEL_MAP);
    it->ctx = ctx;
    it->failed = mr_cel_null();
    it->index = 0;
    it->kind = container.kind;
    it->form = container.form;
    if (container.form == MR_CEL_FORM_BSON) {
        it->count = UINT32_MAX;
        if (mr_bson_iter_init(&it->bson, container.bson, container.len) != MR_OK) {
            it->failed = mr_cel_error(MR_CEL_E_BAD_DOCUMENT, no_detail);
            it->count = 0;
        }
    } else if (container.kind == MR_CEL_LIST) {
        it->at = container.items;
        it->count = container.len;
    } else {
        it->at = map_entries(container);
        it->count = container.map->count;
    }
}

static bool next_of_bson(struct mr_cel_iter *it)
{
    const uint8_t *at = it->bson.at, *end = it->bson.end;
    if (at == end)
        return false;
    uint8_t type = *at++;
    const uint8_t *start = mr_cel_key_skip(at, end);
    const uint8_t *next = mr_cel_bson_skip(type, start, end);
    if (!next) {
        it->failed = mr_cel_error(MR_CEL_E_BAD_DOCUMENT, no_detail);
        return false;
    }
    struct mr_bson_value value = {.type = type, .data = start, .len = (uint32_t)(next - start)};
    mr_cel_set(&it->value, mr_cel_from_bson(it->ctx, &value));
    it->key = it->kind == MR_CEL_LIST
                  ? mr_cel_int(it->index)
                  : mr_cel_string((struct mr_str){(const char *)at, (size_t)(start - 1 - at)});
    it->bson.at = next;
    if (it->value.kind == MR_CEL_ERROR) {
        it->failed = it->value;
        return false;
    }
    return true;
}

bool mr_cel_iter_next(struct mr_cel_iter *it)
{
    if (it->index >= it->count)
        return false;
    if (!mr_cel_charge(it->ctx, 1)) {
        it->failed = mr_cel_stopped(it->ctx);
        it->count = 0;
        return false;
    }
    if (it->form == MR_CEL_FORM_BSON) {
        if (!next_of_bson(it)) {
            it->count = 0;
            return false;
        }
    } else if (it->kind == MR_CEL_LIST) {
        it->key = mr_cel_int(it->index);
        it->value = element(it->form, &it->at[it->index]);
    } else {
        it->key = element(it->form, &it->at[2 * (size_t)it->index]);
        it->value = element(it->form, &it->at[2 * (size_t)it->index + 1]);
    }
    it->index++;
    return true;
}

/* Walk over a BSON document or array without making values. False: damaged, or index is behind the
 * end. */
static bool bson_walk(struct mr_cel_ctx *ctx, struct mr_cel_val container, uint64_t index,
                      struct mr_bson_value *out, uint32_t *count)
{
    struct mr_bson_iter it;
    if (mr_bson_iter_init(&it, container.bson, container.len) != MR_OK)
        return false;
    uint32_t passed = 0;
    bool found = index == UINT64_MAX;
    const uint8_t *at = it.at, *end = it.end, *value;
    for (; at < end; passed++) {
        uint8_t type = *at;
        value = mr_cel_key_skip(at + 1, end);
        at = mr_cel_bson_skip(type, value, end);
        if (!at)
            return false;
        if (passed == index) {
            *out =
                (struct mr_bson_value){.type = type, .data = value, .len = (uint32_t)(at - value)};
            found = true;
            break;
        }
    }
    *count = passed;
    return mr_cel_charge(ctx, passed) && found;
}

bool mr_cel_count(struct mr_cel_ctx *ctx, struct mr_cel_val container, uint32_t *out)
{
    struct mr_bson_value unused;
    if (container.form == MR_CEL_FORM_BSON)
        return bson_walk(ctx, container, UINT64_MAX, &unused, out);
    *out = container.kind == MR_CEL_LIST ? container.len : container.map->count;
    return true;
}

bool mr_cel_list_at(struct mr_cel_ctx *ctx, struct mr_cel_val list, uint64_t index,
                    struct mr_cel_val *out)
{
    MR_ASSERT(list.kind == MR_CEL_LIST);
    if (list.form == MR_CEL_FORM_BSON) {
        struct mr_bson_value value;
        uint32_t count;
        if (index >= UINT32_MAX || !bson_walk(ctx, list, index, &value, &count))
            return false;
        *out = mr_cel_from_bson(ctx, &value);
        return true;
    }
    if (index >= list.len)
        return false;
    *out = element(list.form, &list.items[index]);
    return true;
}

bool mr_cel_list_items(struct mr_cel_ctx *ctx, struct mr_cel_val list,
                       const struct mr_cel_val **items, uint32_t *count, struct mr_cel_val *failed)
{
    if (list.form == MR_CEL_FORM_ARENA) {
        *items = list.items;
        *count = list.len;
        return true;
    }
    *failed = mr_cel_error(MR_CEL_E_BAD_DOCUMENT, no_detail);
    struct mr_cel_val *copy = NULL;
    bool ok = mr_cel_count(ctx, list, count) && (copy = mr_cel_list_new(ctx, *count)) != NULL;
    if (ok) {
        struct mr_cel_iter it;
        for (mr_cel_iter_init(&it, ctx, list); mr_cel_iter_next(&it);)
            copy[it.index - 1] = it.value;
        ok = it.failed.kind == MR_CEL_NULL;
        *failed = it.failed;
    }
    if (ctx->fatal != 0)
        *failed = mr_cel_stopped(ctx);
    *items = copy;
    return ok;
}

/* Exactly equal: what makes two keys one. */
static bool same_key(struct mr_cel_val a, struct mr_cel_val b)
{
    if (a.kind == MR_CEL_DOUBLE || b.kind == MR_CEL_DOUBLE) {
        struct mr_cel_val number = a.kind == MR_CEL_DOUBLE ? a : b,
                          other = a.kind == MR_CEL_DOUBLE ? b : a;
        double d = number.number;
        switch (other.kind) {
        case MR_CEL_INT:
            return d >= -0x1p63 && d < 0x1p63 && (double)(int64_t)d == d &&
                   (int64_t)d == other.integer;
        case MR_CEL_UINT:
            return d >= 0 && d < 0x1p64 && (double)(uint64_t)d == d && (uint64_t)d == other.bits;
        default:
            return false;
        }
    }
    if (a.kind == MR_CEL_STRING)
        return b.kind == MR_CEL_STRING && mr_str_equal(mr_cel_str(a), mr_cel_str(b));
    if (a.kind == MR_CEL_BOOL)
        return b.kind == MR_CEL_BOOL && a.boolean == b.boolean;
    if (a.kind == b.kind)
        return (a.kind == MR_CEL_INT || a.kind == MR_CEL_UINT) && a.bits == b.bits;
    return mr_cel_is_number(a) && mr_cel_is_number(b) && a.bits == b.bits && a.integer >= 0;
}

static bool is_lookup_key(struct mr_cel_val key)
{
    return key.kind == MR_CEL_STRING || key.kind == MR_CEL_BOOL || mr_cel_is_number(key);
}

static bool bson_get(struct mr_cel_ctx *ctx, struct mr_cel_val map, struct mr_cel_val key,
                     struct mr_cel_val *out)
{
    if (key.kind != MR_CEL_STRING || (key.len > 0 && memchr(key.text, 0, key.len)) ||
        !mr_cel_charge(ctx, map.len / 64))
        return false;
    struct mr_cel_path_key compare = mr_cel_path_key(mr_cel_str(key));
    struct mr_bson_value value;
    switch (mr_cel_find(map.bson, map.len, &compare, key.text, &value)) {
    case MR_CEL_FOUND:
        *out = mr_cel_from_bson(ctx, &value);
        return true;
    case MR_CEL_DAMAGED:
        *out = mr_cel_error(MR_CEL_E_BAD_DOCUMENT, no_detail);
        return true;
    default:
        return false;
    }
}

bool mr_cel_map_get(struct mr_cel_ctx *ctx, struct mr_cel_val map, struct mr_cel_val key,
                    struct mr_cel_val *out)
{
    MR_ASSERT(map.kind == MR_CEL_MAP);
    if (map.form == MR_CEL_FORM_BSON)
        return bson_get(ctx, map, key, out);
    if (!is_lookup_key(key) || !mr_cel_charge(ctx, 1 + key.len / 64))
        return false;
    const struct mr_cel_val *entries = map_entries(map);
    uint32_t mask = map.map->slot_mask, count = map.map->count;
    if (mask == 0) {
        for (uint32_t i = 0; i < count; i++)
            if (same_key(element(map.form, &entries[2 * i]), key)) {
                *out = element(map.form, &entries[2 * i + 1]);
                return true;
            }
        return false;
    }
    const uint32_t *slots = map_slots(map);
    uint32_t at = (uint32_t)mr_cel_key_hash(key) & mask;
    for (uint32_t tries = 0; tries <= mask && slots[at] != 0; tries++, at = (at + 1) & mask) {
        size_t i = 2 * (size_t)(slots[at] - 1);
        if (same_key(element(map.form, &entries[i]), key)) {
            *out = element(map.form, &entries[i + 1]);
            return true;
        }
        if (!mr_cel_charge(ctx, 1))
            return false;
    }
    return false;
}

enum { ENTRIES_WITHOUT_SLOTS = 8 };

static bool make_slots(struct mr_cel_map_new *map)
{
    if (map->capacity <= ENTRIES_WITHOUT_SLOTS)
        return true;
    uint32_t size = 32;
    while (size < 2 * (uint64_t)map->capacity && size < UINT32_C(1) << 31)
        size *= 2;
    map->slots = mr_cel_alloc(map->ctx, (size_t)size * sizeof *map->slots);
    if (!map->slots)
        return false;
    memset(map->slots, 0, (size_t)size * sizeof *map->slots);
    map->slot_mask = size - 1;
    return true;
}

bool mr_cel_map_begin(struct mr_cel_map_new *map, struct mr_cel_ctx *ctx, uint32_t capacity)
{
    *map = (struct mr_cel_map_new){.ctx = ctx, .capacity = capacity};
    map->entries = mr_cel_alloc(ctx, (size_t)capacity * 2 * sizeof *map->entries);
    return map->entries && make_slots(map);
}

/* Twice the room; all entries anew. */
static bool grow(struct mr_cel_map_new *map)
{
    struct mr_cel_map_new wider;
    if (map->capacity > UINT32_MAX / 4 ||
        !mr_cel_map_begin(&wider, map->ctx, map->capacity < 4 ? 8 : 2 * map->capacity))
        return false;
    for (uint32_t i = 0; i < map->count; i++)
        (void)mr_cel_map_put(&wider, map->entries[2 * i], map->entries[2 * i + 1]);
    *map = wider;
    return map->ctx->fatal == 0;
}

struct mr_cel_val mr_cel_map_put(struct mr_cel_map_new *map, struct mr_cel_val key,
                                 struct mr_cel_val value)
{
    if (key.kind == MR_CEL_DOUBLE || !is_lookup_key(key))
        return mr_cel_error(MR_CEL_E_BAD_KEY, mr_cel_type_name(key));
    if ((map->count == map->capacity && !grow(map)) || !mr_cel_charge(map->ctx, 1 + key.len / 64))
        return mr_cel_stopped(map->ctx);
    if (map->slot_mask == 0) {
        for (uint32_t i = 0; i < map->count; i++)
            if (same_key(map->entries[2 * i], key))
                return mr_cel_error(MR_CEL_E_DUPLICATE_KEY, no_detail);
    } else {
        uint32_t at = (uint32_t)mr_cel_key_hash(key) & map->slot_mask;
        for (; map->slots[at] != 0; at = (at + 1) & map->slot_mask) {
            if (same_key(map->entries[2 * (size_t)(map->slots[at] - 1)], key))
                return mr_cel_error(MR_CEL_E_DUPLICATE_KEY, no_detail);
            if (!mr_cel_charge(map->ctx, 1))
                return mr_cel_stopped(map->ctx);
        }
        map->slots[at] = map->count + 1;
    }
    map->entries[2 * (size_t)map->count] = key;
    map->entries[2 * (size_t)map->count + 1] = value;
    map->count++;
    return mr_cel_null();
}

struct mr_cel_val mr_cel_map_end(struct mr_cel_map_new *map)
{
    struct mr_cel_map *made = mr_cel_alloc(map->ctx, sizeof *made);
    if (!made)
        return mr_cel_stopped(map->ctx);
    *made = (struct mr_cel_map){
        .count = map->count, .slot_mask = map->slot_mask, .entries = map->entries};
    made->slots = map->slots;
    return (struct mr_cel_val){.kind = MR_CEL_MAP, .form = MR_CEL_FORM_ARENA, .map = made};
}
