#include "shm/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"

#define LOOK_NS     MR_NS_PER_MS /* a signal may wait so long; a system call a turn would cost more */
#define SPIN_PAUSES 8            /* between two looks at the rings */

/* The hook has no argument; there is one process, and so one cell. */
static struct mr_cell_shm *panic_cell;

static void write_panic(const char *text)
{
    snprintf(panic_cell->panic, sizeof panic_cell->panic, "%s", text);
}

struct arguments {
    uint64_t config_fd, cell, shard, ring_generation;
    bool have_config_fd, have_cell, have_shard, have_ring_generation;
};

static bool parse_number(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == 0 && text[0] >= '0' && text[0] <= '9' &&
           *out <= INT32_MAX;
}

static enum mr_rc parse_arguments(struct arguments *out, int argc, char **argv, struct mr_err *err)
{
    *out = (struct arguments){0};
    struct {
        const char *name;
        uint64_t *value;
        bool *have;
    } flags[] = {
        {"--config-fd", &out->config_fd, &out->have_config_fd},
        {"--cell", &out->cell, &out->have_cell},
        {"--shard", &out->shard, &out->have_shard},
        {"--ring-generation", &out->ring_generation, &out->have_ring_generation},
    };
    for (int i = 1; i < argc; i += 2) {
        size_t f = 0;
        while (f < sizeof flags / sizeof flags[0] && strcmp(argv[i], flags[f].name) != 0)
            f++;
        if (f == sizeof flags / sizeof flags[0])
            return mr_reject(err, MR_USAGE,
                             "argument %s: unknown (the supervisor starts this program)", argv[i]);
        if (i + 1 == argc || !parse_number(argv[i + 1], flags[f].value))
            return mr_reject(err, MR_USAGE, "argument %s: expected a number, got \"%s\"", argv[i],
                             i + 1 == argc ? "" : argv[i + 1]);
        *flags[f].have = true;
    }
    if (!out->have_config_fd || !out->have_cell)
        return mr_reject(err, MR_USAGE,
                         "arguments --config-fd and --cell: missing (the supervisor "
                         "starts this program)");
    return MR_OK;
}

/* The cell must be the one of this role: two processes must never write one. */
static enum mr_rc check_cell(const struct mr_process *process, const struct arguments *arguments,
                             struct mr_err *err)
{
    uint64_t expected = 0;
    switch (process->kind) {
    case MR_PROCESS_PULLER:
        expected = MR_CELL_PULLER;
        break;
    case MR_PROCESS_PUBLISHER:
        expected = MR_CELL_PUBLISHER;
        break;
    case MR_PROCESS_RELAY:
        expected = MR_CELL_RELAY;
        break;
    case MR_PROCESS_MATCHER:
        if (!arguments->have_shard || !arguments->have_ring_generation)
            return mr_reject(err, MR_USAGE, "arguments --shard and --ring-generation: missing");
        if (arguments->shard >= MR_SHARDS_MAX)
            return mr_reject(err, MR_USAGE, "argument --shard: expected 0 to %d, got %u",
                             MR_SHARDS_MAX - 1, process->shard);
        expected = mr_cell_matcher(process->ring_generation, process->shard);
        break;
    case MR_PROCESS_SUPERVISOR:
    case MR_PROCESS_KIND_COUNT:
        MR_ASSERT(false && "a supervisor opens its board itself");
    }
    if (arguments->cell != expected)
        return mr_reject(err, MR_USAGE, "argument --cell: expected %u, got %u", (unsigned)expected,
                         (unsigned)arguments->cell);
    return MR_OK;
}

/* Die with the supervisor. It may have died between our fork and the prctl, and then nobody would
 * ever send the signal: so compare, after it, the parent with the one on the board. */
static enum mr_rc follow_parent(const struct mr_process *process, struct mr_err *err)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return mr_fail(err, MR_FATAL, "ask to die with the supervisor");
    const struct mr_cell_shm *cell = &process->board.shm->cells[MR_CELL_SUPERVISOR];
    uint32_t supervisor = atomic_load_explicit(&cell->pid, memory_order_relaxed);
    if (supervisor != 0 && (uint32_t)getppid() != supervisor)
        return mr_reject(err, MR_RETRY, "the supervisor (pid %u) is gone: the parent is %d now",
                         supervisor, getppid());
    return MR_OK;
}

static enum mr_rc take_signals(struct mr_process *process, struct mr_err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigset_t blocked = set;
    sigaddset(&blocked,
              SIGPIPE); /* a write to a peer that left is EPIPE, handled where it happens */
    if (sigprocmask(SIG_BLOCK, &blocked, NULL) != 0)
        return mr_fail(err, MR_FATAL, "block signals");
    process->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (process->signal_fd < 0)
        return mr_fail(err, MR_FATAL, "open signalfd");
    return MR_OK;
}

static void set_up_log(struct mr_process *process)
{
    char name[32];
    const char *kind = mr_process_kind_name(process->kind);
    if (process->kind == MR_PROCESS_MATCHER)
        snprintf(name, sizeof name, "%s-%u", kind, process->shard);
    else
        snprintf(name, sizeof name, "%s", kind);
    bool json = strcmp(process->config.logging_format.text, "json") == 0;
    process->log_level = atomic_load_explicit(&process->board.shm->log_level, memory_order_relaxed);
    mr_log_setup((enum mr_log_level)process->log_level, json ? MR_LOG_JSON : MR_LOG_TEXT, name);
}

