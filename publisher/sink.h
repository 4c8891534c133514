/* publisher/sink.h: what carries deliveries out and brings requests in. A sink is a struct that
 * starts with struct mr_sink and a const table of operations; sinks/NAME.c holds one each. How to
 * add one: CONTRIBUTING.md.
 *
 * The publisher proper (the pump: one thread) calls every operation from its own thread. A sink may
 * have threads of its own; it then hands requests over through poll and rings the pump's doorbell
 * (mr_doorbell_ring of its own cell) when there is something to poll. */
#ifndef MR_PUBLISHER_SINK_H
#define MR_PUBLISHER_SINK_H
#include "cel/program.h"
#include "common/config.h"
#include "proto/event.h"
#include "proto/marker.h"
#include "proto/match.h"
#include "shm/board.h"

struct mr_control;
struct mr_scope;

/* A peer that holds subscriptions: for gRPC one open stream. Ids are never used again. */
typedef uint64_t mr_gateway_id;

/* What a peer asked for. Filled by the sink; strings and predicates live until the next poll. */
enum mr_request_kind {
    MR_REQUEST_OPEN,        /* a gateway is there */
    MR_REQUEST_SUBSCRIBE,   /* answer with mr_sink_ops.respond, once, later */
    MR_REQUEST_UNSUBSCRIBE, /* no answer */
    MR_REQUEST_HEARTBEAT,   /* answer with mr_sink_ops.acknowledge, now */
    MR_REQUEST_REGISTER, /* durable subscriptions: control, which tells its maker when it is done */
    MR_REQUEST_CLOSE,    /* the gateway is gone, its queue too; last request of this id */
};
struct mr_request {
    enum mr_request_kind kind;
    mr_gateway_id gateway;
    struct mr_str subscription_id; /* SUBSCRIBE: may be empty; UNSUBSCRIBE */
    struct mr_str database, collection, after;
    const struct mr_predicate
        *predicates; /* checked for shape by the sink, for sense by the publisher */
    uint32_t predicate_count;
    struct mr_str cel; /* an expression that must hold, too; empty: none */
    bool transitions;  /* deliveries say what the event did to the result set */
    struct mr_str
        problem; /* SUBSCRIBE that could not be turned into predicates: why ("filters[2].value:
                  * ..."); to be refused with this text */
    int64_t timestamp_ms;       /* HEARTBEAT */
    struct mr_str gateway_name; /* HEARTBEAT: for whom the stream speaks; empty: for nobody else.
                                 * Then after: where that one's durable subscriptions go on */
    struct mr_str payload;      /* REGISTER, within the sink: the message that control is made of */
    struct mr_control *control; /* REGISTER: taken over by the pump (control.h) */
    struct mr_scope *scope;     /* what the peer may do; NULL: everything. Lives as the strings */
    bool snapshot; /* SUBSCRIBE: wants the current state first, unless it goes on behind after */
    bool internal; /* SUBSCRIBE: on behalf of a durable subscription (durable_begin): counts against
                    * no quota and is shown to nobody */
    bool own;      /* OPEN: the sink itself: counts against no quota of gateways; its subscriptions
                    * count, and are not refused for what others hold */
};

/* One event, encoded once for all gateways that get it: in the gRPC sink the serialised
 * StreamerEvent. Counted references: the sink takes its own for as long as it needs the bytes. */
struct mr_parcel;

/* Whom of a gateway an event concerns. */
struct mr_delivery {
    const struct mr_str *subscription_ids;
    const enum mr_transition *transitions; /* of each; NULL: nobody asked */
    uint32_t count;
    struct mr_str progress; /* the marker behind the event; none in a snapshot */
    bool snapshot; /* part of the current state; a response follows when all of it was delivered */
};

/* Something is wrong with a subscription, which goes on. */
struct mr_notice {
    struct mr_str subscription_id;
    struct mr_str code, text;
};

struct mr_response {
    struct mr_str subscription_id;
    bool success, resync;
    bool later;             /* not success, and nothing wrong with what was asked: ask again */
    struct mr_str error;    /* when not success */
    struct mr_str progress; /* marker text, when success */
};

