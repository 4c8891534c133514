/* puller/sources/pg_resolve.h: the host names of a connection string, resolved without blocking:
 * libpq itself would wait for the name server, and the whole process with it. */
#ifndef MR_PULLER_SOURCES_PG_RESOLVE_H
#define MR_PULLER_SOURCES_PG_RESOLVE_H
#include "common/err.h"

struct mr_pg_resolve;

/* *out is NULL when there is nothing to resolve: socket directories, addresses. MR_OK; MR_RETRY;
 * MR_FATAL: no memory. */
MR_MUST_USE enum mr_rc mr_pg_resolve_start(struct mr_pg_resolve **out, const char *url,
                                           struct mr_err *err);
/* MR_OK: done; MR_AGAIN; MR_RETRY: no host could be resolved. */
MR_MUST_USE enum mr_rc mr_pg_resolve_poll(struct mr_pg_resolve *resolve, struct mr_err *err);
/* Lists for libpq, entry by entry alike: names, addresses, ports. Borrowed. */
void mr_pg_resolve_lists(const struct mr_pg_resolve *resolve, const char **hosts,
                         const char **addresses, const char **ports);
/* May be called at any time; a lookup under way is left to end by itself. */
void mr_pg_resolve_end(struct mr_pg_resolve **resolve);
#endif
