/* publisher/sinks/grpc_stream_state.h: a stream from inside, for the two files that are its two
 * sides: grpc_stream.c (queue thread) and grpc_gateway.c (pump). */
#ifndef MR_PUBLISHER_SINKS_GRPC_STREAM_STATE_H
#define MR_PUBLISHER_SINKS_GRPC_STREAM_STATE_H
#include "publisher/sinks/grpc_stream.h"
#include "rpc/scope.h"

enum {
    MR_GRPC_CHUNK = 64,                   /* messages taken from the out queue under one lock */
    MR_GRPC_BATCH_BYTES_MAX = 128 * 1024, /* of a DeliveryBatch of more than one */
    /* Requests of one stream that wait for the pump, or for the store, and their bytes; then it is
     * not read. */
    MR_GRPC_UNSETTLED_MAX = 64,
    MR_GRPC_UNSETTLED_BYTES_MAX = 4 * 1024 * 1024,
    MR_GRPC_ANSWERS_MAX = 1024, /* answers that wait for one gateway; then it is not read */
};

/* Towards the gateway. Goes only forward. */
enum mr_out_state {
    MR_OUT_OPEN,
    MR_OUT_DRAIN, /* write what is queued, then the status */
    MR_OUT_CUT,   /* the status at once */
    MR_OUT_OVER,  /* the call has ended: gRPC is not called for this stream again */
};

/* One message, serialised; body is shared between gateways. */
struct mr_out {
    grpc_slice head, body;
    bool answer;
};

struct mr_grpc_stream {
    struct mr_grpc_streams *streams;
    struct mr_grpc_call call;
    mr_gateway_id id;
    _Atomic uint32_t refs;  /* queue thread, pump, each REGISTER that is not answered */
    struct mr_scope *scope; /* what its peer may do; NULL: everything */
    struct mr_grpc_request open, close;
    struct mr_grpc_op metadata, read, write, end, gone, nudge;

    /* Queue thread only. */
    grpc_byte_buffer *message;
    int cancelled;
    bool opening, reading, ending;      /* under way: metadata, a message, the status */
    bool status_begun, broken, is_gone; /* a write failed; the call has ended */

    pthread_mutex_t lock; /* of all that follows */
    bool writing;         /* a message is under way; begun by the pump or the queue thread */
    struct mr_out chunk[MR_GRPC_CHUNK]; /* being written: [chunk_at, chunk_count) not yet begun */
    uint32_t chunk_at, chunk_count, chunk_deliveries, chunk_answers;
    uint64_t chunk_bytes;
    bool more; /* the queue was not empty behind this chunk */
    enum mr_out_state state;
    grpc_status_code status; /* from DRAIN on */
    char status_text[256];
    struct mr_out *queue; /* ring, capacity a power of two; positions grow for ever */
    uint64_t head, tail, flushed;
    uint32_t capacity;
    uint32_t deliveries, answers; /* queued or in the chunk */
    uint64_t bytes;               /* of the deliveries */
    bool busy;    /* there is a chunk: the queue thread comes back to the queue by itself */
    bool nudged;  /* or because it has been told to */
    bool closing; /* CLOSE is on its way */
    uint32_t unsettled;
    uint64_t unsettled_bytes;
    bool paused; /* not read because of these or answers */
};

/* Make the control of a REGISTER from its payload, which lies in bytes. */
enum mr_rc mr_grpc_registration(struct mr_grpc_stream *s, struct mr_request *request,
                                grpc_slice bytes, struct mr_err *err);

/* Both sides. */
void mr_grpc_inbox_put(struct mr_grpc_inbox *inbox, struct mr_grpc_request *request);
struct mr_grpc_stream *mr_grpc_stream_ref(struct mr_grpc_stream *s);
void mr_grpc_stream_unref(struct mr_grpc_stream *s); /* one of the references */
/* Pump. A request of so many bytes is done with: the stream may be read on. */
void mr_grpc_stream_settle(struct mr_grpc_stream *s, size_t bytes);
static inline void mr_out_fini(struct mr_out *out)
{
    grpc_slice_unref(out->head);
    grpc_slice_unref(out->body);
}
/* Lock held. Move to a later state. Returns whether CLOSE is to be put into the inbox now (by the
 * caller, without the lock). */
bool mr_grpc_stream_advance(struct mr_grpc_stream *s, enum mr_out_state state,
                            grpc_status_code status, const char *text);
/* What goes out as one message: one of the chunk's, or deliveries that follow one another as a
 * batch. They stay where they are in the chunk until they are written. */
struct mr_out_run {
    struct mr_out *outs;
    uint32_t count;
    uint64_t bytes;
    bool last; /* nothing follows it now */
};
/* The next to write, from the chunk or the queue. From here on the caller writes it, with the lock
 * released. False: there is none. Lock held, nothing under way. */
bool mr_grpc_stream_take(struct mr_grpc_stream *s, struct mr_out_run *run);
void mr_grpc_stream_write(struct mr_grpc_stream *s, const struct mr_out_run *run);
/* Give a new stream its place and its id, and announce it: from here on the pump knows it. A status
 * other than OK: it cannot be. */
grpc_status_code mr_grpc_stream_admit(struct mr_grpc_streams *streams, struct mr_grpc_stream *s);
#endif
