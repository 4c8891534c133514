/* One event: from its bytes to the ids of the subscriptions that it concerns. */
#include <math.h>

#include "matcher/engine/match.h"

/* What is still to be looked at for the event at hand, in steps of one fetch from memory each: an
 * index larger than the caches answers many questions at once about as fast as one. */
enum { LOOKS_MAX = 32, BUCKETS_MAX = 32, SPANS_MAX = 32, POSTINGS_MAX = 64 };

/* A key that a value of the document may have. */
struct look {
    struct mr_key key;
    uint32_t hash, slot;
    uint32_t len; /* bytes of the text that were hashed */
    uint8_t op;   /* enum mr_predicate_op */
    const struct mr_table_part *part;
    mr_ref leaf;
    struct mr_table_probe probe;
};
/* A set, and the number at hand: between low and high (the same, but where a double cannot say
 * it). */
struct span {
    const struct mr_set *set;
    double low, high;
    bool exact;
};
struct front {
    struct mr_engine *engine;
    const struct mr_group *group;
    uint32_t look_count, bucket_count, span_count, posting_count;
    struct look looks[LOOKS_MAX];
    const struct mr_bucket *buckets[BUCKETS_MAX];
    struct span spans[SPANS_MAX];
    uint32_t postings[POSTINGS_MAX]; /* EXACT: nothing else is to be asked */
};

/* ---- postings ---- */

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

/* The event has passed an anchor. */
static void visit_posting(struct mr_engine *engine, uint32_t posting)
{
    struct mr_filter *filter = mr_at(engine, posting & MR_POSTING_REF);
    if (posting & MR_POSTING_MULTI) {
        if (filter->seen == engine->event)
            return;
        filter->seen = engine->event;
    }
    if ((posting & MR_POSTING_EXACT) || mr_filter_holds(engine, filter))
        emit(engine, filter);
    else if (++engine->failures % 256 == 0)
        engine->suspect = posting & MR_POSTING_REF;
}

static void run_postings(struct front *front)
{
    for (uint32_t i = 0; i < front->posting_count; i++)
        visit_posting(front->engine, front->postings[i]);
    front->posting_count = 0;
}

static inline void push_posting(struct front *front, uint32_t posting)
{
    if (front->posting_count == POSTINGS_MAX)
        run_postings(front);
    __builtin_prefetch(mr_at(front->engine, posting & MR_POSTING_REF));
    front->postings[front->posting_count++] = posting;
}

/* ---- spans ---- */

static void visit_span(struct front *front, const struct span *span)
{
    const struct mr_set *set = span->set;
    struct mr_run_walk walk;
    double from = -INFINITY, through = INFINITY, other = -INFINITY;
    if (set->span == MR_SPAN_LOW) {
        through = span->high;
    } else if (set->span == MR_SPAN_HIGH) {
        through = -span->low;
    } else if (set->span == MR_SPAN_BOTH) {
        /* A little further than the widest reaches, whatever was rounded. */
        from = span->low - set->reach - (fabs(span->low) + set->reach) * 0x1p-50;
        through = span->high;
        other = span->low;
    }
    const uint32_t keep = span->exact ? UINT32_MAX : ~MR_POSTING_EXACT;
    mr_run_begin(&set->run, &front->engine->heap, from, &walk);
    const struct mr_run_entry *entries;
    uint32_t count;
    while ((entries = mr_run_block(&walk, &front->engine->heap, &count)) != NULL) {
        for (uint32_t i = 0; i < count; i++) {
            if (entries[i].key > through)
                return;
            if (entries[i].other >= other)
                push_posting(front, entries[i].item & keep);
        }
    }
}

static void run_spans(struct front *front)
{
    for (uint32_t i = 0; i < front->span_count; i++)
        visit_span(front, &front->spans[i]);
    front->span_count = 0;
}

