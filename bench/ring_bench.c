/* bench/ring_bench.c: our ring against the floor, the kernel and two good queues, in turns.
 *
 * The host moves virtual cores near to and far from each other, and a ring is several times slower
 * in one minute than in the next. So every run bounces a cache line before and after, is sorted by
 * it, and only runs of the same placement are compared. Runs that were disturbed (a side was off
 * its core, or the placement changed) are counted and left out.
 *
 *   bench-ring [--rounds N] [--near-max NS]      JSON on standard output */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/ring_channel.h"
#include "bench/ring_ours.h"
#include "common/clock.h"

enum { BOUNCES = 4000, BOUNCE_BATCH = 100, PINGS = 50000, ROUNDS_MAX = 200, CHANNELS_MAX = 16 };

/* What the two sides share in a run. */
struct shared {
    alignas(128) _Atomic uint32_t arrived;
    alignas(128) _Atomic uint64_t bounce;
    alignas(128) uint64_t done_ns; /* consumer: when it had the last record */
    uint64_t errors;
    double share; /* consumer: processor time by wall time */
    alignas(128) uint32_t samples[PINGS];
};

struct run {
    const struct bench_channel *channel;
    struct shared *shared;
    struct bench_job job;
    void *state;
    bool pings;
    uint32_t barriers; /* passed by this side */
};

struct result {
    double seconds, bounce_before_ns, bounce_after_ns;
    double p50_ns, p99_ns;
    uint64_t errors;
    bool disturbed;
};

uint64_t bench_now_ns(void)
{
    return mr_clock_ns();
}

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * MR_NS_PER_S + (uint64_t)now.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void pin(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        die("pin to a core");
}

/* Both sides have arrived: spins, because a sleep would cost more than what is measured. */
static void meet(struct run *run)
{
    uint32_t all = 2 * ++run->barriers;
    atomic_fetch_add(&run->shared->arrived, 1);
    while (atomic_load_explicit(&run->shared->arrived, memory_order_acquire) < all)
        bench_pause();
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, uint32_t count)
{
    qsort(values, count, sizeof *values, by_double);
    return count == 0 ? 0 : values[count / 2];
}

/* One line to and fro. The median over batches forgets those in which a side lost its core. */
static double bounce(struct run *run, bool first)
{
    double batches[BOUNCES / BOUNCE_BATCH];
    _Atomic uint64_t *line = &run->shared->bounce;
    uint64_t value = atomic_load(line);
    meet(run);
    for (uint32_t batch = 0; batch < BOUNCES / BOUNCE_BATCH; batch++) {
        uint64_t start_ns = bench_now_ns();
        for (uint32_t i = 0; i < BOUNCE_BATCH; i++, value += 2) {
            if (first)
                atomic_store_explicit(line, value + 1, memory_order_release);
            uint64_t expected = first ? value + 2 : value + 1;
            while (atomic_load_explicit(line, memory_order_acquire) != expected)
                ;
            if (!first)
                atomic_store_explicit(line, value + 2, memory_order_release);
        }
        batches[batch] = (double)(bench_now_ns() - start_ns) / BOUNCE_BATCH;
    }
    return median(batches, BOUNCES / BOUNCE_BATCH);
}

/* The far side: a child, or a thread. */
static void *far_side(void *argument)
{
    struct run *run = argument;
    pin(1);
    bounce(run, false);
    meet(run);
    uint64_t start_ns = bench_now_ns(), start_cpu_ns = cpu_ns();
    (run->pings ? run->channel->pong : run->channel->consume)(run->state, &run->job);
    run->shared->done_ns = bench_now_ns();
    run->shared->share =
        (double)(cpu_ns() - start_cpu_ns) / (double)(run->shared->done_ns - start_ns);
    run->shared->errors = run->job.errors;
    meet(run);
    bounce(run, false);
    return NULL;
}

