/* relay/relay.h: the process that serves the log to consumers (PullerService), whatever the rest of
 * the pipeline is doing: it reads the log's files and writes none of them.
 *
 * Threads: the process's own reads the live end of the log, encodes each event once and keeps time;
 * gRPC's queue thread runs every call (consumer.c, acknowledge.c); fetch.c reads old parts of the
 * log; checkpoints.c writes LMDB. A consumer is sent what lies in the cache, wherever it stands:
 * who is behind asks fetch.c for it, who is at the end waits for the next piece. Live or not is no
 * mode that a consumer is switched into, and so there is no cut-over at which something could be
 * lost. */
#ifndef MR_RELAY_RELAY_H
#define MR_RELAY_RELAY_H
#include <stdbool.h>
#include <stdint.h>

#include "shm/process.h"

struct mr_relay;

/* *out is to be closed whatever comes back. */
MR_MUST_USE enum mr_rc mr_relay_open(struct mr_relay **out, struct mr_process *process,
                                     struct mr_err *err);
void mr_relay_close(struct mr_relay **relay);
MR_MUST_USE enum mr_rc mr_relay_turn(struct mr_relay *relay, uint64_t now_ns, uint64_t *done,
                                     struct mr_err *err);
uint64_t mr_relay_timeout_ns(const struct mr_relay *relay);
bool mr_relay_look(void *relay); /* mr_process_look */
#endif
