#include "supervisor/supervisor.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "supervisor/json.h"

#define TURN_MAX_NS  (20 * MR_NS_PER_MS)  /* the checkpoint's events are counted so often */
#define TURN_IDLE_NS (100 * MR_NS_PER_MS) /* while nothing moves */
#define TURN_TASK_NS MR_NS_PER_MS         /* while something is under way */

enum { EVENTS_MAX = 32 };
#define EVENT_SIGNAL     (UINT64_C(3) << 32)
#define EVENT_HTTP       (UINT64_C(4) << 32)
#define EVENT_CHECKPOINT (UINT64_C(5) << 32)

void mr_supervisor_direct(struct mr_supervisor *s, enum mr_directive directive)
{
    struct mr_board_shm *board = s->board.shm;
    uint64_t number = atomic_load_explicit(&board->directive_number, memory_order_relaxed);
    atomic_store_explicit(&board->directive, directive, memory_order_release);
    atomic_store_explicit(&board->directive_number, number + 1, memory_order_release);
    mr_children_wake(&s->children);
}

static void answer(struct mr_supervisor *s, uint32_t client, const struct mr_err *failure,
                   const char *text)
{
    char *json = NULL;
    size_t size;
    FILE *out = open_memstream(&json, &size);
    if (!out)
        return;
    fprintf(out, "{\"ok\":%s,\"%s\":", failure ? "false" : "true", failure ? "error" : "message");
    mr_json_text(out, text, strlen(text));
    if (failure)
        fprintf(out, ",\"exit\":%d", mr_exit_code(failure->rc));
    fputc('}', out);
    if (fclose(out) == 0)
        mr_control_answer(&s->control, client, json);
    free(json);
}

void mr_supervisor_finish_task(struct mr_supervisor *s, const struct mr_err *failure,
                               const char *fmt, ...)
{
    static const char *const names[] = {"none", "scale", "reload", "drain", "stop"};
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (failure)
        mr_log_error("supervisor", "task_failed", "task=%s why=\"%s\"", names[s->task],
                     failure->text);
    else
        mr_log_info("supervisor", "task_done", "task=%s result=\"%s\"", names[s->task], text);
    answer(s, s->task_client, failure, failure ? failure->text : text);
    s->task_client = MR_CONTROL_NOBODY;
    if (s->task == MR_TASK_RELOAD && s->was_ready)
        mr_notify_send(&s->notify, "READY=1\nSTATUS=%s", mr_status_word(s));
    s->task = MR_TASK_NONE;
}

/* A request that must wait for none of the others. Returns false: another task is under way, or not
 * all have been ready yet; only a reload may come before that, as it may be what they need. */
static bool may_begin(struct mr_supervisor *s, uint32_t client, bool early)
{
    struct mr_err err = {0};
    if (s->task == MR_TASK_NONE && (s->was_ready || early))
        return true;
    mr_reject(&err, MR_RETRY, "not now: the instance is %s", mr_status_word(s));
    answer(s, client, &err, err.text);
    return false;
}

static void request_scale(struct mr_supervisor *s, uint32_t client, const char *number,
                          uint64_t now_ns)
{
    char *end;
    unsigned long shards = strtoul(number, &end, 10);
    struct mr_err err = {0};
    if (*number < '0' || *number > '9' || *end || shards < 1 || shards > MR_SHARDS_MAX) {
        mr_reject(&err, MR_USAGE, "scale: expected 1 to %d shards, got \"%.40s\"", MR_SHARDS_MAX,
                  number);
        answer(s, client, &err, err.text);
    } else if (may_begin(s, client, false)) {
        mr_scale_begin(s, (uint32_t)shards, client, now_ns);
    }
}

void mr_supervisor_request(struct mr_supervisor *s, uint32_t client, const char *line)
{
    uint64_t now_ns = mr_clock_ns();
    struct mr_err err = {0};
    if (strcmp(line, "status") == 0) {
        char *json = mr_status_json(s, now_ns);
        if (json)
            mr_control_answer(&s->control, client, json);
        free(json);
    } else if (strncmp(line, "scale ", 6) == 0) {
        request_scale(s, client, line + 6, now_ns);
    } else if (strcmp(line, "reload") == 0) {
        if (may_begin(s, client, true))
            mr_reload_begin(s, client, now_ns);
    } else if (strcmp(line, "drain") == 0) {
        if (may_begin(s, client, false))
            mr_stop_begin(s, true, client, now_ns);
    } else if (strcmp(line, "stop") == 0 && s->task != MR_TASK_STOP) {
        mr_stop_begin(s, false, client, now_ns);
    } else if (strcmp(line, "stop") == 0) {
        mr_reject(&err, MR_RETRY, "stop: under way already");
        answer(s, client, &err, err.text);
    } else {
        mr_reject(&err, MR_USAGE, "unknown request \"%.40s\"", line);
        answer(s, client, &err, err.text);
    }
}

