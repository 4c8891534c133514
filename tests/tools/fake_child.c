/* A process that does what a test tells it, in the place of millrace-puller, -matcher,
 * -publisher and -relay. Its kind is its name; what it does is in files of the directory
 * $MILLRACE_TEST_FAKE:
 *
 *   NAME          (puller, publisher, matcher-0, ...) one word, read at start and at every turn:
 *                   ready    become ready and stay (the default)
 *                   exit:N   leave with code N at start          late:N  the same once ready
 *                   abort    fail an assertion once ready        never   do not become ready
 *                   silent   become ready, then never beat       deaf    ignore SIGTERM
 *                   detached do not attach the next ring set
 *   log_id        of the puller's log; 7 when missing            durable  its LOG_DURABLE
 *   released      what the publisher notes as released           undrained  while it exists, DRAIN
 * waits
 *
 * Each start appends its NAME to the file "starts", with the value of generator.rate. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "shm/process.h"
#include "shm/ring.h"

static const char *directory;
static char name[32];

static void read_file(const char *file, char *out, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, out, size - 1) : 0;
    out[len > 0 ? len : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    if (fd >= 0)
        close(fd);
}

static uint64_t read_number(const char *file, uint64_t missing)
{
    char text[32];
    read_file(file, text, sizeof text);
    return *text ? strtoull(text, NULL, 10) : missing;
}

static bool exists(const char *file)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    return access(path, F_OK) == 0;
}

static bool told(const char *word)
{
    char text[32];
    read_file(name, text, sizeof text);
    return strncmp(text, word, strlen(word)) == 0;
}

static int told_code(void)
{
    char text[32];
    read_file(name, text, sizeof text);
    const char *colon = strchr(text, ':');
    return colon ? atoi(colon + 1) : 1;
}

static void record_start(const struct mr_config *config)
{
    char path[512], line[64];
    snprintf(path, sizeof path, "%s/starts", directory);
    int len = snprintf(line, sizeof line, "%s %" PRIu64 "\n", name, config->generator_rate);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, (size_t)len) != len)
        abort();
    close(fd);
}

static void act_puller(struct mr_process *p)
{
    struct mr_board_shm *board = p->board.shm;
    uint64_t number = atomic_load_explicit(&board->directive_number, memory_order_acquire);
    uint32_t directive = atomic_load_explicit(&board->directive, memory_order_acquire);
    atomic_store(&board->log_id, read_number("log_id", 7));
    mr_gauge(p->cell, MR_COUNTER_LOG_DURABLE, read_number("durable", 0));
    atomic_store(&p->cell->feed_paused, directive == MR_DIRECTIVE_QUIESCE ? number + 1 : 0);
    if (directive == MR_DIRECTIVE_DRAIN && !exists("undrained"))
        atomic_store(&p->cell->state, MR_STATE_DRAINED);
}

static void act_publisher(struct mr_process *p, uint64_t set)
{
    static struct mr_ring_consumer rings[MR_SHARDS_MAX];
    static uint64_t attached;
    struct mr_err err = {0};
    for (uint32_t i = 0; attached != set && i < mr_ring_set_shards(attached); i++)
        mr_ring_detach_consumer(&rings[i]);
    for (uint32_t i = 0; attached != set && i < mr_ring_set_shards(set); i++) {
        char part[32];
        mr_ring_part(part, 'e', i, mr_ring_set_generation(set));
        if (mr_ring_attach_consumer(&rings[i], p->instance, &(struct mr_ring_options){.part = part},
                                    1, &err) != MR_OK)
            exit(111);
    }
    attached = set;
    for (uint32_t i = 0; i < mr_ring_set_shards(set); i++)
        mr_ring_release(&rings[i], 0, read_number("released", 0));
}

static void act(struct mr_process *p)
{
    struct mr_board_shm *board = p->board.shm;
    uint64_t next = atomic_load_explicit(&board->ring_set_next, memory_order_acquire);
    uint64_t set = atomic_load_explicit(&board->ring_set, memory_order_acquire);
    if (p->kind == MR_PROCESS_MATCHER || p->kind == MR_PROCESS_RELAY)
        return;
    if (p->kind == MR_PROCESS_PULLER)
        act_puller(p);
    else
        act_publisher(p, set);
    if (!told("detached"))
        atomic_store(&p->cell->rings_attached, mr_ring_set_generation(next ? next : set));
}

static bool nothing(void *context)
{
    (void)context;
    return false;
}

int main(int argc, char **argv)
{
    static struct mr_process process;
    struct mr_err err = {0};
    enum mr_process_kind kind = MR_PROCESS_PULLER;
    directory = getenv("MILLRACE_TEST_FAKE");
    while (kind < MR_PROCESS_KIND_COUNT &&
           !strstr(strrchr(argv[0], '/'), mr_process_kind_name(kind)))
        kind++;
    if (!directory || kind == MR_PROCESS_KIND_COUNT)
        return MR_EXIT_USAGE;
    enum mr_rc rc = mr_process_open(&process, kind, argc, argv, &err);
    if (rc != MR_OK)
        return mr_process_close(&process, rc, &err);
    snprintf(name, sizeof name, kind == MR_PROCESS_MATCHER ? "%s-%u" : "%s",
             mr_process_kind_name(kind), process.shard);
    record_start(&process.config);
    if (told("exit")) {
        mr_cell_say(process.cell, "told to leave");
        return told_code();
    }
    while (told("never"))
        usleep(5000);
    mr_process_ready(&process);
    while (mr_process_running(&process, mr_clock_ns()) || told("deaf")) {
        act(&process);
        if (told("late"))
            return told_code();
        MR_ASSERT(!told("abort"));
        while (told("silent"))
            usleep(5000);
        mr_process_idle(&process, 0, 5 * MR_NS_PER_MS, nothing, NULL);
    }
    return mr_process_close(&process, MR_OK, &err);
}
