#include "bench/ring_run.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"

enum { BOUNCES = 2000, BOUNCE_BATCH = 50, SIDES_MAX = 3, RING_PASSES = 3 };

/* What a side tells of its timed part. */
struct account {
    alignas(128) uint64_t start_ns;
    uint64_t end_ns, cpu_ns, errors;
    long switches; /* against its will */
};

struct bench_shared {
    alignas(128) _Atomic uint32_t arrived;
    alignas(128) _Atomic uint64_t bounce;
    alignas(128) bool go;
    struct account accounts[SIDES_MAX];
    alignas(128) uint32_t samples[BENCH_PINGS];
};

/* A side: index 0 produces on core 0, the others are on core 1. */
struct side {
    struct bench_shared *shared;
    const struct bench_run *run;
    struct bench_job job;
    void *state;
    uint32_t index, count; /* of count sides */
    uint32_t barriers;     /* passed by this side */
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

static long switches(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nivcsw;
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

/* The peer of a dead process would spin for ever. Only calls that a signal handler may make. */
static void on_child(int signal, siginfo_t *info, void *context)
{
    static const char text[] =
        "bench-ring: a consumer process died; left /dev/shm/millrace.bench-*\n";
    (void)signal;
    (void)context;
    if (info->si_code == CLD_EXITED && info->si_status == 0)
        return;
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    _exit(1);
}

struct bench_shared *bench_shared_create(void)
{
    void *shared = mmap(NULL, sizeof(struct bench_shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    struct sigaction action = {.sa_sigaction = on_child,
                               .sa_flags = SA_SIGINFO | SA_RESTART | SA_NOCLDSTOP};
    if (shared == MAP_FAILED || sigaction(SIGCHLD, &action, NULL) != 0)
        die("prepare");
    return shared;
}

/* Before everybody who has no such priority, or like everybody again. Sides that share a core: the
 * later one goes first, because it sleeps whenever it has nothing to do. */
static void take_core(const struct side *side, bool take)
{
    if (!side->run->realtime)
        return;
    struct sched_param param = {.sched_priority = take ? 1 + (int)side->index : 0};
    if (sched_setscheduler(0, take ? SCHED_FIFO : SCHED_OTHER, &param) != 0)
        die("take real-time priority");
}

/* All sides have arrived: spins, because a sleep would cost more than what is measured. The third
 * leaves its core to the second. */
static void meet(struct side *side)
{
    const struct timespec nap = {.tv_nsec = 50 * (long)MR_NS_PER_US};
    uint32_t all = side->count * ++side->barriers;
    atomic_fetch_add(&side->shared->arrived, 1);
    while (atomic_load_explicit(&side->shared->arrived, memory_order_acquire) < all)
        if (side->index > 1)
            nanosleep(&nap, NULL);
        else
            bench_pause();
}

void bench_begin(struct bench_job *job)
{
    struct side *side = job->side;
    struct account *account = &side->shared->accounts[side->index];
    meet(side);
    account->switches = -switches();
    account->cpu_ns = -cpu_ns();
    account->start_ns = bench_now_ns();
}

void bench_end(struct bench_job *job)
{
    struct side *side = job->side;
    struct account *account = &side->shared->accounts[side->index];
    account->end_ns = bench_now_ns();
    account->cpu_ns += cpu_ns();
    account->switches += switches();
    account->errors = job->errors;
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, uint32_t count)
{
    qsort(values, count, sizeof *values, by_double);
    return count == 0 ? 0 : values[count / 2];
}

/* One line to and fro between the sides 0 and 1. The median over batches forgets those in which a
 * side lost its core. */
static double bounce(struct side *side)
{
    double batches[BOUNCES / BOUNCE_BATCH];
    _Atomic uint64_t *line = &side->shared->bounce;
    bool first = side->index == 0;
    uint64_t value = atomic_load(line);
    meet(side);
    for (uint32_t batch = 0; side->index < 2 && batch < BOUNCES / BOUNCE_BATCH; batch++) {
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
    meet(side);
    return side->index < 2 ? bench_median(batches, BOUNCES / BOUNCE_BATCH) : 0;
}

static bench_role *role_of(const struct side *side)
{
    const struct bench_channel *channel = side->run->channel;
    bool pings = side->run->count == 0;
    if (side->index == 0)
        return pings ? channel->ping : channel->produce;
    if (side->index == 1)
        return pings ? channel->pong : channel->consume;
    return channel->second;
}

/* The sides on core 1: a child, or a thread. */
static void *far_side(void *argument)
{
    struct side *side = argument;
    side->job.side = side;
    if (side->index > 1)
        take_core(side, true); /* while the second does not keep it off its core yet */
    meet(side);
    if (side->index == 1)
        take_core(side, true);
    bounce(side);
    meet(side);
    if (!side->shared->go)
        return NULL;
    role_of(side)(side->state, &side->job);
    meet(side);
    bounce(side);
    return NULL; /* the process, or the thread, ends, and its priority with it */
}

static int by_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Was anybody else on the cores? Sides that share core 1 switch each other off it, so there the sum
 * of their time is looked at: one of them always has something to do. */
static bool is_disturbed(const struct side *side, double seconds)
{
    const struct account *accounts = side->shared->accounts;
    if (accounts[0].switches != 0)
        return true;
    if (side->count == 2)
        return accounts[1].switches != 0;
    return (double)(accounts[1].cpu_ns + accounts[2].cpu_ns) / 1e9 < 0.97 * seconds;
}

static void account_for(const struct side *side, struct bench_result *out)
{
    struct bench_shared *shared = side->shared;
    uint64_t start_ns = shared->accounts[0].start_ns, end_ns = 0;
    for (uint32_t i = 0; i < side->count; i++) {
        const struct account *account = &shared->accounts[i];
        start_ns = account->start_ns < start_ns ? account->start_ns : start_ns;
        end_ns = account->end_ns > end_ns ? account->end_ns : end_ns;
        out->errors += account->errors;
    }
    out->seconds = (double)(end_ns - start_ns) / 1e9;
    out->disturbed = is_disturbed(side, out->seconds);
    if (side->run->count == 0) {
        qsort(shared->samples, BENCH_PINGS, sizeof shared->samples[0], by_u32);
        out->p50_ns = shared->samples[BENCH_PINGS / 2];
        out->p99_ns = shared->samples[BENCH_PINGS * 99 / 100];
    }
}

static void near_side(struct side *side, struct bench_result *out)
{
    side->job.side = side;
    pin(0);
    meet(side); /* the others are on core 1: nobody needs this one any more */
    take_core(side, true);
    out->bounce_before_ns = bounce(side);
    side->shared->go = side->run->wanted(side->run->context, out->bounce_before_ns);
    out->skipped = !side->shared->go;
    meet(side);
    if (out->skipped)
        return;
    role_of(side)(side->state, &side->job);
    meet(side);
    account_for(side, out);
    out->bounce_after_ns = bounce(side);
}

static pid_t start_process(struct side *side)
{
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child > 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    far_side(side);
    _exit(0);
}

/* The others start on core 1, where they inherit that they belong. */
static void run_sides(struct side sides[SIDES_MAX], struct bench_result *out)
{
    pin(1);
    if (sides[0].run->channel->threads) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, far_side, &sides[1]) != 0)
            die("start thread");
        near_side(&sides[0], out);
        take_core(&sides[0], false);
        pthread_join(thread, NULL);
        return;
    }
    pid_t children[SIDES_MAX];
    for (uint32_t i = 1; i < sides[0].count; i++)
        children[i] = start_process(&sides[i]);
    near_side(&sides[0], out);
    take_core(&sides[0], false);
    for (uint32_t i = 1; i < sides[0].count; i++) {
        int status;
        if (waitpid(children[i], &status, 0) != children[i] || status != 0)
            die("consumer process");
    }
}

void bench_run(struct bench_shared *shared, const struct bench_run *run, struct bench_result *out)
{
    const struct bench_channel *channel = run->channel;
    bool pings = run->count == 0;
    /* Every page of the rings has been touched by both sides. */
    uint64_t warmup = (pings ? 1 : RING_PASSES) * (uint64_t)BENCH_RING_BYTES / run->len;
    struct side sides[SIDES_MAX];
    uint32_t count = channel->second && !pings ? 3 : 2;
    void *state = channel->create(run->len, pings);
    if (!state)
        die(channel->name);
    atomic_store(&shared->arrived, 0);
    *out = (struct bench_result){0};
    for (uint32_t i = 0; i < count; i++) {
        sides[i] =
            (struct side){.shared = shared, .run = run, .state = state, .index = i, .count = count};
        sides[i].job = (struct bench_job){.len = run->len,
                                          .warmup = warmup,
                                          .count = warmup + (pings ? BENCH_PINGS : run->count),
                                          .samples = shared->samples,
                                          .sources = calloc(BENCH_SOURCES, run->len)};
        if (!sides[i].job.sources)
            die("memory");
    }
    run_sides(sides, out);
    channel->destroy(state);
    for (uint32_t i = 0; i < count; i++)
        free(sides[i].job.sources);
}
