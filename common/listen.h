/* common/listen.h: a listening socket on an address of the configuration. */
#ifndef MR_COMMON_LISTEN_H
#define MR_COMMON_LISTEN_H
#include "common/err.h"

/* address: "host:port" or "[host]:port", of the option key. *out: TCP, non-blocking, closed on
 * exec. MR_RETRY: somebody else listens there; MR_USAGE: it cannot be. */
MR_MUST_USE enum mr_rc mr_listen(const char *key, const char *address, int *out,
                                 struct mr_err *err);
#endif
