#include "bench/ring_staged.h"

#include <stddef.h>

#include "bench/ring_rings.h"

/* The pipeline's rings: a matcher reads every event of ring 0 as stage 0 and writes a match for
 * every tenth into ring 1; a publisher reads in place the events that have a match, jumps over the
 * others and releases, as stage 1, what the matcher is done with. The matcher wakes it when its own
 * input runs dry or when so much of the ring waits for it: on a core that both share, a wake with
 * each batch would cost more than the batch (a third to a fifth of the rate is left). */
enum { MATCH_EVERY = 10, LAG_MAX = BENCH_RING_BYTES / 4 * 3 };

struct match {
    uint64_t position, end, number;
};

struct matcher {
    struct mr_ring_consumer events;
    struct mr_ring_producer matches;
    struct mr_doorbell_shm *bell; /* the publisher's; NULL: it is in this process */
    bool tells;                   /* writes matches: not for a publisher that reads all */
    uint64_t number, rung;        /* rung: position at the last bell */
};

struct publisher {
    struct mr_ring_consumer events, matches;
    uint64_t number;
};

static void open_matcher(const struct bench_rings *rings, struct matcher *out)
{
    *out = (struct matcher){0};
    bench_rings_consumer(rings, 0, 0, &out->events);
    bench_rings_producer(rings, 1, &out->matches);
}

static void close_matcher(struct matcher *matcher)
{
    mr_ring_detach_consumer(&matcher->events);
    mr_ring_detach_producer(&matcher->matches);
}

static void open_publisher(const struct bench_rings *rings, struct publisher *out)
{
    *out = (struct publisher){0};
    bench_rings_consumer(rings, 0, 1, &out->events);
    bench_rings_consumer(rings, 1, 0, &out->matches);
}

static void close_publisher(struct publisher *publisher)
{
    mr_ring_detach_consumer(&publisher->events);
    mr_ring_detach_consumer(&publisher->matches);
}

/* A batch at most. Matches are published before the events they name are released. */
static void match_turn(struct matcher *matcher, struct bench_job *job)
{
    struct mr_ring_consumer *events = &matcher->events;
    struct mr_ring_record record;
    uint64_t number = matcher->number, errors = 0;
    while (!mr_ring_release_due(events) && mr_ring_peek(events, &record) == MR_OK) {
        errors += bench_look(record.data, record.len, ++number);
        if (matcher->tells && number % MATCH_EVERY == 0) {
            /* Never full: it holds more matches than the event ring holds events. */
            struct match match = {record.position, record.end, number};
            errors += mr_ring_write(&matcher->matches, &match, sizeof match, 1, number) != MR_OK;
        }
        mr_ring_advance(events, &record);
    }
    job->errors += errors;
    bool dry = !mr_ring_release_due(events);
    if (number != matcher->number) {
        mr_ring_publish(&matcher->matches, events->position);
        mr_ring_release(events, events->position, number);
        matcher->number = number;
    }
    if (matcher->bell && events->position != matcher->rung &&
        (dry || events->position - matcher->rung >= LAG_MAX)) {
        matcher->rung = events->position;
        mr_doorbell_ring(matcher->bell);
    }
    if (dry)
        bench_pause();
}

/* The matches at or before position, in place. */
static void read_matches(struct publisher *publisher, struct bench_job *job, uint64_t position)
{
    struct mr_ring_record record, event;
    while (mr_ring_peek(&publisher->matches, &record) == MR_OK) {
        struct match match;
        memcpy(&match, record.data, sizeof match);
        if (match.end > position)
            return;
        bool good = mr_ring_at(&publisher->events, match.position, &event) == MR_OK &&
                    event.end == match.end && bench_look(event.data, event.len, match.number) == 0;
        job->errors += !good;
        mr_ring_advance(&publisher->matches, &record);
    }
}

/* False: nothing to do. */
static bool publish_turn(struct publisher *publisher, struct bench_job *job)
{
    struct mr_ring_consumer *events = &publisher->events;
    /* Before the matches are looked at: then all up to here are in the match ring. */
    uint64_t position = mr_ring_stage_position(events->shm, 0);
    if (position == events->position)
        return false;
    read_matches(publisher, job, position);
    publisher->number = position / mr_ring_record_bytes(job->len); /* all are of one size */
    mr_ring_jump(events, position, publisher->number);
    mr_ring_release(events, position, publisher->number);
    if (mr_ring_unreleased(&publisher->matches) > 0)
        mr_ring_release(&publisher->matches, publisher->matches.position, publisher->number);
    return true;
}

