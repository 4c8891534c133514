/* Rings under races and deaths: three threads on one ring (for ThreadSanitizer), and a small
 * pipeline of three processes, one of which is killed at a random moment and replaced, hundreds of
 * times. MR_STRESS_SEED=N reruns a sequence of kills, MR_STRESS_KILLS=N makes it longer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "shm/ring.h"
#include "tests/leftovers.h"

enum { LEN_MAX = 1500, MATCH_EVERY = 3 };

static char instance[MR_INSTANCE_MAX];
static const struct mr_ring_options event_options = {
    .part = "e0", .capacity = 65536, .stage_count = 2, .publish_bytes = 4096};
static const struct mr_ring_options match_options = {
    .part = "m0", .capacity = 65536, .stage_count = 1, .publish_bytes = 256};

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Record n has a length and bytes that follow from n, so that any reader can check all of it. */
static uint32_t event_len(uint64_t n)
{
    return 16 + (uint32_t)(mix(n) % (LEN_MAX - 16));
}

static void event_fill(uint8_t *data, uint64_t n)
{
    uint32_t len = event_len(n);
    memcpy(data, &n, sizeof n);
    memset(data + 8, (int)(mix(n + 7) & 0xff), len - 8);
}

static bool event_is(const struct mr_ring_record *record, uint64_t n)
{
    const uint8_t *data = record->data;
    uint64_t number;
    memcpy(&number, data, sizeof number);
    uint8_t byte = (uint8_t)(mix(n + 7) & 0xff);
    return record->len == event_len(n) && number == n && data[8] == byte &&
           memcmp(data + 8, data + 9, record->len - 9) == 0;
}

static enum mr_rc write_event(struct mr_ring_producer *ring, uint64_t n)
{
    uint8_t copy[LEN_MAX];
    if (mix(n) & 1) { /* both ways in */
        event_fill(copy, n);
        return mr_ring_write(ring, copy, event_len(n), 1, n);
    }
    void *out;
    enum mr_rc rc = mr_ring_claim(ring, event_len(n), &out);
    if (rc != MR_OK)
        return rc;
    event_fill(out, n);
    mr_ring_commit(ring, event_len(n), 1, 0, n);
    return MR_OK;
}

/* ---- threads ---- */

enum { THREAD_EVENTS = 200000 };

struct threads {
    struct mr_ring_producer producer;
    struct mr_ring_consumer stages[2];
    _Atomic uint32_t wrong;
};

static void *produce_thread(void *argument)
{
    struct threads *t = argument;
    for (uint64_t n = 1; n <= THREAD_EVENTS; n++) {
        while (write_event(&t->producer, n) == MR_FULL)
            sched_yield();
        if (mix(n + 3) % 16 == 0)
            mr_ring_publish(&t->producer, n);
    }
    mr_ring_publish(&t->producer, THREAD_EVENTS);
    return NULL;
}

static void consume(struct threads *t, uint32_t stage)
{
    struct mr_ring_consumer *ring = &t->stages[stage];
    for (uint64_t n = 1; n <= THREAD_EVENTS && atomic_load(&t->wrong) == 0;) {
        struct mr_ring_record record;
        enum mr_rc rc = mr_ring_peek(ring, &record);
        if (rc == MR_OK) {
            if (!event_is(&record, n))
                atomic_store(&t->wrong, 1);
            mr_ring_advance(ring, &record);
            n++;
        } else if (rc != MR_AGAIN) {
            atomic_store(&t->wrong, 1);
        }
        if (rc == MR_AGAIN || mr_ring_release_due(ring))
            mr_ring_release(ring, ring->position, n - 1);
        if (rc == MR_AGAIN)
            sched_yield();
    }
    mr_ring_release(ring, ring->position, THREAD_EVENTS);
}

static void *first_thread(void *argument)
{
    consume(argument, 0);
    return NULL;
}

static void *second_thread(void *argument)
{
    consume(argument, 1);
    return NULL;
}

