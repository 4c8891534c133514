/* rpc/auth.h: who asks, and what may they do? A bearer token is either the one token of
 * auth.token, which may do everything, or a JWT that names its reach:
 *
 *   databases    names, or "*"; without it the token reaches nothing
 *   collections  names, or "*"; without it every collection of these databases
 *   gateways     ids it may speak for, or "*"; without it every one
 *   exp, nbf     seconds, perhaps with a fraction; without them no bound
 *   iss, aud     compared with auth.jwt_issuer and auth.jwt_audience
 *
 * Immutable after open: any thread. */
#ifndef MR_RPC_AUTH_H
#define MR_RPC_AUTH_H
#include "common/config.h"
#include "rpc/scope.h"

struct mr_auth;

/* MR_USAGE: a key that is none. */
MR_MUST_USE enum mr_rc mr_auth_open(struct mr_auth **out, const struct mr_config *config,
                                    struct mr_err *err);
void mr_auth_close(struct mr_auth **auth); /* NULL is allowed */

/* header: the value of "Authorization"; data NULL: there is none. MR_OK: *out is what the bearer
 * may do, the caller's reference; NULL when no authentication is configured. MR_USAGE: no, and err
 * says why without a word of the token. */
MR_MUST_USE enum mr_rc mr_auth_check(const struct mr_auth *auth, struct mr_str header,
                                     struct mr_scope **out, struct mr_err *err);
#endif
