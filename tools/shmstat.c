/* tools/shmstat.c: see the shared memory of a running or dead instance. Maps read-only. */
#include "tools/shmstat.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "proto/event.h"
#include "proto/match.h"

enum view { VIEW_TEXT, VIEW_JSON, VIEW_PROMETHEUS };

struct options {
    const char *instance; /* NULL: all */
    const char *ring;     /* --peek: only this one */
    enum view view;
    uint64_t watch_ms; /* 0: once */
    uint64_t peek;     /* 0: no records */
};

static const char usage[] =
    "usage: shmstat [INSTANCE] [--watch[=MS]] [--json | --prometheus] [--peek N [--ring NAME]]\n"
    "  INSTANCE          which one; without it, every instance of this machine\n"
    "  --watch[=MS]      again every MS milliseconds (default 1000) until interrupted\n"
    "  --json            one JSON object for each instance and look\n"
    "  --prometheus      Prometheus text format\n"
    "  --peek N          also show the next N records of each ring, without consuming them\n"
    "  --ring NAME       with --peek: only this ring, e.g. e0\n"
    "Exit status: 0; 1 no such instance, or one of another layout; 2 wrong usage.\n";

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

static double event_age(const struct mr_inspect_ring *ring, const struct mr_ring_numbers *numbers,
                        uint64_t now_ns)
{
    const struct mr_ring_record_shm *record;
    struct mr_event_head head;
    if (ring->kind != 'e' || numbers->fill_bytes < sizeof *record + sizeof head)
        return 0;
    uint64_t offset = numbers->position[numbers->stage_count - 1] & (numbers->capacity - 1);
    record = (const void *)((const char *)ring->shm + MR_SEGMENT_DATA + offset);
    memcpy(&head, record + 1, sizeof head);
    return now_ns > head.ingest_ns ? (double)(now_ns - head.ingest_ns) / 1e9 : 0;
}

void shmstat_take(struct mr_inspect *inspect, const struct shmstat_sample *before,
                  struct shmstat_sample *out)
{
    uint64_t set = inspect->ring_set;
    mr_inspect_refresh(inspect);
    *out = (struct shmstat_sample){.now_ns = mr_clock_ns(), .ring_count = inspect->ring_count};
    for (uint32_t i = 0; i < out->ring_count; i++) {
        struct shmstat_ring *ring = &out->rings[i];
        ring->ring = &inspect->rings[i];
        if (!ring->ring->shm)
            continue;
        mr_ring_numbers(ring->ring->shm, &ring->numbers);
        ring->age_seconds = event_age(ring->ring, &ring->numbers, out->now_ns);
        if (!before || set != inspect->ring_set || before->now_ns == out->now_ns)
            continue;
        double seconds = (double)(out->now_ns - before->now_ns) / 1e9;
        const struct mr_ring_numbers *then = &before->rings[i].numbers;
        ring->records_per_second = (double)(ring->numbers.published - then->published) / seconds;
        ring->bytes_per_second = (double)(ring->numbers.tail - then->tail) / seconds;
    }
}

enum mr_liveness shmstat_peer(const struct mr_inspect *inspect, uint32_t pid, uint64_t now_ns)
{
    for (uint32_t i = 0; i < MR_BOARD_CELLS; i++) {
        const struct mr_cell_shm *cell = &inspect->board.shm->cells[i];
        if (pid != 0 && atomic_load_explicit(&cell->pid, memory_order_relaxed) == pid)
            return mr_liveness_of(
                pid, atomic_load_explicit(&cell->heartbeat_ns, memory_order_relaxed), now_ns);
    }
    return mr_liveness_of(pid, 0, now_ns);
}

static void show(struct mr_inspect *inspect, const struct options *options,
                 const struct shmstat_sample *sample)
{
    switch (options->view) {
    case VIEW_TEXT:
        shmstat_text(inspect, sample, stdout);
        break;
    case VIEW_JSON:
        shmstat_json(inspect, sample, stdout);
        break;
    case VIEW_PROMETHEUS:
        mr_inspect_prometheus(inspect, stdout);
        break;
    }
    if (options->peek > 0)
        shmstat_peek(inspect, options->ring, options->peek, options->view == VIEW_JSON, stdout);
    fflush(stdout);
}

