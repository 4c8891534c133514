/* What each command does. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "shm/inspect.h"
#include "supervisor/cli.h"
#include "supervisor/control.h"
#include "supervisor/supervisor.h"

#define ASK_TIMEOUT_NS \
    (2 * UINT64_C(3600) * MR_NS_PER_S) /* draining may take what drain_timeout allows */

static int complain(enum mr_rc rc, const struct mr_err *err)
{
    fprintf(stderr, "millrace: %s\n", err->text);
    return rc == MR_CLOSED ? EXIT_FAILURE : mr_exit_code(rc);
}

static int run_run(struct mr_cli *cli)
{
    return mr_supervisor_run(&cli->source);
}

static struct mr_config config; /* of the commands that read one; too large for a stack */

static int run_check(struct mr_cli *cli)
{
    struct mr_err err = {0};
    enum mr_rc rc = mr_config_load(&cli->source, &config, &err);
    if (rc != MR_OK)
        return complain(rc, &err);
    printf("%s: configuration is good\n", cli->source.file ? cli->source.file : "defaults");
    return MR_EXIT_DONE;
}

static int run_print(struct mr_cli *cli)
{
    struct mr_err err = {0};
    enum mr_rc rc = mr_config_load(&cli->source, &config, &err);
    if (rc != MR_OK)
        return complain(rc, &err);
    mr_config_print(&config, stdout);
    return MR_EXIT_DONE;
}

/* The instance that a command speaks to. */
static enum mr_rc find_instance(struct mr_cli *cli, struct mr_err *err)
{
    if (cli->instance)
        return mr_segment_check_instance(cli->instance, err);
    enum mr_rc rc = mr_config_load(&cli->source, &config, err);
    cli->instance = config.instance_name.text;
    return rc;
}

/* The text of a member of an answer, unescaped in place; answers are written by us. */
static char *member(char *json, const char *name)
{
    char key[32];
    snprintf(key, sizeof key, "\"%s\":\"", name);
    char *start = strstr(json, key);
    if (!start)
        return NULL;
    char *text = start + strlen(key), *to = text;
    for (char *from = text; *from && *from != '"'; from++) {
        unsigned code;
        if (from[0] == '\\' && from[1] == 'u' && sscanf(from + 2, "%4x", &code) == 1) {
            *to++ = ' '; /* a control character */
            from += 5;
        } else {
            from += from[0] == '\\' && from[1];
            *to++ = *from;
        }
    }
    *to = '\0';
    return text;
}

static int show_answer(struct mr_cli *cli, char *json)
{
    bool ok = strncmp(json, "{\"ok\":true", 10) == 0;
    const char *exit_member = strstr(json, "\"exit\":");
    long code = exit_member ? strtol(exit_member + strlen("\"exit\":"), NULL, 10) : EXIT_FAILURE;
    if (cli->json) {
        puts(json);
    } else {
        const char *text = member(json, ok ? "message" : "error");
        fprintf(ok ? stdout : stderr, ok ? "%s\n" : "millrace: %s\n", text ? text : json);
    }
    return ok ? MR_EXIT_DONE : (int)code;
}

static int ask(struct mr_cli *cli, const char *request)
{
    struct mr_err err = {0};
    char *json = NULL;
    enum mr_rc rc = find_instance(cli, &err);
    if (rc == MR_OK)
        rc = mr_control_ask(cli->instance, request, ASK_TIMEOUT_NS, &json, &err);
    if (rc != MR_OK)
        return complain(rc, &err);
    int code = show_answer(cli, json);
    free(json);
    return code;
}

static int run_scale(struct mr_cli *cli)
{
    char request[64];
    snprintf(request, sizeof request, "scale %.40s", cli->argument);
    return ask(cli, request);
}

static int run_reload(struct mr_cli *cli)
{
    return ask(cli, "reload");
}

static int run_drain(struct mr_cli *cli)
{
    return ask(cli, "drain");
}

static int run_stop(struct mr_cli *cli)
{
    return ask(cli, "stop");
}

static void show_cell(const struct mr_cell_shm *cell, void *context)
{
    uint64_t now_ns = mr_clock_ns(),
             beat_ns = atomic_load_explicit(&cell->heartbeat_ns, memory_order_relaxed);
    enum mr_process_kind kind =
        (enum mr_process_kind)atomic_load_explicit(&cell->kind, memory_order_relaxed);
    char name[32];
    (void)context;
    if (kind == MR_PROCESS_MATCHER)
        snprintf(name, sizeof name, "matcher-%u",
                 atomic_load_explicit(&cell->shard, memory_order_relaxed));
    else
        snprintf(name, sizeof name, "%s", mr_process_kind_name(kind));
    printf("%-12s %-9s %8u %8" PRIu64 " %7" PRIu64 " ms  %.120s\n", name,
           mr_process_state_name(
               (enum mr_process_state)atomic_load_explicit(&cell->state, memory_order_relaxed)),
           atomic_load_explicit(&cell->pid, memory_order_relaxed),
           atomic_load_explicit(&cell->restarts, memory_order_relaxed),
           beat_ns && now_ns > beat_ns ? (now_ns - beat_ns) / MR_NS_PER_MS : 0,
           cell->panic[0] && !atomic_load_explicit(&cell->pid, memory_order_relaxed) ? cell->panic
                                                                                     : cell->text);
}