static void on_signal(struct mr_supervisor *s, uint64_t now_ns)
{
    struct signalfd_siginfo info;
    if (read(s->signal_fd, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    if (info.ssi_signo == SIGCHLD) {
        mr_children_stopped(&s->children, now_ns);
        return;
    }
    mr_log_info("supervisor", "signal", "number=%u from=%u", info.ssi_signo, info.ssi_pid);
    if (info.ssi_signo == SIGHUP) {
        s->reload_again = s->task == MR_TASK_SCALE || s->task == MR_TASK_RELOAD;
        if (s->task == MR_TASK_NONE)
            mr_reload_begin(s, MR_CONTROL_NOBODY, now_ns);
        else if (!s->reload_again)
            mr_log_warn("supervisor", "reload_refused", "why=\"the instance is %s\"",
                        mr_status_word(s));
    } else if (s->task == MR_TASK_STOP) {
        mr_stop_at_once(s, MR_RETRY, "told to stop twice");
    } else {
        mr_stop_begin(s, false, MR_CONTROL_NOBODY, now_ns);
    }
}

static void on_control(struct mr_supervisor *s, uint32_t client, uint64_t now_ns)
{
    if (client == MR_CONTROL_NOBODY) {
        mr_control_accept(&s->control, now_ns);
        return;
    }
    const char *line = mr_control_read(&s->control, client);
    if (line)
        mr_supervisor_request(s, client, line);
    else if (s->control.client[client].fd < 0 && s->task_client == client)
        s->task_client = MR_CONTROL_NOBODY; /* it would not wait; its place may be another's soon */
}

/* Beat, and tell everyone about a first or a lost readiness. */
static void tell(struct mr_supervisor *s, uint64_t now_ns)
{
    const char *word = mr_status_word(s);
    if (strcmp(s->cell->text, word) != 0) {
        mr_cell_say(s->cell, "%s", word);
        mr_notify_send(&s->notify, "STATUS=%s", word);
    }
    if (!s->was_ready && s->task == MR_TASK_NONE &&
        mr_children_running(&s->children, MR_KIND_ALL)) {
        s->was_ready = true;
        atomic_store_explicit(&s->cell->state, MR_STATE_READY, memory_order_release);
        mr_log_info("supervisor", "instance_ready", "instance=%s shards=%u after_ms=%" PRIu64,
                    s->config.instance_name.text, mr_ring_set_shards(s->rings.ring_set),
                    (now_ns - atomic_load_explicit(&s->cell->started_ns, memory_order_relaxed)) /
                        MR_NS_PER_MS);
        mr_notify_send(&s->notify, "READY=1\nSTATUS=running");
    }
    atomic_store_explicit(&s->cell->heartbeat_ns, now_ns, memory_order_relaxed);
    mr_notify_beat(&s->notify, now_ns);
}

static void turn(struct mr_supervisor *s, uint64_t now_ns, uint64_t *next_ns)
{
    *next_ns = mr_children_work(&s->children, now_ns);
    if (s->children.refused && !s->was_ready && !s->reloaded)
        mr_stop_at_once(s, MR_USAGE,
                        s->children.refusal); /* a wrong configuration never got to run */
    mr_progress_work(s, now_ns);
    if (s->reload_again && s->task == MR_TASK_NONE) {
        s->reload_again = false;
        mr_reload_begin(s, MR_CONTROL_NOBODY, now_ns);
    }
    if (s->task == MR_TASK_SCALE)
        mr_scale_work(s, now_ns);
    if (s->task == MR_TASK_RELOAD)
        mr_reload_work(s, now_ns);
    if (s->task == MR_TASK_DRAIN || s->task == MR_TASK_STOP)
        mr_stop_work(s, now_ns);
    mr_control_work(&s->control, now_ns);
    tell(s, now_ns);
    bool idle = mr_progress_idle(s) && mr_children_running(&s->children, MR_KIND_ALL);
    uint64_t most_ns = now_ns + (s->task != MR_TASK_NONE ? TURN_TASK_NS
                                 : idle                  ? TURN_IDLE_NS
                                                         : TURN_MAX_NS);
    if (s->http) {
        mr_http_work(s->http);
        uint64_t http_ns = mr_http_timeout_ns(s->http);
        most_ns = http_ns < most_ns - now_ns ? now_ns + http_ns : most_ns;
    }
    *next_ns = most_ns < *next_ns ? most_ns : *next_ns;
}

static void loop(struct mr_supervisor *s)
{
    struct epoll_event events[EVENTS_MAX];
    for (uint64_t next_ns = 0; !s->done;) {
        uint64_t now_ns = mr_clock_ns();
        uint64_t wait_ns = next_ns > now_ns ? next_ns - now_ns : 0;
        struct timespec wait = {(time_t)(wait_ns / MR_NS_PER_S), (long)(wait_ns % MR_NS_PER_S)};
        int count = epoll_pwait2(s->epoll_fd, events, EVENTS_MAX, &wait, NULL);
        now_ns = mr_clock_ns();
        for (int i = 0; i < count; i++) {
            uint64_t kind = events[i].data.u64 & ~UINT64_C(0xffffffff);
            uint32_t index = (uint32_t)events[i].data.u64;
            if (kind == MR_EVENT_CHILD)
                mr_child_reap(&s->children, index, now_ns);
            else if (kind == MR_EVENT_CONTROL)
                on_control(s, index, now_ns);
            else if (kind == EVENT_SIGNAL)
                on_signal(s, now_ns);
            else if (kind == EVENT_CHECKPOINT)
                mr_progress_step(s);
        }
        turn(s, now_ns, &next_ns);
    }
}

static enum mr_rc make_directory(const char *path, struct mr_err *err)
{
    char part[MR_CONFIG_TEXT_MAX];
    for (const char *at = path; at;) {
        at = strchr(at + 1, '/');
        snprintf(part, sizeof part, "%.*s", at ? (int)(at - path) : (int)strlen(path), path);
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return mr_fail(err, MR_USAGE, "make directory %s for instance.data_dir %s", part, path);
    }
    return access(path, R_OK | W_OK | X_OK) == 0
               ? MR_OK
               : mr_fail(err, MR_USAGE, "use instance.data_dir %s", path);
}

/* Fill the board and make it attachable. */
static void seal_board(struct mr_supervisor *s, uint64_t ring_set)
{
    struct mr_board_shm *board = s->board.shm;
    s->cell = &board->cells[MR_CELL_SUPERVISOR];
    board->start_sequence = s->checkpoint.sequence;
    atomic_store_explicit(&board->ring_set, ring_set, memory_order_relaxed);
    atomic_store_explicit(&board->checkpoint, s->checkpoint.sequence, memory_order_relaxed);
    atomic_store_explicit(&board->directive, MR_DIRECTIVE_RUN, memory_order_relaxed);
    atomic_store_explicit(&board->directive_number, 1, memory_order_relaxed);
    atomic_store_explicit(&s->cell->pid, (uint32_t)getpid(), memory_order_relaxed);
    atomic_store_explicit(&s->cell->kind, MR_PROCESS_SUPERVISOR, memory_order_relaxed);
    atomic_store_explicit(&s->cell->started_ns, mr_clock_ns(), memory_order_relaxed);
    atomic_store_explicit(&s->cell->heartbeat_ns, mr_clock_ns(), memory_order_relaxed);
    atomic_store_explicit(&s->cell->state, MR_STATE_STARTING, memory_order_relaxed);
    mr_gauge(s->cell, MR_COUNTER_CHECKPOINT_SEQUENCE, s->checkpoint.sequence);
    mr_reload_logging(s);
    mr_segment_seal(&s->board.segment);
}

static enum mr_rc open_events(struct mr_supervisor *s, struct mr_err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = EVENT_SIGNAL};
    if (s->signal_fd < 0 || s->epoll_fd < 0 ||
        epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->signal_fd, &event) != 0)
        return mr_fail(err, MR_FATAL, "open signals and events");
    return MR_OK;
}