static void three_threads_see_every_record_whole_and_in_order(void **state)
{
    (void)state;
    static struct threads t;
    struct mr_err err = {0};
    uint64_t note;
    assert_int_equal(mr_ring_create(instance, 1, &event_options, &err), MR_OK);
    assert_int_equal(mr_ring_attach_producer(&t.producer, instance, &event_options, &note, &err),
                     MR_OK);
    for (uint32_t s = 0; s < 2; s++) {
        struct mr_ring_consumer *ring = &t.stages[s];
        assert_int_equal(mr_ring_attach_consumer(ring, instance, &event_options, s, &err), MR_OK);
        /* One mapping for all, or ThreadSanitizer would see three rings that have nothing in
         * common. */
        mr_segment_detach(&ring->segment);
        ring->shm = t.producer.shm;
        ring->data = t.producer.data;
    }
    void *(*const starts[])(void *) = {produce_thread, first_thread, second_thread};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, starts[i], &t), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&t.wrong), 0);
    for (uint32_t s = 0; s < 2; s++) {
        assert_int_equal(t.stages[s].count, THREAD_EVENTS);
        assert_int_equal(mr_ring_stage_note(t.producer.shm, s), THREAD_EVENTS);
        assert_int_equal(mr_ring_stage_position(t.producer.shm, s), t.producer.tail);
    }
    mr_ring_detach_producer(&t.producer);
    mr_segment_remove_all(instance);
}

/* ---- processes ---- */

enum role { FEEDER, MATCHER, PUBLISHER, ROLES };
static const char *const role_names[] = {"feeder", "matcher", "publisher"};

/* What outlives the processes; everything else is private to one life. */
struct shared {
    struct mr_doorbell_shm bells[ROLES];
    alignas(128) _Atomic uint64_t last;      /* the feeder stops behind it */
    alignas(128) _Atomic uint64_t delivered; /* publisher: highest event it has seen */
    _Atomic uint64_t repeated;               /* publisher: events seen again after a death */
};
static struct shared *shared;

/* A child that finds something wrong says what, and its exit code fails the test. */
#define EXPECT(condition)                                                             \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "pid %d, line %d: %s\n", getpid(), __LINE__, #condition); \
            _exit(3);                                                                 \
        }                                                                             \
    } while (0)

static void rest(enum role role)
{
    struct mr_doorbell_shm *bell = &shared->bells[role];
    mr_doorbell_announce(bell);
    mr_doorbell_wait(bell, MR_NS_PER_MS); /* short: the look between is left out on purpose */
}

static void feed(void)
{
    struct mr_ring_producer ring;
    struct mr_err err = {0};
    uint64_t note;
    EXPECT(mr_ring_attach_producer(&ring, instance, &event_options, &note, &err) == MR_OK);
    mr_ring_producer_bells(&ring, &shared->bells[MATCHER]);
    EXPECT(ring.count ==
           note); /* record n is the n-th: tail, note and count are of one publication */
    for (uint64_t n = note;;) {
        uint64_t last = atomic_load(&shared->last);
        enum mr_rc rc = n < last ? write_event(&ring, n + 1) : MR_FULL;
        if (rc == MR_OK) {
            n++;
            if (mix(n ^ (uint64_t)getpid()) % 8 == 0)
                mr_ring_publish(&ring, n);
            continue;
        }
        EXPECT(rc == MR_FULL);
        mr_ring_publish(&ring, n);
        mr_ring_set_through(&ring, n);
        rest(FEEDER);
    }
}

struct match {
    uint64_t number, position;
};

/* Publish the matches first, then release: in this order a death repeats nothing. */
static void finish_turn(struct mr_ring_producer *matches, struct mr_ring_consumer *events)
{
    mr_ring_publish(matches, events->position);
    mr_ring_release(events, events->position, events->count);
}

