#include "puller/sources/pg_stream.h"

#include <stdio.h>

#include "common/clock.h"
#include "proto/gap.h"

enum { WAL_DATA_HEAD_BYTES = 1 + 8 + 8 + 8 }; /* 'w', start, end, send time */

void mr_pg_stream_init(struct mr_pg_stream *stream, struct mr_str database,
                       const struct mr_pg_position *position)
{
    *stream = (struct mr_pg_stream){.position = *position};
    mr_pg_builder_init(&stream->builder, database);
}

void mr_pg_stream_fini(struct mr_pg_stream *stream)
{
    mr_pg_builder_fini(&stream->builder);
    mr_pg_relations_clear(&stream->relations);
    mr_pg_catalog_fini(&stream->catalog);
}

void mr_pg_stream_restart(struct mr_pg_stream *stream)
{
    mr_pg_relations_clear(&stream->relations);
    stream->in_transaction = false;
    stream->reply_wanted = stream->reload = false;
    stream->event_index = 0;
}

static void state_position(struct mr_pg_stream *stream, struct mr_intake *intake)
{
    struct mr_position position;
    mr_pg_position_encode(&stream->position, &position);
    mr_intake_position(intake, &position);
    stream->position_stated_lsn = stream->position.lsn;
}

void mr_pg_stream_state_position(struct mr_pg_stream *stream, struct mr_intake *intake, bool force,
                                 uint64_t now_ns)
{
    if (stream->position.lsn == stream->position_stated_lsn)
        return;
    if (!force && now_ns - stream->position_stated_ns < MR_NS_PER_S)
        return;
    stream->position_stated_ns = now_ns;
    state_position(stream, intake);
}

static enum mr_rc take_begin(struct mr_pg_stream *stream, struct mr_err *err)
{
    const struct mr_pg_message *message = &stream->message;
    if (stream->in_transaction)
        return mr_reject(err, MR_CORRUPT, "pgoutput: a transaction begins inside of another");
    stream->in_transaction = true;
    stream->commit_lsn = message->lsn;
    stream->xid = message->xid;
    stream->commit_time_us = message->time_us;
    stream->transaction_events = 0;
    stream->skip = stream->position.commit_lsn == message->lsn ? stream->position.events_taken : 0;
    return MR_OK;
}

static enum mr_rc take_commit(struct mr_pg_stream *stream, struct mr_intake *intake,
                              uint64_t now_ns, struct mr_err *err)
{
    if (!stream->in_transaction)
        return mr_reject(err, MR_CORRUPT, "pgoutput: a commit without a transaction");
    stream->in_transaction = false;
    stream->position.lsn = stream->message.end_lsn;
    stream->position.commit_lsn = 0;
    stream->position.events_taken = 0;
    mr_pg_stream_state_position(stream, intake, stream->transaction_events > 0, now_ns);
    return MR_OK;
}

/* Hand one event to the intake and move the position behind it. */
static enum mr_rc emit(struct mr_pg_stream *stream, struct mr_event *event, uint64_t lsn,
                       struct mr_intake *intake, struct mr_err *err)
{
    event->head.source_order = lsn;
    event->head.transaction = stream->xid;
    event->head.source_time_us = stream->commit_time_us;
    enum mr_rc rc = mr_intake_emit(intake, event, err);
    if (rc != MR_OK)
        return rc;
    stream->event_index++;
    stream->transaction_events++;
    stream->position.commit_lsn = stream->commit_lsn;
    stream->position.events_taken = stream->transaction_events;
    state_position(stream, intake);
    return MR_OK;
}

static bool skip_one(struct mr_pg_stream *stream)
{
    if (stream->transaction_events >= stream->skip)
        return false;
    stream->event_index++;
    stream->transaction_events++;
    return true;
}

/* A snapshot will show the row: passed over, and counted as taken. */
static void pass_over(struct mr_pg_stream *stream, struct mr_intake *intake)
{
    stream->event_index++;
    stream->transaction_events++;
    stream->position.commit_lsn = stream->commit_lsn;
    stream->position.events_taken = stream->transaction_events;
    state_position(stream, intake);
}

static const struct mr_pg_relation *find_relation(struct mr_pg_stream *stream, uint32_t oid,
                                                  struct mr_err *err)
{
    const struct mr_pg_relation *relation = mr_pg_relations_find(&stream->relations, oid);
    if (!stream->in_transaction)
        mr_reject(err, MR_CORRUPT, "pgoutput: a change outside of a transaction");
    else if (!relation)
        mr_reject(err, MR_CORRUPT, "pgoutput: a change of table %u, which was never described",
                  oid);
    return stream->in_transaction ? relation : NULL;
}