static enum mr_rc open_http(struct mr_supervisor *s, struct mr_err *err)
{
    if (!s->config.http_listen.text[0])
        return MR_OK;
    const struct mr_http_options options = {.listen = s->config.http_listen.text,
                                            .instance = s->config.instance_name.text,
                                            .token = s->config.http_metrics_token.text};
    enum mr_rc rc = mr_http_open(&s->http, &options, err);
    if (rc != MR_OK)
        return rc;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = EVENT_HTTP};
    if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, mr_http_fd(s->http), &event) != 0)
        return mr_fail(err, MR_FATAL, "watch HTTP");
    return MR_OK;
}

static enum mr_rc open_progress(struct mr_supervisor *s, struct mr_err *err)
{
    enum mr_rc rc = mr_progress_open(s, err);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = EVENT_CHECKPOINT};
    if (rc == MR_OK && epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->writer.event_fd, &event) != 0)
        rc = mr_fail(err, MR_FATAL, "watch the checkpoint's writer");
    return rc;
}

enum mr_rc mr_supervisor_check_stdin(const struct mr_config *config, struct mr_err *err)
{
    bool wanted = strcmp(config->source_kind.text, "ndjson") == 0 &&
                  strcmp(config->ndjson_path.text, "-") == 0;
    if (wanted && isatty(STDIN_FILENO))
        return mr_reject(err, MR_USAGE,
                         "ndjson.path: \"-\" reads standard input, which is a terminal here; "
                         "pipe a file into it or name one");
    return MR_OK;
}