/* The same as stage 1 of a pipeline in which everything matches: reads each record, in order. */
static bool publish_all_turn(struct publisher *publisher, struct bench_job *job)
{
    uint64_t count = bench_look_at_batch(&publisher->events, job, publisher->number);
    if (count == 0)
        return false;
    publisher->number += count;
    mr_ring_release(&publisher->events, publisher->events.position, publisher->number);
    return true;
}

typedef bool publish_work(struct publisher *publisher, struct bench_job *job);

static void match_until(struct matcher *matcher, struct bench_job *job, uint64_t number)
{
    while (matcher->number < number)
        match_turn(matcher, job);
    match_turn(matcher, job); /* finds the ring dry, and says so */
}

static inline void match_with(struct bench_rings *rings, struct bench_job *job, bool tells)
{
    struct matcher matcher;
    open_matcher(rings, &matcher);
    matcher.tells = tells;
    matcher.bell = rings->bells;
    match_until(&matcher, job, job->warmup);
    bench_begin(job);
    match_until(&matcher, job, job->count);
    bench_end(job);
    close_matcher(&matcher);
}

static void match(void *state, struct bench_job *job)
{
    match_with(state, job, true);
}

static void match_silent(void *state, struct bench_job *job)
{
    match_with(state, job, false);
}

/* The publisher has its core only as long as it has something to do: it sleeps at once, since the
 * matcher needs that core. */
static inline void publish_until(struct publisher *publisher, struct bench_job *job,
                                 uint64_t number, struct mr_doorbell_shm *bell, publish_work *work)
{
    while (publisher->number < number) {
        if (work(publisher, job))
            continue;
        mr_doorbell_announce(bell);
        if (work(publisher, job))
            mr_doorbell_cancel(bell);
        else
            mr_doorbell_wait(bell, 100 * UINT64_C(1000000));
    }
}

static inline void publish_with(struct bench_rings *rings, struct bench_job *job,
                                publish_work *work)
{
    struct publisher publisher;
    open_publisher(rings, &publisher);
    publish_until(&publisher, job, job->warmup, rings->bells, work);
    bench_begin(job);
    publish_until(&publisher, job, job->count, rings->bells, work);
    bench_end(job);
    close_publisher(&publisher);
}

static void publish(void *state, struct bench_job *job)
{
    publish_with(state, job, publish_turn);
}

static void publish_all(void *state, struct bench_job *job)
{
    publish_with(state, job, publish_all_turn);
}

/* Both stages in turn in one process. */
static inline void both_with(struct bench_rings *rings, struct bench_job *job, publish_work *work)
{
    struct matcher matcher;
    struct publisher publisher;
    open_matcher(rings, &matcher);
    open_publisher(rings, &publisher);
    matcher.tells = work == publish_turn;
    uint64_t goal = job->warmup;
    for (int part = 0; part < 2; part++, goal = job->count) {
        while (publisher.number < goal) {
            if (matcher.number < goal)
                match_turn(&matcher, job);
            work(&publisher, job);
        }
        if (part == 0)
            bench_begin(job);
    }
    bench_end(job);
    close_matcher(&matcher);
    close_publisher(&publisher);
}

static void both(void *state, struct bench_job *job)
{
    both_with(state, job, publish_turn);
}

static void both_all(void *state, struct bench_job *job)
{
    both_with(state, job, publish_all_turn);
}

static void *create(uint32_t len, int pings)
{
    (void)len;
    (void)pings;
    return bench_rings_create(2, 2);
}

const struct bench_channel *bench_staged(uint32_t *count)
{
    static const struct bench_channel rows[] = {
        {"staged", "3 processes, the publisher reads matches", BENCH_STAGED, 0, 0, create,
         bench_rings_destroy, bench_rings_produce, match, publish, NULL, NULL},
        {"staged in one", "2 processes, matcher and publisher in turn in one", BENCH_STAGED, 0, 0,
         create, bench_rings_destroy, bench_rings_produce, both, NULL, NULL, NULL},
        {"staged all", "3 processes, the publisher reads every record", BENCH_STAGED, 0, 0, create,
         bench_rings_destroy, bench_rings_produce, match_silent, publish_all, NULL, NULL},
        {"staged all in one", "2 processes, matcher and publisher in turn in one", BENCH_STAGED, 0,
         0, create, bench_rings_destroy, bench_rings_produce, both_all, NULL, NULL, NULL},
    };
    *count = sizeof rows / sizeof rows[0];
    return rows;
}
