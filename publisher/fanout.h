/* publisher/fanout.h: the log as a JetStream stream: every event once, in order, for indexers and
 * for other instances (docs/jetstream.md). A thread of its own reads the log and sends; nothing
 * else waits for it but the checkpoint. */
#ifndef MR_PUBLISHER_FANOUT_H
#define MR_PUBLISHER_FANOUT_H
#include "common/config.h"
#include "shm/board.h"

struct mr_fanout;

/* Before anything is released: what was acknowledged is known to reach to the checkpoint. Not
 * enabled: says that nothing is held back, *out is NULL. config, board and cell must outlive it. */
MR_MUST_USE enum mr_rc mr_fanout_open(struct mr_fanout **out, const struct mr_config *config,
                                      struct mr_board_shm *board, struct mr_cell_shm *cell,
                                      struct mr_err *err);
/* Send what is read until deadline_ns, then end. NULL is allowed. */
void mr_fanout_close(struct mr_fanout **fanout, uint64_t deadline_ns);
#endif
