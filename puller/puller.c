#include "puller/puller.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/log.h"
#include "puller/confirm.h"
#include "puller/control.h"
#include "puller/feed.h"
#include "puller/intake.h"
#include "puller/meter.h"

enum { FEED_EVENTS_TURN = 8192 };

#define BEHIND_READ_NS (5 * MR_NS_PER_MS)  /* behind, the source gets one batch in this time */
#define FULL_WAIT_MIN  (50 * MR_NS_PER_US) /* between two looks at a full ring, doubled ... */
#define FULL_WAIT_MAX  (2 * MR_NS_PER_MS)  /* ... up to this */
#define POSITION_NS    MR_NS_PER_S         /* between two positions logged without an event */

/* What the puller is at, as its cell shows it. */
enum stage {
    STAGE_STREAMING,
    STAGE_BEHIND,
    STAGE_PAUSED,
    STAGE_ENDED,
    STAGE_DRAINING,
    STAGE_DRAINED,
    STAGE_COUNT
};
static const char *const stage_texts[STAGE_COUNT] = {
    "streaming", "feeding from disk", "paused", "source ended", "draining", "drained"};

struct mr_puller {
    struct mr_process *process; /* borrowed, as everything in it */
    struct mr_cell_shm *cell;
    struct mr_log_writer *log;
    struct mr_log_state state; /* of the log, each turn */
    struct mr_source *source;
    struct mr_intake intake;
    struct mr_meter meter;
    struct mr_control control;
    struct mr_feed feed;
    struct mr_confirm confirm;
    enum stage stage;
    bool source_ended, drained;
    uint64_t read_ns; /* when the source was polled last */
    uint64_t sealed_ns;
    uint64_t full_wait_ns; /* how long the next wait for a full ring lasts */
    char log_dir[MR_CONFIG_TEXT_MAX + 8];
};

static enum mr_rc open_log(struct mr_puller *puller, struct mr_err *err)
{
    const struct mr_config *config = &puller->process->config;
    if (mkdir(config->instance_data_dir.text, 0700) != 0 && errno != EEXIST)
        return mr_fail(err, MR_FATAL, "make data directory %s", config->instance_data_dir.text);
    snprintf(puller->log_dir, sizeof puller->log_dir, "%s/log", config->instance_data_dir.text);
    const struct mr_log_options options = {
        .dir = puller->log_dir,
        .segment_bytes = config->log_segment_size,
        .batch_bytes = config->log_batch_size,
        .retention_bytes = config->log_retention_size,
        .retention_age_ns = config->log_retention_age,
        .commit_interval_ns = config->log_commit_interval,
    };
    enum mr_rc rc = mr_log_writer_open(&puller->log, &options, err);
    if (rc == MR_OK)
        mr_log_writer_state(puller->log, &puller->state);
    return rc;
}

/* The log must be the one that this instance's rings and checkpoint speak of. */
static enum mr_rc check_log(struct mr_puller *puller, struct mr_err *err)
{
    struct mr_board_shm *board = puller->process->board.shm;
    uint64_t known = atomic_load_explicit(&board->log_id, memory_order_relaxed);
    if (known != 0 && known != puller->state.log_id)
        return mr_reject(err, MR_USAGE,
                         "log %s: was replaced while the instance ran; stop it first",
                         puller->log_dir);
    uint64_t checkpoint = atomic_load_explicit(&board->checkpoint, memory_order_relaxed);
    if (board->start_sequence > checkpoint)
        checkpoint = board->start_sequence;
    if (checkpoint > puller->state.last)
        return mr_reject(err, MR_USAGE,
                         "log %s: ends at %" PRIu64 ", before the checkpoint %" PRIu64
                         ": restore the log, or remove the checkpoint and lose what it stood for",
                         puller->log_dir, puller->state.last, checkpoint);
    return MR_OK;
}

static enum mr_rc open_source(struct mr_puller *puller, struct mr_err *err)
{
    const struct mr_config *config = &puller->process->config;
    const struct mr_source_ops *ops = mr_source_find(config->source_kind.text);
    if (!ops)
        return mr_reject(err, MR_USAGE, "source.kind: this build has no source \"%s\"",
                         config->source_kind.text);
    struct mr_position after = {.len = puller->state.position_len};
    memcpy(after.bytes, puller->state.position, after.len);
    puller->intake.position = after;
    enum mr_rc rc = ops->open(&puller->source, config, puller->cell, &after, err);
    if (rc != MR_OK)
        return mr_err_prefix(err, "source %s", ops->name);
    MR_ASSERT(puller->source->ops == ops);
    return MR_OK;
}

