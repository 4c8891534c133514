#include "relay/coalesce.h"

#include <string.h>

#include "common/bson.h"

void mr_coalesce_begin(struct mr_coalesce *c, bool atomic)
{
    c->atomic = atomic;
    c->count = c->barrier = 0;
    memset(c->slots, 0, sizeof c->slots);
}

static bool same_document(const struct mr_event *a, const struct mr_event *b)
{
    return a->head.document_hash == b->head.document_hash &&
           mr_str_equal(a->document_id, b->document_id) &&
           mr_str_equal(a->collection, b->collection) && mr_str_equal(a->database, b->database);
}

/* The place of this document's pending event in slots, or of its own to come. */
static uint16_t *find_slot(struct mr_coalesce *c, const struct mr_event *event)
{
    uint32_t size = sizeof c->slots / sizeof *c->slots;
    uint32_t at = (uint32_t)(event->head.document_hash * UINT64_C(0x9e3779b97f4a7c15) >> 40) % size;
    while (c->slots[at] && !same_document(&c->items[c->slots[at] - 1].event, event))
        at = (at + 1) % size;
    return &c->slots[at];
}

/* Whether the update description names fields that the document lacks although they have values:
 * docs/postgres.md. One that does not read may say so. */
static bool lacks_fields(struct mr_str update)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    if (update.len == 0)
        return false;
    enum mr_rc rc = mr_bson_iter_init(&iter, update.data, update.len);
    while (rc == MR_OK) {
        rc = mr_bson_iter_next(&iter, &element);
        if (rc == MR_OK && (mr_str_equal(element.key, MR_STR("unchanged")) ||
                            mr_str_equal(element.key, MR_STR("omitted"))))
            return true;
    }
    return rc != MR_AGAIN;
}

/* Events that tell less than the document's whole state cannot stand for what came before them. */
static bool is_whole(const struct mr_event *event)
{
    return event->head.op == MR_OP_DELETE ||
           (event->document.len > 0 && !lacks_fields(event->update));
}

static bool concerns_document(const struct mr_event *event)
{
    return event->head.op >= MR_OP_INSERT && event->head.op <= MR_OP_DELETE;
}

/* What is left of two changes of one document: upstream's table, where it keeps the final state. */
static uint8_t merged_op(uint8_t before, uint8_t after)
{
    if (after == MR_OP_DELETE)
        return MR_OP_DELETE;
    if (before == MR_OP_INSERT)
        return MR_OP_INSERT; /* it was not there before, and is now */
    if (before == MR_OP_UPDATE && after == MR_OP_UPDATE)
        return MR_OP_UPDATE;
    return MR_OP_REPLACE; /* it was there, and is there as another one */
}

/* Put the state of event into the pending item, which keeps its place. */
static void merge(struct mr_coalesce *c, struct mr_coalesced *item, const struct mr_event *event)
{
    uint8_t before = item->event.head.op;
    /* The image before the whole run is the first one's. */
    struct mr_str image = item->event.before;
    item->event = *event;
    item->event.before = image;
    item->event.head.before_len = (uint32_t)image.len;
    item->event.update = (struct mr_str){NULL, 0}; /* it would tell the last step only */
    item->event.head.update_len = 0;
    item->event.head.op = merged_op(before, event->head.op);
    item->dropped = c->atomic && item->fresh && event->head.op == MR_OP_DELETE;
}

void mr_coalesce_add(struct mr_coalesce *c, const struct mr_event *event)
{
    MR_ASSERT(c->count < MR_COALESCE_MAX);
    bool single = concerns_document(event);
    uint16_t *slot = single ? find_slot(c, event) : NULL;
    if (slot && *slot > c->barrier && is_whole(event) && !c->items[*slot - 1].dropped) {
        merge(c, &c->items[*slot - 1], event);
        return;
    }
    /* A row of a snapshot may have been there before. */
    c->items[c->count++] = (struct mr_coalesced){.event = *event,
                                                 .first = event->head.sequence,
                                                 .fresh = event->head.op == MR_OP_INSERT &&
                                                          !(event->head.flags & MR_EVENT_SNAPSHOT)};
    if (slot)
        *slot = (uint16_t)c->count;
    else
        c->barrier = c->count; /* a truncate or a gap: nothing moves over it */
}

uint32_t mr_coalesce_end(struct mr_coalesce *c, uint64_t through)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < c->count; i++)
        if (!c->items[i].dropped)
            c->items[left++] = c->items[i];
    /* Who has an item has all before the next one's place, but not yet what stands there; later
     * changes of its own document come again then, and change nothing. */
    for (uint32_t i = 0; i < left; i++)
        c->items[i].through = i + 1 == left ? through : c->atomic ? 0 : c->items[i + 1].first - 1;
    c->count = left;
    return left;
}