static enum mr_rc take_row(struct mr_pg_stream *stream, uint64_t lsn, struct mr_intake *intake,
                           struct mr_err *err)
{
    struct mr_pg_builder *builder = &stream->builder;
    const struct mr_pg_message *message = &stream->message;
    const struct mr_pg_relation *relation = find_relation(stream, message->relation, err);
    uint32_t count;
    if (!relation)
        return MR_CORRUPT;
    enum mr_rc rc = mr_pg_build_ids(builder, relation, message, &count, err);
    if (rc != MR_OK)
        return rc;
    while (stream->event_index < count) {
        if (skip_one(stream))
            continue;
        if (relation->key_count == 0)
            mr_pg_build_unkeyed_id(builder, stream->commit_lsn, stream->transaction_events);
        bool old = builder->rekeyed && stream->event_index == 0;
        const struct mr_pg_id *id = old ? &builder->old_id : &builder->id;
        if (mr_pg_place_ahead(&stream->position.place, relation,
                              (struct mr_str){id->text, id->len})) {
            pass_over(stream, intake);
            continue;
        }
        struct mr_event event;
        rc = mr_pg_build_event(builder, relation, message, stream->event_index, &event, err);
        if (rc == MR_OK)
            rc = emit(stream, &event, lsn, intake, err);
        if (rc != MR_OK)
            return rc;
    }
    return MR_OK;
}

static enum mr_rc take_truncate(struct mr_pg_stream *stream, uint64_t lsn, struct mr_intake *intake,
                                struct mr_err *err)
{
    const struct mr_pg_message *message = &stream->message;
    while (stream->event_index < message->relation_count) {
        uint32_t oid = mr_pg_load32(message->relations + 4 * (size_t)stream->event_index);
        const struct mr_pg_relation *relation = find_relation(stream, oid, err);
        if (!relation)
            return MR_CORRUPT;
        if (skip_one(stream))
            continue;
        if (mr_pg_place_ahead(&stream->position.place, relation, (struct mr_str){NULL, 0})) {
            pass_over(stream, intake);
            continue;
        }
        struct mr_event event = {.head.op = MR_OP_TRUNCATE,
                                 .database = stream->builder.database,
                                 .collection = relation->collection};
        enum mr_rc rc = emit(stream, &event, lsn, intake, err);
        if (rc != MR_OK)
            return rc;
    }
    return MR_OK;
}

/* What the catalog read at connect does not explain is worth one reconnect. */
enum mr_rc mr_pg_stream_knows(struct mr_pg_stream *stream, const struct mr_pg_relation *relation,
                              struct mr_err *err)
{
    struct mr_str table = relation->collection;
    stream->reload = true; /* in all that does not return MR_OK */
    if (relation->unknown_type != 0 &&
        mr_pg_catalog_ask(&stream->catalog, MR_PG_OBJECT_TYPE, relation->unknown_type, 0))
        return mr_reject(err, MR_RETRY, "table %.*s: type %u is newer than this connection",
                         (int)table.len, table.data, relation->unknown_type);
    if (relation->key_unknown &&
        mr_pg_catalog_ask(&stream->catalog, MR_PG_OBJECT_RELATION, relation->oid, relation->form))
        return mr_reject(err, MR_RETRY, "table %.*s: its primary key is newer than this connection",
                         (int)table.len, table.data);
    stream->reload = false;
    return MR_OK;
}

/* A table is described. */
static enum mr_rc take_relation(struct mr_pg_stream *stream, struct mr_err *err)
{
    const struct mr_pg_relation *relation;
    enum mr_rc rc = mr_pg_relations_take(&stream->relations, stream->message.body, &stream->catalog,
                                         &relation, err);
    if (rc != MR_OK)
        return rc;
    rc = mr_pg_stream_knows(stream, relation, err);
    if (rc != MR_OK || !relation->needs_text || !stream->binary)
        return rc;
    stream->text_only = stream->reload = true;
    return mr_reject(err, MR_RETRY,
                     "table %.*s: has a column of which the binary form cannot be"
                     " read; going on in text form",
                     (int)relation->collection.len, relation->collection.data);
}

static enum mr_rc take_message(struct mr_pg_stream *stream, uint64_t lsn, struct mr_intake *intake,
                               uint64_t now_ns, struct mr_err *err)
{
    switch (stream->message.type) {
    case 'B':
        return take_begin(stream, err);
    case 'C':
        return take_commit(stream, intake, now_ns, err);
    case 'R':
        return take_relation(stream, err);
    case 'T':
        return take_truncate(stream, lsn, intake, err);
    case 'I':
    case 'U':
    case 'D':
        return take_row(stream, lsn, intake, err);
    default: /* types are in the catalog; origins and logical messages are no changes of documents
              */
        return MR_OK;
    }
}

