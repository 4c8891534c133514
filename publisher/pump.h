/* publisher/pump.h: the publisher's one loop: take requests, merge the shards, deliver, release,
 * confirm. The gRPC server is a sink behind it (sink.h), as is the one of the tests. */
#ifndef MR_PUBLISHER_PUMP_H
#define MR_PUBLISHER_PUMP_H
#include "publisher/sink.h"
#include "shm/process.h"

struct mr_pump;

/* Open the sink, not serving yet; rings and journal are attached by the first turns, as they
 * appear. process must outlive the pump. */
MR_MUST_USE enum mr_rc mr_pump_open(struct mr_pump **out, struct mr_process *process,
                                    const struct mr_sink_ops *sink, struct mr_err *err);

/* One turn. *done: how much was done, for mr_process_idle. A failure is final. */
MR_MUST_USE enum mr_rc mr_pump_turn(struct mr_pump *pump, uint64_t now_ns, uint64_t *done,
                                    struct mr_err *err);

/* For mr_process_idle: is there work after all, and how long may the process sleep? */
bool mr_pump_look(void *pump);
uint64_t mr_pump_timeout_ns(const struct mr_pump *pump);

/* Where requests for durable subscriptions go in; whoever puts some ends before the pump is closed.
 */
struct mr_control_queue;
struct mr_control_queue *mr_pump_controls(struct mr_pump *pump);

/* Deliver what is matched already, have the sink send what it holds (for a bounded time), detach.
 * NULL is allowed. */
void mr_pump_close(struct mr_pump **pump);
#endif
