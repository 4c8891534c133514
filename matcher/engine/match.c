/* One event: from its bytes to the ids of the subscriptions that it concerns. */
#include <math.h>

#include "matcher/engine/match.h"

static void emit(struct mr_engine *engine, const struct mr_filter *filter)
{
    MR_ASSERT(filter->sub_count <= engine->id_capacity - engine->id_count);
    uint64_t *out = engine->ids + engine->id_count;
    engine->id_count += filter->sub_count;
    if (filter->sub_capacity <= 1) {
        *out = filter->subs.one;
        return;
    }
    memcpy(out, mr_at(engine, filter->subs.many), filter->sub_count * sizeof *out);
}

/* An event has passed an anchor. decided: nothing else is to be asked. */
static void visit_posting(struct mr_engine *engine, uint32_t posting, bool decided)
{
    struct mr_filter *filter = mr_at(engine, posting & MR_POSTING_REF);
    if (posting & MR_POSTING_MULTI) {
        if (filter->seen == engine->event)
            return;
        filter->seen = engine->event;
    }
    if (decided || mr_filter_holds(engine, filter))
        emit(engine, filter);
    else if (++engine->failures % 256 == 0)
        engine->suspect = posting & MR_POSTING_REF;
}

/* The intervals of a set that hold a number between low and high (the same number, but where a
 * double cannot say it). */
static void visit_set(struct mr_engine *engine, const struct mr_set *set, double low, double high,
                      bool exact)
{
    struct mr_run_walk walk;
    double from = -INFINITY, through = INFINITY, other = -INFINITY;
    if (set->span == MR_SPAN_LOW) {
        through = high;
    } else if (set->span == MR_SPAN_HIGH) {
        through = -low;
    } else if (set->span == MR_SPAN_BOTH) {
        /* A little further than the widest reaches, whatever was rounded. */
        from = low - set->reach - (fabs(low) + set->reach) * 0x1p-50;
        through = high;
        other = low;
    }
    mr_run_begin(&set->run, &engine->heap, from, &walk);
    const struct mr_run_entry *entries;
    uint32_t count;
    while ((entries = mr_run_block(&walk, &engine->heap, &count)) != NULL) {
        for (uint32_t i = 0; i < count; i++) {
            if (entries[i].key > through)
                return;
            if (entries[i].other < other)
                continue;
            visit_posting(engine, entries[i].item, exact && (entries[i].item & MR_POSTING_EXACT));
        }
    }
}

static void visit_bucket(struct mr_engine *engine, const struct mr_bucket *bucket)
{
    if (bucket->one)
        visit_posting(engine, bucket->one, bucket->one & MR_POSTING_EXACT);
    for (mr_ref ref = bucket->sets; ref;) {
        const struct mr_set *set = mr_at(engine, ref);
        ref = set->next;
        if (set->span == MR_SPAN_ANY) {
            visit_set(engine, set, 0, 0, true);
            continue;
        }
        const struct mr_found *found = &engine->found[set->slot];
        if (found->event == engine->event && found->order == (enum mr_order)set->order)
            visit_set(engine, set, found->low, found->high, found->exact);
    }
}

static void visit_key(struct mr_engine *engine, const struct mr_group *group, uint32_t slot,
                      enum mr_predicate_op op, const struct mr_value *value)
{
    struct mr_key key;
    char buffer[MR_VALUE_OID_TEXT];
    if (!mr_key_from_value(value, &key, buffer))
        return;
    const struct mr_leaf *leaf = mr_leaf_lookup(engine, group, slot, op, &key);
    if (leaf)
        visit_bucket(engine, &leaf->bucket);
}

/* Every prefix of a length that there is. */
static void visit_prefixes(struct mr_engine *engine, const struct mr_group *group,
                           const struct mr_slot *slot, const struct mr_value *value)
{
    char buffer[MR_VALUE_OID_TEXT];
    struct mr_str text = mr_value_text(value, buffer);
    for (uint64_t lens = slot->prefix_lens; lens; lens &= lens - 1) {
        size_t len = (size_t)__builtin_ctzll(lens) + 1;
        if (len > text.len)
            return;
        const struct mr_key key = {.kind = MR_CONST_STRING, .text = {text.data, len}};
        struct mr_table_probe probe;
        uint32_t hash = mr_key_hash(engine, group, slot->index, MR_PRED_PREFIX, &key);
        mr_ref ref = mr_table_find(&group->keys, &engine->heap, hash, &probe);
        for (; ref; ref = mr_table_next(&probe)) {
            const struct mr_leaf *leaf = mr_at(engine, ref);
            if (leaf->op != MR_PRED_PREFIX || leaf->slot != slot->index || leaf->len > text.len ||
                (leaf->len > len && len < MR_PREFIX_BYTES_MAX))
                continue;
            if (memcmp(mr_leaf_text(leaf).data, text.data, leaf->len) == 0)
                visit_bucket(engine, &leaf->bucket);
        }
    }
}

