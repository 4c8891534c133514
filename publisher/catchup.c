#include "publisher/catchup.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "proto/event.h"

enum { DIR_MAX = 4096 };
/* A batch ends behind so many bytes or so much time, whichever comes first, so that catch-ups take
 * turns and an unsubscribe or a close is never far away. */
#define BATCH_BYTES     (256u << 10)
#define BATCH_BYTES_MAX (1u << 20)
#define BATCH_NS        (4 * MR_NS_PER_MS)
#define CLOCK_EVERY     64u /* events between two looks at the clock */

STAILQ_HEAD(catchup_queue, mr_catchup);

struct mr_catchup_worker {
    char dir[DIR_MAX];
    struct mr_doorbell_shm *bell;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t submitted;
    bool stop;                    /* lock */
    struct mr_log_reader *reader; /* thread; of those who share one */
    struct catchup_queue todo;    /* lock */
    struct catchup_queue done;    /* lock */
    _Atomic uint32_t done_count;
};

enum mr_rc mr_catchup_create(struct mr_catchup **out, struct mr_err *err)
{
    struct mr_catchup *catchup = calloc(1, sizeof *catchup);
    if (!catchup)
        return mr_fail(err, MR_FATAL, "make a catch-up");
    mr_backlog_init(&catchup->batch, BATCH_BYTES_MAX);
    *out = catchup;
    return MR_OK;
}

void mr_catchup_destroy(struct mr_catchup **catchup)
{
    struct mr_catchup *c = *catchup;
    for (uint32_t i = 0; i < c->member_count; i++)
        free(c->members[i].program);
    free(c->members);
    if (c->reader)
        mr_log_reader_close(&c->reader);
    if (c->engine)
        mr_watch_destroy(&c->engine);
    if (c->survey_engine)
        mr_watch_destroy(&c->survey_engine);
    mr_survey_fini(&c->survey);
    mr_backlog_fini(&c->batch);
    mr_backlog_fini(&c->pump.hold);
    free(c->pump.hits);
    free(c);
    *catchup = NULL;
}

enum mr_rc mr_catchup_add(struct mr_catchup *c, const struct mr_catchup_member *member,
                          struct mr_err *err)
{
    MR_ASSERT(!c->engine);
    if (c->member_count == c->member_max) {
        uint32_t max = c->member_max ? c->member_max * 2 : 16;
        struct mr_catchup_member *members = realloc(c->members, max * sizeof *members);
        if (!members)
            return mr_fail(err, MR_FATAL, "add to a catch-up");
        c->members = members;
        c->member_max = max;
    }
    void *copy = malloc(member->program_len);
    if (!copy)
        return mr_fail(err, MR_FATAL, "add to a catch-up");
    memcpy(copy, member->program, member->program_len);
    struct mr_catchup_member *own = &c->members[c->member_count++];
    *own = *member;
    own->program = copy;
    return MR_OK;
}

static enum mr_rc build(struct mr_catchup *c)
{
    enum mr_rc rc = mr_watch_create(&c->engine, &c->err);
    if (rc == MR_OK && c->snapshot)
        rc = mr_watch_create(&c->survey_engine, &c->err);
    for (uint32_t i = 0; rc == MR_OK && i < c->member_count; i++) {
        struct mr_catchup_member *member = &c->members[i];
        rc = mr_watch_add(c->engine, member->subscription, member->flags, member->program,
                          member->program_len);
        if (rc == MR_OK && c->snapshot)
            rc = mr_watch_add(c->survey_engine, member->subscription, 0, member->program,
                              member->program_len);
        if (rc != MR_OK)
            rc = mr_reject(&c->err, rc, "add a subscription to the catch-up: %s", mr_rc_name(rc));
    }
    return rc;
}

/* Build the engine, once; the programs are in it then. */
static enum mr_rc prepare(struct mr_catchup *c)
{
    if (c->engine)
        return MR_OK;
    enum mr_rc rc = build(c);
    if (rc != MR_OK) {
        if (c->engine)
            mr_watch_destroy(&c->engine);
        if (c->survey_engine)
            mr_watch_destroy(&c->survey_engine);
        return rc == MR_FATAL ? MR_RETRY : rc; /* out of memory */
    }
    for (uint32_t i = 0; i < c->member_count; i++) {
        free(c->members[i].program);
        c->members[i].program = NULL;
    }
    return MR_OK;
}