static void sleep_ms(uint64_t ms)
{
    const struct timespec pause = {.tv_sec = (time_t)(ms / 1000),
                                   .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

static void clear_screen(const struct options *options)
{
    if (options->watch_ms && options->view == VIEW_TEXT && isatty(STDOUT_FILENO))
        fputs("\033[H\033[2J", stdout);
}

/* Look at one instance until interrupted, or twice, a tenth of a second apart, to know the rates.
 */
static int look(const char *instance, const struct options *options)
{
    struct mr_inspect inspect;
    struct mr_err err = {0};
    enum mr_rc rc = mr_inspect_open(&inspect, instance, &err);
    if (rc != MR_OK) {
        fprintf(stderr, "shmstat: %s\n", err.text);
        return EXIT_FAILURE;
    }
    static struct shmstat_sample samples[2];
    uint32_t turn = 0;
    shmstat_take(&inspect, NULL, &samples[0]);
    do {
        sleep_ms(options->watch_ms ? options->watch_ms : 100);
        if (interrupted)
            break;
        turn ^= 1;
        shmstat_take(&inspect, &samples[turn ^ 1], &samples[turn]);
        clear_screen(options);
        show(&inspect, options, &samples[turn]);
    } while (options->watch_ms && !interrupted);
    mr_inspect_close(&inspect);
    return EXIT_SUCCESS;
}

struct sweep {
    const struct options *options;
    int status;
    uint32_t seen;
};

static void look_visit(const char *instance, void *context)
{
    struct sweep *sweep = context;
    sweep->seen++;
    if (look(instance, sweep->options) != EXIT_SUCCESS)
        sweep->status = EXIT_FAILURE;
}

static int look_at_all(const struct options *options)
{
    struct options once = *options;
    struct sweep sweep = {.options = &once};
    once.watch_ms = 0;
    mr_segment_each_instance(look_visit, &sweep);
    if (sweep.seen == 0) {
        fputs("shmstat: no instance of millrace on this machine\n", stderr);
        return EXIT_FAILURE;
    }
    while (options->watch_ms && !interrupted) { /* those that come and go as well */
        sleep_ms(options->watch_ms);
        clear_screen(options);
        mr_segment_each_instance(look_visit, &sweep);
    }
    return sweep.status;
}

static bool parse_number(const char *text, uint64_t max, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value == 0 || value > max || *text == '-')
        return false;
    *out = value;
    return true;
}

static bool parse(int argc, char **argv, struct options *out)
{
    static const struct option longs[] = {
        {"watch", optional_argument, NULL, 'w'}, {"json", no_argument, NULL, 'j'},
        {"prometheus", no_argument, NULL, 'p'},  {"peek", required_argument, NULL, 'k'},
        {"ring", required_argument, NULL, 'r'},  {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (option) {
        case 'w':
            out->watch_ms = 1000;
            if (optarg && !parse_number(optarg, 3600000, &out->watch_ms)) {
                fprintf(stderr,
                        "shmstat: --watch: expected milliseconds, 1 to 3600000, got \"%s\"\n",
                        optarg);
                return false;
            }
            break;
        case 'j':
            out->view = VIEW_JSON;
            break;
        case 'p':
            out->view = VIEW_PROMETHEUS;
            break;
        case 'k':
            if (!parse_number(optarg, 1000000, &out->peek)) {
                fprintf(stderr, "shmstat: --peek: expected a number, 1 to 1000000, got \"%s\"\n",
                        optarg);
                return false;
            }
            break;
        case 'r':
            out->ring = optarg;
            break;
        default:
            return false;
        }
    }
    /* "--watch 500" reads naturally; getopt leaves the number as an argument. */
    if (out->watch_ms == 1000 && optind < argc &&
        parse_number(argv[optind], 3600000, &out->watch_ms))
        optind++;
    if (optind < argc)
        out->instance = argv[optind++];
    if (out->watch_ms == 1000 && optind < argc &&
        parse_number(argv[optind], 3600000, &out->watch_ms))
        optind++;
    if (optind < argc)
        fprintf(stderr, "shmstat: unexpected argument \"%s\"\n", argv[optind]);
    return optind >= argc;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("shmstat %s, layout %u\n", MR_VERSION, MR_LAYOUT_VERSION);
        return EXIT_SUCCESS;
    }
    if (!parse(argc, argv, &options)) {
        fputs(usage, stderr);
        return MR_EXIT_USAGE;
    }
    const struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return options.instance ? look(options.instance, &options) : look_at_all(&options);
}