static void match(void)
{
    struct mr_ring_producer matches;
    struct mr_ring_consumer events;
    struct mr_err err = {0};
    uint64_t done;
    EXPECT(mr_ring_attach_producer(&matches, instance, &match_options, &done, &err) == MR_OK);
    EXPECT(mr_ring_attach_consumer(&events, instance, &event_options, 0, &err) == MR_OK);
    mr_ring_producer_bells(&matches, &shared->bells[PUBLISHER]);
    mr_ring_consumer_bells(&events, &shared->bells[PUBLISHER]);
    EXPECT(mr_ring_stage_note(events.shm, 0) <= events.count); /* may lag, never leads */
    EXPECT(events.position <= done);
    EXPECT(mr_ring_skip_to(&events, done) == MR_OK);
    EXPECT(matches.count == events.count / MATCH_EVERY); /* every event once, also across deaths */
    for (;;) {
        struct mr_ring_record record;
        enum mr_rc rc = mr_ring_peek(&events, &record);
        EXPECT(rc == MR_OK || rc == MR_AGAIN);
        if (rc == MR_AGAIN) {
            finish_turn(&matches, &events);
            rest(MATCHER);
            continue;
        }
        uint64_t n = events.count + 1;
        EXPECT(event_is(&record, n));
        struct match out = {n, record.position};
        while (n % MATCH_EVERY == 0 &&
               (rc = mr_ring_write(&matches, &out, sizeof out, 2, record.end)) != MR_OK) {
            EXPECT(rc == MR_FULL);
            finish_turn(&matches, &events);
            rest(MATCHER);
        }
        mr_ring_advance(&events, &record);
        if (mr_ring_release_due(&events))
            finish_turn(&matches, &events);
    }
}

/* The match for event n, which must be the next one: it was published before n was released. */
static void take_match(struct mr_ring_consumer *matches, const struct mr_ring_consumer *events,
                       uint64_t n)
{
    struct mr_ring_record record, event;
    struct match match;
    EXPECT(mr_ring_peek(matches, &record) == MR_OK);
    EXPECT(record.len == sizeof match && record.type == 2);
    memcpy(&match, record.data, sizeof match);
    EXPECT(match.number == n);
    EXPECT(mr_ring_at(events, match.position, &event) == MR_OK);
    EXPECT(event_is(&event, n));
    mr_ring_advance(matches, &record);
}

static void deliver(uint64_t n)
{
    uint64_t delivered = atomic_load(&shared->delivered);
    EXPECT(n <= delivered + 1); /* nothing is lost */
    if (n <= delivered) {
        atomic_fetch_add(&shared->repeated, 1);
        return;
    }
    atomic_store(&shared->delivered, n);
}

/* The events first: else a match could be gone whose event is still to come. */
static void release_both(struct mr_ring_consumer *matches, struct mr_ring_consumer *events)
{
    mr_ring_release(events, events->position, events->count);
    mr_ring_release(matches, matches->position, matches->count);
}

static void publish(void)
{
    struct mr_ring_consumer matches, events;
    struct mr_err err = {0};
    EXPECT(mr_ring_attach_consumer(&events, instance, &event_options, 1, &err) == MR_OK);
    EXPECT(mr_ring_attach_consumer(&matches, instance, &match_options, 0, &err) == MR_OK);
    mr_ring_consumer_bells(&events, &shared->bells[FEEDER]);
    mr_ring_consumer_bells(&matches, &shared->bells[MATCHER]);
    EXPECT(mr_ring_stage_note(events.shm, 1) <= events.count);
    EXPECT(matches.count <= events.count / MATCH_EVERY);
    while (matches.count < events.count / MATCH_EVERY) { /* released as events already */
        struct mr_ring_record record;
        EXPECT(mr_ring_peek(&matches, &record) == MR_OK);
        mr_ring_advance(&matches, &record);
    }
    for (;;) {
        struct mr_ring_record record;
        enum mr_rc rc = mr_ring_peek(&events, &record);
        EXPECT(rc == MR_OK || rc == MR_AGAIN);
        if (rc == MR_AGAIN) {
            release_both(&matches, &events);
            rest(PUBLISHER);
            continue;
        }
        uint64_t n = events.count + 1;
        EXPECT(event_is(&record, n));
        if (n % MATCH_EVERY == 0)
            take_match(&matches, &events, n);
        deliver(n);
        mr_ring_advance(&events, &record);
        if (mr_ring_release_due(&events))
            release_both(&matches, &events);
    }
}

static pid_t start(enum role role)
{
    pid_t parent = getpid(), pid = fork();
    assert_true(pid >= 0);
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(4);
    void (*const mains[])(void) = {feed, match, publish};
    mains[role]();
    _exit(0);
}

