/* rpc/grpc_health.h: grpc.health.v1.Health: Check and Watch of the services "" (the
 * whole server) and the one that the server names. */
#ifndef MR_RPC_GRPC_HEALTH_H
#define MR_RPC_GRPC_HEALTH_H
#include "rpc/grpc_server.h"

struct mr_grpc_health;

/* service: "package.Service"; borrowed for as long. */
MR_MUST_USE enum mr_rc mr_grpc_health_create(struct mr_grpc_health **out, const char *service,
                                             struct mr_err *err);
/* After its server is closed. */
void mr_grpc_health_destroy(struct mr_grpc_health **health);

/* Route targets; context: the struct mr_grpc_health. */
void mr_grpc_health_check(struct mr_grpc_call call, void *context);
void mr_grpc_health_watch(struct mr_grpc_call call, void *context);

/* Any thread. Watchers are told. Not serving at first. */
void mr_grpc_health_serving(struct mr_grpc_health *health, bool serving);
/* Any thread. Tell watchers what they have not heard yet and end their calls. */
void mr_grpc_health_stop(struct mr_grpc_health *health);
#endif