/* In the order in which things depend on each other; close undoes what there is. */
static enum mr_rc open_all(struct mr_supervisor *s, struct mr_err *err)
{
    uint64_t ring_set = mr_ring_set_pack(1, (uint32_t)s->config.matcher_shards);
    s->generation_last = 1;
    enum mr_rc rc = mr_supervisor_check_stdin(&s->config, err);
    if (rc == MR_OK)
        rc = open_events(s, err);
    if (rc == MR_OK)
        rc = mr_control_open(&s->control, s->config.instance_name.text, s->epoll_fd, err);
    if (rc == MR_OK)
        rc = make_directory(s->config.instance_data_dir.text, err);
    if (rc == MR_OK)
        rc = open_progress(s, err);
    if (rc == MR_OK)
        rc = mr_segments_create(&s->board, &s->config, ring_set, err);
    if (rc != MR_OK)
        return rc;
    s->journal_bytes = mr_segments_journal_bytes(&s->config);
    seal_board(s, ring_set);
    rc = mr_rings_open(&s->rings, s->config.instance_name.text, ring_set, err);
    if (rc == MR_OK)
        rc = mr_children_open(&s->children, s->board.shm, &s->config, s->epoll_fd, err);
    if (rc == MR_OK)
        rc = open_http(s, err);
    if (rc != MR_OK)
        return rc;
    mr_child_want(&s->children, MR_PROCESS_PUBLISHER, 0, 0);
    mr_child_want(&s->children, MR_PROCESS_PULLER, 0, 0);
    for (uint32_t shard = 0; shard < mr_ring_set_shards(ring_set); shard++)
        mr_child_want(&s->children, MR_PROCESS_MATCHER, shard, 1);
    if (s->config.relay_listen.text[0])
        mr_child_want(&s->children, MR_PROCESS_RELAY, 0, 0);
    return MR_OK;
}

static void close_all(struct mr_supervisor *s)
{
    mr_http_close(&s->http);
    if (s->children.board)
        mr_children_close(&s->children);
    mr_rings_close(&s->rings);
    if (s->board.shm) {
        mr_board_detach(&s->board);
        mr_segment_remove_all(s->config.instance_name.text);
    }
    struct mr_err *failure = s->outcome.rc == MR_OK ? NULL : &s->outcome;
    answer(s, s->task_client, failure, failure ? failure->text : "stopped");
    if (s->writer.event_fd >= 0)
        mr_checkpoint_close(&s->writer);
    mr_control_close(&s->control);
    mr_notify_close(&s->notify);
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
    if (s->signal_fd >= 0)
        close(s->signal_fd);
}

int mr_supervisor_run(const struct mr_config_source *source)
{
    static struct mr_supervisor supervisor;
    struct mr_supervisor *s = &supervisor;
    struct mr_err err = {0};
    *s = (struct mr_supervisor){.source = source,
                                .epoll_fd = -1,
                                .signal_fd = -1,
                                .control = {.fd = -1},
                                .writer = {.event_fd = -1, .fd = -1},
                                .task_client = MR_CONTROL_NOBODY};
    mr_log_setup(MR_LOG_INFO, MR_LOG_TEXT, "supervisor");
    for (uint32_t i = 0; i < MR_CONTROL_CLIENTS; i++)
        s->control.client[i].fd = -1;
    enum mr_rc rc = mr_config_load(source, &s->loaded, &err);
    if (rc != MR_OK) {
        fprintf(stderr, "millrace: %s\n", err.text); /* how to log is not known yet */
        return mr_exit_code(rc);
    }
    s->config = s->loaded;
    bool json = strcmp(s->config.logging_format.text, "json") == 0;
    mr_log_setup(MR_LOG_INFO, json ? MR_LOG_JSON : MR_LOG_TEXT, "supervisor");
    mr_notify_open(&s->notify);
    mr_log_info("supervisor", "starting", "instance=%s version=%s data_dir=\"%s\"",
                s->config.instance_name.text, MR_VERSION, s->config.instance_data_dir.text);
    rc = open_all(s, &err);
    if (rc == MR_OK)
        loop(s);
    else
        s->outcome = err;
    rc = s->outcome.rc;
    close_all(s);
    if (rc != MR_OK)
        mr_log_error("supervisor", "failed", "rc=%s why=\"%s\"", mr_rc_name(rc), s->outcome.text);
    mr_log_info("supervisor", "stopped", "exit=%d", mr_err_exit_code(rc, &s->outcome));
    return mr_err_exit_code(rc, &s->outcome);
}
