/* relay/wire.h: the messages of syntrix.puller.v1 (proto/puller.proto) as the relay reads and
 * writes them, without gRPC. By hand, because an event is encoded once for all consumers, and so
 * that many of them lie in memory as they are sent. */
#ifndef MR_RELAY_WIRE_H
#define MR_RELAY_WIRE_H
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"
#include "proto/event.h"

enum { MR_CONSUMER_ID_MAX = 255, MR_CONSUMER_COLLECTIONS_MAX = 64 };

/* A SubscribeRequest; everything is borrowed from the message. */
struct mr_follow {
    struct mr_str consumer_id, after;
    bool coalesce, batch, from_checkpoint, rebuild, atomic_progress;
    struct mr_str collections[MR_CONSUMER_COLLECTIONS_MAX];
    uint32_t collection_count; /* 0: all */
};
struct mr_acknowledge {
    struct mr_str consumer_id, progress, collection;
    bool rebuilt;
};

/* MR_CORRUPT: no such message, or something in it is over its bound; err says what. */
MR_MUST_USE enum mr_rc mr_wire_read_follow(struct mr_str message, struct mr_follow *out,
                                           struct mr_err *err);
MR_MUST_USE enum mr_rc mr_wire_read_acknowledge(struct mr_str message, struct mr_acknowledge *out,
                                                struct mr_err *err);

/* One event as PullerEvent, framed as one element of PullerEvent.batch: behind the frame's head the
 * same bytes are a message of their own. size fills the lengths; put returns the end. */
struct mr_wire_change {
    const struct mr_event *event;
    struct mr_str event_id, document_json, update_json, before_json, backend, progress;
    size_t body_len, change_len, time_len;
};
size_t mr_wire_change_size(struct mr_wire_change *change);
uint8_t *mr_wire_put_change(uint8_t *at, const struct mr_wire_change *change, uint8_t **body);

/* Messages without an event. Each returns its length in out, which has MR_WIRE_NOTICE_MAX bytes. */
enum { MR_WIRE_NOTICE_MAX = 256 };
struct mr_wire_lag {
    uint32_t level; /* LagLevel */
    uint64_t events, milliseconds;
};
size_t mr_wire_put_heartbeat(uint8_t *out, struct mr_str progress);
size_t mr_wire_put_lag(uint8_t *out, struct mr_str progress, const struct mr_wire_lag *lag);
size_t mr_wire_put_rebuild(uint8_t *out, struct mr_str progress, struct mr_str cause,
                           struct mr_str resume);
size_t mr_wire_put_acknowledged(uint8_t *out, struct mr_str progress, bool rebuild_required,
                                struct mr_str head);
#endif
