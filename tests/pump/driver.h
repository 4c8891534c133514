/* tests/pump/driver.h: what the tests of the pump share: one instance, one pump, and the steps by
 * which a test drives and checks them. */
#ifndef MR_TESTS_PUMP_DRIVER_H
#define MR_TESTS_PUMP_DRIVER_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "proto/marker.h"
#include "publisher/pump_state.h"
#include "tests/pump/bed.h"
#include "tests/pump/test_sink.h"

static struct bed bed;
static struct mr_pump *pump;

static inline void turn(void)
{
    struct mr_err err = {0};
    uint64_t done = 0;
    enum mr_rc rc = mr_pump_turn(pump, mr_clock_ns(), &done, &err);
    if (rc != MR_OK)
        fail_msg("%s: %s", mr_rc_name(rc), err.text);
    (void)mr_pump_look(pump);
}

static inline void open_pump(void)
{
    struct mr_err err = {0};
    assert_int_equal(mr_pump_open(&pump, &bed.process, &test_sink_ops, &err), MR_OK);
}

/* Everyone in turn until nothing is left to do. */
static inline void settle(void)
{
    for (int i = 0; i < 20000; i++) {
        bed_feed(&bed, UINT64_MAX, true);
        for (uint32_t shard = 0; shard < bed.shard_count; shard++) {
            bed_apply(&bed, shard);
            bed_match(&bed, shard, UINT32_MAX);
        }
        turn();
        bool resuming = !TAILQ_EMPTY(&pump->resume.all);
        if (pump->serving && bed.fed == bed.count && pump->merged == bed.fed && !resuming &&
            TAILQ_EMPTY(&pump->announced) && TAILQ_EMPTY(&pump->waiting) &&
            test_sink.request_first == test_sink.request_count && !pump->has_request) {
            turn();
            return;
        }
        if (resuming)
            usleep(100);
    }
    fail_msg("does not settle: merged %" PRIu64 " of %" PRIu64 ", fed %" PRIu64, pump->merged,
             bed.count, bed.fed);
}

static inline void start(uint32_t shards, uint64_t seed)
{
    test_sink_reset();
    bed_open(&bed, shards, seed, 0);
    open_pump();
    settle();
}

static inline void stop(void)
{
    mr_pump_close(&pump);
    assert_int_equal(test_sink.encodes, test_sink.releases);
    assert_false(test_sink.open);
    bed_close(&bed);
}

static inline void gateway(enum mr_request_kind kind, mr_gateway_id id)
{
    test_sink_push(&(struct test_request){.kind = kind, .gateway = id, .value = -1});
}

static inline const char *marker_text(uint64_t log_id, uint64_t sequence)
{
    static char text[MR_MARKER_TEXT_MAX + 1];
    size_t len = mr_marker_format((struct mr_marker){log_id, sequence}, text);
    text[len] = 0;
    return text;
}

static inline void subscribe(mr_gateway_id id, const char *name, uint32_t collection, int64_t value,
                             const char *after)
{
    struct test_request request = {.kind = MR_REQUEST_SUBSCRIBE, .gateway = id, .value = value};
    snprintf(request.id, sizeof request.id, "%s", name);
    snprintf(request.collection, sizeof request.collection, "c%u", collection);
    snprintf(request.after, sizeof request.after, "%s", after);
    test_sink_push(&request);
}

static inline void unsubscribe(mr_gateway_id id, const char *name)
{
    struct test_request request = {.kind = MR_REQUEST_UNSUBSCRIBE, .gateway = id, .value = -1};
    snprintf(request.id, sizeof request.id, "%s", name);
    test_sink_push(&request);
}

static inline struct test_subscription *of(mr_gateway_id id, const char *name)
{
    return test_sink_of(id, mr_str_from(name));
}

