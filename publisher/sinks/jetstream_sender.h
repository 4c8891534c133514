/* publisher/sinks/jetstream_sender.h: the thread that sends what the JetStream sink has queued: it
 * connects, reads back how far the stream is, sends, and keeps the sink's counters. */
#ifndef MR_PUBLISHER_SINKS_JETSTREAM_SENDER_H
#define MR_PUBLISHER_SINKS_JETSTREAM_SENDER_H
#include <pthread.h>

#include "common/config.h"
#include "jetstream/writer.h"
#include "shm/board.h"

struct mr_js_sender {
    const struct mr_config *config;
    const struct mr_board_shm *board;
    struct mr_cell_shm *cell;
    struct mr_js_outbox *outbox;
    mr_js_visit *stored; /* for the last message of each subject, before ready */
    void *context;
    _Atomic uint64_t skipped, oversize; /* sink: to be counted, too */
    _Atomic bool ready;                 /* sender: the stream is open and read back */
    _Atomic uint64_t stop_ns;           /* sink: send what is queued, at the latest until then */
    pthread_t thread;
    struct mr_js_writer *writer;
    char subjects[160];
    bool opened; /* the first connection has been read back */
};

/* config to context are set. */
MR_MUST_USE enum mr_rc mr_js_sender_start(struct mr_js_sender *sender, struct mr_err *err);
/* Send what is queued until deadline_ns, then end. */
void mr_js_sender_stop(struct mr_js_sender *sender, uint64_t deadline_ns);

/* What every user of the NATS servers has in common. */
struct mr_js_writer_options mr_js_common_options(const struct mr_config *config, const char *url,
                                                 const char *name);
#endif
