#include "relay/piece.h"

#include <stdlib.h>

#include "proto/marker.h"

struct mr_piece *mr_piece_ref(struct mr_piece *piece)
{
    atomic_fetch_add_explicit(&piece->refs, 1, memory_order_relaxed);
    return piece;
}

void mr_piece_unref(struct mr_piece *piece)
{
    if (atomic_fetch_sub_explicit(&piece->refs, 1, memory_order_acq_rel) != 1)
        return;
    grpc_slice_unref(piece->slab);
    free(piece);
}

uint32_t mr_piece_find(const struct mr_piece *piece, uint64_t sequence)
{
    uint32_t low = 0, high = piece->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (piece->items[middle].through <= sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void mr_piece_builder_fini(struct mr_piece_builder *b)
{
    free(b->bytes);
    mr_json_fini(&b->document);
    mr_json_fini(&b->update);
    mr_json_fini(&b->before);
}

/* BSON as JSON; what cannot be shown is left out, as everywhere. False: out of memory. */
static bool to_json(struct mr_json *json, struct mr_str bson, struct mr_str *out)
{
    *out = (struct mr_str){NULL, 0};
    if (bson.len == 0)
        return true;
    mr_json_reset(json);
    enum mr_rc rc = mr_json_put_document(json, bson);
    if (rc == MR_OK)
        *out = (struct mr_str){json->data, json->len};
    return rc != MR_FULL && !json->failed;
}

static bool make_room(struct mr_piece_builder *b, size_t size)
{
    if (b->capacity - b->len >= size)
        return true;
    size_t capacity = b->capacity ? b->capacity : 64 * 1024;
    while (capacity - b->len < size)
        capacity *= 2;
    uint8_t *bytes = realloc(b->bytes, capacity);
    if (!bytes)
        return false;
    b->bytes = bytes;
    b->capacity = capacity;
    return true;
}

enum mr_rc mr_piece_add(struct mr_piece_builder *b, const struct mr_event *event, uint64_t first,
                        uint64_t through, struct mr_err *err)
{
    MR_ASSERT(b->count < MR_PIECE_EVENTS_MAX);
    char id[MR_EVENT_ID_MAX], marker[MR_MARKER_TEXT_MAX];
    struct mr_wire_change change = {.event = event, .event_id = event->event_id};
    change.backend = b->backend;
    if (change.event_id.len == 0)
        change.event_id = (struct mr_str){id, mr_event_id(event, id)};
    change.progress.data = marker;
    if (through != 0)
        change.progress.len =
            mr_marker_format((struct mr_marker){.log_id = b->log_id, .sequence = through}, marker);
    bool ok = to_json(&b->document, event->document, &change.document_json) &&
              to_json(&b->update, event->update, &change.update_json) &&
              to_json(&b->before, event->before, &change.before_json);
    size_t size = ok ? mr_wire_change_size(&change) : 0;
    if (!ok || !make_room(b, size))
        return mr_reject(err, MR_FATAL, "encode event %llu: out of memory",
                         (unsigned long long)event->head.sequence);
    uint8_t *at = b->bytes + b->len, *body, *end = mr_wire_put_change(at, &change, &body);
    MR_ASSERT((size_t)(end - at) == size);
    struct mr_piece_item *item = &b->items[b->count++];
    *item = (struct mr_piece_item){.at = (uint32_t)b->len,
                                   .body = (uint32_t)(body - b->bytes),
                                   .end = (uint32_t)(b->len + size),
                                   .collection_len = (uint16_t)event->collection.len,
                                   .first = first,
                                   .through = through};
    if (event->collection.len > 0) {
        const void *found = memmem(body, size, event->collection.data, event->collection.len);
        MR_ASSERT(found != NULL);
        item->collection_at = (uint32_t)((const uint8_t *)found - b->bytes);
    }
    b->ingest_ns = event->head.ingest_ns;
    b->len += size;
    return MR_OK;
}

enum mr_rc mr_piece_finish(struct mr_piece_builder *b, uint64_t first, uint64_t through,
                           struct mr_piece **out, struct mr_err *err)
{
    struct mr_piece *piece = malloc(sizeof *piece + b->count * sizeof *piece->items);
    if (!piece)
        return mr_reject(err, MR_FATAL, "keep events %llu to %llu: out of memory",
                         (unsigned long long)first, (unsigned long long)through);
    *piece = (struct mr_piece){.count = b->count,
                               .first = first,
                               .through = through,
                               .ingest_ns = b->ingest_ns,
                               .bytes = sizeof *piece + b->count * sizeof *piece->items + b->len};
    atomic_init(&piece->refs, 1);
    /* On the heap even when it is short, so that parts of it share its bytes. */
    piece->slab = grpc_slice_malloc_large(b->len);
    if (b->len > 0)
        memcpy(GRPC_SLICE_START_PTR(piece->slab), b->bytes, b->len);
    memcpy(piece->items, b->items, b->count * sizeof *piece->items);
    for (uint32_t i = b->count; i-- > 1;)
        if (piece->items[i - 1].through == 0)
            piece->items[i - 1].through = piece->items[i].through;
    b->count = 0;
    b->len = 0;
    *out = piece;
    return MR_OK;
}