/* Publish the log's state, for the other processes and for people. */
static void follow_log(struct mr_puller *puller, uint64_t now_ns)
{
    struct mr_board_shm *board = puller->process->board.shm;
    struct mr_cell_shm *cell = puller->cell;
    const struct mr_log_state *state = &puller->state;
    mr_log_writer_state(puller->log, &puller->state);
    bool news = atomic_load_explicit(&board->log_written, memory_order_relaxed) != state->written;
    atomic_store_explicit(&board->log_written, state->written, memory_order_release);
    if (news)
        mr_doorbell_ring(&board->cells[MR_CELL_RELAY].bell);
    atomic_store_explicit(&board->log_floor, state->floor, memory_order_release);
    mr_doorbell_ring(&board->log_bell);
    mr_gauge(cell, MR_COUNTER_LOG_LAST, state->last);
    mr_gauge(cell, MR_COUNTER_LOG_WRITTEN, state->written);
    mr_gauge(cell, MR_COUNTER_LOG_DURABLE, state->durable);
    mr_gauge(cell, MR_COUNTER_LOG_FLOOR, state->floor);
    mr_gauge(cell, MR_COUNTER_LOG_BYTES, state->written_bytes);
    mr_gauge(cell, MR_COUNTER_LOG_SIZE, state->size_bytes);
    mr_gauge(cell, MR_COUNTER_LOG_SEGMENTS, state->segments);
    mr_gauge(cell, MR_COUNTER_LOG_SYNCS, state->syncs);
    mr_gauge(cell, MR_COUNTER_LOG_TORN_BYTES, state->torn_bytes);
    mr_meter_follow(&puller->meter, state->written, state->durable, now_ns);
}

static enum mr_rc open_parts(struct mr_puller *puller, struct mr_err *err)
{
    struct mr_process *process = puller->process;
    struct mr_board_shm *board = process->board.shm;
    enum mr_rc rc = open_log(puller, err);
    if (rc == MR_OK)
        rc = check_log(puller, err);
    if (rc == MR_OK)
        rc = mr_control_open(&puller->control, process, &puller->state, err);
    if (rc != MR_OK)
        return rc;
    mr_feed_init(&puller->feed, mr_control_rings(&puller->control), puller->log, puller->log_dir,
                 puller->cell);
    puller->control.feed = &puller->feed;
    rc = mr_confirm_init(&puller->confirm, puller->log_dir,
                         atomic_load_explicit(&board->checkpoint, memory_order_acquire),
                         &puller->state, err);
    if (rc != MR_OK)
        return rc;
    mr_intake_init(&puller->intake, puller->log, puller->cell, &process->config);
    rc = open_source(puller, err);
    if (rc != MR_OK)
        return rc;
    follow_log(puller, mr_clock_ns());
    /* Last: who sees the id may read the log. */
    atomic_store_explicit(&board->log_id, puller->state.log_id, memory_order_release);
    mr_log_info("puller", "opened",
                "source=%s log_last=%" PRIu64 " fed=%" PRIu64 " torn_bytes=%" PRIu64,
                puller->source->ops->name, puller->state.last, puller->feed.sequence,
                puller->state.torn_bytes);
    return MR_OK;
}

enum mr_rc mr_puller_open(struct mr_puller **out, struct mr_process *process, struct mr_err *err)
{
    struct mr_puller *puller = calloc(1, sizeof *puller);
    if (!puller)
        return mr_fail(err, MR_FATAL, "allocate the puller");
    puller->process = process;
    puller->cell = process->cell;
    puller->meter.cell = process->cell;
    puller->full_wait_ns = FULL_WAIT_MIN;
    puller->stage = STAGE_COUNT;
    /* The kernel may round a wait up by this much; the default of 50 us would blunt every pace. */
    prctl(PR_SET_TIMERSLACK, 1000UL);
    *out = puller; /* closed by the caller, however far this gets */
    return open_parts(puller, err);
}

void mr_puller_close(struct mr_puller **puller)
{
    struct mr_puller *p = *puller;
    struct mr_err err;
    if (p->source)
        p->source->ops->close(p->source);
    mr_feed_fini(&p->feed);
    mr_confirm_fini(&p->confirm);
    mr_control_close(&p->control);
    if (p->log && mr_log_writer_close(&p->log, &err) != MR_OK)
        mr_log_error("puller", "log_not_closed", "why=\"%s\"", err.text);
    free(p);
    *puller = NULL;
}

static bool behind(const struct mr_puller *puller)
{
    return puller->feed.sequence < puller->state.last;
}

