/* rpc/grpc_reflection.h: grpc.reflection.v1 and v1alpha: a client learns services and
 * messages from the server, without proto files. */
#ifndef MR_RPC_GRPC_REFLECTION_H
#define MR_RPC_GRPC_REFLECTION_H
#include "rpc/grpc_talk.h"

/* A google.protobuf.FileDescriptorSet of all that is served, made by protoc at build time. */
extern const unsigned char mr_descriptors[];
extern const size_t mr_descriptors_len;

/* Route target; no context. Both versions are the same on the wire. */
void mr_grpc_reflection(struct mr_grpc_call call, void *context);

/* The answer to one request: public for the tests. */
void mr_grpc_reflection_answer(void *context, struct mr_str request, struct mr_grpc_answer *out);
#endif
