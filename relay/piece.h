/* relay/piece.h: a run of events, encoded once, as it is sent to any number of consumers: the bytes
 * lie in one slab, event behind event, each framed as an element of PullerEvent.batch. A message of
 * many events is a part of the slab, one of a single event a part of that; nothing is copied. */
#ifndef MR_RELAY_PIECE_H
#define MR_RELAY_PIECE_H
#include <grpc/grpc.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "proto/json.h"
#include "relay/wire.h"

enum { MR_PIECE_EVENTS_MAX = 256 }; /* and the sequences of a piece lie in one multiple of it */

struct mr_piece_item {
    uint32_t at, body, end;  /* in the slab: frame, message, end */
    uint32_t collection_at;  /* in the slab */
    uint16_t collection_len; /* 0: concerns every collection */
    uint64_t first, through; /* sequences that this item stands for; more than one: coalesced */
};

struct mr_piece {
    _Atomic uint32_t refs;
    uint32_t count;
    bool own;                /* made for one consumer, and not in the cache */
    uint64_t first, through; /* sequences that it covers; without holes */
    uint64_t ingest_ns;      /* of the last event */
    grpc_slice slab;
    size_t bytes;                 /* of memory */
    TAILQ_ENTRY(mr_piece) used;   /* of the cache */
    SLIST_ENTRY(mr_piece) bucket; /* of the cache */
    struct mr_piece_item items[];
};

struct mr_piece *mr_piece_ref(struct mr_piece *piece);
void mr_piece_unref(struct mr_piece *piece);
/* The item that a consumer who has everything through sequence needs next; count: none here. */
uint32_t mr_piece_find(const struct mr_piece *piece, uint64_t sequence);

/* Makes pieces. Not thread-safe: one a thread. */
struct mr_piece_builder {
    struct mr_str backend; /* borrowed */
    uint64_t log_id;
    uint8_t *bytes;
    size_t len, capacity;
    struct mr_json document, update, before;
    uint32_t count;
    uint64_t ingest_ns;
    struct mr_piece_item items[MR_PIECE_EVENTS_MAX];
};
void mr_piece_builder_fini(struct mr_piece_builder *builder);
/* Append one event, which stands for sequences first through through; 0: nobody may stop behind it,
 * it has no marker and goes with the next one. MR_FATAL: out of memory. */
MR_MUST_USE enum mr_rc mr_piece_add(struct mr_piece_builder *builder, const struct mr_event *event,
                                    uint64_t first, uint64_t through, struct mr_err *err);
/* End the piece, which covers first through through, and begin another one. MR_FATAL: no memory. */
MR_MUST_USE enum mr_rc mr_piece_finish(struct mr_piece_builder *builder, uint64_t first,
                                       uint64_t through, struct mr_piece **out, struct mr_err *err);
#endif