/* The source is read as fast as it goes while the rings keep up. Behind, feeding goes first, and
 * the source gets a batch now and then: it must not be held up by a slow subscriber, and what it
 * gives is safe in the log. That also keeps the last batch in memory while a full ring makes room.
 */
static bool may_read(const struct mr_puller *puller, uint64_t now_ns)
{
    if (puller->source_ended || puller->control.directive == MR_DIRECTIVE_DRAIN)
        return false;
    return !behind(puller) || now_ns - puller->read_ns >= BEHIND_READ_NS;
}

static enum mr_rc seal(struct mr_puller *puller, uint64_t now_ns, struct mr_err *err)
{
    struct mr_intake *intake = &puller->intake;
    uint64_t events = intake->batch_count;
    if (events == 0 && !(intake->position_moved && now_ns - puller->sealed_ns >= POSITION_NS))
        return MR_OK;
    enum mr_rc rc = mr_intake_seal(intake, now_ns, err);
    if (rc != MR_OK)
        return rc == MR_FULL ? MR_OK : rc; /* the disk is behind: sealed in a later turn */
    puller->sealed_ns = now_ns;
    uint64_t last = mr_log_next_sequence(puller->log) - 1;
    mr_log_writer_state(puller->log, &puller->state);
    mr_confirm_add(&puller->confirm, last, puller->state.seals, &intake->position);
    mr_meter_add(&puller->meter, last, events, intake->batch_ns);
    return MR_OK;
}

static enum mr_rc feed_on(struct mr_puller *puller, uint32_t *fed, struct mr_err *err)
{
    mr_log_writer_state(puller->log, &puller->state);
    if (puller->control.paused) {
        MR_CRASH("feed.held");
        return MR_OK;
    }
    return mr_feed_turn(&puller->feed, puller->state.written, FEED_EVENTS_TURN, fed, err);
}

/* The source gives up. What it gave before is in nobody's way: it goes into the log and, where
 * there is room, into the rings; the rest follows when the cause is mended. */
static void keep_taken(struct mr_puller *puller, uint64_t now_ns)
{
    struct mr_err err = {.rc = MR_OK};
    uint32_t fed;
    if (seal(puller, now_ns, &err) != MR_OK || feed_on(puller, &fed, &err) != MR_OK)
        mr_log_error("puller", "not_kept", "why=\"%s\"", err.text);
    follow_log(puller, now_ns);
}

static enum mr_rc read_source(struct mr_puller *puller, uint64_t now_ns, struct mr_err *err)
{
    puller->read_ns = now_ns;
    mr_intake_begin(&puller->intake, now_ns);
    enum mr_rc rc = puller->source->ops->poll(puller->source, &puller->intake, now_ns, err);
    if (rc != MR_OK && rc != MR_CLOSED) {
        keep_taken(puller, now_ns);
        return mr_err_prefix(err, "source %s", puller->source->ops->name);
    }
    if (rc == MR_CLOSED) {
        puller->source_ended = true;
        mr_log_info("puller", "source_ended", "source=%s", puller->source->ops->name);
    }
    return seal(puller, now_ns, err);
}

static enum stage stage_now(const struct mr_puller *puller)
{
    if (puller->control.directive == MR_DIRECTIVE_DRAIN)
        return puller->drained ? STAGE_DRAINED : STAGE_DRAINING;
    if (puller->control.paused)
        return STAGE_PAUSED;
    if (behind(puller) && puller->feed.stalled)
        return STAGE_BEHIND;
    return puller->source_ended ? STAGE_ENDED : STAGE_STREAMING;
}

/* Say it when it changes. A ring that is full for a moment is no news. */
static void show_stage(struct mr_puller *puller, uint64_t now_ns)
{
    enum stage stage = stage_now(puller);
    if (stage == puller->stage ||
        (stage == STAGE_BEHIND && now_ns - puller->read_ns < BEHIND_READ_NS))
        return;
    bool was_drained = puller->stage == STAGE_DRAINED;
    puller->stage = stage;
    mr_cell_say(puller->cell, "%s", stage_texts[stage]);
    if (stage == STAGE_DRAINED || was_drained)
        atomic_store_explicit(&puller->cell->state,
                              stage == STAGE_DRAINED ? MR_STATE_DRAINED : MR_STATE_READY,
                              memory_order_release);
    mr_log_debug("puller", "stage", "stage=\"%s\" log_last=%" PRIu64 " fed=%" PRIu64,
                 stage_texts[stage], puller->state.last, puller->feed.sequence);
}

/* DRAIN: all that was read is in the rings and on disk. However long the disk takes, the heart
 * beats.
 */
