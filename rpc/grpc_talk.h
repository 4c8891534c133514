/* rpc/grpc_talk.h: calls in which the client asks and the server answers, once (unary)
 * or again and again (both sides streaming): the health check and server reflection. */
#ifndef MR_RPC_GRPC_TALK_H
#define MR_RPC_GRPC_TALK_H
#include "rpc/grpc_server.h"

/* What to say to one request. status other than OK ends the call, with text (static storage or the
 * buffer) and without the message; else message is sent and taken over. */
struct mr_grpc_answer {
    grpc_status_code status;
    const char *text;
    char buffer[512];
    grpc_slice message; /* set before the handler is called: empty */
};

struct mr_grpc_talk {
    bool once; /* unary: one request, one answer */
    void (*answer)(void *context, struct mr_str request, struct mr_grpc_answer *out);
    void *context;
};

/* Serve one call; talk must outlive it. Queue thread. Takes the call. */
void mr_grpc_talk_begin(struct mr_grpc_call call, const struct mr_grpc_talk *talk);
#endif