static inline void push_span(struct front *front, const struct mr_set *set)
{
    struct span span = {.set = set, .exact = true};
    if (set->span != MR_SPAN_ANY) {
        const struct mr_found *found = &front->engine->found[set->slot];
        double least = set->span == MR_SPAN_HIGH ? -found->low : found->high;
        if (found->event != front->engine->event || found->order != (enum mr_order)set->order ||
            set->first > least)
            return;
        span = (struct span){set, found->low, found->high, found->exact};
    }
    if (front->span_count == SPANS_MAX)
        run_spans(front);
    __builtin_prefetch(mr_at(front->engine, set->run.root));
    front->spans[front->span_count++] = span;
}

/* ---- buckets ---- */

static void run_buckets(struct front *front)
{
    for (uint32_t i = 0; i < front->bucket_count; i++) {
        const struct mr_bucket *bucket = front->buckets[i];
        if (!bucket->sets)
            continue;
        const struct mr_sets *sets = mr_at(front->engine, bucket->sets);
        for (uint32_t k = 0; k < sets->count; k++)
            push_span(front, &sets->set[k]);
    }
    front->bucket_count = 0;
}

static inline void push_bucket(struct front *front, const struct mr_bucket *bucket)
{
    if (bucket->one)
        push_posting(front, bucket->one);
    if (!bucket->sets)
        return;
    if (front->bucket_count == BUCKETS_MAX)
        run_buckets(front);
    const char *sets = mr_at(front->engine, bucket->sets);
    __builtin_prefetch(sets);
    __builtin_prefetch(sets + 64);
    front->buckets[front->bucket_count++] = bucket;
}

/* ---- keys ---- */

static bool is_looked_for(const struct look *look, const struct mr_leaf *leaf)
{
    if (leaf->op != look->op || leaf->slot != look->slot || leaf->kind != look->key.kind)
        return false;
    if (leaf->kind != MR_CONST_STRING)
        return leaf->bits == look->key.bits;
    if (leaf->op != MR_PRED_PREFIX)
        return mr_str_equal(mr_leaf_text(leaf), look->key.text);
    /* Those of the greatest length that is hashed may be longer. */
    return leaf->len <= look->key.text.len &&
           (leaf->len == look->len || look->len == MR_PREFIX_BYTES_MAX) &&
           memcmp(mr_leaf_text(leaf).data, look->key.text.data, leaf->len) == 0;
}

static void visit_leaves(struct front *front, struct look *look)
{
    bool found = false;
    for (mr_ref ref = look->leaf; ref; ref = mr_table_next(&look->probe)) {
        const struct mr_leaf *leaf = mr_at(front->engine, ref);
        if (!is_looked_for(look, leaf))
            continue;
        found = true;
        push_bucket(front, &leaf->bucket);
        if (leaf->op != MR_PRED_PREFIX)
            break;
    }
    front->engine->bloom.passed_missing += look->part->blocks > 0 && !found;
}

static void run_looks(struct front *front)
{
    for (uint32_t i = 0; i < front->look_count; i++) {
        struct look *look = &front->looks[i];
        look->leaf = mr_table_find_in(look->part, look->hash, &look->probe);
        if (look->leaf)
            __builtin_prefetch(mr_at(front->engine, look->leaf));
    }
    for (uint32_t i = 0; i < front->look_count; i++)
        if (front->looks[i].leaf || front->looks[i].part->blocks)
            visit_leaves(front, &front->looks[i]);
    front->look_count = 0;
}

/* len: bytes of a text that count. */
static void push_look(struct front *front, uint32_t slot, enum mr_predicate_op op,
                      const struct mr_key *key, size_t len)
{
    struct mr_engine *engine = front->engine;
    struct mr_key hashed = *key;
    hashed.text.len = len;
    uint32_t hash = mr_key_hash(engine, front->group, slot, op, &hashed);
    const struct mr_table_part *part = mr_table_part(&front->group->keys, &engine->heap, hash);
    if (!part)
        return;
    if (part->blocks) {
        engine->bloom.lookups++;
        if (!mr_bloom_has(part, hash)) {
            engine->bloom.rejected++;
            return;
        }
    }
    if (front->look_count == LOOKS_MAX)
        run_looks(front);
    __builtin_prefetch(&mr_table_entries(part)[hash & part->mask]);
    struct look *look = &front->looks[front->look_count++];
    look->key = *key;
    look->hash = hash;
    look->slot = slot;
    look->len = (uint32_t)len;
    look->op = (uint8_t)op;
    look->part = part;
}

