/* shm/board.h: one segment by which the processes of an instance know of each other: who runs, how
 * they are, what they count, and what the supervisor wants. Fixed-size cells, one writer each;
 * anyone may read at any time without stopping anyone.
 *
 * A cell belongs to a role, not to a process: cell 0 supervisor, 1 puller, 2 publisher, then two
 * banks of MR_SHARDS_MAX matchers, last the relay. Ring set (generation) g uses bank g & 1, so that
 * during a change of the number of shards the old and the new matchers both have a cell. */
#ifndef MR_SHM_BOARD_H
#define MR_SHM_BOARD_H
#include "shm/doorbell.h"
#include "shm/histogram.h"
#include "shm/segment.h"

enum { MR_SHARDS_MAX = 16, MR_BOARD_CELLS = 4 + 2 * MR_SHARDS_MAX, MR_BOARD_TEXT_MAX = 256 };

enum mr_process_kind {
    MR_PROCESS_SUPERVISOR,
    MR_PROCESS_PULLER,
    MR_PROCESS_PUBLISHER,
    MR_PROCESS_MATCHER,
    MR_PROCESS_RELAY,
    MR_PROCESS_KIND_COUNT
};
const char *mr_process_kind_name(enum mr_process_kind kind); /* "supervisor", ... */

/* The life of a process as its cell shows it. Written by the process itself, but for DEAD, BACKOFF
 * and GIVEN_UP, which the supervisor writes while nobody lives in the cell. */
enum mr_process_state {
    MR_STATE_EMPTY,
    MR_STATE_STARTING,
    MR_STATE_READY,
    MR_STATE_DRAINED,
    MR_STATE_STOPPING,
    MR_STATE_DEAD,
    MR_STATE_BACKOFF,
    MR_STATE_GIVEN_UP,
    MR_STATE_COUNT
};
const char *mr_process_state_name(enum mr_process_state state);

/* What the supervisor wants of all. */
enum mr_directive {
    MR_DIRECTIVE_RUN,     /* read the source, feed, match, deliver */
    MR_DIRECTIVE_QUIESCE, /* the puller stops feeding at a batch's end and says so (feed_paused) */
    MR_DIRECTIVE_DRAIN,   /* the puller stops reading the source, feeds what the log holds, then
                             DRAINED */
};

enum mr_counter {
#define COUNTER(symbol, kinds, kind, name, help) MR_COUNTER_##symbol,
#define HISTOGRAM(symbol, kinds, name, help)
#include "shm/counters.def"
#undef COUNTER
#undef HISTOGRAM
    MR_COUNTER_COUNT
};
enum mr_histogram {
#define COUNTER(symbol, kinds, kind, name, help)
#define HISTOGRAM(symbol, kinds, name, help) MR_HISTOGRAM_##symbol,
#include "shm/counters.def"
#undef COUNTER
#undef HISTOGRAM
    MR_HISTOGRAM_COUNT
};
enum { MR_COUNTERS_MAX = 160, MR_HISTOGRAMS_MAX = 24 };
static_assert((int)MR_COUNTER_COUNT <= (int)MR_COUNTERS_MAX, "the board has room");
static_assert((int)MR_HISTOGRAM_COUNT <= (int)MR_HISTOGRAMS_MAX, "the board has room");

