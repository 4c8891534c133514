/* rpc/grpc_tls.h: credentials of a gRPC server from tls.certificate, tls.key and tls.client_ca. The
 * files are looked at with each handshake: new ones serve the connections that come after. */
#ifndef MR_RPC_GRPC_TLS_H
#define MR_RPC_GRPC_TLS_H
#include <grpc/grpc_security.h>

#include "common/config.h"

struct mr_grpc_tls;

/* *out NULL: no TLS is configured. MR_USAGE: a file cannot be read, or is no PEM file. */
MR_MUST_USE enum mr_rc mr_grpc_tls_open(struct mr_grpc_tls **out, const struct mr_config *config,
                                        struct mr_err *err);
void mr_grpc_tls_close(struct mr_grpc_tls **tls); /* after its server. NULL is allowed */
/* For grpc_server_add_http2_port; the caller releases them. tls NULL: plain. */
grpc_server_credentials *mr_grpc_tls_credentials(struct mr_grpc_tls *tls);
#endif
