/* bench/ring_bench.c: our ring against the floor, the kernel and two good queues, and against
 * itself with staged release, in turns.
 *
 * The host moves virtual cores near to and far from each other, and a ring is several times slower
 * in one minute than in the next. So every run bounces a cache line before and after, and only runs
 * of the same placement are compared: a pair is a run of ours and one of theirs, one straight
 * behind the other, and a ratio is the median over pairs. A pair is good when in both runs nobody
 * else had the cores and all bounces name one placement; others are repeated until each comparison
 * has --pairs good ones in each placement, or --seconds are over.
 *
 *   bench-ring [--pairs N] [--seconds S] [--run-ms MS] [--near-max NS] [--far-min NS]
 *              [--only "64 staged"] [--realtime 1]
 *
 * --realtime takes the cores from everybody else for each run, and leaves them alone for as long
 * behind each pair: for a machine that is never quiet. Needs CAP_SYS_NICE.
 *
 * JSON on standard output. Exit 0; 1: a record arrived wrong; 2: usage; 3: a comparison has no good
 * pair in any placement (the JSON names it under "missing"). */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench/ring_ours.h"
#include "bench/ring_run.h"
#include "bench/ring_staged.h"
#include "common/clock.h"

enum { PAIRS_MAX = 200, CHANNELS_MAX = 16, COUNT_MIN = 2000, COUNT_FIRST = 100000 };

/* What is measured of each channel: two sizes, throughput and round trip. */
struct measure {
    const char *name;
    uint32_t len;
    bool pings;
};
static const struct measure measures[] = {
    {"64", 64, false}, {"600", 600, false}, {"ping_64", 64, true}, {"ping_600", 600, true}};
enum { MEASURES = sizeof measures / sizeof measures[0] };
enum placement { NEAR, FAR, PLACEMENTS, BETWEEN = PLACEMENTS };
static const char *const placement_names[] = {"near", "far"};

/* One side of the good pairs of a comparison: records/s, or for pings the median in ns. */
struct series {
    double value[PAIRS_MAX], p99_ns[PAIRS_MAX], bounce_ns[PAIRS_MAX];
};
struct comparison {
    uint32_t count;
    struct series ours, theirs;
    double ratio[PAIRS_MAX];
};

struct bench {
    const struct bench_channel *channels[CHANNELS_MAX];
    uint32_t channel_count, pairs_wanted;
    double near_max_ns, far_min_ns, run_s;
    uint64_t end_ns;
    bool realtime;
    const char *only; /* "64 staged": this comparison; NULL: all */
    struct bench_shared *shared;
    uint32_t good, disturbed, moved, unfit, errors; /* pairs; errors: runs */
    struct comparison table[CHANNELS_MAX][MEASURES][PLACEMENTS];
    uint64_t counts[CHANNELS_MAX][MEASURES]; /* records of a run of run_s, learnt */
    bool learnt[CHANNELS_MAX][MEASURES];
};

/* A comparison of channel c with channel 0. */
struct pair {
    struct bench *bench;
    uint32_t c, m;
};

static enum placement placement_of(const struct bench *bench, double bounce_ns)
{
    return bounce_ns <= bench->near_max_ns ? NEAR : bounce_ns >= bench->far_min_ns ? FAR : BETWEEN;
}

static bool is_compared(const struct bench *bench, uint32_t c, uint32_t m)
{
    char name[64];
    snprintf(name, sizeof name, "%s %s", measures[m].name, bench->channels[c]->name);
    return (!measures[m].pings || bench->channels[c]->ping) &&
           (!bench->only || strcmp(bench->only, name) == 0);
}

static bool is_wanted(void *context, double bounce_ns)
{
    const struct pair *pair = context;
    enum placement p = placement_of(pair->bench, bounce_ns);
    return p == BETWEEN ||
           pair->bench->table[pair->c][pair->m][p].count < pair->bench->pairs_wanted;
}

