/* tools/shmstat_peek.c: the next records of a ring, read without consuming them. The ring may move
 * on under the reader, so each record is checked again after it was copied. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/event.h"
#include "proto/match.h"
#include "shm/ring.h"
#include "tools/shmstat.h"

static void event_line(const void *data, size_t len, bool json, FILE *out)
{
    struct mr_event event;
    if (mr_event_decode(data, len, &event) != MR_OK) {
        fputs(json ? ",\"problem\":\"no event\"" : "no event", out);
        return;
    }
    const char *format =
        json ? ",\"sequence\":%" PRIu64 ",\"op\":\"%s\",\"database\":" : "event %" PRIu64 " %s ";
    fprintf(out, format, event.head.sequence, mr_operation_name(event.head.op));
    if (!json) {
        fprintf(out, "%.*s/%.*s/%.*s document %zu bytes", (int)event.database.len,
                event.database.data, (int)event.collection.len, event.collection.data,
                (int)event.document_id.len, event.document_id.data, event.document.len);
        return;
    }
    shmstat_json_string(out, event.database.data, event.database.len);
    fputs(",\"collection\":", out);
    shmstat_json_string(out, event.collection.data, event.collection.len);
    fputs(",\"document_id\":", out);
    shmstat_json_string(out, event.document_id.data, event.document_id.len);
    fprintf(out, ",\"document_bytes\":%zu", event.document.len);
}

static void match_line(const void *data, size_t len, bool json, FILE *out)
{
    struct mr_match_head head;
    if (len < sizeof head) {
        fputs(json ? ",\"problem\":\"no match\"" : "no match record", out);
        return;
    }
    memcpy(&head, data, sizeof head);
    fprintf(out,
            json ? ",\"sequence\":%" PRIu64 ",\"position\":%" PRIu64 ",\"subscriptions\":%" PRIu32
                 : "match of event %" PRIu64 " at %" PRIu64 ": %" PRIu32 " subscriptions",
            head.sequence, head.position, head.count);
}

static void announce_line(const void *data, size_t len, bool json, FILE *out)
{
    struct mr_announce announce;
    if (len < sizeof announce) {
        fputs(json ? ",\"problem\":\"no announcement\"" : "no announcement", out);
        return;
    }
    memcpy(&announce, data, sizeof announce);
    fprintf(out,
            json ? ",\"generation\":%" PRIu64 ",\"count\":%" PRIu64
                 : "journal %" PRIu64 " through record %" PRIu64,
            announce.generation, announce.count);
}

static void record_line(const struct mr_inspect_ring *ring, uint64_t position, uint8_t type,
                        const void *data, uint32_t len, bool json, FILE *out)
{
    if (json)
        fprintf(out,
                "{\"ring\":\"%c%" PRIu32 "\",\"at\":%" PRIu64 ",\"bytes\":%" PRIu32 ",\"type\":%u",
                ring->kind, ring->shard, position, len, type);
    else
        fprintf(out, "%-7s %12" PRIu64 " %7" PRIu32 " B  ", ring->part, position, len);
    switch (type) {
    case MR_RECORD_EVENT:
        event_line(data, len, json, out);
        break;
    case MR_RECORD_MATCH:
        match_line(data, len, json, out);
        break;
    case MR_RECORD_ANNOUNCE:
        announce_line(data, len, json, out);
        break;
    default:
        fprintf(out, json ? ",\"problem\":\"unknown type\"" : "unknown type %u", type);
    }
    fputs(json ? "}\n" : "\n", out);
}

static uint64_t freed(const struct mr_ring_shm *shm)
{
    return mr_ring_stage_position(shm, shm->stage_count > 1 ? 1 : 0);
}

/* Copy the record at position; false when it is not there, or was overwritten meanwhile. */
static bool copy_record(const struct mr_ring_shm *shm, uint64_t position, uint64_t tail,
                        void *buffer, struct mr_ring_record_shm *record)
{
    const uint8_t *data = (const uint8_t *)shm + MR_SEGMENT_DATA;
    memcpy(record, data + (position & (shm->capacity - 1)), sizeof *record);
    if (record->len == 0 || record->len > shm->record_bytes_max ||
        record->len > tail - position - sizeof *record)
        return false;
    memcpy(buffer, data + ((position + sizeof *record) & (shm->capacity - 1)), record->len);
    return freed(shm) <= position;
}

static void peek_ring(const struct mr_inspect_ring *ring, uint64_t count, bool json, FILE *out)
{
    const struct mr_ring_shm *shm = ring->shm;
    void *buffer = malloc(shm->record_bytes_max);
    if (!buffer)
        return;
    uint64_t position = freed(shm), tail = mr_ring_tail(shm), shown = 0;
    while (shown < count && position + sizeof(struct mr_ring_record_shm) < tail) {
        struct mr_ring_record_shm record;
        if (!copy_record(shm, position, tail, buffer, &record)) {
            if (freed(shm) <= position)
                break; /* no record there, and nobody moved on: damaged */
            position = freed(shm);
            continue;
        }
        record_line(ring, position, record.type, buffer, record.len, json, out);
        position += (sizeof record + (uint64_t)record.len + 7) & ~UINT64_C(7);
        shown++;
    }
    if (shown == 0 && !json)
        fprintf(out, "%-7s empty\n", ring->part);
    free(buffer);
}

void shmstat_peek(const struct mr_inspect *inspect, const char *part, uint64_t count, bool json,
                  FILE *out)
{
    for (uint32_t i = 0; i < inspect->ring_count; i++) {
        const struct mr_inspect_ring *ring = &inspect->rings[i];
        char name[32];
        snprintf(name, sizeof name, "%c%" PRIu32, ring->kind, ring->shard);
        if (ring->shm && (!part || strcmp(part, name) == 0 || strcmp(part, ring->part) == 0))
            peek_ring(ring, count, json, out);
    }
}
