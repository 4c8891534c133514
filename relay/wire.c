#include "relay/wire.h"

#include "proto/protobuf.h"
#include "proto/puller_fields.h"

/* Where a field of a request goes to: text, or a flag. Neither: fields that we do not know. */
struct target {
    uint32_t number;
    struct mr_str *text;
    bool *flag;
};

static enum mr_rc take_field(const struct mr_pb_field *field, const struct target *targets,
                             size_t count, struct mr_err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (targets[i].number != field->number)
            continue;
        uint32_t type = targets[i].text ? MR_PB_BYTES : MR_PB_VARINT;
        if (field->type != type)
            return mr_reject(err, MR_CORRUPT, "field %u: expected %s", field->number,
                             targets[i].text ? "text" : "a flag");
        if (targets[i].text)
            *targets[i].text = field->bytes;
        else
            *targets[i].flag = field->value != 0;
    }
    return MR_OK;
}

static enum mr_rc check_id(struct mr_str id, struct mr_err *err)
{
    if (id.len > MR_CONSUMER_ID_MAX)
        return mr_reject(err, MR_CORRUPT, "consumer_id: expected at most %d bytes, got %zu",
                         MR_CONSUMER_ID_MAX, id.len);
    if (id.len > 0 && memchr(id.data, 0, id.len))
        return mr_reject(err, MR_CORRUPT, "consumer_id: expected text without zero bytes");
    return MR_OK;
}

static enum mr_rc take_collection(struct mr_follow *out, const struct mr_pb_field *field,
                                  struct mr_err *err)
{
    if (field->type != MR_PB_BYTES || field->bytes.len == 0)
        return mr_reject(err, MR_CORRUPT, "collections: expected names");
    if (out->collection_count == MR_CONSUMER_COLLECTIONS_MAX)
        return mr_reject(err, MR_CORRUPT, "collections: expected at most %d",
                         MR_CONSUMER_COLLECTIONS_MAX);
    out->collections[out->collection_count++] = field->bytes;
    return MR_OK;
}

enum mr_rc mr_wire_read_follow(struct mr_str message, struct mr_follow *out, struct mr_err *err)
{
    *out = (struct mr_follow){.coalesce = false};
    const struct target targets[] = {
        {MR_FIELD_FOLLOW_CONSUMER_ID, &out->consumer_id, NULL},
        {MR_FIELD_FOLLOW_AFTER, &out->after, NULL},
        {MR_FIELD_FOLLOW_COALESCE, NULL, &out->coalesce},
        {MR_FIELD_FOLLOW_BATCH, NULL, &out->batch},
        {MR_FIELD_FOLLOW_FROM_CHECKPOINT, NULL, &out->from_checkpoint},
        {MR_FIELD_FOLLOW_REBUILD, NULL, &out->rebuild},
        {MR_FIELD_FOLLOW_ATOMIC, NULL, &out->atomic_progress},
    };
    struct mr_pb_reader reader = mr_pb_read(message);
    struct mr_pb_field field;
    enum mr_rc rc = MR_OK;
    while (rc == MR_OK && mr_pb_next(&reader, &field)) {
        if (field.number == MR_FIELD_FOLLOW_COLLECTIONS)
            rc = take_collection(out, &field, err);
        else
            rc = take_field(&field, targets, sizeof targets / sizeof *targets, err);
    }
    if (rc == MR_OK && reader.problem)
        rc = mr_reject(err, MR_CORRUPT, "expected a SubscribeRequest, but %s", reader.problem);
    return rc == MR_OK ? check_id(out->consumer_id, err) : rc;
}

