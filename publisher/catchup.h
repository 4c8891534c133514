/* publisher/catchup.h: subscriptions of one gateway that catch up from the log together, and the
 * thread that reads and matches for them. A catch-up belongs in turn to the pump and to the thread:
 * submit hands it over, collect takes it back; nobody else's fields are touched meanwhile. */
#ifndef MR_PUBLISHER_CATCHUP_H
#define MR_PUBLISHER_CATCHUP_H
#include <sys/queue.h>

#include "log/log.h"
#include "matcher/engine/watch.h"
#include "publisher/backlog.h"
#include "publisher/survey.h"
#include "shm/doorbell.h"

enum mr_catchup_outcome {
    MR_CATCHUP_MORE,  /* there is more to read */
    MR_CATCHUP_END,   /* the end of the log, for now */
    MR_CATCHUP_SHORT, /* descriptors or memory ran out; err says. Nothing is lost: read again */
    MR_CATCHUP_LOST,  /* the log no longer reaches back, or is damaged; err says */
};

struct mr_catchup_member {
    uint64_t subscription;
    uint32_t flags; /* enum mr_subscribe_flag */
    uint32_t program_len;
    void *program; /* owned */
};

/* What the pump keeps with a catch-up; the thread never looks at it. resume.c. */
enum mr_catchup_phase {
    MR_CATCHUP_FORMING,    /* others of the same gateway may still join */
    MR_CATCHUP_READING,    /* the thread has it */
    MR_CATCHUP_DELIVERING, /* a batch is here */
    MR_CATCHUP_DELIVERED,  /* it is delivered: read on, or go live */
};
struct mr_gateway;
struct mr_catchup_pump {
    enum mr_catchup_phase phase;
    struct mr_gateway *gateway;         /* NULL: closed */
    TAILQ_ENTRY(mr_catchup) of_gateway; /* while it is set */
    uint32_t live_count;                /* members whose subscriptions are still there */
    bool told;                          /* of a snapshot: its end has been */
    bool told_short;                    /* the log has a line of what ran out */
    bool surveys;                       /* the same: it is one of the few in their first pass */
    uint32_t unapplied;                 /* of these: not yet known to every shard */
    uint64_t shards_after;              /* behind this every shard matches for all members */
    uint64_t through;                   /* delivered */
    uint64_t formed_ns, joined_ns, submitted_ns;
    bool holding; /* live matches behind hold_after go into hold */
    uint64_t hold_after;
    struct mr_backlog hold;
    uint64_t *hits; /* of the event being merged */
    uint32_t hit_count, hit_max;
};

struct mr_catchup {
    struct mr_catchup_pump pump;
    TAILQ_ENTRY(mr_catchup) all;    /* pump */
    STAILQ_ENTRY(mr_catchup) queue; /* worker's lock */
    /* Whoever owns the catch-up. */
    struct mr_catchup_member *members;
    uint32_t member_count, member_max;
    uint64_t from;      /* the first read begins behind this sequence */
    bool shares_reader; /* all of these have one reader together, which costs a seek a batch */
    struct mr_log_reader *reader;
    struct mr_watch *engine;
    struct mr_backlog batch; /* what was read and matched, ascending */
    uint64_t batch_through;  /* the batch is complete through here */
    uint64_t batch_read;     /* events read for it */
    /* Of a snapshot: the current state comes first, through snapshot_through, which is known once
     * it is surveyed. One member, and from is 0. */
    bool snapshot, surveyed;
    uint64_t snapshot_through, surveyed_through, snapshot_id;
    struct mr_survey survey;
    struct mr_watch *survey_engine; /* what matches now, whatever its member asked to be told */
    bool seek;                      /* the reader has to go back to behind batch_through */
    enum mr_catchup_outcome outcome;
    struct mr_err err;
};

/* MR_FATAL: out of memory. */
MR_MUST_USE enum mr_rc mr_catchup_create(struct mr_catchup **out, struct mr_err *err);
void mr_catchup_destroy(struct mr_catchup **catchup);
/* The member's program is copied. Only before the first submit. */
MR_MUST_USE enum mr_rc mr_catchup_add(struct mr_catchup *catchup,
                                      const struct mr_catchup_member *member, struct mr_err *err);

struct mr_catchup_worker;
/* Starts the thread. dir: of the log; bell: rung when there is something to collect. */
MR_MUST_USE enum mr_rc mr_catchup_worker_create(struct mr_catchup_worker **out, const char *dir,
                                                struct mr_doorbell_shm *bell, struct mr_err *err);
/* Ends the thread; whatever was submitted belongs to the pump again. */
void mr_catchup_worker_destroy(struct mr_catchup_worker **worker);
/* Read on: the thread fills the batch, which must be empty. */
void mr_catchup_submit(struct mr_catchup_worker *worker, struct mr_catchup *catchup);
/* The next one that is back; NULL: none. */
struct mr_catchup *mr_catchup_collect(struct mr_catchup_worker *worker);
bool mr_catchup_waiting(struct mr_catchup_worker *worker); /* is there something to collect? */
#endif
