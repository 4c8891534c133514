#include "puller/intake.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/bson.h"
#include "common/clock.h"
#include "common/crash.h"
#include "common/doc_hash.h"
#include "common/log.h"
#include "puller/stand_in.h"

enum {
    CLOCK_EVENTS = 64,    /* share one reading of the clocks: about 20 us flat out */
    RING_HEADROOM = 4096, /* an event may fill a ring but for its head */
};

void mr_intake_init(struct mr_intake *intake, struct mr_log_writer *log, struct mr_cell_shm *cell,
                    const struct mr_config *config)
{
    uint64_t room = config->ring_event_size - RING_HEADROOM;
    *intake = (struct mr_intake){
        .log = log,
        .cell = cell,
        .deleted_field = mr_str_from(config->source_deleted_field.text),
        .event_bytes_max = room < MR_EVENT_BYTES_MAX ? (uint32_t)room : MR_EVENT_BYTES_MAX,
    };
}

static void read_clocks(struct mr_intake *intake, uint64_t now_ns)
{
    intake->now_ns = now_ns;
    intake->wall_us = mr_clock_wall_us();
    intake->clock_uses = CLOCK_EVENTS;
}

void mr_intake_begin(struct mr_intake *intake, uint64_t now_ns)
{
    read_clocks(intake, now_ns);
}

static bool is_true(struct mr_str document, struct mr_str field)
{
    struct mr_bson_value value;
    return document.len > 0 && mr_bson_find(document.data, document.len, field, &value) &&
           value.type == MR_BSON_BOOL && mr_bson_bool(&value);
}

/* A document whose marker field is true is gone for subscribers; when the marker falls it is born
 * again. What a source offers twice (after MR_FULL) is translated once: it is no update any more.
 */
static void translate(const struct mr_intake *intake, struct mr_event *event)
{
    if (intake->deleted_field.len == 0 ||
        (event->head.op != MR_OP_UPDATE && event->head.op != MR_OP_REPLACE))
        return;
    if (is_true(event->document, intake->deleted_field))
        event->head.op = MR_OP_DELETE;
    else if (is_true(event->before, intake->deleted_field))
        event->head.op = MR_OP_INSERT;
    else
        return;
    event->head.flags |= MR_EVENT_SOFT;
}

static enum mr_rc refuse_names(const struct mr_event *event, struct mr_err *err)
{
    return mr_reject(
        err, MR_USAGE,
        "event: names of %zu, %zu, %zu and an event id of %zu bytes, at most %d, %d, %d "
        "and %d are allowed",
        event->database.len, event->collection.len, event->document_id.len, event->event_id.len,
        MR_EVENT_NAME_MAX, MR_EVENT_NAME_MAX, MR_EVENT_NAME_MAX, MR_EVENT_ID_MAX - 1);
}

static bool names_fit(const struct mr_event *event)
{
    return event->database.len <= MR_EVENT_NAME_MAX && event->collection.len <= MR_EVENT_NAME_MAX &&
           event->document_id.len <= MR_EVENT_NAME_MAX && event->event_id.len < MR_EVENT_ID_MAX;
}

static void account(struct mr_intake *intake, const struct mr_event *event, size_t size)
{
    struct mr_cell_shm *cell = intake->cell;
    if (intake->batch_count++ == 0)
        intake->batch_ns = intake->now_ns;
    intake->clock_uses--;
    mr_count(cell, MR_COUNTER_SOURCE_EVENTS, 1);
    mr_count(cell, MR_COUNTER_SOURCE_BYTES, size);
    mr_gauge(cell, MR_COUNTER_SOURCE_POSITION, event->head.source_order);
    mr_gauge(cell, MR_COUNTER_SOURCE_EVENT_TIME, (uint64_t)event->head.source_time_us);
    if (event->head.op == MR_OP_GAP)
        mr_count(cell, MR_COUNTER_SOURCE_GAPS, 1);
}

enum mr_rc mr_intake_emit(struct mr_intake *intake, struct mr_event *event, struct mr_err *err)
{
    MR_ASSERT(event->head.op >= MR_OP_INSERT && event->head.op < MR_OP_COUNT);
    if (!names_fit(event))
        return refuse_names(event, err);
    translate(intake, event);
    uint8_t gap[MR_STAND_IN_BYTES];
    struct mr_event stand_in;
    size_t size = mr_event_size(event);
    if (size == 0 || size > intake->event_bytes_max) {
        stand_in = *event; /* the source's own event stays as it is, should there be no room now */
        size = mr_stand_in_make(&stand_in, gap);
        event = &stand_in;
        mr_log_warn("intake", "event_too_large", "limit=%u source_order=%" PRIu64,
                    intake->event_bytes_max, event->head.source_order);
    }
    void *room;
    enum mr_rc rc = mr_log_claim(intake->log, (uint32_t)size, &room);
    if (rc != MR_OK)
        return rc == MR_FULL ? rc
                             : mr_reject(err, rc, "log: no room for an event of %zu bytes", size);
    if (intake->clock_uses == 0)
        read_clocks(intake, mr_clock_ns());
    event->head.sequence = mr_log_next_sequence(intake->log);
    event->head.document_hash = mr_doc_hash(event->database, event->collection, event->document_id);
    event->head.ingest_ns = intake->now_ns;
    event->head.ingest_time_us = intake->wall_us;
    mr_event_encode(event, room);
    uint64_t sequence = mr_log_commit(intake->log, (uint32_t)size);
    MR_ASSERT(sequence == event->head.sequence);
    account(intake, event, size);
    return MR_OK;
}

void mr_intake_position(struct mr_intake *intake, const struct mr_position *position)
{
    MR_ASSERT(position->len <= MR_LOG_POSITION_MAX);
    intake->position.len = position->len;
    memcpy(intake->position.bytes, position->bytes, position->len);
    intake->position_moved = true;
}

enum mr_rc mr_intake_seal(struct mr_intake *intake, uint64_t now_ns, struct mr_err *err)
{
    enum mr_rc rc =
        mr_log_seal(intake->log, intake->position.bytes, intake->position.len, now_ns, err);
    if (rc != MR_OK)
        return rc;
    MR_CRASH("intake.sealed");
    intake->batch_count = 0;
    intake->position_moved = false;
    return MR_OK;
}
