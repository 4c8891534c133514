/* Runs the postgres source alone and prints what it emits as JSON lines: the source under test
 * without log, rings and supervisor.
 *
 *   pg-source-dump [--out FILE] [--seconds S] [--events N] [--count] [--full-every N]
 *                  [--stall-after N --stall-seconds S] [--no-confirm] KEY=VALUE...
 *
 * Lines: {"event":...}, {"position":"hex","lsn":n}, {"say":"..."}, and at the end {"end":...}. With
 * --out the lines are appended to FILE, whose last position is where reading goes on: what stands
 * behind it is cut off first, so that a killed run is continued as the puller's log would be.
 * --full-every and --stall play an intake that is full. */
#include <bson/bson.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "puller/source.h"

struct mr_intake {
    FILE *out;
    struct mr_position position;
    uint64_t events, calls, events_max;
    uint64_t full_every, stall_after, stall_until_ns, stall_ns;
    bool count_only, confirm, dirty;
    uint64_t bytes, ops[MR_OP_COUNT];
};
static volatile sig_atomic_t stopping;

static void stop(int signal)
{
    (void)signal;
    stopping = 1;
}

static void print_bson(FILE *out, const char *name, struct mr_str bytes)
{
    bson_t document;
    if (bytes.len == 0)
        return;
    if (!bson_init_static(&document, (const uint8_t *)bytes.data, bytes.len) ||
        !bson_validate(&document, BSON_VALIDATE_UTF8 | BSON_VALIDATE_UTF8_ALLOW_NULL, NULL)) {
        fprintf(out, ",\"%s\":\"INVALID BSON\"", name);
        return;
    }
    char *json = bson_as_canonical_extended_json(&document, NULL);
    fprintf(out, ",\"%s\":%s", name, json);
    bson_free(json);
}

static void print_text(FILE *out, const char *name, struct mr_str text)
{
    char *escaped = bson_utf8_escape_for_json(text.data ? text.data : "", (ssize_t)text.len);
    fprintf(out, "\"%s\":\"%s\"", name, escaped ? escaped : "?");
    bson_free(escaped);
}

static void print_event(FILE *out, const struct mr_event *event)
{
    static const char *const names[] = {"",       "insert",   "update", "replace",
                                        "delete", "truncate", "gap"};
    fprintf(out, "{\"event\":{\"op\":\"%s\",", names[event->head.op]);
    print_text(out, "database", event->database);
    fputc(',', out);
    print_text(out, "collection", event->collection);
    fputc(',', out);
    print_text(out, "id", event->document_id);
    fprintf(out, ",\"flags\":%u,\"lsn\":%" PRIu64 ",\"xid\":%" PRIu64 ",\"time_us\":%" PRId64,
            event->head.flags, event->head.source_order, event->head.transaction,
            event->head.source_time_us);
    print_bson(out, "document", event->document);
    print_bson(out, "update", event->update);
    print_bson(out, "before", event->before);
    fputs("}}\n", out);
}

enum mr_rc mr_intake_emit(struct mr_intake *intake, struct mr_event *event, struct mr_err *err)
{
    (void)err;
    intake->calls++;
    if (intake->full_every && intake->calls % intake->full_every == 0)
        return MR_FULL;
    if (intake->stall_after && intake->events == intake->stall_after) {
        uint64_t now_ns = mr_clock_ns();
        if (intake->stall_until_ns == 0)
            intake->stall_until_ns = now_ns + intake->stall_ns;
        if (now_ns < intake->stall_until_ns)
            return MR_FULL;
    }
    if (intake->events_max && intake->events >= intake->events_max)
        return MR_FULL;
    intake->events++;
    intake->ops[event->head.op]++;
    intake->bytes += event->document.len;
    if (!intake->count_only)
        print_event(intake->out, event);
    return MR_OK;
}

void mr_intake_position(struct mr_intake *intake, const struct mr_position *position)
{
    intake->position = *position;
    intake->dirty = true;
    if (intake->count_only)
        return;
    fputs("{\"position\":\"", intake->out);
    for (uint32_t i = 0; i < position->len; i++)
        fprintf(intake->out, "%02x", position->bytes[i]);
    fputs("\"}\n", intake->out);
}

/* Read the last position of a former run and cut off what stands behind it. */
static void resume(const char *path, struct mr_position *position)
{
    FILE *in = fopen(path, "r+");
    char *line = NULL;
    size_t size = 0;
    long keep = 0;
    if (!in)
        return;
    for (ssize_t len; (len = getline(&line, &size, in)) > 0;) {
        if (strncmp(line, "{\"position\":\"", 13) != 0 || line[len - 1] != '\n')
            continue;
        position->len = (uint32_t)((size_t)len - 13 - 3) / 2;
        for (uint32_t i = 0; i < position->len && i < MR_LOG_POSITION_MAX; i++) {
            unsigned byte = 0;
            sscanf(line + 13 + 2 * i, "%2x", &byte);
            position->bytes[i] = (uint8_t)byte;
        }
        keep = ftell(in);
    }
    if (ftruncate(fileno(in), keep) != 0)
        perror("cut the output");
    free(line);
    fclose(in);
}

struct run {
    struct mr_config config;
    struct mr_intake intake;
    const char *path;
    double seconds;
};

static const char *next_argument(int argc, char **argv, int *i)
{
    return ++*i < argc ? argv[*i] : "";
}

