/* tools/client/client.h: a gateway in C: one stream to the publisher, subscriptions on it,
 * deliveries by callback. No threads of its own: everything happens inside mr_client_work (and
 * close). A client
 * that was cut off or lost its connection is closed by the caller, who opens another one and
 * subscribes behind the last progress marker he has seen. Not thread-safe. */
#ifndef MR_TOOLS_CLIENT_CLIENT_H
#define MR_TOOLS_CLIENT_CLIENT_H
#include "cel/program.h"
#include "common/err.h"
#include "common/str.h"

struct mr_client;

/* What arrives; everything is borrowed until the callback returns. */
struct mr_client_delivery {
    const struct mr_str *subscription_ids;
    uint32_t count;
    struct mr_str progress; /* marker behind this event */
    struct mr_str event_id, database, collection, document_id, document_json;
    uint32_t operation; /* OperationType of streamer.proto */
    int64_t timestamp_ms, source_timestamp_us;
    bool key_only;
};
struct mr_client_response {
    struct mr_str subscription_id, error, progress;
    bool success, resync;
};
struct mr_client_ack {
    int64_t timestamp_ms;
    struct mr_str progress;
};

/* Each may be NULL. They may call the functions below, but for work and close. */
struct mr_client_handlers {
    void (*delivery)(void *context, const struct mr_client_delivery *delivery);
    void (*response)(void *context, const struct mr_client_response *response);
    void (*ack)(void *context, const struct mr_client_ack *ack);
    void *context;
};

struct mr_client_subscription {
    struct mr_str subscription_id, collection, database, after;
    struct mr_str cel;                  /* an expression that must hold, too; empty: none */
    const struct mr_predicate *filters; /* all must hold */
    uint32_t filter_count;
};

const char *mr_client_operation_name(uint32_t operation); /* "insert", ...; "unknown" */

/* What completes for one client or for many: these are then one thread's, who waits for all. */
struct mr_client_queue;
struct mr_client_queue *mr_client_queue_create(void);
void mr_client_queue_destroy(struct mr_client_queue **queue); /* after all of its clients */

/* Begin to connect. target: "host:port". Whether that succeeds shows in work. */
MR_MUST_USE enum mr_rc mr_client_open(struct mr_client **out, struct mr_client_queue *queue,
                                      const char *target, const struct mr_client_handlers *handlers,
                                      struct mr_err *err);

/* Put a message into the queue; it is written by work. */
void mr_client_subscribe(struct mr_client *client,
                         const struct mr_client_subscription *subscription);
void mr_client_unsubscribe(struct mr_client *client, struct mr_str subscription_id);
void mr_client_heartbeat(struct mr_client *client, int64_t timestamp_ms);
/* Say that nothing more will be sent, behind what is queued; the publisher then ends the stream. */
void mr_client_half_close(struct mr_client *client);

/* Send, receive, call back, for all clients of the queue; at most about a hundred messages, or
 * until timeout_ns has passed without one. MR_OK: something happened. MR_AGAIN: nothing did.
 * MR_CLOSED: a client's stream has ended with OK. MR_RETRY: it ended because the publisher is away
 * or asks to come again (UNAVAILABLE, RESOURCE_EXHAUSTED, ...); MR_USAGE: because it refuses what
 * was sent; err tells the status. After these three only close makes sense for that client. */
MR_MUST_USE enum mr_rc mr_client_work(struct mr_client_queue *queue, uint64_t timeout_ns,
                                      struct mr_err *err);

/* Cancel the stream if it is open, and free everything. What completes for other clients of the
 * queue meanwhile is handed to them. */
void mr_client_close(struct mr_client **client);
#endif
