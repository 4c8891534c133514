/* publisher/sinks/grpc_stream.h: the streams of StreamerService: one open stream is one gateway.
 *
 * A stream is used by two threads. The queue thread reads its messages, turns them into requests,
 * and writes what is queued, one message under way at a time. The pump takes the requests (inbox)
 * and queues deliveries and answers. They share the stream's out queue and state, under its lock.
 *
 * A stream lives until both have let go of it: the queue thread when the call is over, the pump
 * when it has taken the CLOSE and answered every REGISTER. Its place in the table, and with it its
 * share of publisher.gateways_max, is free again only then: a stream that was cut off and whose
 * peer still does not read counts. */
#ifndef MR_PUBLISHER_SINKS_GRPC_STREAM_H
#define MR_PUBLISHER_SINKS_GRPC_STREAM_H
#include "publisher/sink.h"
#include "publisher/sinks/wire.h"
#include "rpc/grpc_server.h"

struct mr_grpc_stream;

/* A request on its way to the pump. Those that carry a message are on the heap; OPEN and CLOSE are
 * part of their stream, so that they cannot fail. */
struct mr_grpc_request {
    struct mr_request request;
    struct mr_grpc_stream *stream;
    struct mr_grpc_request *next;
    grpc_slice bytes; /* the message: the request's strings point into it */
    struct mr_wire_arena arena;
};

/* Requests in the order of arrival: the queue thread puts, the pump takes. */
struct mr_grpc_inbox {
    pthread_mutex_t lock;
    struct mr_grpc_request *first, **last; /* guarded by lock */
    _Atomic uint32_t count;                /* lets the pump look without the lock */
    _Atomic uint64_t rejected;             /* messages that could not be understood */
    struct mr_doorbell_shm *bell;          /* the pump's */
};

struct mr_grpc_stream_limits {
    struct mr_wire_limits wire;
    uint32_t streams_max;
    uint32_t queue_messages; /* deliveries that wait for one gateway or are being written */
    uint64_t queue_bytes;
};

/* All streams. */
struct mr_grpc_streams {
    struct mr_grpc_stream_limits limits;
    struct mr_grpc_inbox inbox;
    /* Set by the sink: queue an answer, whose slice is taken, for a stream that may be gone. Pump.
     */
    void (*answer)(void *context, mr_gateway_id gateway, grpc_slice message);
    void *answer_context;
    pthread_mutex_t
        lock; /* of what follows; the locks of a stream and of the inbox may be taken inside */
    bool stopping;
    uint64_t serial;                /* of the last stream */
    struct mr_grpc_stream **places; /* limits.streams_max; NULL: free */
    uint32_t *free_places;          /* stack */
    uint32_t free_count;
};

MR_MUST_USE enum mr_rc mr_grpc_streams_init(struct mr_grpc_streams *streams,
                                            const struct mr_grpc_stream_limits *limits,
                                            struct mr_doorbell_shm *bell, struct mr_err *err);
/* After the server is closed and the inbox is empty. */
void mr_grpc_streams_fini(struct mr_grpc_streams *streams);

/* Route target; context: the struct mr_grpc_streams. Queue thread. */
void mr_grpc_stream_begin(struct mr_grpc_call call, void *context);

/* The rest is for the pump. */

/* The place of a gateway in streams->places: what the id says, to be compared with the stream's. */
uint32_t mr_grpc_stream_place(mr_gateway_id id);
mr_gateway_id mr_grpc_stream_id(const struct mr_grpc_stream *stream);

/* Take the next request, or NULL; it is the caller's until mr_grpc_request_drop. With an OPEN comes
 * a reference to its stream, which the CLOSE ends: drop lets go of it. */
struct mr_grpc_request *mr_grpc_inbox_take(struct mr_grpc_inbox *inbox);
void mr_grpc_request_drop(struct mr_grpc_request *request);

/* Queue one message, head and body as its two parts; takes both slices, whatever comes back.
 * answer: it is no delivery and does not count against the limits. MR_CLOSED: the stream is over,
 * or has just been cut off because its queue is over a limit; cut tells which. */
enum mr_rc mr_grpc_stream_queue(struct mr_grpc_stream *stream, grpc_slice head, grpc_slice body,
                                bool answer, bool *cut);
/* Have written what has been queued. */
void mr_grpc_stream_flush(struct mr_grpc_stream *stream);
/* Share of the queue in use, 0 to 1; 1 when the stream is over. */
double mr_grpc_stream_fill(struct mr_grpc_stream *stream);

/* Write what is queued, then end it with this status. */
void mr_grpc_stream_end(struct mr_grpc_stream *stream, grpc_status_code status, const char *text);
/* When its token expires, mr_clock_ns; UINT64_MAX: never. */
uint64_t mr_grpc_stream_expires_ns(const struct mr_grpc_stream *stream);

/* Let no new streams in; write what is queued to each, then end it with UNAVAILABLE. */
void mr_grpc_streams_stop(struct mr_grpc_streams *streams);
#endif