/* A run should take run_s: half to twice that is good enough. False: the next one fits better. */
static bool learn(struct pair *pair, uint32_t c, const struct bench_result *result)
{
    struct bench *bench = pair->bench;
    if (measures[pair->m].pings)
        return true;
    uint64_t *count = &bench->counts[c][pair->m];
    double factor = bench->run_s / (result->seconds + 1e-9);
    bool fits = factor >= 0.5 && factor <= 2;
    /* A disturbed run tells little: it is heeded only while nothing better is known. */
    if (fits || (result->disturbed && bench->learnt[c][pair->m])) {
        bench->learnt[c][pair->m] |= fits && !result->disturbed;
        return fits;
    }
    factor = factor > 8 ? 8 : factor < 0.25 ? 0.25 : factor;
    *count = (uint64_t)((double)*count * factor);
    *count = *count < COUNT_MIN ? COUNT_MIN : *count;
    return false;
}

enum outcome { GOOD, SKIPPED, UNFIT, DISTURBED };

static enum outcome run_one(struct pair *pair, uint32_t c, struct bench_result *out)
{
    struct bench *bench = pair->bench;
    const struct measure *measure = &measures[pair->m];
    struct bench_run run = {.channel = bench->channels[c],
                            .len = measure->len,
                            .count = measure->pings ? 0 : bench->counts[c][pair->m],
                            .realtime = bench->realtime,
                            .wanted = is_wanted,
                            .context = pair};
    bench_run(bench->shared, &run, out);
    if (out->skipped)
        return SKIPPED;
    bench->errors += out->errors != 0;
    if (out->errors != 0)
        fprintf(stderr, "bench-ring: %s: %" PRIu64 " wrong records of %u bytes\n",
                run.channel->name, out->errors, run.len);
    bool fits = learn(pair, c, out);
    return out->disturbed ? DISTURBED : fits ? GOOD : UNFIT;
}

static void put(struct series *series, uint32_t i, const struct bench_result *result,
                double records)
{
    series->value[i] = records > 0 ? records / result->seconds : result->p50_ns;
    series->p99_ns[i] = result->p99_ns;
    series->bounce_ns[i] = (result->bounce_before_ns + result->bounce_after_ns) / 2;
}

static void add(struct pair *pair, const struct bench_result *ours,
                const struct bench_result *theirs, const uint64_t counts[2])
{
    struct bench *bench = pair->bench;
    enum placement p = placement_of(bench, ours->bounce_before_ns);
    if (p == BETWEEN || p != placement_of(bench, ours->bounce_after_ns) ||
        p != placement_of(bench, theirs->bounce_before_ns) ||
        p != placement_of(bench, theirs->bounce_after_ns)) {
        bench->moved++;
        return;
    }
    struct comparison *comparison = &bench->table[pair->c][pair->m][p];
    if (comparison->count == bench->pairs_wanted)
        return;
    uint32_t i = comparison->count++;
    put(&comparison->ours, i, ours, (double)counts[0]);
    put(&comparison->theirs, i, theirs, (double)counts[1]);
    double ratio = comparison->ours.value[i] / comparison->theirs.value[i];
    comparison->ratio[i] = bench->channels[pair->c]->kind == BENCH_STAGED ? 1 / ratio : ratio;
    bench->good++;
}

/* False: this comparison has enough in the placement that there is now. */
static bool run_pair(struct pair *pair, bool theirs_first)
{
    struct bench *bench = pair->bench;
    struct bench_result results[2]; /* ours, theirs */
    uint32_t channels[2] = {0, pair->c};
    uint64_t counts[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        int which = theirs_first ? 1 - i : i;
        if (!measures[pair->m].pings)
            counts[which] = bench->counts[channels[which]][pair->m];
        enum outcome outcome = run_one(pair, channels[which], &results[which]);
        if (outcome == SKIPPED)
            return false;
        if (outcome != GOOD) {
            bench->disturbed += outcome == DISTURBED;
            bench->unfit += outcome == UNFIT;
            return true;
        }
    }
    add(pair, &results[0], &results[1], counts);
    return true;
}

