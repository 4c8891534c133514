/* rpc/scope.h: what somebody who has shown who they are may do. Immutable once made, shared
 * by counted references; any thread. */
#ifndef MR_RPC_SCOPE_H
#define MR_RPC_SCOPE_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"

enum { MR_SCOPE_NAMES_MAX = 64, MR_SCOPE_NAME_MAX = 128 };

struct mr_scope_names {
    uint32_t count;
    bool all;
    char names[MR_SCOPE_NAMES_MAX][MR_SCOPE_NAME_MAX]; /* NUL-terminated */
};
struct mr_scope {
    _Atomic uint32_t refs;
    char subject[MR_SCOPE_NAME_MAX]; /* for logs; NUL-terminated, printable */
    uint64_t expires_ns;             /* mr_clock_ns; UINT64_MAX: never */
    struct mr_scope_names databases, collections, gateways;
    bool gateways_stated; /* and not every one for want of a statement */
};

struct mr_scope *mr_scope_ref(struct mr_scope *scope); /* NULL is allowed */
void mr_scope_unref(struct mr_scope *scope);           /* NULL is allowed */

bool mr_scope_has(const struct mr_scope_names *names, struct mr_str name);

/* Scope NULL: no authentication is configured, everything is allowed. */
static inline bool mr_scope_allows(const struct mr_scope *scope, struct mr_str database,
                                   struct mr_str collection)
{
    return !scope || (mr_scope_has(&scope->databases, database) &&
                      mr_scope_has(&scope->collections, collection));
}
static inline bool mr_scope_speaks_for(const struct mr_scope *scope, struct mr_str gateway)
{
    return !scope || mr_scope_has(&scope->gateways, gateway);
}
/* To get what a gateway's subscriptions match, of whatever database, somebody must be told to, or
 * reach everything anyway. */
static inline bool mr_scope_listens_for(const struct mr_scope *scope, struct mr_str gateway)
{
    return !scope || (mr_scope_has(&scope->gateways, gateway) &&
                      (scope->gateways_stated || (scope->databases.all && scope->collections.all)));
}
#endif