struct mr_cell_shm {
    alignas(128) _Atomic uint64_t heartbeat_ns; /* its process; mr_clock_ns of the last turn */
    _Atomic uint32_t pid;                       /* supervisor at spawn; 0 nobody */
    _Atomic uint32_t state;                     /* enum mr_process_state */
    _Atomic uint32_t kind;                      /* enum mr_process_kind; supervisor */
    _Atomic uint32_t shard;                     /* matcher: which; supervisor */
    _Atomic uint32_t ring_generation;           /* matcher: its ring set; supervisor */
    _Atomic uint32_t rings_attached;            /* puller, publisher: newest ring set attached */
    _Atomic uint64_t started_ns;                /* supervisor; monotonic */
    _Atomic uint64_t restarts;                  /* supervisor */
    _Atomic uint64_t subs_generation;           /* matcher: subscription journal in use */
    _Atomic uint64_t subs_applied; /* matcher: records of it applied, stored after the above */
    _Atomic uint64_t feed_paused;  /* puller: 1 + directive_number it has obeyed; 0 feeding */
    struct mr_doorbell_shm bell;   /* see doorbell.h */
    alignas(128) _Atomic uint64_t counters[MR_COUNTERS_MAX]; /* its process */
    char text[MR_BOARD_TEXT_MAX];  /* its process: what it does or waits for; may tear, NUL at the
                                      end */
    char panic[MR_BOARD_TEXT_MAX]; /* its process when it aborts; last death's reason by supervisor
                                    */
    struct mr_histogram_shm histograms[MR_HISTOGRAMS_MAX]; /* its process */
};

/* Consumers of the log by id and collection, in the order in which they came. A row once begun
 * stays, so that its labels never change and its counters outlive the relay; those that come when
 * all are taken share the last one. */
enum { MR_CONSUMER_ROWS = 64, MR_CONSUMER_LABEL_MAX = 64 };
struct mr_consumer_row_shm {
    char consumer[MR_CONSUMER_LABEL_MAX];       /* printable ASCII without quotes, NUL at the end */
    char collection[MR_CONSUMER_LABEL_MAX];     /* empty: all of them */
    alignas(64) _Atomic uint64_t begun;         /* 1: the labels are complete; stored after them */
    _Atomic uint64_t streams;                   /* open now */
    _Atomic uint64_t level, lag_events, lag_ns; /* of its slowest; enum mr_lag_level */
    _Atomic uint64_t events, rebuilds;          /* sent; told */
};

/* What may hold the checkpoint, and with it the log and the source, back. */
enum mr_holder { MR_HOLDER_SINK, MR_HOLDER_FANOUT, MR_HOLDER_COUNT };

struct mr_board_shm {
    struct mr_segment_shm head;
    int64_t created_wall_us; /* creator */
    uint32_t cell_count;     /* creator */
    uint32_t cell_bytes;     /* creator; sizeof(struct mr_cell_shm) */
    uint64_t start_sequence; /* creator: the checkpoint this epoch starts behind; fresh rings are
                                fed from the next */
    /* Supervisor only. Generation in the high, shard count in the low 32 bits; next is 0 unless a
     * change is under way. Ring segments of generation g: "e<i>.g<g>", "m<i>.g<g>", "s<i>.g<g>". */
    alignas(128) _Atomic uint64_t ring_set;
    _Atomic uint64_t ring_set_next;
    _Atomic uint32_t directive;        /* enum mr_directive, stored before the number */
    _Atomic uint64_t directive_number; /* rises with each directive */
    _Atomic uint64_t checkpoint; /* durable: every event through this sequence has been released */
    _Atomic uint32_t log_level;  /* enum mr_log_level, taken over live */
    /* Publisher only. */
    alignas(128) _Atomic uint64_t subs_generation; /* current subscription journal; 0 none yet */
    /* 1 + the sequence through which everything is safe where it was sent to: the checkpoint goes
     * no further. 0: holds nothing back. */
    _Atomic uint64_t held_through[MR_HOLDER_COUNT];
    /* Puller only, once its log is open. */
    alignas(128) _Atomic uint64_t log_id; /* identity of the log; 0 not known yet */
    _Atomic uint64_t log_written;    /* through which sequence other processes can read the log */
    _Atomic uint64_t log_floor;      /* oldest sequence in it */
    struct mr_doorbell_shm log_bell; /* sleeper: the publisher's fan-out, which follows the log */
    alignas(128) struct mr_consumer_row_shm consumers[MR_CONSUMER_ROWS]; /* relay only */
    struct mr_cell_shm cells[MR_BOARD_CELLS];
};

