/* publisher/sinks/wire.h: the messages of syntrix.streamer.v1 as the gRPC sink reads and writes
 * them, without gRPC: bytes of a GatewayMessage to a request, events and answers to bytes of a
 * StreamerMessage. By hand and not by generated code, because an event is encoded once for all
 * gateways, and because a string must keep its length whatever bytes it has. */
#ifndef MR_PUBLISHER_SINKS_WIRE_H
#define MR_PUBLISHER_SINKS_WIRE_H
#include "publisher/sink.h"

struct mr_wire_limits {
    uint32_t filters_max;     /* of one subscription */
    uint32_t value_bytes_max; /* of a filter's value, an id, a path, a marker */
};
enum { MR_WIRE_LIST_MAX = 4096 }; /* constants in one list of a filter */

/* Memory of one decoded request beyond the message itself. Zeroed is empty. */
struct mr_wire_arena {
    struct mr_wire_block *blocks;
};
void mr_wire_arena_fini(struct mr_wire_arena *arena);

/* Decode one GatewayMessage. out's strings point into message and arena; gateway is left to the
 * caller. MR_OK: out is set; a SUBSCRIBE that is readable but not acceptable has its problem set.
 * MR_CORRUPT: no such message: not protobuf, no UTF-8, no payload, a field of another type; err
 * says which field and what was expected. The stream cannot go on. MR_FATAL: out of memory. */
MR_MUST_USE enum mr_rc mr_wire_decode(struct mr_str message, const struct mr_wire_limits *limits,
                                      struct mr_wire_arena *arena, struct mr_request *out,
                                      struct mr_err *err);

/* A SubscribeRequest alone: a SUBSCRIBE, otherwise as above. */
MR_MUST_USE enum mr_rc mr_wire_decode_subscribe(struct mr_str message,
                                                const struct mr_wire_limits *limits,
                                                struct mr_wire_arena *arena, struct mr_request *out,
                                                struct mr_err *err);

/* The event part of a delivery: EventDelivery.event, tag and length included, so that it is the
 * same bytes for everyone. size fills len. */
struct mr_wire_event {
    const struct mr_event *event;
    struct mr_str event_id, document_json;
    size_t len; /* of the StreamerEvent alone */
};
size_t mr_wire_event_size(struct mr_wire_event *e);
uint8_t *mr_wire_put_event(uint8_t *at, const struct mr_wire_event *e); /* after size */

/* What stands before the event part in one gateway's delivery. size fills len. */
struct mr_wire_head {
    const struct mr_delivery *delivery;
    size_t event_size; /* of the event part that will follow */
    size_t len;        /* of the EventDelivery, event part included */
};
size_t mr_wire_head_size(struct mr_wire_head *h);
uint8_t *mr_wire_put_head(uint8_t *at, const struct mr_wire_head *h); /* after size */

/* What stands before deliveries, heads and event parts as above, that go out as one
 * StreamerMessage: a DeliveryBatch holds them byte for byte as a message of its own would. */
size_t mr_wire_batch_head_size(uint64_t bytes); /* of all deliveries */
uint8_t *mr_wire_put_batch_head(uint8_t *at, uint64_t bytes);

/* Whole StreamerMessages. */
size_t mr_wire_response_size(const struct mr_response *response);
uint8_t *mr_wire_put_response(uint8_t *at, const struct mr_response *response);
size_t mr_wire_notice_size(const struct mr_notice *notice);
uint8_t *mr_wire_put_notice(uint8_t *at, const struct mr_notice *notice);
struct mr_wire_ack {
    int64_t timestamp_ms;
    struct mr_str progress;
    bool resync;
};
size_t mr_wire_ack_size(const struct mr_wire_ack *ack);
uint8_t *mr_wire_put_ack(uint8_t *at, const struct mr_wire_ack *ack);
#endif
