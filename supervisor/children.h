/* supervisor/children.h: the lives of the other processes: start, watch, replace, stop.
 *
 * A child belongs to a cell of the board and has its place in the table by that cell's index. It is
 * started, declares itself READY on the board, beats, and dies some day: asked to, or not. A death
 * is noticed by its pidfd, a hang by its heartbeat, a stop (SIGSTOP) by SIGCHLD, a start that never
 * ends by start_timeout; the last three are ended with SIGKILL, which nobody can evade. */
#ifndef MR_SUPERVISOR_CHILDREN_H
#define MR_SUPERVISOR_CHILDREN_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/config.h"
#include "shm/board.h"
#include "supervisor/backoff.h"

enum mr_child_life {
    MR_CHILD_NONE,     /* the cell has no process and wants none */
    MR_CHILD_WAITING,  /* will be started at due_ns */
    MR_CHILD_STARTING, /* started, not ready; killed at due_ns */
    MR_CHILD_RUNNING,  /* has been ready */
    MR_CHILD_STOPPING, /* told to stop; killed at due_ns */
    MR_CHILD_GIVEN_UP, /* dead for good: see the cell's panic text */
};

struct mr_child {
    enum mr_child_life life;
    enum mr_process_kind kind;
    uint32_t cell, shard, ring_generation;
    pid_t pid; /* 0: no process */
    int pidfd; /* -1: no process */
    uint64_t due_ns, started_ns;
    uint64_t ready_ns;         /* when this run was seen to be ready; 0: it never was */
    uint64_t beat_ns;          /* the heartbeat as last seen */
    uint64_t silent_ns;        /* time that we watched it stand still */
    uint64_t stopped_ns;       /* since when it is known to be stopped; 0: it runs */
    struct mr_backoff crashes; /* given up after restarts_max */
    struct mr_backoff retries; /* exit 111: never given up */
    bool again;                /* STOPPING: start it again when it has left */
    const char *killed_as;     /* why we killed it: "hung", "not ready in time"; NULL: we did not */
};

struct mr_children {
    struct mr_child child[MR_BOARD_CELLS];
    struct mr_board_shm *board;
    struct mr_cell_shm *self;       /* the supervisor's cell, for its counters */
    const struct mr_config *config; /* as it is now */
    char directory[1024];           /* of the executables */
    int config_fd;                  /* memfd with the flat configuration, for children to come */
    int epoll_fd;                   /* gets every pidfd, with data.u64 = MR_EVENT_CHILD | cell */
    uint64_t turned_ns;             /* the last look at heartbeats */
    bool restart;                   /* false: the instance is ending, the dead stay dead */
    bool refused;                   /* a child left with MR_EXIT_CONFIG; refusal says why */
    char refusal[MR_BOARD_TEXT_MAX];
};

#define MR_EVENT_CHILD (UINT64_C(1) << 32)

/* directory of the executables: config's bin_dir or that of our own executable. */
MR_MUST_USE enum mr_rc mr_children_open(struct mr_children *children, struct mr_board_shm *board,
                                        const struct mr_config *config, int epoll_fd,
                                        struct mr_err *err);
/* SIGKILL whoever is left and wait for them. */
void mr_children_close(struct mr_children *children);

/* The configuration for those started from now on. */
MR_MUST_USE enum mr_rc mr_children_configure(struct mr_children *children,
                                             const struct mr_config *config, struct mr_err *err);

/* Want a process in this cell, from now on. */
void mr_child_want(struct mr_children *children, enum mr_process_kind kind, uint32_t shard,
                   uint32_t ring_generation);
/* Ask it to leave (SIGTERM), SIGKILL after grace_ns. again: replace it then, without backoff,
 * unless restart is false by then; one that waits or was given up is started anew. For one that is
 * leaving already the last word on again holds, and the shorter grace. */
void mr_child_stop(struct mr_children *children, uint32_t cell, uint64_t grace_ns, bool again);
/* It has left with 111, or crashed several times in a row, since it was wanted or told to leave
 * last, and waits to be started again: the cell's panic text says why. */
bool mr_child_failing(const struct mr_child *child);

/* The pidfd of a cell is readable. */
void mr_child_reap(struct mr_children *children, uint32_t cell, uint64_t now_ns);
/* SIGCHLD: somebody was stopped or goes on. */
void mr_children_stopped(struct mr_children *children, uint64_t now_ns);
/* Everything that is due by time. Returns when it wants to be called again. */
uint64_t mr_children_work(struct mr_children *children, uint64_t now_ns);

/* Whether every wanted process of these kinds (MR_KIND_* bits) is RUNNING. */
bool mr_children_running(const struct mr_children *children, uint32_t kinds);
/* How many have a process, or are in a life. */
uint32_t mr_children_alive(const struct mr_children *children, uint32_t kinds);
uint32_t mr_children_in(const struct mr_children *children, enum mr_child_life life);
/* Whether somebody was given up without whom the rings never run empty: anybody but the relay. */
bool mr_children_hopeless(const struct mr_children *children);
/* Wake all, so that a directive is seen at once. */
void mr_children_wake(struct mr_children *children);
void mr_child_name(const struct mr_child *child, char out[32]); /* "puller", "matcher-0" */
#endif
