#include "supervisor/children.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "supervisor/launch.h"

#define LOOK_NS       (100 * MR_NS_PER_MS) /* between two looks at heartbeats */
#define START_LOOK_NS (5 * MR_NS_PER_MS)   /* between two looks at whether a started one is ready */

enum { CRASHES_BY_CHANCE = 2 }; /* so many in a row say nothing about the next run */

static struct mr_cell_shm *cell_of(const struct mr_children *children, const struct mr_child *child)
{
    return &children->board->cells[child->cell];
}

static void set_state(const struct mr_children *children, const struct mr_child *child,
                      enum mr_process_state state)
{
    atomic_store_explicit(&cell_of(children, child)->state, state, memory_order_release);
}

void mr_child_name(const struct mr_child *child, char out[32])
{
    if (child->kind == MR_PROCESS_MATCHER)
        snprintf(out, 32, "%s-%u", mr_process_kind_name(child->kind), child->shard);
    else
        snprintf(out, 32, "%s", mr_process_kind_name(child->kind));
}

/* Where the executables are: bin_dir, or beside our own. */
static enum mr_rc find_directory(struct mr_children *children, const struct mr_config *config,
                                 struct mr_err *err)
{
    if (config->supervisor_bin_dir.text[0]) {
        snprintf(children->directory, sizeof children->directory, "%s",
                 config->supervisor_bin_dir.text);
        return MR_OK;
    }
    ssize_t len = readlink("/proc/self/exe", children->directory, sizeof children->directory - 1);
    if (len < 0)
        return mr_fail(err, MR_FATAL, "find our own executable /proc/self/exe");
    children->directory[len] = '\0';
    *strrchr(children->directory, '/') = '\0';
    return MR_OK;
}