static bool is_complete(const struct bench *bench)
{
    for (uint32_t c = 1; c < bench->channel_count; c++)
        for (uint32_t m = 0; m < MEASURES; m++)
            for (uint32_t p = 0; is_compared(bench, c, m) && p < PLACEMENTS; p++)
                if (bench->table[c][m][p].count < bench->pairs_wanted)
                    return false;
    return true;
}

static void rest(uint64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / MR_NS_PER_S),
                            .tv_nsec = (long)(ns % MR_NS_PER_S)};
    nanosleep(&time, NULL);
}

static void run_all(struct bench *bench)
{
    for (uint32_t round = 0; !is_complete(bench); round++) {
        bool idle = true; /* all have enough in this placement: look again later */
        for (uint32_t m = 0; m < MEASURES; m++)
            for (uint32_t c = 1; c < bench->channel_count; c++) {
                if (mr_clock_ns() >= bench->end_ns)
                    return;
                if (!is_compared(bench, c, m))
                    continue;
                struct pair pair = {bench, c, m};
                uint64_t start_ns = mr_clock_ns();
                idle = !run_pair(&pair, round % 2 == 1) && idle;
                if (bench->realtime)
                    rest(mr_clock_ns() - start_ns);
            }
        if (idle)
            rest(20 * MR_NS_PER_MS);
    }
}

/* ---- JSON ---- */

/* What docs/ring.md asks for; 0: nothing. Throughput, and the share of a staged ring, at least;
 * round trips at most. */
struct target {
    const char *measure, *channel;
    double wanted[PLACEMENTS];
};
static const struct target targets[] = {
    {"64", "moodycamel", {2.5, 4}},        {"600", "moodycamel", {3, 2}},
    {"ping_64", "moodycamel", {1.2, 1.2}}, {"64", "staged", {0.75, 0.75}},
    {"600", "staged", {0.75, 0.75}},
};

static double target_of(const struct bench *bench, uint32_t c, uint32_t m, uint32_t p)
{
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++)
        if (strcmp(targets[i].measure, measures[m].name) == 0 &&
            strcmp(targets[i].channel, bench->channels[c]->name) == 0)
            return targets[i].wanted[p];
    return 0;
}

static void print_side(const char *name, struct series *series, uint32_t count, uint32_t m)
{
    double value = bench_median(series->value, count);
    if (measures[m].pings)
        printf(", \"%s\": {\"p50_ns\": %.0f, \"p99_ns\": %.0f}", name, value,
               bench_median(series->p99_ns, count));
    else
        printf(", \"%s\": {\"records_per_s\": %.0f, \"gb_per_s\": %.2f}", name, value,
               value * measures[m].len / 1e9);
}

/* The ratio is ours by theirs, for staged rings theirs by ours. */
static void print_comparison(struct bench *bench, uint32_t c, uint32_t m, uint32_t p)
{
    struct comparison *comparison = &bench->table[c][m][p];
    const struct bench_channel *channel = bench->channels[c];
    uint32_t count = comparison->count;
    double ratio = bench_median(comparison->ratio, count); /* sorts them */
    bool staged = channel->kind == BENCH_STAGED;
    printf("    {\"ratio\": \"%s %s: %s / %s\", \"median\": %.2f, \"least\": %.2f, "
           "\"most\": %.2f, \"pairs\": %u",
           measures[m].name, placement_names[p], staged ? channel->name : "millrace",
           staged ? "millrace" : channel->name, ratio, comparison->ratio[0],
           comparison->ratio[count - 1], count);
    double wanted = target_of(bench, c, m, p);
    if (wanted > 0) {
        bool most = measures[m].pings;
        printf(", \"wanted\": \"%s %.2f\", \"met\": %s", most ? "<=" : ">=", wanted,
               (most ? ratio <= wanted : ratio >= wanted) ? "true" : "false");
    }
    printf(", \"bounce_ns\": %.0f", bench_median(comparison->ours.bounce_ns, count));
    print_side("millrace", &comparison->ours, count, m);
    print_side(channel->name, &comparison->theirs, count, m);
    printf(", \"how\": \"%s\"}", channel->how);
}

