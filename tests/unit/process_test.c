/* The life of a process: how it opens, beats, sleeps, is woken, stopped, and dies. Each life is a
 * child, because opening blocks signals and asks to die with the parent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "shm/process.h"
#include "tests/leftovers.h"

struct fixture {
    char instance[MR_INSTANCE_MAX];
    struct mr_board board;
    struct mr_cell_shm *cell; /* the puller's */
    char config_fd[16];
    struct mr_err err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    remove_leftovers("process");
    snprintf(f->instance, sizeof f->instance, "process-%d", (int)getpid());
    assert_int_equal(mr_board_create(&f->board, f->instance, 1, &f->err), MR_OK);
    f->cell = &f->board.shm->cells[MR_CELL_PULLER];
    atomic_store(&f->board.shm->log_level, MR_LOG_ERROR);
    atomic_store(&f->board.shm->cells[MR_CELL_SUPERVISOR].pid, (uint32_t)getpid());
    mr_segment_seal(&f->board.segment);
    static struct mr_config config;
    mr_config_init(&config);
    assert_int_equal(mr_config_set(&config, "instance.name", f->instance, &f->err), MR_OK);
    int fd = memfd_create("config", 0);
    assert_true(fd >= 0);
    assert_int_equal(mr_config_write_flat(&config, fd, &f->err), MR_OK);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    snprintf(f->config_fd, sizeof f->config_fd, "%d", fd);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    close(atoi(f->config_fd));
    mr_board_detach(&f->board);
    mr_segment_remove_all(f->instance);
    free(f);
    return 0;
}

/* Open as the puller with these arguments behind --config-fd N. */
static enum mr_rc open_with(struct fixture *f, struct mr_process *process,
                            enum mr_process_kind kind, const char *const *arguments)
{
    char *argv[16] = {"test", "--config-fd", f->config_fd};
    int argc = 3;
    for (; arguments[argc - 3]; argc++)
        argv[argc] = (char *)(uintptr_t)arguments[argc - 3];
    return mr_process_open(process, kind, argc, argv, &f->err);
}

static const char *const puller[] = {"--cell", "1", NULL};

/* Run a life in a child; its return value is the exit code. */
static pid_t start(struct fixture *f, int (*life)(struct fixture *f))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(life(f));
    return pid;
}