enum mr_rc mr_children_configure(struct mr_children *children, const struct mr_config *config,
                                 struct mr_err *err)
{
    int fd = memfd_create("millrace-config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return mr_fail(err, MR_FATAL, "create memory for the configuration");
    enum mr_rc rc = mr_config_write_flat(config, fd, err);
    if (rc == MR_OK &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0)
        rc = mr_fail(err, MR_FATAL, "seal the configuration");
    if (rc != MR_OK) {
        close(fd);
        return rc;
    }
    if (children->config_fd >= 0)
        close(children->config_fd);
    children->config_fd = fd;
    return MR_OK;
}

enum mr_rc mr_children_open(struct mr_children *children, struct mr_board_shm *board,
                            const struct mr_config *config, int epoll_fd, struct mr_err *err)
{
    *children = (struct mr_children){.board = board,
                                     .self = &board->cells[MR_CELL_SUPERVISOR],
                                     .config = config,
                                     .config_fd = -1,
                                     .epoll_fd = epoll_fd,
                                     .turned_ns = mr_clock_ns(),
                                     .restart = true};
    for (uint32_t i = 0; i < MR_BOARD_CELLS; i++)
        children->child[i] =
            (struct mr_child){.cell = i,
                              .pidfd = -1,
                              .crashes = {.random = mr_clock_ns() * 2 + 2 * i + 1},
                              .retries = {.random = mr_clock_ns() * 2 + 2 * i + 1}};
    enum mr_rc rc = find_directory(children, config, err);
    return rc == MR_OK ? mr_children_configure(children, config, err) : rc;
}

void mr_children_close(struct mr_children *children)
{
    for (uint32_t i = 0; i < MR_BOARD_CELLS; i++) {
        struct mr_child *child = &children->child[i];
        if (!child->pid)
            continue;
        kill(child->pid, SIGKILL);
        waitpid(child->pid, NULL, 0);
        close(child->pidfd);
        child->pid = 0;
    }
    if (children->config_fd >= 0)
        close(children->config_fd);
}

void mr_child_want(struct mr_children *children, enum mr_process_kind kind, uint32_t shard,
                   uint32_t ring_generation)
{
    uint32_t index = kind == MR_PROCESS_PULLER      ? (uint32_t)MR_CELL_PULLER
                     : kind == MR_PROCESS_PUBLISHER ? (uint32_t)MR_CELL_PUBLISHER
                     : kind == MR_PROCESS_RELAY     ? (uint32_t)MR_CELL_RELAY
                                                    : mr_cell_matcher(ring_generation, shard);
    struct mr_child *child = &children->child[index];
    MR_ASSERT(child->life == MR_CHILD_NONE && child->pid == 0);
    struct mr_cell_shm *cell = cell_of(children, child);
    child->kind = kind;
    child->shard = shard;
    child->ring_generation = ring_generation;
    child->life = MR_CHILD_WAITING;
    child->due_ns = 0;
    child->crashes.failures = child->retries.failures = 0;
    atomic_store_explicit(&cell->kind, kind, memory_order_relaxed);
    atomic_store_explicit(&cell->shard, shard, memory_order_relaxed);
    atomic_store_explicit(&cell->ring_generation, ring_generation, memory_order_relaxed);
    atomic_store_explicit(&cell->restarts, 0, memory_order_relaxed);
    set_state(children, child, MR_STATE_EMPTY);
}

static void give_up(struct mr_children *children, struct mr_child *child, const char *reason)
{
    char name[32];
    mr_child_name(child, name);
    child->life = MR_CHILD_GIVEN_UP;
    set_state(children, child, MR_STATE_GIVEN_UP);
    mr_log_error("supervisor", "given_up",
                 "child=%s reason=\"%s\" todo=\"correct the cause, then millrace reload\"", name,
                 reason);
}

/* What a run that has ended without being asked to leads to. exit_code: -1 when it has none. */
static void after_death(struct mr_children *children, struct mr_child *child, const char *reason,
                        int exit_code, uint64_t now_ns)
{
    const struct mr_config *config = children->config;
    struct mr_backoff_limits limits = {
        config->supervisor_backoff_min, config->supervisor_backoff_max,
        config->supervisor_healthy_after, config->supervisor_restarts_max};
    struct mr_backoff *backoff = &child->crashes;
    uint64_t wait_ns;
    mr_count(children->self, MR_COUNTER_CHILD_DEATHS, 1);
    set_state(children, child, MR_STATE_DEAD);
    if (!children->restart) {
        child->life = MR_CHILD_NONE;
        return;
    }
    if (exit_code == MR_EXIT_CONFIG) {
        children->refused = true;
        snprintf(children->refusal, sizeof children->refusal, "%s", reason);
        give_up(children, child, reason);
        return;
    }
    if (exit_code == MR_EXIT_RETRY) { /* its cause lies outside and may pass at any time */
        backoff = &child->retries;
        limits.restarts_max = 0;
    }
    uint64_t ran_ns = child->ready_ns != 0 ? now_ns - child->ready_ns : 0;
    if (!mr_backoff_next(backoff, &limits, ran_ns, &wait_ns)) {
        give_up(children, child, reason);
        return;
    }
    child->life = MR_CHILD_WAITING;
    child->due_ns = now_ns + wait_ns;
    set_state(children, child, MR_STATE_BACKOFF);
}

static void start(struct mr_children *children, struct mr_child *child, uint64_t now_ns)
{
    char path[1100], cell_text[16], shard[16], generation[16], config_fd[16], name[32];
    struct mr_cell_shm *cell = cell_of(children, child);
    struct mr_err err = {0};
    snprintf(path, sizeof path, "%s/millrace-%s", children->directory,
             mr_process_kind_name(child->kind));
    snprintf(config_fd, sizeof config_fd, "%d", MR_LAUNCH_CONFIG_FD);
    snprintf(cell_text, sizeof cell_text, "%u", child->cell);
    snprintf(shard, sizeof shard, "%u", child->shard);
    snprintf(generation, sizeof generation, "%u", child->ring_generation);
    char *arguments[] = {path,      "--config-fd", config_fd,           "--cell",   cell_text,
                         "--shard", shard,         "--ring-generation", generation, NULL};
    if (child->kind != MR_PROCESS_MATCHER)
        arguments[5] = NULL;
    bool reads_stdin = child->kind == MR_PROCESS_PULLER &&
                       strcmp(children->config->source_kind.text, "ndjson") == 0 &&
                       strcmp(children->config->ndjson_path.text, "-") == 0;
    struct mr_launch launch = {path, arguments, children->config_fd, reads_stdin};
    cell->panic[0] = '\0';
    cell->text[0] = '\0';
    child->started_ns = now_ns;
    child->ready_ns = 0;
    atomic_store_explicit(&cell->started_ns, now_ns, memory_order_relaxed);
    mr_child_name(child, name);
    enum mr_rc rc = mr_launch(&launch, &child->pid, &child->pidfd, &err);
    if (rc != MR_OK) {
        mr_log_error("supervisor", "start_failed", "child=%s why=\"%s\"", name, err.text);
        snprintf(cell->panic, sizeof cell->panic, "%.255s", err.text);
        after_death(children, child, err.text, mr_err_exit_code(rc, &err), now_ns);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = MR_EVENT_CHILD | child->cell};
    int added = epoll_ctl(children->epoll_fd, EPOLL_CTL_ADD, child->pidfd, &event);
    MR_ASSERT(added == 0);
    atomic_store_explicit(&cell->pid, (uint32_t)child->pid, memory_order_relaxed);
    child->life = MR_CHILD_STARTING;
    child->due_ns = now_ns + children->config->supervisor_start_timeout;
    child->silent_ns = 0;
    child->killed_as = NULL;
    mr_log_info("supervisor", "started", "child=%s child_pid=%d", name, child->pid);
}

/* "exit 111: cannot reach ...", "signal 9 (Killed): hung". */
static void describe(const struct mr_child *child, const siginfo_t *info, struct mr_cell_shm *cell,
                     char *out, size_t size)
{
    char how[96], said[MR_BOARD_TEXT_MAX];
    const char *from = cell->panic[0] ? cell->panic : cell->text;
    for (size_t i = 0; i < sizeof said; i++) /* another's memory: it may lack an end */
        if (!(said[i] = i + 1 < sizeof said ? from[i] : '\0'))
            break;
    if (info->si_code == CLD_EXITED)
        snprintf(how, sizeof how, "exit %d", info->si_status);
    else
        snprintf(how, sizeof how, "signal %d (%s)", info->si_status, strsignal(info->si_status));
    bool tells =
        child->killed_as || cell->panic[0] || (info->si_code == CLD_EXITED && info->si_status != 0);
    const char *why = child->killed_as ? child->killed_as : said;
    snprintf(out, size, "%.80s%s%.160s", how, tells && *why ? ": " : "", tells ? why : "");
}

void mr_child_reap(struct mr_children *children, uint32_t index, uint64_t now_ns)
{
    struct mr_child *child = &children->child[index];
    struct mr_cell_shm *cell = cell_of(children, child);
    siginfo_t info = {0};
    char name[32], reason[MR_BOARD_TEXT_MAX];
    if (child->pid == 0 || waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG) != 0 ||
        info.si_pid == 0)
        return;
    close(child->pidfd); /* and so it leaves the epoll set */
    child->pidfd = -1;
    child->pid = 0;
    child->stopped_ns = 0;
    atomic_store_explicit(&cell->pid, 0, memory_order_relaxed);
    describe(child, &info, cell, reason, sizeof reason);
    snprintf(cell->panic, sizeof cell->panic, "%s", reason);
    mr_child_name(child, name);
    if (child->life == MR_CHILD_STOPPING) {
        bool again = child->again && children->restart;
        mr_log_info("supervisor", "left", "child=%s how=\"%s\"", name, reason);
        child->life = again ? MR_CHILD_WAITING : MR_CHILD_NONE;
        child->due_ns = now_ns;
        set_state(children, child, again ? MR_STATE_DEAD : MR_STATE_EMPTY);
        return;
    }
    mr_log_warn("supervisor", "died", "child=%s how=\"%s\" ran_ms=%llu", name, reason,
                (unsigned long long)((now_ns - child->started_ns) / MR_NS_PER_MS));
    after_death(children, child, reason, info.si_code == CLD_EXITED ? info.si_status : -1, now_ns);
}