static int read_arguments(struct run *run, int argc, char **argv)
{
    struct mr_err err;
    for (int i = 1; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (strcmp(argv[i], "--out") == 0)
            run->path = next_argument(argc, argv, &i);
        else if (strcmp(argv[i], "--seconds") == 0)
            run->seconds = atof(next_argument(argc, argv, &i));
        else if (strcmp(argv[i], "--events") == 0)
            run->intake.events_max = strtoull(next_argument(argc, argv, &i), NULL, 10);
        else if (strcmp(argv[i], "--full-every") == 0)
            run->intake.full_every = strtoull(next_argument(argc, argv, &i), NULL, 10);
        else if (strcmp(argv[i], "--stall-after") == 0)
            run->intake.stall_after = strtoull(next_argument(argc, argv, &i), NULL, 10);
        else if (strcmp(argv[i], "--stall-seconds") == 0)
            run->intake.stall_ns = (uint64_t)(atof(next_argument(argc, argv, &i)) * 1e9);
        else if (strcmp(argv[i], "--count") == 0)
            run->intake.count_only = true;
        else if (strcmp(argv[i], "--no-confirm") == 0)
            run->intake.confirm = false;
        else if (equals) {
            *equals = '\0';
            if (mr_config_set(&run->config, argv[i], equals + 1, &err) != MR_OK) {
                fprintf(stderr, "%s\n", err.text);
                return -1;
            }
        } else {
            fprintf(stderr, "unknown argument %s\n", argv[i]);
            return -1;
        }
    }
    return 0;
}

static void report_say(struct mr_intake *intake, struct mr_cell_shm *cell,
                       char last[MR_BOARD_TEXT_MAX])
{
    if (intake->count_only || strncmp(cell->text, last, MR_BOARD_TEXT_MAX) == 0)
        return;
    memcpy(last, cell->text, MR_BOARD_TEXT_MAX);
    fputc('{', intake->out);
    print_text(intake->out, "say", mr_str_from(last));
    fputs("}\n", intake->out);
}

/* Wait as the puller does; full intakes are looked at again after a millisecond. */
static void wait_for(struct mr_source *source, uint64_t now_ns)
{
    struct pollfd fd;
    uint64_t wake_ns;
    source->ops->wait(source, &fd, &wake_ns);
    int ms = wake_ns <= now_ns ? 0 : wake_ns - now_ns > 20 * MR_NS_PER_MS ? 20 : 1;
    poll(&fd, 1, (fd.events & POLLIN) ? ms : ms > 1 ? 1 : ms);
}

static enum mr_rc run_source(struct run *run, struct mr_source *source, struct mr_err *err)
{
    struct mr_intake *intake = &run->intake;
    char last[MR_BOARD_TEXT_MAX] = "";
    uint64_t start_ns = mr_clock_ns(), confirmed_ns = start_ns, longest_ns = 0, first_ns = 0,
             last_ns = 0;
    enum mr_rc rc = MR_OK;
    while (rc == MR_OK && !stopping) {
        uint64_t now_ns = mr_clock_ns(), before = intake->events;
        rc = source->ops->poll(source, intake, now_ns, err);
        uint64_t after_ns = mr_clock_ns();
        longest_ns = after_ns - now_ns > longest_ns ? after_ns - now_ns : longest_ns;
        report_say(intake, source->cell, last);
        if (intake->events > before) {
            last_ns = after_ns;
            first_ns = first_ns ? first_ns : now_ns;
        } else if (rc == MR_OK) {
            fflush(intake->out);
            wait_for(source, after_ns);
        }
        if (rc == MR_OK && intake->confirm && intake->dirty &&
            after_ns - confirmed_ns > 200 * MR_NS_PER_MS) {
            fflush(intake->out);
            confirmed_ns = after_ns;
            rc = source->ops->confirm(source, &intake->position, err);
        }
        if ((intake->events_max && intake->events >= intake->events_max) ||
            (run->seconds > 0 && (double)(after_ns - start_ns) > run->seconds * 1e9))
            break;
    }
    fprintf(intake->out,
            "{\"end\":{\"rc\":\"%s\",\"events\":%" PRIu64 ",\"bytes\":%" PRIu64
            ",\"poll_us_max\":%" PRIu64 ",\"active_s\":%.6f,\"confirmed\":%" PRIu64
            ",\"reconnects\":%" PRIu64 ",",
            mr_rc_name(rc), intake->events, intake->bytes, longest_ns / 1000,
            (double)(last_ns - first_ns) / 1e9,
            mr_counter_get(source->cell, MR_COUNTER_SOURCE_CONFIRMED),
            mr_counter_get(source->cell, MR_COUNTER_SOURCE_RECONNECTS));
    print_text(intake->out, "error", mr_str_from(rc == MR_OK ? "" : err->text));
    fputs("}}\n", intake->out);
    return rc;
}

int main(int argc, char **argv)
{
    static struct run run;
    struct mr_position after = {0};
    struct mr_source *source = NULL;
    struct mr_err err = {0};
    mr_config_init(&run.config);
    run.intake.confirm = true;
    if (read_arguments(&run, argc, argv) != 0)
        return MR_EXIT_USAGE;
    mr_log_setup(MR_LOG_DEBUG, MR_LOG_TEXT, "pg-source-dump");
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    if (run.path)
        resume(run.path, &after);
    run.intake.out = run.path ? fopen(run.path, "a") : stdout;
    struct mr_cell_shm *cell = aligned_alloc(128, sizeof *cell);
    if (!run.intake.out || !cell) {
        perror("pg-source-dump");
        return 1;
    }
    memset(cell, 0, sizeof *cell);
    enum mr_rc rc = mr_source_postgres.open(&source, &run.config, cell, &after, &err);
    if (rc == MR_OK) {
        rc = run_source(&run, source, &err);
        source->ops->close(source);
    }
    if (rc != MR_OK)
        fprintf(stderr, "pg-source-dump: %s\n", err.text);
    fflush(run.intake.out);
    free(cell);
    return mr_exit_code(rc);
}
