/* supervisor/supervisor.h: the process that owns an instance: its shared memory, the lives of its
 * processes, its checkpoint, and what people ask of it. One thread, one epoll loop. */
#ifndef MR_SUPERVISOR_SUPERVISOR_H
#define MR_SUPERVISOR_SUPERVISOR_H
#include "supervisor/checkpoint.h"
#include "supervisor/children.h"
#include "supervisor/config_source.h"
#include "supervisor/control.h"
#include "supervisor/http.h"
#include "supervisor/notify.h"
#include "supervisor/segments.h"

/* How the instance is moving; one at a time. */
enum mr_task {
    MR_TASK_NONE,
    MR_TASK_SCALE,
    MR_TASK_RELOAD,
    MR_TASK_DRAIN, /* also the end of "drain": drained, and waiting for stop */
    MR_TASK_STOP,
};

enum mr_scale_phase {
    MR_SCALE_ATTACH,
    MR_SCALE_QUIESCE,
    MR_SCALE_RETIRE,    /* switched: the old matchers leave */
    MR_SCALE_TAKEN_BACK /* not switched: the new ones leave */
};
struct mr_scale {
    enum mr_scale_phase phase;
    uint64_t from, to;     /* ring sets */
    struct mr_rings rings; /* of to */
    uint64_t deadline_ns, began_ns, paused_ns;
    struct mr_err failure; /* TAKEN_BACK: why */
};

struct mr_reload {
    uint32_t readers;   /* MR_CONFIG_READER_* bits of those that must start anew */
    uint32_t next_cell; /* the one that is being replaced or is next; MR_BOARD_CELLS: done */
    bool waiting;       /* next_cell has been told to leave */
    uint32_t left;      /* readers that it has not come to, when it ended before */
};

enum mr_stop_phase {
    MR_STOP_DRAIN,
    MR_STOP_DRAINED,
    MR_STOP_PUBLISHER,
    MR_STOP_MATCHERS,
    MR_STOP_PULLER
};
struct mr_stop {
    enum mr_stop_phase phase;
    uint64_t began_ns, deadline_ns;
    bool at_once; /* told twice, or out of time: nothing is waited for but deaths */
};

struct mr_supervisor {
    const struct mr_config_source *source;
    struct mr_config loaded; /* as the file, the environment and the flags say */
    struct mr_config config; /* as it is: scale changes matcher_shards */
    struct mr_board board;
    struct mr_cell_shm *cell;
    struct mr_rings rings;  /* of the current ring set */
    uint64_t journal_bytes; /* capacity of each subscription journal */
    struct mr_children children;
    struct mr_control control;
    struct mr_notify notify;
    struct mr_http *http; /* NULL: none */
    int epoll_fd, signal_fd;
    struct mr_checkpoint checkpoint; /* the last durable one; log_id 0: the log is not known yet */
    struct mr_checkpoint_writer writer;
    uint64_t checkpoint_ns;   /* when it was written, or last tried */
    uint32_t generation_last; /* of ring sets, also of those that failed */
    bool was_ready;           /* all have been ready together once */
    bool reloaded;            /* a refused configuration came from who can correct it: go on */
    enum mr_task task;
    uint32_t task_client; /* whom to answer at its end; MR_CONTROL_NOBODY */
    struct mr_scale scale;
    struct mr_reload reload;
    bool reload_again; /* SIGHUP came during a scale or a reload: nobody would hear "not now" */
    struct mr_stop stop;
    bool done;
    struct mr_err outcome; /* rc is what the process exits with */
};

/* Run an instance until it is stopped. source is borrowed for as long. Returns the exit code. */
int mr_supervisor_run(const struct mr_config_source *source);

/* Parts, each in the file of its name. */
/* supervisor.c */
void mr_supervisor_direct(struct mr_supervisor *s, enum mr_directive directive);
void mr_supervisor_finish_task(struct mr_supervisor *s, const struct mr_err *failure,
                               const char *fmt, ...) MR_PRINTF(3, 4);
/* Refuse a configuration that reads events from a terminal. */
MR_MUST_USE enum mr_rc mr_supervisor_check_stdin(const struct mr_config *config,
                                                 struct mr_err *err);
void mr_supervisor_request(struct mr_supervisor *s, uint32_t client, const char *line);
/* progress.c */
MR_MUST_USE enum mr_rc mr_progress_open(struct mr_supervisor *s, struct mr_err *err);
void mr_progress_work(struct mr_supervisor *s, uint64_t now_ns);
bool mr_progress_idle(const struct mr_supervisor *s); /* nothing to write, nothing being written */
void mr_progress_write(struct mr_supervisor *s,
                       uint64_t now_ns);        /* begin, if there is something new */
void mr_progress_step(struct mr_supervisor *s); /* the writer's event_fd is readable */
/* scale.c */
void mr_scale_begin(struct mr_supervisor *s, uint32_t shards, uint32_t client, uint64_t now_ns);
void mr_scale_work(struct mr_supervisor *s, uint64_t now_ns);
void mr_scale_abort(struct mr_supervisor *s, const char *reason);
/* reload.c */
void mr_reload_begin(struct mr_supervisor *s, uint32_t client, uint64_t now_ns);
void mr_reload_logging(struct mr_supervisor *s); /* config's level for all, its format for us */
void mr_reload_work(struct mr_supervisor *s, uint64_t now_ns);
/* stop.c */
void mr_stop_begin(struct mr_supervisor *s, bool drain_only, uint32_t client, uint64_t now_ns);
void mr_stop_at_once(struct mr_supervisor *s, enum mr_rc rc, const char *reason);
void mr_stop_work(struct mr_supervisor *s, uint64_t now_ns);
/* status.c: one line of JSON, malloc'd; NULL without memory. */
char *mr_status_json(const struct mr_supervisor *s, uint64_t now_ns);
const char *mr_status_word(const struct mr_supervisor *s); /* "starting", "running", ... */
#endif