void mr_child_stop(struct mr_children *children, uint32_t index, uint64_t grace_ns, bool again)
{
    struct mr_child *child = &children->child[index];
    child->again = again;
    child->crashes.failures = child->retries.failures = 0;
    if (child->pid == 0) {
        bool wanted = again && child->life != MR_CHILD_NONE;
        child->life = wanted ? MR_CHILD_WAITING : MR_CHILD_NONE;
        child->due_ns = 0;
        set_state(children, child, MR_STATE_EMPTY);
        return;
    }
    uint64_t due_ns = mr_clock_ns() + grace_ns;
    if (child->life == MR_CHILD_STOPPING) { /* it knows; nobody's patience makes another's longer */
        if (!child->killed_as && due_ns < child->due_ns)
            child->due_ns = due_ns;
        return;
    }
    child->life = MR_CHILD_STOPPING;
    child->due_ns = due_ns;
    kill(child->pid, SIGTERM);
    mr_doorbell_ring(&cell_of(children, child)->bell);
}

bool mr_child_failing(const struct mr_child *child)
{
    return child->life == MR_CHILD_WAITING &&
           (child->retries.failures > 0 || child->crashes.failures > CRASHES_BY_CHANCE);
}

static void kill_for(struct mr_children *children, struct mr_child *child, const char *reason)
{
    char name[32];
    MR_ASSERT(child->pid > 0); /* 0 would be our own group */
    mr_child_name(child, name);
    mr_log_warn("supervisor", "killed", "child=%s child_pid=%d reason=\"%s\"", name, child->pid,
                reason);
    child->killed_as = reason;
    child->due_ns = UINT64_MAX; /* the kernel sees to it; once is enough */
    mr_count(children->self, MR_COUNTER_CHILD_HANGS, child->life == MR_CHILD_RUNNING);
    kill(child->pid, SIGKILL);
}