enum mr_rc mr_wire_read_acknowledge(struct mr_str message, struct mr_acknowledge *out,
                                    struct mr_err *err)
{
    *out = (struct mr_acknowledge){.rebuilt = false};
    const struct target targets[] = {
        {MR_FIELD_ACKNOWLEDGE_CONSUMER_ID, &out->consumer_id, NULL},
        {MR_FIELD_ACKNOWLEDGE_PROGRESS, &out->progress, NULL},
        {MR_FIELD_ACKNOWLEDGE_COLLECTION, &out->collection, NULL},
        {MR_FIELD_ACKNOWLEDGE_REBUILT, NULL, &out->rebuilt},
    };
    struct mr_pb_reader reader = mr_pb_read(message);
    struct mr_pb_field field;
    enum mr_rc rc = MR_OK;
    while (rc == MR_OK && mr_pb_next(&reader, &field))
        rc = take_field(&field, targets, sizeof targets / sizeof *targets, err);
    if (rc == MR_OK && reader.problem)
        rc = mr_reject(err, MR_CORRUPT, "expected an AcknowledgeRequest, but %s", reader.problem);
    if (rc == MR_OK && out->consumer_id.len == 0)
        rc = mr_reject(err, MR_CORRUPT, "consumer_id: expected a name, got an empty text");
    if (rc == MR_OK && out->collection.len > MR_CONSUMER_ID_MAX)
        rc = mr_reject(err, MR_CORRUPT, "collection: expected at most %d bytes, got %zu",
                       MR_CONSUMER_ID_MAX, out->collection.len);
    return rc == MR_OK ? check_id(out->consumer_id, err) : rc;
}

static size_t change_len(const struct mr_wire_change *c)
{
    const struct mr_event *event = c->event;
    const struct mr_event_head *head = &event->head;
    struct mr_str op = mr_str_from(mr_operation_name((enum mr_operation)head->op));
    return mr_pb_text_size(MR_FIELD_CHANGE_EVENT_ID, c->event_id) +
           mr_pb_text_size(MR_FIELD_CHANGE_DATABASE, event->database) +
           mr_pb_text_size(MR_FIELD_CHANGE_COLLECTION, event->collection) +
           mr_pb_text_size(MR_FIELD_CHANGE_DOCUMENT_ID, event->document_id) +
           mr_pb_text_size(MR_FIELD_CHANGE_OP, op) +
           mr_pb_text_size(MR_FIELD_CHANGE_DOCUMENT, c->document_json) +
           mr_pb_text_size(MR_FIELD_CHANGE_UPDATE, c->update_json) +
           mr_pb_bytes_size(MR_FIELD_CHANGE_CLUSTER_TIME, c->time_len) +
           mr_pb_number_size(MR_FIELD_CHANGE_TIMESTAMP, (uint64_t)(head->ingest_time_us / 1000)) +
           mr_pb_number_size(MR_FIELD_CHANGE_TRANSACTION, head->transaction) +
           mr_pb_text_size(MR_FIELD_CHANGE_BACKEND, c->backend) +
           mr_pb_number_size(MR_FIELD_CHANGE_SOURCE_TIME, (uint64_t)head->source_time_us) +
           mr_pb_number_size(MR_FIELD_CHANGE_KEY_ONLY, (head->flags & MR_EVENT_KEY_ONLY) != 0) +
           mr_pb_number_size(MR_FIELD_CHANGE_SNAPSHOT, (head->flags & MR_EVENT_SNAPSHOT) != 0) +
           mr_pb_text_size(MR_FIELD_CHANGE_BEFORE, c->before_json);
}

size_t mr_wire_change_size(struct mr_wire_change *c)
{
    uint64_t order = c->event->head.source_order;
    c->time_len = mr_pb_number_size(MR_FIELD_CLUSTER_TIME_T, order >> 32) +
                  mr_pb_number_size(MR_FIELD_CLUSTER_TIME_I, order & UINT32_MAX);
    c->change_len = change_len(c);
    c->body_len = mr_pb_bytes_size(MR_FIELD_PULLER_CHANGE, c->change_len) +
                  mr_pb_text_size(MR_FIELD_PULLER_PROGRESS, c->progress);
    return mr_pb_bytes_size(MR_FIELD_PULLER_BATCH, c->body_len);
}