static int by_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void near_side(struct run *run, struct result *out)
{
    out->bounce_before_ns = bounce(run, true);
    meet(run);
    uint64_t start_ns = bench_now_ns(), start_cpu_ns = cpu_ns();
    (run->pings ? run->channel->ping : run->channel->produce)(run->state, &run->job);
    double share = (double)(cpu_ns() - start_cpu_ns) / (double)(bench_now_ns() - start_ns);
    meet(run);
    struct shared *shared = run->shared;
    out->seconds = (double)(shared->done_ns - start_ns) / 1e9;
    out->errors = shared->errors + run->job.errors;
    out->disturbed = !run->channel->sleeps && (share < 0.97 || shared->share < 0.97);
    out->bounce_after_ns = bounce(run, true);
    if (run->pings) {
        qsort(shared->samples, PINGS, sizeof shared->samples[0], by_u32);
        out->p50_ns = shared->samples[PINGS / 2];
        out->p99_ns = shared->samples[PINGS * 99 / 100];
    }
}

static struct result run_once(const struct bench_channel *channel, struct shared *shared,
                              uint32_t len, uint64_t count)
{
    bool pings = count == 0;
    struct result result = {0};
    struct run run = {
        .channel = channel,
        .shared = shared,
        .pings = pings,
        .job = {.len = len, .count = pings ? PINGS : count, .samples = shared->samples}};
    /* Both sides of a pair of threads stamp records: each its own. */
    run.job.sources = calloc(BENCH_SOURCES, len);
    uint8_t *far_sources = calloc(BENCH_SOURCES, len);
    run.state = channel->create(len, pings);
    if (!run.state || !run.job.sources || !far_sources)
        die(channel->name);
    shared->arrived = 0;
    struct run far = run;
    far.job.sources = far_sources;
    if (channel->threads) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, far_side, &far) != 0)
            die("start thread");
        near_side(&run, &result);
        pthread_join(thread, NULL);
    } else {
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            far_side(&far);
            _exit(0);
        }
        near_side(&run, &result);
        int status;
        if (waitpid(child, &status, 0) != child || status != 0)
            die("consumer process");
    }
    channel->destroy(run.state);
    free(run.job.sources);
    free(far_sources);
    return result;
}

/* What is measured of each channel: two sizes, throughput and round trip. */
struct measure {
    const char *name;
    uint32_t len;
    bool pings;
};
static const struct measure measures[] = {
    {"64", 64, false}, {"600", 600, false}, {"ping_64", 64, true}, {"ping_600", 600, true}};
enum { MEASURES = sizeof measures / sizeof measures[0] };
enum placement { NEAR, FAR, PLACEMENTS };
static const char *const placement_names[] = {"near", "far"};

/* The good runs of one channel, measure and placement. */
struct series {
    double rate[ROUNDS_MAX], p50_ns[ROUNDS_MAX], p99_ns[ROUNDS_MAX], bounce_ns[ROUNDS_MAX];
    uint32_t count;
};
struct table {
    const struct bench_channel *channels[CHANNELS_MAX];
    uint32_t channel_count, disturbed, errors;
    double near_max_ns;
    struct series series[CHANNELS_MAX][MEASURES][PLACEMENTS];
    uint64_t counts[CHANNELS_MAX][MEASURES]; /* records of a run: about 40 ms */
};

static void add(struct table *table, uint32_t c, uint32_t m, const struct result *result)
{
    table->errors += result->errors != 0;
    bool near = result->bounce_before_ns <= table->near_max_ns;
    if (result->disturbed || near != (result->bounce_after_ns <= table->near_max_ns)) {
        table->disturbed++;
        return;
    }
    struct series *series = &table->series[c][m][near ? NEAR : FAR];
    uint32_t i = series->count++;
    uint64_t count = table->counts[c][m];
    series->rate[i] = (double)count / result->seconds;
    series->p50_ns[i] = result->p50_ns;
    series->p99_ns[i] = result->p99_ns;
    series->bounce_ns[i] = (result->bounce_before_ns + result->bounce_after_ns) / 2;
}

/* How many records make a run of about 40 ms. */
static void calibrate(struct table *table, struct shared *shared)
{
    for (uint32_t c = 0; c < table->channel_count; c++)
        for (uint32_t m = 0; m < MEASURES; m++) {
            if (measures[m].pings)
                continue;
            uint64_t count = 20000;
            struct result result = run_once(table->channels[c], shared, measures[m].len, count);
            for (int i = 0; i < 6 && result.seconds < 0.02; i++) {
                count = (uint64_t)((double)count * 0.04 / (result.seconds + 1e-4));
                result = run_once(table->channels[c], shared, measures[m].len, count);
            }
            table->counts[c][m] = count;
        }
}