static enum mr_rc take_keepalive(struct mr_pg_stream *stream, struct mr_pg_bytes *in,
                                 struct mr_intake *intake, uint64_t now_ns, struct mr_err *err)
{
    uint64_t end_lsn = mr_pg_u64(in);
    mr_pg_u64(in); /* the server's clock */
    uint8_t reply = mr_pg_u8(in);
    if (in->bad)
        return mr_reject(err, MR_CORRUPT, "keepalive: it ends too early");
    stream->reply_wanted |= reply != 0;
    if (end_lsn > stream->received_lsn)
        stream->received_lsn = end_lsn;
    /* Outside of a transaction it means: all that was committed before end_lsn has been sent. */
    if (!stream->in_transaction && end_lsn > stream->position.lsn &&
        stream->position.commit_lsn == 0)
        stream->position.lsn = end_lsn;
    /* A server that shuts down asks for replies and waits until everything is acknowledged. */
    mr_pg_stream_state_position(stream, intake, reply != 0, now_ns);
    return MR_OK;
}

enum mr_rc mr_pg_stream_take(struct mr_pg_stream *stream, const void *data, size_t len,
                             struct mr_intake *intake, uint64_t now_ns, struct mr_err *err)
{
    struct mr_pg_bytes in = mr_pg_bytes_of(data, len);
    uint8_t type = mr_pg_u8(&in);
    if (type == 'k')
        return take_keepalive(stream, &in, intake, now_ns, err);
    if (type != 'w' || len < WAL_DATA_HEAD_BYTES)
        return mr_reject(err, MR_CORRUPT,
                         "replication stream: a payload of %zu bytes that begins with"
                         " 0x%02x is neither data nor keepalive",
                         len, type);
    uint64_t start_lsn = mr_pg_u64(&in), end_lsn = mr_pg_u64(&in);
    int64_t sent_us = (int64_t)(mr_pg_u64(&in) + (uint64_t)MR_PG_EPOCH_US);
    if (end_lsn > stream->received_lsn)
        stream->received_lsn = end_lsn;
    /* Taken apart anew when it is offered again: only a full intake makes that happen. */
    enum mr_rc rc = mr_pg_decode(in.at, mr_pg_left(&in), &stream->message, err);
    if (rc == MR_OK)
        rc = take_message(stream, start_lsn, intake, now_ns, err);
    if (rc == MR_OK) {
        stream->event_index = 0;
        stream->waited_us = sent_us - stream->commit_time_us;
    } else if (rc == MR_CORRUPT || rc == MR_FATAL)
        mr_err_prefix(err, "at %s", mr_pg_lsn_format(start_lsn).text);
    return rc;
}

static enum mr_rc emit_gap(struct mr_pg_stream *stream, struct mr_str collection, const char *cause,
                           uint64_t from_lsn, uint64_t to_lsn, struct mr_intake *intake,
                           struct mr_err *err)
{
    struct mr_pg_lsn_text from = mr_pg_lsn_format(from_lsn), to = mr_pg_lsn_format(to_lsn);
    struct mr_event event = {
        .head.op = MR_OP_GAP,
        .head.source_order = to_lsn - 1, /* a change may begin at to_lsn, and none in front */
        .head.source_time_us = mr_clock_wall_us(),
        .database = stream->builder.database,
        .collection = collection,
        .document = mr_gap_write(&stream->builder.document, cause, from.text, to.text)};
    return mr_intake_emit(intake, &event, err);
}

enum mr_rc mr_pg_stream_gap(struct mr_pg_stream *stream, const char *cause, uint64_t to_lsn,
                            struct mr_intake *intake, struct mr_err *err)
{
    enum mr_rc rc = emit_gap(stream, MR_STR(""), cause, stream->position.lsn, to_lsn, intake, err);
    if (rc != MR_OK)
        return rc;
    stream->position.lsn = stream->received_lsn = to_lsn;
    stream->position.era++;
    stream->position.commit_lsn = stream->position.events_taken = 0;
    state_position(stream, intake);
    return MR_OK;
}

enum mr_rc mr_pg_stream_note(struct mr_pg_stream *stream, struct mr_str collection,
                             const char *cause, uint64_t lsn, struct mr_intake *intake,
                             struct mr_err *err)
{
    return emit_gap(stream, collection, cause, lsn, lsn, intake, err);
}

void mr_pg_stream_state_place(struct mr_pg_stream *stream, struct mr_intake *intake)
{
    state_position(stream, intake);
}

static void put64(uint8_t *at, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(at, &value, sizeof value);
}

void mr_pg_stream_feedback(const struct mr_pg_stream *stream, uint64_t durable_lsn, bool want_reply,
                           int64_t wall_us, uint8_t out[MR_PG_FEEDBACK_BYTES])
{
    uint64_t received = stream->received_lsn > durable_lsn ? stream->received_lsn : durable_lsn;
    out[0] = 'r';
    put64(out + 1, received);
    put64(out + 9, durable_lsn);
    put64(out + 17, durable_lsn); /* applied: nothing counts as applied before it is durable */
    put64(out + 25, (uint64_t)(wall_us - MR_PG_EPOCH_US));
    out[33] = want_reply;
}