/* Have a reader in front of what is to be read next. */
static enum mr_rc position(struct mr_catchup *c, struct mr_catchup_worker *worker)
{
    if (c->shares_reader) {
        c->reader = worker->reader;
        worker->reader = NULL;
    }
    if (!c->reader || c->shares_reader)
        c->seek = true;
    enum mr_rc rc = c->reader ? MR_OK : mr_log_reader_open(&c->reader, worker->dir, &c->err);
    if (rc != MR_OK || !c->seek)
        return rc;
    uint64_t floor, through = c->snapshot && !c->surveyed ? c->surveyed_through : c->batch_through;
    rc = mr_log_seek(c->reader, through, &floor, &c->err);
    c->seek = rc != MR_OK;
    return rc;
}

static enum mr_rc decode(struct mr_catchup *c, const struct mr_log_record *record,
                         struct mr_event *event)
{
    if (mr_event_decode(record->data, record->len, event) == MR_OK)
        return MR_OK;
    return mr_reject(&c->err, MR_CORRUPT, "read the log: record %" PRIu64 " is no event",
                     record->sequence);
}

/* Whom does it concern? What is part of the state enters it. */
static uint32_t match(struct mr_catchup *c, const struct mr_event *event, uint64_t sequence,
                      const uint64_t **ids)
{
    if (!c->snapshot || sequence > c->snapshot_through)
        return mr_watch_match(c->engine, event, ids);
    if (!mr_survey_keeps(&c->survey, sequence))
        return 0;
    const struct mr_catchup_member *member = &c->members[0];
    bool told = (member->flags & MR_SUBSCRIBE_TRANSITIONS) != 0 && event->head.op != MR_OP_GAP;
    c->snapshot_id =
        mr_match_tagged(member->subscription, told ? MR_TRANSITION_ENTER : MR_TRANSITION_NONE);
    *ids = &c->snapshot_id;
    return 1;
}

/* Match one record and keep it when it concerns somebody. MR_FULL: it did not fit, the batch ends
 * in front of it. */
static enum mr_rc take(struct mr_catchup *c, const struct mr_log_record *record)
{
    struct mr_event event;
    const uint64_t *ids;
    if (decode(c, record, &event) != MR_OK)
        return MR_CORRUPT;
    uint32_t count = match(c, &event, record->sequence, &ids);
    if (count == 0)
        return MR_OK;
    enum mr_rc rc =
        mr_backlog_push(&c->batch, &(struct mr_backlog_entry){.sequence = record->sequence,
                                                              .ids = ids,
                                                              .id_count = count,
                                                              .event = record->data,
                                                              .event_len = record->len});
    if (rc == MR_FULL && c->batch.count == 0)
        return mr_reject(&c->err, MR_RETRY, "catch up: out of memory");
    return rc;
}

static enum mr_rc read_batch(struct mr_catchup *c)
{
    uint64_t until_ns = mr_clock_ns() + BATCH_NS;
    while (c->batch.len < BATCH_BYTES) {
        struct mr_log_record record;
        enum mr_rc rc = mr_log_next(c->reader, &record, &c->err);
        if (rc == MR_OK)
            rc = take(c, &record);
        if (rc == MR_FULL) {
            c->seek = true;
            return MR_OK;
        }
        if (rc != MR_OK)
            return rc;
        c->batch_through = record.sequence;
        c->batch_read++;
        if (c->snapshot && record.sequence == c->snapshot_through)
            return MR_OK; /* the end of it is told before what follows */
        if (c->batch_read % CLOCK_EVERY == 0 && mr_clock_ns() >= until_ns)
            return MR_OK;
    }
    return MR_OK;
}

/* The first pass: what is the current state through the end of the log? */
static enum mr_rc survey(struct mr_catchup *c)
{
    uint64_t until_ns = mr_clock_ns() + BATCH_NS;
    struct mr_log_record record;
    struct mr_event event;
    const uint64_t *ids;
    enum mr_rc rc;
    while ((rc = mr_log_next(c->reader, &record, &c->err)) == MR_OK) {
        rc = decode(c, &record, &event);
        bool matches = rc == MR_OK && mr_watch_match(c->survey_engine, &event, &ids) > 0 &&
                       (mr_match_tag(ids[0]) & MR_TAG_ALONE) == 0;
        if (rc == MR_OK && mr_survey_take(&c->survey, &event, matches) != MR_OK)
            rc = mr_reject(&c->err, MR_FATAL, "read a snapshot: over %d documents, or no memory",
                           MR_SURVEY_DOCUMENTS_MAX);
        if (rc != MR_OK)
            return rc;
        c->surveyed_through = record.sequence;
        if (++c->batch_read % CLOCK_EVERY == 0 && mr_clock_ns() >= until_ns)
            return MR_OK;
    }
    if (rc != MR_AGAIN)
        return rc;
    c->surveyed = c->seek = true;
    c->snapshot_through = c->surveyed_through;
    if (mr_survey_finish(&c->survey) == MR_OK)
        return MR_OK;
    return mr_reject(&c->err, MR_FATAL, "read a snapshot: out of memory");
}