static void print_series(const struct table *table, uint32_t c, uint32_t m, uint32_t p)
{
    struct series series = table->series[c][m][p];
    if (series.count == 0)
        return;
    printf("    {\"channel\": \"%s\", \"how\": \"%s\", \"measure\": \"%s\", \"placement\": \"%s\", "
           "\"runs\": %u, \"bounce_ns\": %.0f",
           table->channels[c]->name, table->channels[c]->how, measures[m].name, placement_names[p],
           series.count, median(series.bounce_ns, series.count));
    if (measures[m].pings) {
        printf(", \"p50_ns\": %.0f, \"p99_ns\": %.0f},\n", median(series.p50_ns, series.count),
               median(series.p99_ns, series.count));
        return;
    }
    double rate = median(series.rate, series.count); /* sorts them */
    printf(", \"records_per_s\": %.0f, \"gb_per_s\": %.2f, \"least\": %.0f, \"most\": %.0f},\n",
           rate, rate * measures[m].len / 1e9, series.rate[0], series.rate[series.count - 1]);
}

/* Ours by theirs; above 1 is better for throughput, below 1 for round trips. */
static void print_ratios(const struct table *table)
{
    const char *separator = "";
    for (uint32_t m = 0; m < MEASURES; m++)
        for (uint32_t p = 0; p < PLACEMENTS; p++)
            for (uint32_t c = 1; c < table->channel_count; c++) {
                struct series ours = table->series[0][m][p], theirs = table->series[c][m][p];
                if (ours.count == 0 || theirs.count == 0)
                    continue;
                double ratio =
                    measures[m].pings
                        ? median(ours.p50_ns, ours.count) / median(theirs.p50_ns, theirs.count)
                        : median(ours.rate, ours.count) / median(theirs.rate, theirs.count);
                printf("%s\n    \"%s %s / %s\": %.2f", separator, measures[m].name,
                       placement_names[p], table->channels[c]->name, ratio);
                separator = ",";
            }
}

static void print(const struct table *table)
{
    printf(
        "{\n  \"near_max_ns\": %.0f, \"disturbed_runs\": %u, \"wrong_runs\": %u,\n  \"runs\": [\n",
        table->near_max_ns, table->disturbed, table->errors);
    for (uint32_t m = 0; m < MEASURES; m++)
        for (uint32_t p = 0; p < PLACEMENTS; p++)
            for (uint32_t c = 0; c < table->channel_count; c++)
                print_series(table, c, m, p);
    printf("    {}\n  ],\n  \"ratios\": {");
    print_ratios(table);
    printf("\n  }\n}\n");
}

int main(int argc, char **argv)
{
    static struct table table = {.near_max_ns = 220};
    uint32_t rounds = 9;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--rounds") == 0)
            rounds = (uint32_t)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--near-max") == 0)
            table.near_max_ns = atof(argv[i + 1]);
    }
    if (rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "bench-ring: --rounds: expected 1 to %d\n", ROUNDS_MAX);
        return 2;
    }
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("map");
    pin(0);
    uint32_t ours, peers;
    const struct bench_channel *rows = bench_ours(&ours);
    for (uint32_t i = 0; i < ours; i++)
        table.channels[table.channel_count++] = &rows[i];
    rows = bench_peers(&peers);
    for (uint32_t i = 0; i < peers; i++)
        table.channels[table.channel_count++] = &rows[i];
    calibrate(&table, shared);
    for (uint32_t round = 0; round < rounds; round++)
        for (uint32_t m = 0; m < MEASURES; m++)
            for (uint32_t c = 0; c < table.channel_count; c++) {
                if (measures[m].pings && !table.channels[c]->ping)
                    continue;
                struct result result =
                    run_once(table.channels[c], shared, measures[m].len, table.counts[c][m]);
                add(&table, c, m, &result);
            }
    print(&table);
    return table.errors != 0;
}