enum {
    MR_CELL_SUPERVISOR = 0,
    MR_CELL_PULLER = 1,
    MR_CELL_PUBLISHER = 2,
    MR_CELL_RELAY = MR_BOARD_CELLS - 1
};
static inline uint32_t mr_cell_matcher(uint32_t ring_generation, uint32_t shard)
{
    return 3 + (ring_generation & 1) * MR_SHARDS_MAX + shard;
}
static inline uint64_t mr_ring_set_pack(uint32_t generation, uint32_t shards)
{
    return (uint64_t)generation << 32 | shards;
}
static inline uint32_t mr_ring_set_generation(uint64_t set)
{
    return (uint32_t)(set >> 32);
}
static inline uint32_t mr_ring_set_shards(uint64_t set)
{
    return (uint32_t)set;
}
/* The segment part of a ring: kind 'e', 'm' or 's'. */
void mr_ring_part(char out[32], char kind, uint32_t shard, uint32_t ring_generation);

struct mr_board {
    struct mr_board_shm *shm;
    struct mr_segment segment;
};
/* The caller sets start_sequence, ring_set and the like and then makes the board attachable with
 * mr_segment_seal(&board->segment). */
MR_MUST_USE enum mr_rc mr_board_create(struct mr_board *board, const char *instance, uint64_t epoch,
                                       struct mr_err *err);
/* MR_AGAIN: no such instance, or its board is not sealed; MR_CORRUPT: another layout, both named.
 */
MR_MUST_USE enum mr_rc mr_board_attach(struct mr_board *board, const char *instance, bool read_only,
                                       struct mr_err *err);
void mr_board_detach(struct mr_board *board);

/* A process's own numbers. Single writer: load and store, no locked instruction. */
static inline void mr_count(struct mr_cell_shm *cell, enum mr_counter counter, uint64_t n)
{
    _Atomic uint64_t *c = &cell->counters[counter];
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
static inline void mr_gauge(struct mr_cell_shm *cell, enum mr_counter counter, uint64_t value)
{
    atomic_store_explicit(&cell->counters[counter], value, memory_order_relaxed);
}
static inline uint64_t mr_counter_get(const struct mr_cell_shm *cell, enum mr_counter counter)
{
    return atomic_load_explicit(&cell->counters[counter], memory_order_relaxed);
}
/* Say what the process does or waits for: shown by shmstat, status and /readyz?verbose. */
void mr_cell_say(struct mr_cell_shm *cell, const char *fmt, ...) MR_PRINTF(2, 3);

/* Rows of counters.def. */
enum {
    MR_KIND_S = 1 << MR_PROCESS_SUPERVISOR,
    MR_KIND_P = 1 << MR_PROCESS_PULLER,
    MR_KIND_B = 1 << MR_PROCESS_PUBLISHER,
    MR_KIND_M = 1 << MR_PROCESS_MATCHER,
    MR_KIND_R = 1 << MR_PROCESS_RELAY,
    MR_KIND_PMB = MR_KIND_P | MR_KIND_M | MR_KIND_B, /* the pipeline */
    MR_KIND_ALL = MR_KIND_PMB | MR_KIND_R            /* whom the supervisor starts */
};
enum mr_row_unit { MR_ROW_COUNTER, MR_ROW_GAUGE, MR_ROW_NS, MR_ROW_US };
struct mr_counter_row {
    const char *name, *help;
    uint32_t kinds;        /* MR_KIND_* bits */
    enum mr_row_unit unit; /* histograms: MR_ROW_NS */
};
const struct mr_counter_row *mr_counter_rows(void);   /* MR_COUNTER_COUNT rows */
const struct mr_counter_row *mr_histogram_rows(void); /* MR_HISTOGRAM_COUNT rows */
#endif