/* Every element of an array, every key of a document. Repeats find their filters seen. */
static void visit_members(struct mr_engine *engine, const struct mr_group *group,
                          const struct mr_slot *slot, const struct mr_value *value)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    if ((value->kind != MR_VALUE_ARRAY && value->kind != MR_VALUE_DOCUMENT) ||
        mr_bson_iter_init(&iter, value->bytes.data, value->bytes.len) != MR_OK)
        return;
    while (mr_bson_iter_next(&iter, &element) == MR_OK) {
        struct mr_value item = {.kind = MR_VALUE_STRING, .bytes = element.key};
        if (value->kind == MR_VALUE_ARRAY)
            item = mr_value_from_bson(&element.value, slot->cel);
        visit_key(engine, group, slot->index, MR_PRED_CONTAINS, &item);
    }
}

static void sample(struct mr_engine *engine, struct mr_group *group)
{
    uint32_t at = group->sample_count % MR_SLOT_SAMPLES;
    group->sample_count++;
    if (group->sample_count == 2 * MR_SLOT_SAMPLES)
        group->sample_count = MR_SLOT_SAMPLES;
    for (uint32_t i = 0; i < group->slot_capacity; i++) {
        mr_ref ref = ((const mr_ref *)mr_at(engine, group->slots))[i];
        if (!ref)
            continue;
        struct mr_slot *slot = mr_at(engine, ref);
        const struct mr_found *found = &engine->found[i];
        bool present = found->event == engine->event;
        struct mr_key key;
        char buffer[MR_VALUE_OID_TEXT];
        slot->samples.hashes[at] = 0;
        slot->samples.numbers[at] = __builtin_nanf("");
        slot->samples.present &= ~(UINT32_C(1) << at);
        if (!present)
            continue;
        slot->samples.present |= UINT32_C(1) << at;
        if (found->order != MR_ORDER_NONE)
            slot->samples.numbers[at] = (float)found->low;
        if (mr_key_from_value(&found->value, &key, buffer))
            slot->samples.hashes[at] = mr_key_hash(engine, group, i, MR_PRED_EQ, &key);
    }
}

static void match_found(struct mr_engine *engine, const struct mr_group *group)
{
    for (uint32_t i = 0; i < engine->found_count; i++) {
        uint32_t index = engine->found_slots[i];
        const struct mr_slot *slot = mr_group_slot(engine, group, index);
        const struct mr_value *value = &engine->found[index].value;
        if (slot->eq_keys > 0)
            visit_key(engine, group, index, MR_PRED_EQ, value);
        if (slot->prefix_lens != 0)
            visit_prefixes(engine, group, slot, value);
        if (slot->member_keys > 0)
            visit_members(engine, group, slot, value);
        if (slot->anchored > 0)
            visit_bucket(engine, &slot->presence);
    }
}

void mr_match_group(struct mr_engine *engine, struct mr_group *group,
                    const struct mr_engine_event *event)
{
    engine->event++;
    engine->found_count = 0;
    engine->document = event->document;
    if (group->slot_count > 0) {
        if (*(const mr_ref *)mr_at(engine, group->slots) && event->document_id.len > 0) {
            struct mr_value id = mr_value_from_id(event->document_id);
            mr_extract_put(engine, MR_SLOT_ID, &id);
        }
        if (!mr_paths_extract(engine, group, event->document))
            engine->stats.errors++;
        match_found(engine, group);
        if (group->events < MR_SLOT_SAMPLES || group->events % 64 == 0)
            sample(engine, group);
    }
    group->events++;
    if (group->always_count > 0)
        visit_bucket(engine, &group->always);
    if (engine->suspect) {
        struct mr_filter *suspect = mr_at(engine, engine->suspect);
        engine->suspect = 0;
        mr_anchor_reconsider(engine, suspect);
    }
}

void mr_match_all_of(struct mr_engine *engine, const struct mr_group *group)
{
    for (mr_ref ref = group->filters; ref;) {
        const struct mr_filter *filter = mr_at(engine, ref);
        emit(engine, filter);
        ref = filter->next;
    }
}

/* Ascending. Few ids by insertion; many by their bytes, least first, leaving out the bytes that are
 * the same in all. */
void mr_match_sort(struct mr_engine *engine)
{
    uint64_t *ids = engine->ids, differ = 0;
    size_t count = engine->id_count;
    bool sorted = true;
    for (size_t i = 1; i < count; i++) {
        sorted &= ids[i - 1] < ids[i];
        differ |= ids[i - 1] ^ ids[i];
    }
    if (sorted)
        return;
    if (count <= 48) {
        for (size_t i = 1; i < count; i++) {
            uint64_t id = ids[i];
            size_t at = i;
            for (; at > 0 && ids[at - 1] > id; at--)
                ids[at] = ids[at - 1];
            ids[at] = id;
        }
        return;
    }
    for (uint32_t shift = 0; shift < 64; shift += 8) {
        size_t starts[257] = {0};
        if ((differ >> shift & 255) == 0)
            continue;
        for (size_t i = 0; i < count; i++)
            starts[(engine->ids[i] >> shift & 255) + 1]++;
        for (uint32_t i = 0; i < 256; i++)
            starts[i + 1] += starts[i];
        for (size_t i = 0; i < count; i++)
            engine->spare[starts[engine->ids[i] >> shift & 255]++] = engine->ids[i];
        uint64_t *other = engine->ids;
        engine->ids = engine->spare;
        engine->spare = other;
    }
}
