/* puller/puller.h: the puller's life: source -> intake -> log -> feed -> event rings. */
#ifndef MR_PULLER_PULLER_H
#define MR_PULLER_PULLER_H
#include "shm/process.h"

struct mr_puller;
/* Open log, rings and source, each where its predecessor has left it. */
MR_MUST_USE enum mr_rc mr_puller_open(struct mr_puller **out, struct mr_process *process,
                                      struct mr_err *err);
/* Until the process is told to stop, or something fails for good. */
MR_MUST_USE enum mr_rc mr_puller_run(struct mr_puller *puller, struct mr_err *err);
void mr_puller_close(struct mr_puller **puller);
#endif