/* The heartbeat is judged by the time that we watched it stand still: after a pause of the whole
 * machine, or of this process, everybody gets his time anew. */
static void watch_beat(struct mr_children *children, struct mr_child *child, uint64_t elapsed_ns)
{
    uint64_t beat =
        atomic_load_explicit(&cell_of(children, child)->heartbeat_ns, memory_order_relaxed);
    child->silent_ns = beat == child->beat_ns ? child->silent_ns + elapsed_ns : 0;
    child->beat_ns = beat;
    if (child->silent_ns > children->config->supervisor_hang_timeout && !child->killed_as)
        kill_for(children, child, "hung: no heartbeat");
}

void mr_children_stopped(struct mr_children *children, uint64_t now_ns)
{
    for (uint32_t i = 1; i < MR_BOARD_CELLS; i++) {
        struct mr_child *child = &children->child[i];
        siginfo_t info = {0};
        while (child->pid != 0 &&
               waitid(P_PID, (id_t)child->pid, &info, WSTOPPED | WCONTINUED | WNOHANG) == 0 &&
               info.si_pid != 0) {
            child->stopped_ns = info.si_code == CLD_STOPPED ? now_ns : 0;
            info.si_pid = 0;
        }
    }
}

/* A stop is certain, unlike a hang: no need to wait for as long. When the kill is due; UINT64_MAX:
 * it runs. */
static uint64_t watch_stop(struct mr_children *children, struct mr_child *child, uint64_t now_ns)
{
    uint64_t timeout_ns = children->config->supervisor_stopped_timeout;
    if (child->stopped_ns == 0 || child->killed_as)
        return UINT64_MAX;
    if (now_ns - child->stopped_ns < timeout_ns)
        return child->stopped_ns + timeout_ns;
    kill_for(children, child, "stopped by a signal");
    return UINT64_MAX;
}

