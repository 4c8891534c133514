/* match-churn DIRECTORY COUNT STEPS [bloom]: do a million changes leave an index as it was?
 *
 * The first COUNT subscriptions of a workload of bench/w1 are added to an engine. Then STEPS times
 * a random one is removed, added again, or replaced by another's filter, while events are matched.
 * At last each has its own filter again, and all events are matched: as JSON, how often and which,
 * what Bloom filters did, and the memory. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/match.h"

enum { EVENTS_MAX = 20000, SUBS_MAX = 100000, STEPS_AN_EVENT = 50, NONE = -1 };

struct churn {
    struct mr_engine *engine;
    struct mr_match_sub *subs;
    int32_t *holds; /* by subscription: whose filter it has; NONE: it is not there */
    struct mr_match_event *events;
    uint32_t sub_count, event_count;
    uint64_t random;
};

static void fail(const char *what)
{
    fprintf(stderr, "match-churn: %s\n", what);
    exit(1);
}

static uint32_t below(struct churn *c, uint32_t n)
{
    uint64_t z = c->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((z ^ z >> 31) % n);
}

static struct mr_match_input *open_input(const char *directory, const char *name)
{
    char path[4096];
    struct mr_match_input *input;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (mr_match_input_open(&input, path, NULL) != MR_OK)
        fail("no such workload");
    return input;
}

static void read_workload(struct churn *c, const char *directory, uint32_t count)
{
    struct mr_match_input *subs = open_input(directory, "subs.ndjson");
    struct mr_match_input *events = open_input(directory, "events.ndjson");
    struct mr_program_compiler *compiler;
    struct mr_err err;
    if (mr_program_compiler_create(&compiler, NULL) != MR_OK)
        fail("no memory");
    while (c->sub_count < count &&
           mr_match_next_sub(subs, compiler, &c->subs[c->sub_count], &err) == MR_OK)
        c->sub_count++;
    while (c->event_count < EVENTS_MAX &&
           mr_match_next_event(events, &c->events[c->event_count], &err) == MR_OK)
        c->event_count++;
    mr_program_compiler_destroy(&compiler);
    mr_match_input_close(&subs);
    mr_match_input_close(&events);
    if (c->sub_count != count || c->event_count == 0)
        fail("the workload is smaller than that");
}

/* The subscription's id is its number from 1. */
static void set(struct churn *c, uint32_t sub, int32_t filter)
{
    if (c->holds[sub] == filter)
        return;
    if (c->holds[sub] != NONE && mr_engine_remove(c->engine, sub + 1) != MR_OK)
        fail("a subscription is lost");
    c->holds[sub] = filter;
    if (filter != NONE &&
        mr_engine_add(c->engine, sub + 1, c->subs[filter].program, c->subs[filter].len) != MR_OK)
        fail("a subscription is refused");
}

static uint64_t match(struct churn *c, uint32_t event, uint64_t *checksum)
{
    const struct mr_engine_event view = mr_match_event_view(&c->events[event]);
    const uint64_t *ids;
    uint32_t count = mr_engine_match(c->engine, &view, &ids);
    for (uint32_t i = 0; i < count; i++)
        *checksum += event * UINT64_C(1000003) + ids[i];
    return count;
}

static void change(struct churn *c)
{
    uint32_t sub = below(c, c->sub_count);
    if (c->holds[sub] != NONE && below(c, 2) == 0)
        set(c, sub, NONE);
    else
        set(c, sub, (int32_t)(below(c, 2) == 0 ? sub : below(c, c->sub_count)));
}

int main(int argc, char **argv)
{
    if (argc < 4)
        fail("usage: match-churn DIRECTORY COUNT STEPS [bloom]");
    uint32_t count = (uint32_t)strtoul(argv[2], NULL, 10);
    uint64_t steps = strtoull(argv[3], NULL, 10), sum = 0, matches = 0;
    struct churn c = {.subs = calloc(SUBS_MAX, sizeof *c.subs),
                      .events = calloc(EVENTS_MAX, sizeof *c.events),
                      .holds = calloc(SUBS_MAX, sizeof *c.holds)};
    if (!c.subs || !c.events || !c.holds || count > SUBS_MAX ||
        mr_engine_create(&c.engine, NULL) != MR_OK)
        fail("no memory");
    mr_engine_set_bloom(c.engine, argc > 4);
    read_workload(&c, argv[1], count);
    for (uint32_t i = 0; i < count; i++)
        c.holds[i] = NONE;
    for (uint32_t i = 0; i < count; i++)
        set(&c, i, (int32_t)i);
    struct mr_engine_stats before, after;
    mr_engine_stats(c.engine, &before);
    for (uint64_t i = 0; i < steps; i++) {
        change(&c);
        if (i % STEPS_AN_EVENT == 0)
            (void)match(&c, below(&c, c.event_count), &sum);
    }
    for (uint32_t i = 0; i < count; i++)
        set(&c, i, (int32_t)i);
    sum = 0;
    for (uint32_t i = 0; i < c.event_count; i++)
        matches += match(&c, i, &sum);
    mr_engine_stats(c.engine, &after);
    printf("{\"matches\": %" PRIu64 ", \"checksum\": %" PRIu64 ", \"bytes_before\": %" PRIu64
           ", \"bytes\": %" PRIu64 ", \"filters\": %" PRIu64 ", \"moved\": %" PRIu64
           ", \"bloom_lookups\": %" PRIu64 ", \"bloom_rejected\": %" PRIu64
           ", \"bloom_false\": %" PRIu64 ", \"bloom_rebuilds_before\": %" PRIu64
           ", \"bloom_rebuilds\": %" PRIu64 ", \"bloom_bytes\": %" PRIu64 "}\n",
           matches, sum, before.bytes, after.bytes, after.filters, after.moved, after.bloom_lookups,
           after.bloom_rejected, after.bloom_false, before.bloom_rebuilds, after.bloom_rebuilds,
           after.bloom_bytes);
    mr_engine_destroy(&c.engine);
    for (uint32_t i = 0; i < c.sub_count; i++) {
        free(c.subs[i].id);
        free(c.subs[i].program);
    }
    for (uint32_t i = 0; i < c.event_count; i++)
        free(c.events[i].names);
    free(c.subs);
    free(c.events);
    free(c.holds);
    return 0;
}
