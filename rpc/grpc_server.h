/* rpc/grpc_server.h: a gRPC server: one port, one completion queue, one thread, and the calls that
 * are open. The publisher's sink and the relay are made of it.
 *
 * Threads. The queue thread runs everything that gRPC completes and is the only one that starts
 * operations on calls; other threads only nudge it: they post an empty batch, which comes out of
 * the completion queue like any other completion. So calls need no lock of their own. Under a lock
 * nothing is asked of gRPC but nudges, which never wait. */
#ifndef MR_RPC_GRPC_SERVER_H
#define MR_RPC_GRPC_SERVER_H
#include <grpc/grpc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/err.h"
#include "common/str.h"

/* What a completion means: the tag of every operation points to one of these. */
struct mr_grpc_op {
    void (*done)(void *owner, bool ok); /* queue thread */
    void *owner;
};

/* A call that has arrived: who takes it over owns it, and ends it with mr_grpc_call_fini. */
struct mr_grpc_server;
struct mr_grpc_call {
    struct mr_grpc_server *server;
    grpc_call *call;
    struct mr_scope
        *scope;          /* MR_GRPC_SCOPED: what the caller may do, a reference; NULL: everything */
    uint64_t expires_ns; /* its token does, mr_clock_ns; UINT64_MAX: never */
    bool batch;          /* came with the metadata "millrace-batch: 1" */
};

/* Who may call a method. Authentication that is not configured lets everybody do everything. */
enum mr_grpc_access {
    MR_GRPC_ANYBODY, /* health and reflection */
    MR_GRPC_SCOPED,  /* who has shown a token: begin looks at how far it reaches */
    MR_GRPC_WHOLE,   /* whose token reaches every database and collection */
};

/* One method: how its calls begin. Queue thread; must not fail: a call that cannot be served is
 * ended with mr_grpc_refuse. */
struct mr_grpc_route {
    const char *path; /* "/package.Service/Method" */
    void (*begin)(struct mr_grpc_call call, void *context);
    void *context;
    enum mr_grpc_access access;
};

struct mr_grpc_server_options {
    const char *listen; /* "host:port"; port 0: any free one */
    const char *key;    /* of the configuration that says so, for messages */
    uint32_t message_bytes_max;
    const struct mr_grpc_route *routes; /* must outlive the server */
    uint32_t route_count;
    const struct mr_config *config; /* for auth.* and tls.*; must outlive it; NULL: neither */
};

MR_MUST_USE enum mr_rc mr_grpc_server_open(struct mr_grpc_server **out,
                                           const struct mr_grpc_server_options *options,
                                           struct mr_err *err);
uint16_t mr_grpc_server_port(const struct mr_grpc_server *server);

/* Accept no more calls. Those that are open go on. */
void mr_grpc_server_stop(struct mr_grpc_server *server);
/* After stop: wait until all calls have ended; at deadline_ns (mr_clock_ns) cancel those that have
 * not. Then end the thread and free everything. */
void mr_grpc_server_close(struct mr_grpc_server *server, uint64_t deadline_ns);

/* Calls that are open in sum, whatever their kind; any thread. */
uint32_t mr_grpc_server_calls(const struct mr_grpc_server *server);

/* Queue thread only. Start operations; completion goes to op. A batch that gRPC refuses is our own
 * mistake (two operations of one kind at once), and asserted. */
void mr_grpc_start(grpc_call *call, const grpc_op *ops, size_t count, struct mr_grpc_op *op);
/* Any thread. Have op->done called in the queue thread, soon. The call must stay alive until then.
 */
void mr_grpc_nudge(grpc_call *call, struct mr_grpc_op *op);
/* End a call that nobody has taken over: with this status and text. Takes the call. */
void mr_grpc_refuse(struct mr_grpc_call call, grpc_status_code status, const char *text);
/* Let go of a call; none of its operations may be under way. */
void mr_grpc_call_fini(struct mr_grpc_call *call);

/* The operations that every call needs. */
static inline grpc_op mr_grpc_op_send_metadata(void)
{
    return (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA};
}
static inline grpc_op mr_grpc_op_receive(grpc_byte_buffer **message)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = message;
    return op;
}
static inline grpc_op mr_grpc_op_receive_close(int *cancelled)
{
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    op.data.recv_close_on_server.cancelled = cancelled;
    return op;
}
static inline grpc_op mr_grpc_op_send(grpc_byte_buffer *message, uint32_t flags)
{
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE, .flags = flags};
    op.data.send_message.send_message = message;
    return op;
}
static inline grpc_op mr_grpc_op_send_status(grpc_status_code status, grpc_slice *text)
{
    grpc_op op = {.op = GRPC_OP_SEND_STATUS_FROM_SERVER};
    op.data.send_status_from_server.status = status;
    op.data.send_status_from_server.status_details = text;
    return op;
}

/* All bytes of a received message as one slice; the caller unrefs it. Takes the message. */
grpc_slice mr_grpc_take_bytes(grpc_byte_buffer *message);
static inline struct mr_str mr_grpc_slice_str(const grpc_slice *slice)
{
    return (struct mr_str){(const char *)GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice)};
}
#endif