static void become_ready(struct mr_children *children, struct mr_child *child, uint64_t now_ns)
{
    uint32_t state = atomic_load_explicit(&cell_of(children, child)->state, memory_order_acquire);
    char name[32];
    if (state != MR_STATE_READY && state != MR_STATE_DRAINED)
        return;
    mr_child_name(child, name);
    child->life = MR_CHILD_RUNNING;
    child->ready_ns = now_ns;
    child->silent_ns = 0;
    mr_log_info("supervisor", "ready", "child=%s child_pid=%d after_ms=%llu", name, child->pid,
                (unsigned long long)((now_ns - child->started_ns) / MR_NS_PER_MS));
}

uint64_t mr_children_work(struct mr_children *children, uint64_t now_ns)
{
    uint64_t next_ns = now_ns + LOOK_NS, elapsed_ns = now_ns - children->turned_ns;
    children->turned_ns = now_ns;
    if (elapsed_ns > 2 * LOOK_NS)
        elapsed_ns = 2 * LOOK_NS;
    for (uint32_t i = 1; i < MR_BOARD_CELLS; i++) {
        struct mr_child *child = &children->child[i];
        if (child->life == MR_CHILD_WAITING && child->due_ns <= now_ns) {
            if (child->started_ns != 0 && child->crashes.failures + child->retries.failures > 0)
                atomic_fetch_add_explicit(&cell_of(children, child)->restarts, 1,
                                          memory_order_relaxed);
            start(children, child, now_ns);
        }
        if (child->life == MR_CHILD_STARTING)
            become_ready(children, child, now_ns);
        if (child->life == MR_CHILD_RUNNING)
            watch_beat(children, child, elapsed_ns);
        else if (child->life == MR_CHILD_STARTING && child->due_ns <= now_ns)
            kill_for(children, child, "not ready in time");
        else if (child->life == MR_CHILD_STOPPING && child->due_ns <= now_ns)
            kill_for(children, child, "did not stop in time");
        uint64_t stop_ns = child->pid != 0 ? watch_stop(children, child, now_ns) : UINT64_MAX;
        uint64_t due_ns = child->life == MR_CHILD_WAITING || child->life == MR_CHILD_STOPPING
                              ? child->due_ns
                          : child->life == MR_CHILD_STARTING ? now_ns + START_LOOK_NS
                                                             : UINT64_MAX;
        next_ns = due_ns < next_ns ? due_ns : next_ns;
        next_ns = stop_ns < next_ns ? stop_ns : next_ns;
    }
    return next_ns;
}

bool mr_children_running(const struct mr_children *children, uint32_t kinds)
{
    for (uint32_t i = 1; i < MR_BOARD_CELLS; i++) {
        const struct mr_child *child = &children->child[i];
        if ((kinds >> child->kind & 1) && child->life != MR_CHILD_NONE &&
            child->life != MR_CHILD_RUNNING)
            return false;
    }
    return true;
}

uint32_t mr_children_alive(const struct mr_children *children, uint32_t kinds)
{
    uint32_t count = 0;
    for (uint32_t i = 1; i < MR_BOARD_CELLS; i++)
        count += (kinds >> children->child[i].kind & 1) && children->child[i].pid != 0;
    return count;
}

uint32_t mr_children_in(const struct mr_children *children, enum mr_child_life life)
{
    uint32_t count = 0;
    for (uint32_t i = 1; i < MR_BOARD_CELLS; i++)
        count += children->child[i].life == life;
    return count;
}

bool mr_children_hopeless(const struct mr_children *children)
{
    bool relay = children->child[MR_CELL_RELAY].life == MR_CHILD_GIVEN_UP;
    return mr_children_in(children, MR_CHILD_GIVEN_UP) > (relay ? 1u : 0u);
}

void mr_children_wake(struct mr_children *children)
{
    for (uint32_t i = 1; i < MR_BOARD_CELLS; i++)
        if (children->child[i].pid != 0)
            mr_doorbell_ring(&cell_of(children, &children->child[i])->bell);
}