/* Every prefix of a length that there is. */
static void push_prefixes(struct front *front, const struct mr_slot *slot, struct mr_str text)
{
    const struct mr_key key = {.kind = MR_CONST_STRING, .text = text};
    for (uint64_t lens = slot->prefix_lens; lens; lens &= lens - 1) {
        size_t len = (size_t)__builtin_ctzll(lens) + 1;
        if (len > text.len)
            return;
        push_look(front, slot->index, MR_PRED_PREFIX, &key, len);
    }
}

/* Every element of an array, every key of a document. Repeats find their filters seen. */
static void push_members(struct front *front, const struct mr_slot *slot,
                         const struct mr_value *value)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    struct mr_key key;
    char buffer[MR_VALUE_OID_TEXT];
    if ((value->kind != MR_VALUE_ARRAY && value->kind != MR_VALUE_DOCUMENT) ||
        mr_bson_iter_init(&iter, value->bytes.data, value->bytes.len) != MR_OK)
        return;
    while (mr_bson_iter_next(&iter, &element) == MR_OK) {
        struct mr_value item = {.kind = MR_VALUE_STRING, .bytes = element.key};
        if (value->kind == MR_VALUE_ARRAY)
            item = mr_value_from_bson(&element.value, slot->cel);
        if (!mr_key_from_value(&item, &key, buffer))
            continue;
        push_look(front, slot->index, MR_PRED_CONTAINS, &key, key.text.len);
        if (item.kind == MR_VALUE_OID) /* its text is in the buffer that the next one takes over */
            run_looks(front);
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
    struct front front;
    front.engine = engine;
    front.group = group;
    front.look_count = front.bucket_count = front.span_count = front.posting_count = 0;
    for (uint32_t i = 0; i < engine->found_count; i++) {
        const struct mr_slot *slot = mr_at(engine, engine->found_slots[i]);
        struct mr_found *found = &engine->found[slot->index];
        struct mr_key key;
        if ((slot->eq_keys > 0 || slot->prefix_lens != 0) &&
            mr_key_from_value(&found->value, &key, found->oid)) {
            if (slot->eq_keys > 0)
                push_look(&front, slot->index, MR_PRED_EQ, &key, key.text.len);
            if (slot->prefix_lens != 0 && key.kind == MR_CONST_STRING)
                push_prefixes(&front, slot, key.text);
        }
        if (slot->member_keys > 0)
            push_members(&front, slot, &found->value);
        if (slot->anchored > 0)
            push_bucket(&front, &slot->presence);
    }
    run_looks(&front);
    if (group->always_count > 0)
        push_bucket(&front, &group->always);
    run_buckets(&front);
    run_spans(&front);
    run_postings(&front);
}

void mr_match_group(struct mr_engine *engine, struct mr_group *group,
                    const struct mr_engine_event *event)
{
    engine->event++;
    engine->found_count = 0;
    engine->document = event->document;
    if (group->slot_count > 0) {
        mr_ref id_slot = *(const mr_ref *)mr_at(engine, group->slots);
        if (id_slot && event->document_id.len > 0) {
            struct mr_value id = mr_value_from_id(event->document_id);
            mr_extract_put(engine, id_slot, MR_SLOT_ID, &id);
        }
        if (!mr_paths_extract(engine, group, event->document))
            engine->stats.errors++;
        if (group->events < MR_SLOT_SAMPLES || group->events % 64 == 0)
            sample(engine, group);
    }
    match_found(engine, group);
    group->events++;
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
