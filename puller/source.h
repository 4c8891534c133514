/* puller/source.h: where changes come from. A source is a struct that starts with struct mr_source
 * and a const table of operations; sources/NAME.c holds one each, sources.c the list of all. How to
 * add one: CONTRIBUTING.md. */
#ifndef MR_PULLER_SOURCE_H
#define MR_PULLER_SOURCE_H
#include <poll.h>

#include "common/config.h"
#include "log/log.h"
#include "proto/event.h"
#include "shm/board.h"

/* A place in the source, in the source's own bytes: stored with each batch of the log. */
struct mr_position {
    uint32_t len;
    uint8_t bytes[MR_LOG_POSITION_MAX];
};

/* Takes events from a source in source order. Given by the puller to poll.
 *   emit  takes one event (copies it); sequence, document hash and ingest times are filled in here.
 *         MR_OK; MR_FULL: not taken, return from poll with MR_OK and offer it again next time.
 *         MR_USAGE: a name is over its limit (proto/event.h), nothing was taken. An event too large
 *         for a ring is taken as a gap of its collection that says so.
 *   The source then states with position() the place behind the last event taken: after a restart
 * it is opened there and goes on with the next event. Any number of events may share a position()
 * call, but a source that can be killed between two events of one position must be able to skip
 * those already taken, so call it after each event, or make positions that count inside
 * transactions. */
struct mr_intake;
MR_MUST_USE enum mr_rc mr_intake_emit(struct mr_intake *intake, struct mr_event *event,
                                      struct mr_err *err);
void mr_intake_position(struct mr_intake *intake, const struct mr_position *position);

struct mr_source {
    const struct mr_source_ops *ops;
    const struct mr_config *config; /* borrowed, for the source's life */
    struct mr_cell_shm
        *cell; /* counters and say; SOURCE_EVENTS and SOURCE_BYTES are the intake's */
};

/* All are called from the puller's one thread. None may block longer than 50 ms: connecting
 * included. */
struct mr_source_ops {
    const char *name;
    /* MUST. Check the configuration, allocate; connect lazily in poll. after->len is 0 at the very
     * first start. MR_USAGE: the configuration is wrong (exit 100). */
    enum mr_rc (*open)(struct mr_source **out, const struct mr_config *config,
                       struct mr_cell_shm *cell, const struct mr_position *after,
                       struct mr_err *err);
    /* MUST. Emit what is there, at most until the intake is full or about 1 ms has passed. MR_OK:
     * went well, emitted or not; MR_CLOSED: the source has ended for good (end of file, count
     * reached); MR_USAGE, MR_FATAL: give up. Connection trouble is the source's own: it logs, backs
     * off and returns MR_OK until then. */
    enum mr_rc (*poll)(struct mr_source *source, struct mr_intake *intake, uint64_t now_ns,
                       struct mr_err *err);
    /* MUST. What to wait for when poll emitted nothing: a descriptor (fd -1: none) and a time at
     * which to poll again at the latest (UINT64_MAX: none). */
    void (*wait)(struct mr_source *source, struct pollfd *fd, uint64_t *wake_ns);
    /* MAY. Every event through the one with this position is delivered, and the position is on
     * disk: acknowledge it to the source. Called about once a second and whenever the checkpoint
     * moved. */
    enum mr_rc (*confirm)(struct mr_source *source, const struct mr_position *position,
                          struct mr_err *err);
    /* MUST. */
    void (*close)(struct mr_source *source);
};

/* Checked wrappers, and the list of all sources. */
const struct mr_source_ops *mr_source_find(const char *name); /* NULL: none of this name */
extern const struct mr_source_ops mr_source_postgres, mr_source_mongodb, mr_source_ndjson,
    mr_source_jetstream, mr_source_generator;
#endif