static enum mr_catchup_outcome outcome_of(enum mr_rc rc, const struct mr_err *err)
{
    bool is_short = rc == MR_RETRY ||
                    (rc == MR_FATAL && (err->errno_value == EMFILE || err->errno_value == ENFILE ||
                                        err->errno_value == ENOMEM));
    if (rc == MR_OK)
        return MR_CATCHUP_MORE;
    if (rc == MR_AGAIN)
        return MR_CATCHUP_END;
    return is_short ? MR_CATCHUP_SHORT : MR_CATCHUP_LOST;
}

static void step(struct mr_catchup *c, struct mr_catchup_worker *worker)
{
    c->batch_read = 0;
    if (c->batch_through < c->from)
        c->batch_through = c->from;
    enum mr_rc rc = prepare(c);
    if (rc == MR_OK)
        rc = position(c, worker);
    if (rc == MR_OK)
        rc = c->snapshot && !c->surveyed ? survey(c) : read_batch(c);
    c->outcome = outcome_of(rc, &c->err);
    if (c->outcome == MR_CATCHUP_SHORT && c->reader)
        mr_log_reader_close(&c->reader);
    if (!c->shares_reader || !c->reader)
        return;
    worker->reader = c->reader;
    c->reader = NULL;
}

static void *run(void *context)
{
    struct mr_catchup_worker *worker = context;
    pthread_mutex_lock(&worker->lock);
    while (!worker->stop) {
        struct mr_catchup *c = STAILQ_FIRST(&worker->todo);
        if (!c) {
            pthread_cond_wait(&worker->submitted, &worker->lock);
            continue;
        }
        STAILQ_REMOVE_HEAD(&worker->todo, queue);
        pthread_mutex_unlock(&worker->lock);
        step(c, worker);
        pthread_mutex_lock(&worker->lock);
        STAILQ_INSERT_TAIL(&worker->done, c, queue);
        atomic_fetch_add_explicit(&worker->done_count, 1, memory_order_release);
        mr_doorbell_ring(worker->bell);
    }
    pthread_mutex_unlock(&worker->lock);
    return NULL;
}

enum mr_rc mr_catchup_worker_create(struct mr_catchup_worker **out, const char *dir,
                                    struct mr_doorbell_shm *bell, struct mr_err *err)
{
    struct mr_catchup_worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return mr_fail(err, MR_FATAL, "make the catch-up thread");
    worker->bell = bell;
    STAILQ_INIT(&worker->todo);
    STAILQ_INIT(&worker->done);
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->submitted, NULL);
    int len = snprintf(worker->dir, sizeof worker->dir, "%s", dir);
    MR_ASSERT(len > 0 && (size_t)len < sizeof worker->dir);
    int error = pthread_create(&worker->thread, NULL, run, worker);
    if (error != 0) {
        free(worker);
        return mr_reject(err, MR_FATAL, "start the catch-up thread: %s", strerror(error));
    }
    *out = worker;
    return MR_OK;
}

void mr_catchup_worker_destroy(struct mr_catchup_worker **worker)
{
    struct mr_catchup_worker *w = *worker;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->submitted);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    if (w->reader)
        mr_log_reader_close(&w->reader);
    pthread_cond_destroy(&w->submitted);
    pthread_mutex_destroy(&w->lock);
    free(w);
    *worker = NULL;
}

void mr_catchup_submit(struct mr_catchup_worker *worker, struct mr_catchup *catchup)
{
    MR_ASSERT(catchup->batch.count == 0);
    pthread_mutex_lock(&worker->lock);
    STAILQ_INSERT_TAIL(&worker->todo, catchup, queue);
    pthread_cond_signal(&worker->submitted);
    pthread_mutex_unlock(&worker->lock);
}

bool mr_catchup_waiting(struct mr_catchup_worker *worker)
{
    return atomic_load_explicit(&worker->done_count, memory_order_acquire) > 0;
}

struct mr_catchup *mr_catchup_collect(struct mr_catchup_worker *worker)
{
    if (!mr_catchup_waiting(worker))
        return NULL;
    pthread_mutex_lock(&worker->lock);
    struct mr_catchup *c = STAILQ_FIRST(&worker->done);
    if (c) {
        STAILQ_REMOVE_HEAD(&worker->done, queue);
        atomic_fetch_sub_explicit(&worker->done_count, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&worker->lock);
    return c;
}