static void follow_drain(struct mr_puller *puller, uint64_t now_ns)
{
    if (puller->control.directive != MR_DIRECTIVE_DRAIN) {
        puller->drained = false;
        return;
    }
    if (puller->drained || behind(puller) || puller->intake.batch_count > 0)
        return;
    puller->drained = puller->state.durable_seals == puller->state.seals;
    if (puller->drained)
        MR_CRASH("drain.synced");
    else
        mr_log_hurry(puller->log, now_ns);
}

static enum mr_rc turn(struct mr_puller *puller, uint64_t now_ns, uint64_t *done,
                       struct mr_err *err)
{
    const struct mr_board_shm *board = puller->process->board.shm;
    uint64_t last_before = puller->state.last;
    uint32_t fed = 0;
    enum mr_rc rc = mr_control_turn(&puller->control, err);
    if (rc == MR_OK && may_read(puller, now_ns))
        rc = read_source(puller, now_ns, err);
    else if (rc == MR_OK)
        rc = seal(puller, now_ns, err);
    if (rc != MR_OK)
        return rc;
    rc = feed_on(puller, &fed, err);
    uint64_t checkpoint = atomic_load_explicit(&board->checkpoint, memory_order_acquire);
    if (rc == MR_OK)
        rc = mr_log_poll(puller->log, checkpoint, now_ns, err);
    if (rc != MR_OK)
        return rc;
    /* What was sealed in this turn was read at its start: the time between is what is measured. */
    follow_log(puller, puller->state.last != last_before ? mr_clock_ns() : now_ns);
    rc = mr_confirm_turn(&puller->confirm, puller->source, checkpoint, puller->state.durable_seals,
                         now_ns, err);
    if (rc == MR_OK)
        follow_drain(puller, now_ns);
    show_stage(puller, now_ns);
    *done = fed + (puller->state.last - last_before);
    return rc;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How long nothing is to be done, for all we know. */
static uint64_t wake_at(struct mr_puller *puller, uint64_t now_ns, uint64_t source_wake_ns)
{
    uint64_t wake_ns = now_ns + MR_BEAT_NS;
    if (may_read(puller, now_ns))
        wake_ns = earlier(wake_ns, source_wake_ns);
    else if (!puller->source_ended && puller->control.directive != MR_DIRECTIVE_DRAIN)
        wake_ns = earlier(wake_ns, puller->read_ns + BEHIND_READ_NS);
    if (puller->feed.stalled && behind(puller)) {
        wake_ns = earlier(wake_ns, now_ns + puller->full_wait_ns);
        puller->full_wait_ns = earlier(2 * puller->full_wait_ns, FULL_WAIT_MAX);
    }
    if (puller->state.durable < puller->state.last) {
        uint64_t commit_ns = puller->process->config.log_commit_interval;
        wake_ns = earlier(wake_ns, now_ns + (commit_ns > MR_NS_PER_MS ? commit_ns : MR_NS_PER_MS));
    }
    return wake_ns;
}

static void wait_for_work(struct mr_puller *puller, uint64_t now_ns)
{
    struct pollfd fds[3] = {
        {.fd = puller->process->signal_fd, .events = POLLIN},
        {.fd = mr_log_fd(puller->log), .events = POLLIN},
        {.fd = -1},
    };
    uint64_t source_wake_ns = UINT64_MAX;
    if (may_read(puller, now_ns))
        puller->source->ops->wait(puller->source, &fds[2], &source_wake_ns);
    uint64_t wake_ns = wake_at(puller, now_ns, source_wake_ns);
    if (wake_ns <= now_ns)
        return;
    uint64_t wait_ns = wake_ns - now_ns;
    const struct timespec timeout = {.tv_sec = (time_t)(wait_ns / MR_NS_PER_S),
                                     .tv_nsec = (long)(wait_ns % MR_NS_PER_S)};
    /* Whatever it returns, the next turn looks at everything. */
    (void)ppoll(fds, 3, &timeout, NULL);
}

enum mr_rc mr_puller_run(struct mr_puller *puller, struct mr_err *err)
{
    uint64_t now_ns = mr_clock_ns();
    while (mr_process_running(puller->process, now_ns)) {
        uint64_t done = 0;
        enum mr_rc rc = turn(puller, now_ns, &done, err);
        if (rc != MR_OK)
            return rc;
        now_ns = mr_clock_ns();
        if (done > 0) {
            puller->full_wait_ns = FULL_WAIT_MIN;
            continue;
        }
        wait_for_work(puller, now_ns);
        now_ns = mr_clock_ns();
    }
    return MR_OK;
}
