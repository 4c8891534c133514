/* shm/process.h: what every process but the supervisor does the same way: find its board and cell,
 * read its configuration, block signals, beat, sleep when idle, and leave with the right exit code.
 * A main.c is written in these calls and nothing else. */
#ifndef MR_SHM_PROCESS_H
#define MR_SHM_PROCESS_H
#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "shm/board.h"

struct mr_process {
    enum mr_process_kind kind;
    uint32_t cell_index;
    uint32_t shard;           /* matcher */
    uint32_t ring_generation; /* matcher */
    const char *instance;     /* of config */
    struct mr_board board;
    struct mr_cell_shm *cell;
    struct mr_config config;
    int signal_fd;          /* SIGTERM and SIGINT arrive here */
    bool stopping;          /* one of them did */
    bool patient;           /* set by the owner: its sleep may go on through a nudge */
    uint64_t spin_until_ns; /* of the idle strategy; 0: do not spin */
    uint64_t beat_ns;       /* of the last beat */
    uint64_t looked_ns;     /* when signals and log level were looked at last */
    uint32_t log_level;     /* as taken over last */
};

/* Arguments, as the supervisor passes them: --config-fd N --cell N [--shard N --ring-generation N].
 * Blocks SIGTERM, SIGINT and SIGPIPE, dies with its parent, sets up the
 * log and the panic hook, writes state STARTING. */
MR_MUST_USE enum mr_rc mr_process_open(struct mr_process *process, enum mr_process_kind kind,
                                       int argc, char **argv, struct mr_err *err);
void mr_process_ready(struct mr_process *process); /* state READY, one log line */

/* Beat; every millisecond also take a signal if there is one and follow the board's log level.
 * False: leave the loop. */
bool mr_process_running(struct mr_process *process, uint64_t now_ns);
/* Beat only: in the middle of a turn that takes long by what it was given to do. */
void mr_process_beat(struct mr_process *process, uint64_t now_ns);

/* After a turn: when it did nothing, spin for config.ring_spin behind the last turn that did
 * something, then sleep on the cell's doorbell, at most timeout_ns and MR_BEAT_NS. look() is called
 * once more between announcing and sleeping: it returns true when there is work after all. */
typedef bool mr_process_look(void *context);
void mr_process_idle(struct mr_process *process, uint64_t done, uint64_t timeout_ns,
                     mr_process_look *look, void *context);

/* Log what went wrong, if anything did, write state STOPPING, detach. Returns the exit code. */
int mr_process_close(struct mr_process *process, enum mr_rc rc, const struct mr_err *err);

/* Every process beats at least this often, even when idle. */
#define MR_BEAT_NS (UINT64_C(100) * 1000 * 1000)
#endif
