/* bench/tick_bench.c: how late this machine wakes whoever asks for the time: the floor under every
 * latency that is measured on it. One timer of 1 ms on one core, under SCHED_FIFO where that is
 * allowed, so that only the kernel and the host count, and not the processes that are measured
 * meanwhile.
 *
 *   bench-tick CPU
 *
 * Each line on standard input is answered with one JSON line: how late the ticks since the last
 * answer were. Ends with standard input. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "shm/histogram.h"

enum { TICK_NS = 1000 * 1000 };

static bool pin(const char *cpu_text)
{
    char *end;
    long cpu = strtol(cpu_text, &end, 10);
    if (end == cpu_text || *end || cpu < 0 || cpu >= CPU_SETSIZE)
        return false;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0;
}

static uint64_t tick(uint64_t due_ns)
{
    struct timespec due = {(time_t)(due_ns / MR_NS_PER_S), (long)(due_ns % MR_NS_PER_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
        continue;
    return mr_clock_ns() - due_ns;
}

static void answer(struct mr_histogram_shm *late, bool realtime)
{
    printf(
        "{\"ticks\":%" PRIu64 ",\"realtime\":%s,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f}\n",
        late->count, realtime ? "true" : "false", (double)mr_histogram_quantile_ns(late, 0.5) / 1e3,
        (double)mr_histogram_quantile_ns(late, 0.99) / 1e3, (double)late->max_ns / 1e3);
    fflush(stdout);
    memset(late, 0, sizeof *late);
}

/* False: the end of the input. */
static bool answer_lines(struct mr_histogram_shm *late, bool realtime)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    char lines[256];
    if (poll(&in, 1, 0) <= 0)
        return true;
    ssize_t got = read(STDIN_FILENO, lines, sizeof lines);
    for (ssize_t i = 0; i < got; i++)
        if (lines[i] == '\n')
            answer(late, realtime);
    return got > 0;
}

int main(int argc, char **argv)
{
    static struct mr_histogram_shm late;
    if (argc != 2 || !pin(argv[1])) {
        fputs("usage: bench-tick CPU\n  CPU: number of a core that this process may use\n", stderr);
        return 2;
    }
    bool realtime =
        sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 50}) == 0;
    uint64_t due_ns = mr_clock_ns();
    do {
        due_ns += TICK_NS;
        mr_histogram_add(&late, tick(due_ns));
    } while (answer_lines(&late, realtime));
    return 0;
}