/* Kill one and wait for it. It must have lived until then: a life that ended by itself found a
 * fault. */
static void end(pid_t pid, enum role role, uint64_t seed)
{
    int status;
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return;
    fail_msg("%s ended by itself, status %x; rerun: MR_STRESS_SEED=%llu ring_stress",
             role_names[role], (unsigned)status, (unsigned long long)seed);
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void check_end(const struct mr_ring_shm *events, const struct mr_ring_shm *matches,
                      uint64_t last)
{
    uint64_t note, count;
    mr_ring_last_commit(events, &note, &count);
    assert_int_equal(note, last);
    assert_int_equal(count, last);
    for (uint32_t s = 0; s < 2; s++) {
        assert_int_equal(mr_ring_stage_note(events, s), last);
        assert_int_equal(mr_ring_stage_position(events, s), mr_ring_tail(events));
    }
    assert_int_equal(atomic_load(&shared->delivered), last);
    mr_ring_last_commit(matches, &note, &count);
    assert_int_equal(note, mr_ring_tail(events));
    assert_int_equal(count, last / MATCH_EVERY); /* each event was matched exactly once */
    assert_int_equal(mr_ring_stage_position(matches, 0), mr_ring_tail(matches));
}

static void nothing_is_lost_or_doubled_whoever_is_killed_when(void **state)
{
    (void)state;
    uint64_t seed = number_from("MR_STRESS_SEED", mr_clock_ns() % 1000000);
    uint64_t kills = number_from("MR_STRESS_KILLS", 400);
    struct mr_err err = {0};
    struct mr_segment segment, match_segment;
    printf("seed %llu\n", (unsigned long long)seed);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(shared, MAP_FAILED);
    atomic_store(&shared->last, UINT64_MAX);
    assert_int_equal(mr_ring_create(instance, 1, &event_options, &err), MR_OK);
    assert_int_equal(mr_ring_create(instance, 1, &match_options, &err), MR_OK);
    assert_int_equal(mr_ring_inspect(&segment, instance, "e0", &err), MR_OK);
    assert_int_equal(mr_ring_inspect(&match_segment, instance, "m0", &err), MR_OK);
    const struct mr_ring_shm *events = (const struct mr_ring_shm *)segment.head;
    pid_t pids[ROLES];
    for (int r = 0; r < ROLES; r++)
        pids[r] = start((enum role)r);
    for (uint64_t k = 0; k < kills; k++) {
        usleep((useconds_t)(mix(seed + 2 * k) % 6000));
        uint64_t which = mix(seed + 2 * k + 1) % (ROLES + 1); /* the last: all at once */
        for (uint64_t r = 0; r < ROLES; r++)
            if (which == r || which == ROLES)
                end(pids[r], (enum role)r, seed);
        for (uint64_t r = 0; r < ROLES; r++)
            if (which == r || which == ROLES)
                pids[r] = start((enum role)r);
    }
    uint64_t note, last;
    mr_ring_last_commit(events, &note, &last);
    last += 100000; /* beyond what any feeder has prepared */
    atomic_store(&shared->last, last);
    uint64_t until_ns = mr_clock_ns() + 60 * MR_NS_PER_S;
    while (mr_ring_stage_note(events, 1) < last && mr_clock_ns() < until_ns)
        usleep(1000);
    usleep(5000); /* the last releases of the match ring */
    for (int r = 0; r < ROLES; r++)
        end(pids[r], (enum role)r, seed);
    printf("%llu kills, %llu events, %llu seen again by a new publisher\n",
           (unsigned long long)kills, (unsigned long long)last,
           (unsigned long long)atomic_load(&shared->repeated));
    check_end(events, (const struct mr_ring_shm *)match_segment.head, last);
    mr_segment_detach(&match_segment);
    mr_segment_detach(&segment);
    mr_segment_remove_all(instance);
    munmap(shared, sizeof *shared);
}

int main(void)
{
    remove_leftovers("stress");
    snprintf(instance, sizeof instance, "stress-%d", (int)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_threads_see_every_record_whole_and_in_order),
        cmocka_unit_test(nothing_is_lost_or_doubled_whoever_is_killed_when),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    mr_segment_remove_all(instance);
    return failed;
}