static int end(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void await_state(struct fixture *f, enum mr_process_state expected)
{
    uint64_t until_ns = mr_clock_ns() + 20 * MR_NS_PER_S;
    while (atomic_load(&f->cell->state) != expected && mr_clock_ns() < until_ns)
        usleep(500);
    assert_int_equal(atomic_load(&f->cell->state), expected);
}

static bool never(void *context)
{
    (void)context;
    return false;
}

static int idle_life(struct fixture *f)
{
    static struct mr_process process;
    enum mr_rc rc = open_with(f, &process, MR_PROCESS_PULLER, puller);
    if (rc == MR_OK)
        mr_process_ready(&process);
    while (rc == MR_OK && mr_process_running(&process, mr_clock_ns()))
        mr_process_idle(&process, 0, MR_NS_PER_S, never, NULL);
    return mr_process_close(&process, rc, &f->err);
}

static void it_beats_while_idle_and_ends_with_sigterm(void **state)
{
    struct fixture *f = *state;
    pid_t pid = start(f, idle_life);
    await_state(f, MR_STATE_READY);
    assert_string_equal(f->cell->text, "ready");
    uint64_t first_ns = atomic_load(&f->cell->heartbeat_ns);
    uint64_t until_ns = mr_clock_ns() + 20 * MR_NS_PER_S;
    while (atomic_load(&f->cell->heartbeat_ns) == first_ns && mr_clock_ns() < until_ns)
        usleep(1000);
    assert_true(atomic_load(&f->cell->heartbeat_ns) - first_ns < 10 * MR_BEAT_NS);
    kill(pid, SIGTERM);
    assert_int_equal(end(pid), 0);
    assert_int_equal(atomic_load(&f->cell->state), MR_STATE_STOPPING);
}

static void idling_costs_next_to_nothing(void **state)
{
    struct fixture *f = *state;
    pid_t pid = start(f, idle_life);
    await_state(f, MR_STATE_READY);
    usleep(1000000);
    kill(pid, SIGTERM);
    struct rusage usage;
    int status;
    assert_int_equal(wait4(pid, &status, 0, &usage), pid);
    assert_int_equal(status, 0);
    /* About ten beats; the start is in it. A process that polled would need far more. */
    assert_true(usage.ru_nvcsw < 60);
    int64_t cpu_us = usage.ru_utime.tv_sec * 1000000 + usage.ru_utime.tv_usec +
                     usage.ru_stime.tv_sec * 1000000 + usage.ru_stime.tv_usec;
    assert_true(cpu_us < 500000);
}

static int worker_life(struct fixture *f)
{
    /* Sleeps until the bell rings, then says so and ends: by its return, not by a signal. */
    static struct mr_process process;
    enum mr_rc rc = open_with(f, &process, MR_PROCESS_PULLER, puller);
    if (rc != MR_OK)
        return mr_process_close(&process, rc, &f->err);
    mr_process_ready(&process);
    uint64_t rounds = 0;
    while (atomic_load(&process.cell->bell.wakes) == 0 && rounds++ < 1000)
        mr_process_idle(&process, 0, MR_NS_PER_S, never, NULL);
    return mr_process_close(&process, MR_OK, NULL) + (rounds < 1000 ? 42 : 0);
}

static void a_bell_wakes_it(void **state)
{
    struct fixture *f = *state;
    pid_t pid = start(f, worker_life);
    await_state(f, MR_STATE_READY);
    uint64_t until_ns = mr_clock_ns() + 20 * MR_NS_PER_S;
    while (atomic_load(&f->cell->bell.wakes) == 0 && mr_clock_ns() < until_ns)
        mr_doorbell_ring(&f->cell->bell);
    int status = end(pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
}

static int panicking_life(struct fixture *f)
{
    static struct mr_process process;
    if (open_with(f, &process, MR_PROCESS_PULLER, puller) != MR_OK)
        return 1;
    if (!freopen("/dev/null", "w", stderr))
        return 1;
    MR_ASSERT(false && "two and two are four");
    return 0;
}

static void a_panic_leaves_its_text_on_the_board(void **state)
{
    struct fixture *f = *state;
    int status = end(start(f, panicking_life));
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(f->cell->panic, "two and two are four"));
    assert_non_null(strstr(f->cell->panic, "process_test.c"));
}

static int expects(struct fixture *f, enum mr_process_kind kind, const char *const *arguments,
                   enum mr_rc expected, const char *text)
{
    static struct mr_process process;
    enum mr_rc rc = open_with(f, &process, kind, arguments);
    bool good = rc == expected && (rc == MR_OK || strstr(f->err.text, text));
    if (!good)
        fprintf(stderr, "got %s: %s\n", mr_rc_name(rc), f->err.text);
    if (mr_process_close(&process, rc, &f->err) != mr_exit_code(expected))
        return 2;
    return good ? 0 : 1;
}

static int wrong_arguments_life(struct fixture *f)
{
    static const struct {
        enum mr_process_kind kind;
        const char *arguments[8];
        const char *text;
    } cases[] = {
        {MR_PROCESS_PULLER, {NULL}, "--cell: missing"},
        {MR_PROCESS_PULLER, {"--cell", NULL}, "expected a number"},
        {MR_PROCESS_PULLER, {"--cell", "x", NULL}, "expected a number, got \"x\""},
        {MR_PROCESS_PULLER, {"--cell", "-1", NULL}, "expected a number"},
        {MR_PROCESS_PULLER, {"--cell", "1", "--colour", "2", NULL}, "--colour: unknown"},
        {MR_PROCESS_PULLER, {"--cell", "2", NULL}, "--cell: expected 1, got 2"},
        {MR_PROCESS_PUBLISHER, {"--cell", "1", NULL}, "--cell: expected 2, got 1"},
        {MR_PROCESS_MATCHER, {"--cell", "3", NULL}, "--shard and --ring-generation: missing"},
        {MR_PROCESS_MATCHER,
         {"--cell", "3", "--shard", "16", "--ring-generation", "2", NULL},
         "--shard: expected 0 to 15, got 16"},
        {MR_PROCESS_MATCHER,
         {"--cell", "3", "--shard", "0", "--ring-generation", "1", NULL},
         "--cell: expected 19, got 3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = dup(atoi(f->config_fd)); /* open closes it */
        struct fixture copy = *f;
        lseek(fd, 0, SEEK_SET);
        snprintf(copy.config_fd, sizeof copy.config_fd, "%d", fd);
        if (expects(&copy, cases[i].kind, cases[i].arguments, MR_USAGE, cases[i].text) != 0)
            return 1;
    }
    return 0;
}

static void wrong_arguments_are_named_and_never_restarted(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mr_exit_code(MR_USAGE), MR_EXIT_CONFIG);
    assert_int_equal(end(start(f, wrong_arguments_life)), 0);
}

static int orphan_life(struct fixture *f)
{
    return expects(f, MR_PROCESS_PULLER, puller, MR_RETRY, "is gone: the parent is");
}

static void a_parent_that_died_meanwhile_is_noticed(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->board.shm->cells[MR_CELL_SUPERVISOR].pid, (uint32_t)getpid() + 1);
    assert_int_equal(end(start(f, orphan_life)), 0);
}

