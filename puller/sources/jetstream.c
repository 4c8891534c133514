/* puller/sources/jetstream.c: events out of a stream that another millrace writes (its fan-out,
 * query.jetstream_format: record). Events keep their ids, documents, types and times; sequence and
 * time of ingestion are this instance's own.
 *
 * A position is the stream's sequence behind the last event, and the writer's own: the log it wrote
 * from and the place in it, so that an event that a writer should put twice is taken once. With it
 * goes when the stream was made: another one of the same name is another stream. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "proto/gap.h"
#include "proto/marker.h"
#include "puller/source.h"
#include "puller/sources/js_reader.h"

enum { GAP_BYTES = 512, CLOCK_EVENTS = 64 };
#define POLL_NS MR_NS_PER_MS

struct place {
    uint64_t stream_sequence, log_id, sequence;
    int64_t created_ns; /* of the stream; 0 in positions of older versions, which end before it */
};
enum { OLD_PLACE_BYTES = 24 };
static_assert(offsetof(struct place, created_ns) == OLD_PLACE_BYTES, "a position is an ABI");

struct jetstream {
    struct mr_source source;
    struct mr_js_feed *feed;
    struct place place; /* behind the last event taken */
};

static void state_position(const struct jetstream *j, struct mr_intake *intake)
{
    struct mr_position position = {.len = sizeof j->place};
    memcpy(position.bytes, &j->place, sizeof j->place);
    mr_intake_position(intake, &position);
}

static bool read_place(const struct mr_position *position, struct place *out)
{
    *out = (struct place){0};
    if (position->len != sizeof *out && position->len != OLD_PLACE_BYTES)
        return false;
    memcpy(out, position->bytes, position->len);
    return true;
}

static enum mr_rc emit_gap(const struct mr_js_item *item, struct mr_intake *intake,
                           struct mr_err *err)
{
    uint8_t bytes[GAP_BYTES];
    char from[24], to[24];
    snprintf(from, sizeof from, "%" PRIu64, item->gap_from);
    snprintf(to, sizeof to, "%" PRIu64, item->stream_sequence);
    struct mr_bson_writer w;
    mr_bson_writer_init_fixed(&w, bytes, sizeof bytes);
    struct mr_event event = {.head = {.op = MR_OP_GAP, .source_order = item->gap_from},
                             .document = mr_gap_write(&w, item->gap_cause, from, to)};
    return mr_intake_emit(intake, &event, err);
}

/* What is no event is counted and passed over: its writer is at fault, and to stop would help
 * nobody. */
static enum mr_rc emit_record(struct jetstream *j, const struct mr_js_item *item,
                              struct mr_intake *intake, struct mr_err *err)
{
    struct mr_event event;
    struct mr_marker marker;
    if (mr_marker_parse(mr_str_from(item->position), &marker, NULL) != MR_OK ||
        mr_event_decode(item->record, item->record_len, &event) != MR_OK ||
        (marker.log_id == j->place.log_id && marker.sequence <= j->place.sequence)) {
        mr_count(j->source.cell, MR_COUNTER_SOURCE_REJECTED, 1);
        return MR_OK;
    }
    enum mr_rc rc = mr_intake_emit(intake, &event, err);
    if (rc != MR_OK)
        return rc;
    j->place.log_id = marker.log_id;
    j->place.sequence = marker.sequence;
    mr_gauge(j->source.cell, MR_COUNTER_SOURCE_EVENT_TIME, (uint64_t)event.head.source_time_us);
    return MR_OK;
}

/* One item into the log, and the place behind it. */
static enum mr_rc take(struct jetstream *j, const struct mr_js_item *item, struct mr_intake *intake,
                       struct mr_err *err)
{
    enum mr_rc rc = MR_OK;
    if (item->kind == MR_JS_RECORD)
        rc = emit_record(j, item, intake, err);
    else if (item->kind == MR_JS_GAP)
        rc = emit_gap(item, intake, err);
    else if (item->kind == MR_JS_STRANGE)
        mr_count(j->source.cell, MR_COUNTER_SOURCE_REJECTED, 1);
    if (rc != MR_OK)
        return rc;
    j->place.stream_sequence = item->stream_sequence;
    j->place.created_ns = item->created_ns;
    state_position(j, intake);
    mr_gauge(j->source.cell, MR_COUNTER_SOURCE_POSITION, item->stream_sequence);
    return MR_OK;
}

static enum mr_rc jetstream_poll(struct mr_source *source, struct mr_intake *intake,
                                 uint64_t now_ns, struct mr_err *err)
{
    struct jetstream *j = (struct jetstream *)source;
    bool connected;
    uint64_t reconnects;
    mr_js_feed_state(j->feed, &connected, &reconnects);
    mr_gauge(source->cell, MR_COUNTER_SOURCE_CONNECTED, connected);
    mr_gauge(source->cell, MR_COUNTER_SOURCE_RECONNECTS, reconnects);
    enum mr_rc rc = MR_OK;
    for (uint32_t i = 1; rc == MR_OK; i++) {
        struct mr_js_item *item;
        rc = mr_js_feed_peek(j->feed, &item, err);
        if (rc == MR_OK)
            rc = take(j, item, intake, err);
        if (rc == MR_OK)
            mr_js_feed_pop(j->feed);
        if (i % CLOCK_EVENTS == 0 && mr_clock_ns() - now_ns > POLL_NS)
            break;
    }
    return rc == MR_AGAIN || rc == MR_FULL ? MR_OK : rc;
}

static void jetstream_wait(struct mr_source *source, struct pollfd *fd, uint64_t *wake_ns)
{
    const struct jetstream *j = (const struct jetstream *)source;
    *fd = (struct pollfd){.fd = mr_js_feed_fd(j->feed), .events = POLLIN};
    *wake_ns = UINT64_MAX;
}

static enum mr_rc jetstream_confirm(struct mr_source *source, const struct mr_position *position,
                                    struct mr_err *err)
{
    struct place place;
    if (!read_place(position, &place))
        return mr_reject(err, MR_CORRUPT, "jetstream: a position of %u bytes", position->len);
    mr_gauge(source->cell, MR_COUNTER_SOURCE_CONFIRMED, place.stream_sequence);
    return MR_OK;
}

static void jetstream_close(struct mr_source *source)
{
    struct jetstream *j = (struct jetstream *)source;
    mr_js_feed_stop(&j->feed);
    free(j);
}

static enum mr_rc jetstream_open(struct mr_source **out, const struct mr_config *config,
                                 struct mr_cell_shm *cell, const struct mr_position *after,
                                 struct mr_err *err)
{
    struct place place = {0};
    if (after->len != 0 && !read_place(after, &place))
        return mr_reject(err, MR_USAGE,
                         "the log in instance.data_dir was written by another source; give this "
                         "one a directory of its own");
    struct jetstream *j = calloc(1, sizeof *j);
    if (!j)
        return mr_fail(err, MR_FATAL, "open the source");
    j->source = (struct mr_source){.ops = &mr_source_jetstream, .config = config, .cell = cell};
    j->place = place;
    enum mr_rc rc =
        mr_js_feed_start(&j->feed, config, place.stream_sequence, place.created_ns, err);
    if (rc != MR_OK) {
        free(j);
        return rc;
    }
    *out = &j->source;
    return MR_OK;
}

const struct mr_source_ops mr_source_jetstream = {
    .name = "jetstream",
    .open = jetstream_open,
    .poll = jetstream_poll,
    .wait = jetstream_wait,
    .confirm = jetstream_confirm,
    .close = jetstream_close,
};