static enum mr_rc open_cell(struct mr_process *process, const struct arguments *arguments,
                            struct mr_err *err)
{
    enum mr_rc rc = check_cell(process, arguments, err);
    if (rc != MR_OK)
        return rc;
    rc = mr_board_attach(&process->board, process->instance, false, err);
    if (rc != MR_OK)
        return rc;
    process->cell_index = (uint32_t)arguments->cell;
    process->cell = &process->board.shm->cells[process->cell_index];
    panic_cell = process->cell;
    mr_panic_set_hook(write_panic);
    set_up_log(process);
    rc = follow_parent(process, err);
    if (rc != MR_OK)
        return rc;
    atomic_store_explicit(&process->cell->heartbeat_ns, mr_clock_ns(), memory_order_relaxed);
    atomic_store_explicit(&process->cell->state, MR_STATE_STARTING, memory_order_release);
    mr_cell_say(process->cell, "starting");
    return MR_OK;
}

enum mr_rc mr_process_open(struct mr_process *process, enum mr_process_kind kind, int argc,
                           char **argv, struct mr_err *err)
{
    *process = (struct mr_process){.kind = kind, .signal_fd = -1};
    mr_log_setup(MR_LOG_INFO, MR_LOG_TEXT, mr_process_kind_name(kind));
    struct arguments arguments;
    enum mr_rc rc = parse_arguments(&arguments, argc, argv, err);
    if (rc != MR_OK)
        return rc;
    process->shard = (uint32_t)arguments.shard;
    process->ring_generation = (uint32_t)arguments.ring_generation;
    mr_config_init(&process->config);
    rc = mr_config_read_flat(&process->config, (int)arguments.config_fd, err);
    close((int)arguments.config_fd);
    if (rc != MR_OK)
        return rc;
    process->instance = process->config.instance_name.text;
    rc = take_signals(process, err);
    return rc == MR_OK ? open_cell(process, &arguments, err) : rc;
}

void mr_process_ready(struct mr_process *process)
{
    MR_ASSERT(process->cell != NULL);
    atomic_store_explicit(&process->cell->state, MR_STATE_READY, memory_order_release);
    mr_cell_say(process->cell, "ready");
    mr_log_info("process", "ready", "instance=%s cell=%u pid=%d", process->instance,
                process->cell_index, getpid());
}

/* What is looked at from time to time only. */
static void look_around(struct mr_process *process)
{
    struct signalfd_siginfo info;
    if (read(process->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        process->stopping = true;
        mr_log_info("process", "signal", "number=%u from=%u", info.ssi_signo, info.ssi_pid);
    }
    uint32_t level = atomic_load_explicit(&process->board.shm->log_level, memory_order_relaxed);
    if (level != process->log_level && level <= MR_LOG_ERROR) {
        process->log_level = level;
        mr_log_set_level((enum mr_log_level)level);
    }
}

void mr_process_beat(struct mr_process *process, uint64_t now_ns)
{
    MR_ASSERT(process->cell != NULL);
    process->beat_ns = now_ns;
    atomic_store_explicit(&process->cell->heartbeat_ns, now_ns, memory_order_relaxed);
}

bool mr_process_running(struct mr_process *process, uint64_t now_ns)
{
    mr_process_beat(process, now_ns);
    if (now_ns - process->looked_ns >= LOOK_NS) {
        process->looked_ns = now_ns;
        look_around(process);
    }
    return !process->stopping;
}

void mr_process_idle(struct mr_process *process, uint64_t done, uint64_t timeout_ns,
                     mr_process_look *look, void *context)
{
    if (done > 0) {
        process->spin_until_ns = UINT64_MAX; /* fixed by the first idle turn: work reads no clock */
        return;
    }
    if (process->spin_until_ns != 0) {
        uint64_t now_ns = mr_clock_ns();
        if (process->spin_until_ns == UINT64_MAX)
            process->spin_until_ns = now_ns + process->config.ring_spin;
        if (now_ns < process->spin_until_ns) {
            for (int i = 0; i < SPIN_PAUSES; i++)
                __builtin_ia32_pause();
            return;
        }
        process->spin_until_ns = 0;
    }
    struct mr_doorbell_shm *bell = &process->cell->bell;
    if (process->patient)
        mr_doorbell_announce_doze(bell);
    else
        mr_doorbell_announce(bell);
    if (look(context))
        mr_doorbell_cancel(bell);
    else
        mr_doorbell_wait(bell, timeout_ns < MR_BEAT_NS ? timeout_ns : MR_BEAT_NS);
}

int mr_process_close(struct mr_process *process, enum mr_rc rc, const struct mr_err *err)
{
    if (rc != MR_OK && rc != MR_CLOSED)
        mr_log_error("process", "failed", "rc=%s why=\"%s\"", mr_rc_name(rc), err->text);
    if (process->cell) {
        if (rc != MR_OK && rc != MR_CLOSED)
            mr_cell_say(process->cell, "%s", err->text);
        atomic_store_explicit(&process->cell->state, MR_STATE_STOPPING, memory_order_release);
        mr_log_info("process", "stopped", "exit=%d", mr_err_exit_code(rc, err));
        mr_panic_set_hook(NULL);
        panic_cell = NULL;
        process->cell = NULL;
    }
    if (process->board.shm)
        mr_board_detach(&process->board);
    if (process->signal_fd >= 0)
        close(process->signal_fd);
    process->signal_fd = -1;
    return mr_err_exit_code(rc, err);
}
