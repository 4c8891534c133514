/* publisher/rest/tls.h: certificates of the REST server, read anew when their files change. */
#ifndef MR_PUBLISHER_REST_TLS_H
#define MR_PUBLISHER_REST_TLS_H
#include "common/config.h"

struct MHD_Connection;
struct mr_rest_tls;

/* *out NULL: tls.certificate is empty. One at a time in a process: the library's callback has no
 * context. MR_USAGE: a file that is no certificate or key. */
MR_MUST_USE enum mr_rc mr_rest_tls_open(struct mr_rest_tls **out, const struct mr_config *config,
                                        struct mr_err *err);
void mr_rest_tls_close(struct mr_rest_tls **tls); /* NULL is allowed */
/* The callback for MHD_OPTION_HTTPS_CERT_CALLBACK. */
void *mr_rest_tls_callback(void);
const char *mr_rest_tls_trust(const struct mr_rest_tls *tls); /* PEM of tls.client_ca; NULL: none */
/* Look whether the files have changed; take them over when they are good. Any thread. */
void mr_rest_tls_refresh(struct mr_rest_tls *tls);
/* A client has connected; before the handshake. tls NULL: there is no TLS. */
void mr_rest_tls_begin(const struct mr_rest_tls *tls, struct MHD_Connection *connection);
/* Has the client shown a certificate that tls.client_ca, as it is now, signed? True when none is
 * asked for. */
bool mr_rest_tls_verified(struct mr_rest_tls *tls, struct MHD_Connection *connection);
#endif
