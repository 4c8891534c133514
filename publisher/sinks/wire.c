#include "publisher/sinks/wire.h"

#include <stdlib.h>

#include "proto/protobuf.h"
#include "proto/streamer_fields.h"

/* Upstream's numbers, which are a bit set, and our own from 100 on. */
static uint64_t operation_number(uint8_t op)
{
    switch (op) {
    case MR_OP_INSERT:
        return 1;
    case MR_OP_UPDATE:
    case MR_OP_REPLACE: /* the document was there before: a recreated one comes as an insert */
        return 2;
    case MR_OP_DELETE:
        return 4;
    case MR_OP_TRUNCATE:
        return 100;
    case MR_OP_GAP:
        return 101;
    default:
        return 0;
    }
}

size_t mr_wire_event_size(struct mr_wire_event *e)
{
    const struct mr_event *event = e->event;
    const struct mr_event_head *head = &event->head;
    e->len = mr_pb_text_size(MR_FIELD_EVENT_ID, e->event_id) +
             mr_pb_text_size(MR_FIELD_EVENT_DATABASE, event->database) +
             mr_pb_text_size(MR_FIELD_EVENT_COLLECTION, event->collection) +
             mr_pb_text_size(MR_FIELD_EVENT_DOCUMENT_ID, event->document_id) +
             mr_pb_number_size(MR_FIELD_EVENT_OPERATION, operation_number(head->op)) +
             mr_pb_text_size(MR_FIELD_EVENT_DOCUMENT_DATA, e->document_json) +
             mr_pb_number_size(MR_FIELD_EVENT_TIMESTAMP, (uint64_t)(head->ingest_time_us / 1000)) +
             mr_pb_number_size(MR_FIELD_EVENT_SOURCE_TIMESTAMP_US, (uint64_t)head->source_time_us) +
             mr_pb_number_size(MR_FIELD_EVENT_KEY_ONLY, (head->flags & MR_EVENT_KEY_ONLY) != 0);
    return mr_pb_bytes_size(MR_FIELD_DELIVERY_EVENT, e->len);
}

uint8_t *mr_wire_put_event(uint8_t *at, const struct mr_wire_event *e)
{
    const struct mr_event *event = e->event;
    const struct mr_event_head *head = &event->head;
    at = mr_pb_put_head(at, MR_FIELD_DELIVERY_EVENT, e->len);
    const uint8_t *begin = at;
    at = mr_pb_put_text(at, MR_FIELD_EVENT_ID, e->event_id);
    at = mr_pb_put_text(at, MR_FIELD_EVENT_DATABASE, event->database);
    at = mr_pb_put_text(at, MR_FIELD_EVENT_COLLECTION, event->collection);
    at = mr_pb_put_text(at, MR_FIELD_EVENT_DOCUMENT_ID, event->document_id);
    at = mr_pb_put_number(at, MR_FIELD_EVENT_OPERATION, operation_number(head->op));
    at = mr_pb_put_text(at, MR_FIELD_EVENT_DOCUMENT_DATA, e->document_json);
    at = mr_pb_put_number(at, MR_FIELD_EVENT_TIMESTAMP, (uint64_t)(head->ingest_time_us / 1000));
    at = mr_pb_put_number(at, MR_FIELD_EVENT_SOURCE_TIMESTAMP_US, (uint64_t)head->source_time_us);
    at = mr_pb_put_number(at, MR_FIELD_EVENT_KEY_ONLY, (head->flags & MR_EVENT_KEY_ONLY) != 0);
    MR_ASSERT((size_t)(at - begin) == e->len);
    return at;
}

size_t mr_wire_head_size(struct mr_wire_head *h)
{
    const struct mr_delivery *d = h->delivery;
    size_t own = mr_pb_text_size(MR_FIELD_DELIVERY_PROGRESS, d->progress) +
                 mr_pb_number_size(MR_FIELD_DELIVERY_SNAPSHOT, d->snapshot);
    for (uint32_t i = 0; i < d->count; i++)
        own += mr_pb_bytes_size(MR_FIELD_DELIVERY_SUBSCRIPTION_ID, d->subscription_ids[i].len);
    if (d->transitions) /* packed, a byte each */
        own += mr_pb_bytes_size(MR_FIELD_DELIVERY_TRANSITIONS, d->count);
    h->len = own + h->event_size;
    return mr_pb_bytes_size(MR_FIELD_MESSAGE_DELIVERY, h->len) - h->event_size;
}

/* The wire's numbers are those of enum mr_transition. */
static uint8_t *put_transitions(uint8_t *at, const struct mr_delivery *d)
{
    at = mr_pb_put_head(at, MR_FIELD_DELIVERY_TRANSITIONS, d->count);
    for (uint32_t i = 0; i < d->count; i++)
        *at++ = (uint8_t)d->transitions[i];
    return at;
}

/* Progress goes before the event: field order is free, and all that differs between gateways then
 * stands in front of what they share. */