static int show_status(struct mr_cli *cli, const struct mr_inspect *inspect)
{
    const struct mr_board_shm *board = inspect->board.shm;
    const struct mr_cell_shm *puller = &board->cells[MR_CELL_PULLER];
    printf("instance %s: %.60s, %u shards\n", cli->instance, board->cells[MR_CELL_SUPERVISOR].text,
           mr_ring_set_shards(inspect->ring_set));
    printf("log %" PRIu64 " to %" PRIu64 ", on disk through %" PRIu64 "; fed through %" PRIu64
           "; checkpoint %" PRIu64 "\n\n",
           atomic_load_explicit(&board->log_floor, memory_order_relaxed),
           atomic_load_explicit(&board->log_written, memory_order_relaxed),
           mr_counter_get(puller, MR_COUNTER_LOG_DURABLE),
           mr_counter_get(puller, MR_COUNTER_FEED_SEQUENCE),
           atomic_load_explicit(&board->checkpoint, memory_order_relaxed));
    printf("%-12s %-9s %8s %8s %10s  %s\n", "process", "state", "pid", "restarts", "beat", "does");
    mr_inspect_cells(inspect, show_cell, NULL);
    return MR_EXIT_DONE;
}

static int run_status(struct mr_cli *cli)
{
    struct mr_err err = {0};
    static struct mr_inspect inspect;
    char *json = NULL;
    enum mr_rc rc = find_instance(cli, &err);
    if (rc == MR_OK)
        rc = mr_control_ask(cli->instance, "status", 5 * MR_NS_PER_S, &json, &err);
    if (rc == MR_OK && (cli->json || strncmp(json, "{\"ok\":true", 10) != 0)) {
        int code = show_answer(cli, json);
        free(json);
        return code;
    }
    free(json);
    if (rc == MR_OK)
        rc = mr_inspect_open(&inspect, cli->instance, &err);
    if (rc != MR_OK)
        return complain(rc, &err);
    int code = show_status(cli, &inspect);
    mr_inspect_close(&inspect);
    return code;
}

static int run_version(struct mr_cli *cli)
{
    (void)cli;
    puts("millrace " MR_VERSION);
    return MR_EXIT_DONE;
}

static int run_help(struct mr_cli *cli)
{
    size_t count;
    const struct mr_command *commands = mr_commands(&count), *about = NULL;
    for (size_t i = 0; i < count && cli->argument; i++)
        if (strcmp(commands[i].name, cli->argument) == 0)
            about = &commands[i];
    if (cli->argument && !about) {
        const char *nearest = mr_command_nearest(cli->argument);
        fprintf(stderr,
                nearest ? "millrace: unknown command \"%s\"; did you mean %s?\n"
                        : "millrace: unknown command \"%s\"; millrace help lists them\n",
                cli->argument, nearest);
        return MR_EXIT_USAGE;
    }
    mr_cli_help(about, stdout);
    return MR_EXIT_DONE;
}

static const struct mr_command commands[] = {
    {"run", NULL, "run an instance in the foreground until it is told to stop", run_run, NULL},
    {"check-config", NULL, "read and check the configuration, and do nothing else", run_check,
     NULL},
    {"print-config", NULL, "print the configuration in effect, secrets masked", run_print, NULL},
    {"status", NULL, "what an instance does and how its processes are", run_status, NULL},
    {"scale", "N", "change the number of matcher shards while events flow", run_scale, NULL},
    {"reload", NULL, "read the configuration again and take it over (as SIGHUP does)", run_reload,
     NULL},
    {"drain", NULL, "stop reading the source and deliver what has been read", run_drain, NULL},
    {"stop", NULL, "drain, then end the instance (as SIGTERM does)", run_stop, NULL},
    {"match", NULL, "try a subscription against documents, offline", NULL, "millrace-match"},
    {"cel", NULL, "check and evaluate an expression, offline", NULL, "millrace-cel"},
    {"log", NULL, "look at and verify an event log", NULL, "millrace-log"},
    {"shmstat", NULL, "look at an instance's shared memory, alive or dead", NULL, "shmstat"},
    {"tail", NULL, "subscribe and print what is delivered", NULL, "millrace-tail"},
    {"top", NULL, "a live view of an instance", NULL, "millrace-top"},
    {"version", NULL, "print the version", run_version, NULL},
    {"help", "[COMMAND]", "print help", run_help, NULL},
};

const struct mr_command *mr_commands(size_t *count)
{
    *count = sizeof commands / sizeof *commands;
    return commands;
}