/* A durable subscription, for a sink that delivers to these whether a stream speaks for their
 * gateway or not. */
struct mr_sink_durable {
    struct mr_str gateway, subscription_id; /* names */
    struct mr_str spec;                     /* bytes of a SubscribeRequest */
    struct mr_marker after; /* what concerns it behind this place is to be delivered */
    uint32_t replaces;      /* handle of the one that ends just there, or 0 */
};

struct mr_sink {
    const struct mr_sink_ops *ops;
    const struct mr_config *config;
    struct mr_cell_shm *cell;   /* of the publisher: counters, doorbell */
    struct mr_board_shm *board; /* set by the pump before attach */
};

struct mr_sink_ops {
    const char *name;
    /* MUST. Listen; requests may arrive from now on. */
    enum mr_rc (*open)(struct mr_sink **out, const struct mr_config *config,
                       struct mr_cell_shm *cell, struct mr_err *err);
    /* MAY. The instance is there; called once, before anything is released. A sink whose deliveries
     * nobody asks for again says in board.held_through how far they are safe. */
    enum mr_rc (*attach)(struct mr_sink *sink, struct mr_err *err);
    /* MUST. The next request, in the order of arrival per gateway. MR_AGAIN: none. */
    enum mr_rc (*poll)(struct mr_sink *sink, struct mr_request *out);
    /* MUST. Encode an event (its parts borrowed until return). The caller owns one reference. NULL:
     * out of memory. */
    struct mr_parcel *(*encode)(struct mr_sink *sink, const struct mr_event *event);
    void (*release)(struct mr_sink *sink, struct mr_parcel *parcel);
    /* MUST. Queue one delivery of the parcel. Never blocks. MR_OK; MR_CLOSED: the gateway is gone
     * or has just been cut off because its queue is over its limit (a CLOSE follows through poll);
     * MR_FATAL: out of memory. */
    enum mr_rc (*deliver)(struct mr_sink *sink, mr_gateway_id gateway, struct mr_parcel *parcel,
                          const struct mr_delivery *delivery);
    /* MUST. Queue an answer; same results. Answers do not count against the queue's limit. */
    enum mr_rc (*respond)(struct mr_sink *sink, mr_gateway_id gateway,
                          const struct mr_response *response);
    /* MUST. Queue a notice; as an answer. */
    enum mr_rc (*notify)(struct mr_sink *sink, mr_gateway_id gateway,
                         const struct mr_notice *notice);
    /* MUST. resync: the marker that the heartbeat brought cannot be gone on from. */
    enum mr_rc (*acknowledge)(struct mr_sink *sink, mr_gateway_id gateway, int64_t timestamp_ms,
                              struct mr_str progress, bool resync);
    /* MAY. A durable subscription is there (everything is copied; *handle, not 0, names it), and
     * ends. The sink subscribes for it on its own. */
    enum mr_rc (*durable_begin)(struct mr_sink *sink, const struct mr_sink_durable *durable,
                                uint32_t *handle, struct mr_err *err);
    void (*durable_end)(struct mr_sink *sink, uint32_t handle);
    /* MUST. Share of the gateway's queue in use, 0 to 1; 1 when it is gone. Catch-up waits above
     * 0.5. */
    double (*fill)(struct mr_sink *sink, mr_gateway_id gateway);
    /* MUST. Push what is queued to the wire; called once at the end of each turn that queued
     * anything. */
    void (*flush)(struct mr_sink *sink);
    /* MUST. State towards health checks: serving or not. */
    void (*serving)(struct mr_sink *sink, bool serving);
    /* MUST. Accept no more, send what is queued until the deadline, end all streams. */
    void (*close)(struct mr_sink *sink, uint64_t deadline_ns);
};
extern const struct mr_sink_ops mr_sink_grpc, mr_sink_jetstream;
/* Both of these as one: gRPC first. */
extern const struct mr_sink_ops mr_sink_all;
#endif