uint8_t *mr_wire_put_head(uint8_t *at, const struct mr_wire_head *h)
{
    at = mr_pb_put_head(at, MR_FIELD_MESSAGE_DELIVERY, h->len);
    const uint8_t *begin = at;
    const struct mr_delivery *d = h->delivery;
    for (uint32_t i = 0; i < d->count; i++)
        at = mr_pb_put_bytes(at, MR_FIELD_DELIVERY_SUBSCRIPTION_ID, d->subscription_ids[i]);
    at = mr_pb_put_text(at, MR_FIELD_DELIVERY_PROGRESS, d->progress);
    if (d->transitions)
        at = put_transitions(at, d);
    at = mr_pb_put_number(at, MR_FIELD_DELIVERY_SNAPSHOT, d->snapshot);
    MR_ASSERT((size_t)(at - begin) + h->event_size == h->len);
    return at;
}

static_assert(MR_FIELD_BATCH_DELIVERIES == MR_FIELD_MESSAGE_DELIVERY,
              "a delivery's tag is the same in a batch");

size_t mr_wire_batch_head_size(uint64_t bytes)
{
    return mr_pb_bytes_size(MR_FIELD_MESSAGE_BATCH, bytes) - bytes;
}

uint8_t *mr_wire_put_batch_head(uint8_t *at, uint64_t bytes)
{
    return mr_pb_put_head(at, MR_FIELD_MESSAGE_BATCH, bytes);
}

static size_t response_len(const struct mr_response *r)
{
    return mr_pb_text_size(MR_FIELD_RESPONSE_SUBSCRIPTION_ID, r->subscription_id) +
           mr_pb_number_size(MR_FIELD_RESPONSE_SUCCESS, r->success) +
           mr_pb_text_size(MR_FIELD_RESPONSE_ERROR, r->error) +
           mr_pb_text_size(MR_FIELD_RESPONSE_PROGRESS, r->progress) +
           mr_pb_number_size(MR_FIELD_RESPONSE_RESYNC, r->resync);
}

size_t mr_wire_response_size(const struct mr_response *response)
{
    return mr_pb_bytes_size(MR_FIELD_MESSAGE_SUBSCRIBE_RESPONSE, response_len(response));
}

uint8_t *mr_wire_put_response(uint8_t *at, const struct mr_response *response)
{
    at = mr_pb_put_head(at, MR_FIELD_MESSAGE_SUBSCRIBE_RESPONSE, response_len(response));
    at = mr_pb_put_text(at, MR_FIELD_RESPONSE_SUBSCRIPTION_ID, response->subscription_id);
    at = mr_pb_put_number(at, MR_FIELD_RESPONSE_SUCCESS, response->success);
    at = mr_pb_put_text(at, MR_FIELD_RESPONSE_ERROR, response->error);
    at = mr_pb_put_text(at, MR_FIELD_RESPONSE_PROGRESS, response->progress);
    return mr_pb_put_number(at, MR_FIELD_RESPONSE_RESYNC, response->resync);
}

static size_t notice_len(const struct mr_notice *notice)
{
    return mr_pb_text_size(MR_FIELD_NOTICE_SUBSCRIPTION_ID, notice->subscription_id) +
           mr_pb_text_size(MR_FIELD_NOTICE_CODE, notice->code) +
           mr_pb_text_size(MR_FIELD_NOTICE_TEXT, notice->text);
}

size_t mr_wire_notice_size(const struct mr_notice *notice)
{
    return mr_pb_bytes_size(MR_FIELD_MESSAGE_NOTICE, notice_len(notice));
}

uint8_t *mr_wire_put_notice(uint8_t *at, const struct mr_notice *notice)
{
    at = mr_pb_put_head(at, MR_FIELD_MESSAGE_NOTICE, notice_len(notice));
    at = mr_pb_put_text(at, MR_FIELD_NOTICE_SUBSCRIPTION_ID, notice->subscription_id);
    at = mr_pb_put_text(at, MR_FIELD_NOTICE_CODE, notice->code);
    return mr_pb_put_text(at, MR_FIELD_NOTICE_TEXT, notice->text);
}

static size_t ack_len(const struct mr_wire_ack *ack)
{
    return mr_pb_number_size(MR_FIELD_ACK_TIMESTAMP, (uint64_t)ack->timestamp_ms) +
           mr_pb_text_size(MR_FIELD_ACK_PROGRESS, ack->progress) +
           mr_pb_number_size(MR_FIELD_ACK_RESYNC, ack->resync);
}

size_t mr_wire_ack_size(const struct mr_wire_ack *ack)
{
    return mr_pb_bytes_size(MR_FIELD_MESSAGE_HEARTBEAT_ACK, ack_len(ack));
}

uint8_t *mr_wire_put_ack(uint8_t *at, const struct mr_wire_ack *ack)
{
    at = mr_pb_put_head(at, MR_FIELD_MESSAGE_HEARTBEAT_ACK, ack_len(ack));
    at = mr_pb_put_number(at, MR_FIELD_ACK_TIMESTAMP, (uint64_t)ack->timestamp_ms);
    at = mr_pb_put_text(at, MR_FIELD_ACK_PROGRESS, ack->progress);
    return mr_pb_put_number(at, MR_FIELD_ACK_RESYNC, ack->resync);
}