/* Returns how many comparisons have no good pair at all. */
static uint32_t print_missing(const struct bench *bench)
{
    uint32_t missing = 0;
    printf("  \"missing\": [");
    for (uint32_t m = 0; m < MEASURES; m++)
        for (uint32_t c = 1; c < bench->channel_count; c++) {
            if (!is_compared(bench, c, m) || bench->table[c][m][NEAR].count > 0 ||
                bench->table[c][m][FAR].count > 0)
                continue;
            printf("%s\"%s %s\"", missing++ > 0 ? ", " : "", measures[m].name,
                   bench->channels[c]->name);
        }
    printf("]\n}\n");
    return missing;
}

static uint32_t print(struct bench *bench)
{
    printf("{\n  \"near_max_ns\": %.0f, \"far_min_ns\": %.0f, \"run_ms\": %.0f, \"pairs_wanted\": "
           "%u,\n"
           "  \"good_pairs\": %u, \"disturbed_pairs\": %u, \"moved_pairs\": %u, "
           "\"unfit_pairs\": %u, \"wrong_runs\": %u,\n  \"ratios\": [",
           bench->near_max_ns, bench->far_min_ns, bench->run_s * 1e3, bench->pairs_wanted,
           bench->good, bench->disturbed, bench->moved, bench->unfit, bench->errors);
    const char *separator = "\n";
    for (uint32_t p = 0; p < PLACEMENTS; p++)
        for (uint32_t m = 0; m < MEASURES; m++)
            for (uint32_t c = 1; c < bench->channel_count; c++) {
                if (bench->table[c][m][p].count == 0)
                    continue;
                fputs(separator, stdout);
                print_comparison(bench, c, m, p);
                separator = ",\n";
            }
    printf("\n  ],\n");
    return print_missing(bench);
}

static void add_channels(struct bench *bench,
                         const struct bench_channel *(*rows_of)(uint32_t *count))
{
    uint32_t count;
    const struct bench_channel *rows = rows_of(&count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t c = bench->channel_count++;
        bench->channels[c] = &rows[i];
        for (uint32_t m = 0; m < MEASURES; m++)
            bench->counts[c][m] = COUNT_FIRST;
    }
}

int main(int argc, char **argv)
{
    static struct bench bench = {.near_max_ns = 220, .far_min_ns = 320};
    double pairs = 9, seconds = 60, run_ms = 20;
    for (int i = 1; i < argc; i += 2) {
        double value = i + 1 < argc ? atof(argv[i + 1]) : 0;
        if (strcmp(argv[i], "--pairs") == 0 && value >= 1 && value <= PAIRS_MAX)
            pairs = value;
        else if (strcmp(argv[i], "--seconds") == 0 && value > 0)
            seconds = value;
        else if (strcmp(argv[i], "--run-ms") == 0 && value >= 1 && value <= 1000)
            run_ms = value;
        else if (strcmp(argv[i], "--near-max") == 0 && value > 0)
            bench.near_max_ns = value;
        else if (strcmp(argv[i], "--far-min") == 0 && value > 0)
            bench.far_min_ns = value;
        else if (strcmp(argv[i], "--realtime") == 0)
            bench.realtime = value != 0;
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            bench.only = argv[i + 1];
        else {
            fprintf(stderr,
                    "usage: bench-ring [--pairs 1-%d] [--seconds S] [--run-ms 1-1000] "
                    "[--near-max NS] [--far-min NS] [--only \"64 staged\"] [--realtime 1]\n",
                    PAIRS_MAX);
            return 2;
        }
    }
    bench.pairs_wanted = (uint32_t)pairs;
    bench.run_s = run_ms / 1e3;
    bench.end_ns = mr_clock_ns() + (uint64_t)(seconds * 1e9);
    bench.shared = bench_shared_create();
    add_channels(&bench, bench_ours);
    add_channels(&bench, bench_staged);
    add_channels(&bench, bench_peers);
    run_all(&bench);
    uint32_t missing = print(&bench);
    return bench.errors != 0 ? 1 : missing > 0 ? 3 : 0;
}