/* What s got is what its filter says, behind its marker, in order; to the end when complete. */
static inline void check(const struct test_subscription *s, uint32_t collection, int64_t value,
                         bool complete)
{
    assert_int_equal(s->answers, 1);
    assert_true(s->success);
    assert_true(s->before_answer == 0);
    uint32_t n = 0;
    for (uint64_t sequence = s->marker + 1; sequence <= bed.count; sequence++) {
        if (!bed_concerns(&bed.history[sequence - 1], collection, value))
            continue;
        if (n == s->count && !complete)
            return;
        if (n == s->count || s->sequences[n] != sequence)
            fail_msg("gateway %" PRIu64 " subscription %s (c%u n==%d, marker %" PRIu64
                     "): delivery %u is %" PRIu64 ", expected %" PRIu64 " (seed %s)",
                     s->gateway, s->id, collection, (int)value, s->marker, n,
                     n < s->count ? s->sequences[n] : 0, sequence, getenv("PUMP_SEED"));
        n++;
    }
    assert_int_equal(n, s->count);
}

struct plan {
    mr_gateway_id gateway;
    char id[16];
    uint32_t collection;
    int64_t value;
    bool ended;
};

/* How many random lives a test leads; few under valgrind, which takes fifty times as long. */
static inline uint64_t lives(uint64_t wanted)
{
    return getenv("MILLRACE_TEST_BRIEF") && wanted > 2 ? 2 : wanted;
}

/* Gateways and subscriptions come, go and resume while events flow, matchers die and rings fill up.
 */
static inline void random_life(uint64_t seed, bool resume)
{
    static struct plan plans[400];
    uint32_t count = 0;
    mr_gateway_id first = 1, last = 1;
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, seed);
    setenv("PUMP_SEED", text, 1);
    start(1 + (uint32_t)(seed % 5), seed);
    gateway(MR_REQUEST_OPEN, 1);
    for (int i = 0; i < 3000; i++) {
        if (pump->resume.worker && !TAILQ_EMPTY(&pump->resume.all) && i % 50 == 0)
            usleep(200);
        bed_step(&bed);
        if (bed_random(&bed, 3) == 0)
            turn();
        uint64_t dice = bed_random(&bed, 100);
        if (dice < 6 && count < 400) {
            struct plan *p = &plans[count++];
            *p = (struct plan){.gateway = first + bed_random(&bed, last - first + 1),
                               .collection = (uint32_t)bed_random(&bed, BED_COLLECTIONS),
                               .value = (int64_t)bed_random(&bed, BED_VALUES + 1) - 1};
            snprintf(p->id, sizeof p->id, "s%u", count);
            bool back = resume && bed_random(&bed, 2) == 0;
            subscribe(p->gateway, p->id, p->collection, p->value,
                      back ? marker_text(pump->deliverer.log_id, bed_random(&bed, bed.fed + 1))
                           : "");
        } else if (dice == 6 && count > 0) {
            struct plan *p = &plans[bed_random(&bed, count)];
            unsubscribe(p->gateway, p->id);
            p->ended = true;
        } else if (dice == 7 && bed_random(&bed, 4) == 0) {
            gateway(MR_REQUEST_OPEN, ++last);
        } else if (dice == 8 && first < last && bed_random(&bed, 4) == 0) {
            for (uint32_t k = 0; k < count; k++)
                plans[k].ended |= plans[k].gateway == first;
            gateway(MR_REQUEST_CLOSE, first++);
        } else if (dice == 9) {
            test_sink.fill = (double)bed_random(&bed, 100) / 100;
        }
    }
    test_sink.fill = 0;
    settle();
    for (uint32_t k = 0; k < count; k++) {
        struct test_subscription *s = test_sink_of(plans[k].gateway, mr_str_from(plans[k].id));
        if (plans[k].ended && (s->answers == 0 || !s->success))
            continue;
        check(s, plans[k].collection, plans[k].value, !plans[k].ended);
        if (!resume)
            assert_true(s->at_answer <= s->marker);
    }
    stop();
}

/* The publisher dies at any moment; its gateway comes back with the last marker that it has. */
#endif