uint8_t *mr_wire_put_change(uint8_t *at, const struct mr_wire_change *c, uint8_t **body)
{
    const struct mr_event *event = c->event;
    const struct mr_event_head *head = &event->head;
    at = mr_pb_put_head(at, MR_FIELD_PULLER_BATCH, c->body_len);
    *body = at;
    at = mr_pb_put_head(at, MR_FIELD_PULLER_CHANGE, c->change_len);
    at = mr_pb_put_text(at, MR_FIELD_CHANGE_EVENT_ID, c->event_id);
    at = mr_pb_put_text(at, MR_FIELD_CHANGE_DATABASE, event->database);
    at = mr_pb_put_text(at, MR_FIELD_CHANGE_COLLECTION, event->collection);
    at = mr_pb_put_text(at, MR_FIELD_CHANGE_DOCUMENT_ID, event->document_id);
    at = mr_pb_put_text(at, MR_FIELD_CHANGE_OP,
                        mr_str_from(mr_operation_name((enum mr_operation)head->op)));
    at = mr_pb_put_text(at, MR_FIELD_CHANGE_DOCUMENT, c->document_json);
    at = mr_pb_put_text(at, MR_FIELD_CHANGE_UPDATE, c->update_json);
    at = mr_pb_put_head(at, MR_FIELD_CHANGE_CLUSTER_TIME, c->time_len);
    at = mr_pb_put_number(at, MR_FIELD_CLUSTER_TIME_T, head->source_order >> 32);
    at = mr_pb_put_number(at, MR_FIELD_CLUSTER_TIME_I, head->source_order & UINT32_MAX);
    at = mr_pb_put_number(at, MR_FIELD_CHANGE_TIMESTAMP, (uint64_t)(head->ingest_time_us / 1000));
    at = mr_pb_put_number(at, MR_FIELD_CHANGE_TRANSACTION, head->transaction);
    at = mr_pb_put_text(at, MR_FIELD_CHANGE_BACKEND, c->backend);
    at = mr_pb_put_number(at, MR_FIELD_CHANGE_SOURCE_TIME, (uint64_t)head->source_time_us);
    at = mr_pb_put_number(at, MR_FIELD_CHANGE_KEY_ONLY, (head->flags & MR_EVENT_KEY_ONLY) != 0);
    at = mr_pb_put_number(at, MR_FIELD_CHANGE_SNAPSHOT, (head->flags & MR_EVENT_SNAPSHOT) != 0);
    at = mr_pb_put_text(at, MR_FIELD_CHANGE_BEFORE, c->before_json);
    at = mr_pb_put_text(at, MR_FIELD_PULLER_PROGRESS, c->progress);
    MR_ASSERT((size_t)(at - *body) == c->body_len);
    return at;
}

size_t mr_wire_put_heartbeat(uint8_t *out, struct mr_str progress)
{
    return (size_t)(mr_pb_put_text(out, MR_FIELD_PULLER_PROGRESS, progress) - out);
}

size_t mr_wire_put_lag(uint8_t *out, struct mr_str progress, const struct mr_wire_lag *lag)
{
    size_t len = mr_pb_number_size(MR_FIELD_LAG_LEVEL, lag->level) +
                 mr_pb_number_size(MR_FIELD_LAG_EVENTS, lag->events) +
                 mr_pb_number_size(MR_FIELD_LAG_MILLISECONDS, lag->milliseconds);
    uint8_t *at = mr_pb_put_text(out, MR_FIELD_PULLER_PROGRESS, progress);
    at = mr_pb_put_head(at, MR_FIELD_PULLER_LAG, len);
    at = mr_pb_put_number(at, MR_FIELD_LAG_LEVEL, lag->level);
    at = mr_pb_put_number(at, MR_FIELD_LAG_EVENTS, lag->events);
    at = mr_pb_put_number(at, MR_FIELD_LAG_MILLISECONDS, lag->milliseconds);
    return (size_t)(at - out);
}

size_t mr_wire_put_rebuild(uint8_t *out, struct mr_str progress, struct mr_str cause,
                           struct mr_str resume)
{
    size_t len = mr_pb_text_size(MR_FIELD_REBUILD_CAUSE, cause) +
                 mr_pb_text_size(MR_FIELD_REBUILD_RESUME, resume);
    uint8_t *at = mr_pb_put_text(out, MR_FIELD_PULLER_PROGRESS, progress);
    at = mr_pb_put_head(at, MR_FIELD_PULLER_REBUILD, len);
    at = mr_pb_put_text(at, MR_FIELD_REBUILD_CAUSE, cause);
    at = mr_pb_put_text(at, MR_FIELD_REBUILD_RESUME, resume);
    return (size_t)(at - out);
}

size_t mr_wire_put_acknowledged(uint8_t *out, struct mr_str progress, bool rebuild_required,
                                struct mr_str head)
{
    uint8_t *at = mr_pb_put_text(out, MR_FIELD_ACKNOWLEDGED_PROGRESS, progress);
    at = mr_pb_put_number(at, MR_FIELD_ACKNOWLEDGED_REBUILD, rebuild_required);
    return (size_t)(mr_pb_put_text(at, MR_FIELD_ACKNOWLEDGED_HEAD, head) - out);
}