static int stranger_life(struct fixture *f)
{
    return expects(f, MR_PROCESS_PULLER, puller, MR_CORRUPT, "version 9, this program's version");
}

static void a_board_of_another_layout_is_refused(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->board.segment.head->version, 9);
    assert_int_equal(end(start(f, stranger_life)), 0);
}

static void it_dies_with_its_parent(void **state)
{
    struct fixture *f = *state;
    pid_t parent = fork();
    assert_true(parent >= 0);
    if (parent == 0) { /* a supervisor that is killed once its child lives */
        atomic_store(&f->board.shm->cells[MR_CELL_SUPERVISOR].pid, (uint32_t)getpid());
        pid_t child = start(f, idle_life);
        atomic_store(&f->cell->pid, (uint32_t)child);
        for (;;)
            pause();
    }
    await_state(f, MR_STATE_READY);
    pid_t child = 0;
    while ((child = (pid_t)atomic_load(&f->cell->pid)) == 0)
        usleep(500);
    kill(parent, SIGKILL);
    assert_int_equal(WTERMSIG(end(parent)), SIGKILL);
    uint64_t until_ns = mr_clock_ns() + 20 * MR_NS_PER_S;
    uint64_t last_ns;
    do { /* it is not ours to wait for, and whoever adopted it may not reap it: it beats no more */
        last_ns = atomic_load(&f->cell->heartbeat_ns);
        usleep(4 * MR_BEAT_NS / 1000);
    } while (atomic_load(&f->cell->heartbeat_ns) != last_ns && mr_clock_ns() < until_ns);
    assert_int_equal(atomic_load(&f->cell->heartbeat_ns), last_ns);
    assert_int_equal(atomic_load(&f->cell->state), MR_STATE_READY); /* it had no time to say more */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_beats_while_idle_and_ends_with_sigterm, setup, teardown),
        cmocka_unit_test_setup_teardown(idling_costs_next_to_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bell_wakes_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_panic_leaves_its_text_on_the_board, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_arguments_are_named_and_never_restarted, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_parent_that_died_meanwhile_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_board_of_another_layout_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(it_dies_with_its_parent, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
