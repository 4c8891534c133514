/* millrace-log: look into a durable log, beside a running writer or after a crash. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log/log.h"
#include "proto/event.h"
#include "proto/json.h"
#include "tools/format.h"

static const char usage_text[] =
    "usage: millrace-log list DIR [--json]\n"
    "       millrace-log verify DIR\n"
    "       millrace-log show DIR [FROM] [--until TIME] [--count N] [--json]\n"
    "       millrace-log follow DIR [FROM] [--until TIME] [--count N] [--json]\n"
    "\n"
    "list    the segments: sequences, batches, bytes, time of the last write (also: ls)\n"
    "verify  check every byte; exit 1 and name file and offset when something is damaged\n"
    "show    print events, one a line\n"
    "follow  the same, and wait for more at the end; without FROM only what comes\n"
    "\n"
    "FROM, where to begin (without it at the start):\n"
    "  --after N     behind sequence N\n"
    "  --id ID       with the event of this id\n"
    "  --since TIME  with the first event that was read at TIME or later\n"
    "TIME is 2026-01-31T12:00:00Z, UTC, with or without a fraction.\n"
    "\n"
    "Exit codes: 0 all well, 1 damaged, unreadable or not found, 2 wrong usage.\n";

enum { EXIT_BAD = 1 };

static int usage(const char *why, const char *what)
{
    fprintf(stderr, "millrace-log: %s%s\n%s", why, what, usage_text);
    return MR_EXIT_USAGE;
}

/* dir: what was given; an instance's data_dir is easily taken for its log. */
static int failed(const char *dir, const struct mr_err *err)
{
    char log[4096];
    snprintf(log, sizeof log, "%s/log", dir);
    bool beside = err->rc == MR_AGAIN && access(log, X_OK) == 0;
    fflush(stdout);
    fprintf(stderr, beside ? "millrace-log: %s; did you mean %s?\n" : "millrace-log: %s\n",
            err->text, log);
    return err->rc == MR_USAGE ? MR_EXIT_USAGE : EXIT_BAD;
}

static void format_time_us(char out[40], int64_t time_us)
{
    struct tm parts;
    time_t seconds = (time_t)(time_us / 1000000);
    char text[24];
    if (time_us <= 0 || !gmtime_r(&seconds, &parts) ||
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts) == 0)
        snprintf(text, sizeof text, "-");
    if (text[0] == '-')
        snprintf(out, 40, "-");
    else
        snprintf(out, 40, "%s.%06dZ", text, (int)(time_us % 1000000));
}

/* What verify and ls add up. */
struct totals {
    bool list, json;
    uint64_t segments, records, batches, bytes, torn_bytes, first, last;
};

static void add_segment(const struct mr_log_segment_report *report, void *context)
{
    struct totals *totals = context;
    if (totals->segments++ == 0)
        totals->first = report->first;
    totals->last = report->last;
    totals->records += report->last + 1 - report->first;
    totals->batches += report->batches;
    totals->bytes += report->bytes;
    totals->torn_bytes += report->torn_bytes;
    if (!totals->list && !totals->json)
        return;
    char size[32], written[40];
    struct stat info;
    int64_t written_us = 0;
    if (stat(report->path, &info) == 0)
        written_us = (int64_t)info.st_mtim.tv_sec * 1000000 + info.st_mtim.tv_nsec / 1000;
    format_time_us(written, written_us);
    const char *name = strrchr(report->path, '/');
    if (totals->json) {
        printf("{\"segment\":\"%s\",\"first\":%" PRIu64 ",\"last\":%" PRIu64 ",\"batches\":%" PRIu64
               ",\"bytes\":%" PRIu64 ",\"torn_bytes\":%" PRIu64 ",\"written\":\"%s\"}\n",
               name ? name + 1 : report->path, report->first, report->last, report->batches,
               report->bytes, report->torn_bytes, written);
        return;
    }
    printf("%-28s %12" PRIu64 " %12" PRIu64 " %9" PRIu64 " %11s  %s\n",
           name ? name + 1 : report->path, report->first, report->last, report->batches,
           mr_format_bytes(size, (double)report->bytes), written);
}

static int verify(const char *dir, bool list, bool json)
{
    struct totals totals = {.list = list, .json = json};
    struct mr_err err;
    char size[32], torn[32];
    if (list && !json)
        printf("%-28s %12s %12s %9s %11s  %s\n", "segment", "first", "last", "batches", "bytes",
               "last written");
    enum mr_rc rc = mr_log_verify(dir, add_segment, &totals, &err);
    if (rc != MR_OK)
        return failed(dir, &err);
    if (json)
        return MR_EXIT_DONE;
    printf("%s: %" PRIu64 " segments, %" PRIu64 " records (%" PRIu64 " to %" PRIu64 "), %" PRIu64
           " batches, %s\n",
           dir, totals.segments, totals.records, totals.first, totals.last, totals.batches,
           mr_format_bytes(size, (double)totals.bytes));
    if (totals.torn_bytes > 0)
        printf(
            "%s behind the last good batch: being written now, or torn by a crash; the next writer "
            "cuts them\n",
            mr_format_bytes(torn, (double)totals.torn_bytes));
    return MR_EXIT_DONE;
}

static void put_text(struct mr_json *json, const char *text)
{
    mr_json_put_raw(json, mr_str_from(text));
}

static void put_member(struct mr_json *json, const char *name, struct mr_str value)
{
    if (value.len == 0)
        return;
    put_text(json, name);
    mr_json_put_string(json, value);
}

static void put_number(struct mr_json *json, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    put_text(json, name);
    put_text(json, text);
}

static enum mr_rc put_bson(struct mr_json *json, const char *name, struct mr_str bson)
{
    if (bson.len == 0)
        return MR_OK;
    put_text(json, name);
    return mr_json_put_document(json, bson);
}

static enum mr_rc put_event(struct mr_json *json, const struct mr_event *event)
{
    char id[MR_EVENT_ID_MAX], ingested[40];
    size_t id_len = mr_event_id(event, id);
    put_number(json, "{\"sequence\":", event->head.sequence);
    put_member(json, ",\"id\":", (struct mr_str){id, id_len});
    put_member(json, ",\"op\":", mr_str_from(mr_operation_name((enum mr_operation)event->head.op)));
    put_member(json, ",\"database\":", event->database);
    put_member(json, ",\"collection\":", event->collection);
    put_member(json, ",\"document_id\":", event->document_id);
    put_number(json, ",\"source_order\":", event->head.source_order);
    if (event->head.transaction)
        put_number(json, ",\"transaction\":", event->head.transaction);
    format_time_us(ingested, event->head.ingest_time_us);
    put_member(json, ",\"ingested\":", mr_str_from(ingested));
    enum mr_rc rc = put_bson(json, ",\"document\":", event->document);
    if (rc == MR_OK)
        rc = put_bson(json, ",\"update\":", event->update);
    if (rc == MR_OK)
        rc = put_bson(json, ",\"before\":", event->before);
    put_text(json, "}\n");
    return rc;
}

/* One line for people. */
static enum mr_rc put_line(struct mr_json *json, const struct mr_event *event)
{
    char head[64], ingested[40];
    format_time_us(ingested, event->head.ingest_time_us);
    snprintf(head, sizeof head, "%10" PRIu64 " ", event->head.sequence);
    put_text(json, head);
    put_text(json, ingested);
    snprintf(head, sizeof head, " %-8s ", mr_operation_name((enum mr_operation)event->head.op));
    put_text(json, head);
    mr_json_put_raw(json, event->database);
    put_text(json, "/");
    mr_json_put_raw(json, event->collection);
    put_text(json, "/");
    mr_json_put_raw(json, event->document_id);
    enum mr_rc rc = put_bson(json, " ", event->document);
    put_text(json, "\n");
    return rc;
}

/* Records that are no events are shown by size: the log carries opaque bytes. */
static enum mr_rc show_record(struct mr_json *json, const struct mr_log_record *record,
                              bool as_json, struct mr_err *err)
{
    struct mr_event event;
    mr_json_reset(json);
    enum mr_rc rc = mr_event_decode(record->data, record->len, &event);
    if (rc == MR_OK)
        rc = as_json ? put_event(json, &event) : put_line(json, &event);
    if (rc == MR_OK && json->failed)
        rc = MR_FULL;
    if (rc == MR_CORRUPT)
        return mr_reject(err, MR_CORRUPT, "record %" PRIu64 " (%" PRIu32 " bytes) is no event",
                         record->sequence, record->len);
    if (rc != MR_OK)
        return mr_reject(err, MR_FATAL, "record %" PRIu64 ": out of memory", record->sequence);
    if (fwrite(json->data, 1, json->len, stdout) != json->len)
        return mr_fail(err, MR_FATAL, "write to standard output");
    return MR_OK;
}

/* What show and follow are to print. */
struct range {
    uint64_t after, count;
    const char *id;             /* NULL: any */
    int64_t since_us, until_us; /* of reading; INT64_MIN, INT64_MAX: any */
    bool as_json, follow, from_end;
};

/* The place to begin at; when retention has removed it: what is left, and say so. */
static enum mr_rc seek(struct mr_log_reader *reader, uint64_t after, struct mr_err *err)
{
    uint64_t floor = 0;
    enum mr_rc rc = mr_log_seek(reader, after, &floor, err);
    if (rc != MR_USAGE || floor <= after + 1)
        return rc;
    if (after > 0)
        fprintf(stderr, "millrace-log: the log begins with %" PRIu64 "\n", floor);
    return mr_log_seek(reader, floor - 1, &floor, err);
}

static bool has_id(const struct mr_event *event, const char *wanted)
{
    char id[MR_EVENT_ID_MAX];
    struct mr_str own = event->event_id;
    if (own.len == 0)
        own = (struct mr_str){id, mr_event_id(event, id)};
    return mr_str_equal(own, mr_str_from(wanted));
}

/* Is this record where printing begins? What is no event cannot be. */
static bool begins(const struct range *range, const struct mr_log_record *record)
{
    struct mr_event event;
    if (!range->id && range->since_us == INT64_MIN)
        return true;
    if (mr_event_decode(record->data, record->len, &event) != MR_OK)
        return false;
    return range->id ? has_id(&event, range->id) : event.head.ingest_time_us >= range->since_us;
}

static bool is_over(const struct range *range, const struct mr_log_record *record)
{
    struct mr_event event;
    return range->until_us != INT64_MAX &&
           mr_event_decode(record->data, record->len, &event) == MR_OK &&
           event.head.ingest_time_us >= range->until_us;
}

/* The end of the log. MR_OK: there may be more now. */
static enum mr_rc wait_for_more(const struct range *range, bool *at_end, struct mr_err *err)
{
    const struct timespec moment = {.tv_nsec = 20 * 1000 * 1000};
    *at_end = true;
    if (!range->follow)
        return MR_AGAIN;
    if (fflush(stdout) != 0)
        return mr_fail(err, MR_FATAL, "write to standard output");
    nanosleep(&moment, NULL);
    return MR_OK;
}

static enum mr_rc print(struct mr_log_reader *reader, const struct range *range,
                        struct mr_json *json, struct mr_err *err)
{
    struct mr_log_record record;
    bool begun = false, at_end = false;
    enum mr_rc rc = MR_OK;
    for (uint64_t left = range->count; rc == MR_OK && left > 0;) {
        rc = mr_log_next(reader, &record, err);
        if (rc == MR_AGAIN) {
            rc = wait_for_more(range, &at_end, err);
            continue;
        }
        if (rc == MR_OK && is_over(range, &record))
            break;
        begun = begun || (rc == MR_OK && (!range->from_end || at_end) && begins(range, &record));
        if (rc == MR_OK && begun) {
            left--;
            rc = show_record(json, &record, range->as_json, err);
        }
    }
    if ((rc == MR_OK || rc == MR_AGAIN) && range->id && !begun)
        return mr_reject(err, MR_CORRUPT, "event %s is not in the log", range->id);
    return rc;
}

static int show(const char *dir, const struct range *range)
{
    struct mr_err err;
    struct mr_log_reader *reader;
    struct mr_json json = {0};
    enum mr_rc rc = mr_log_reader_open(&reader, dir, &err);
    if (rc != MR_OK)
        return failed(dir, &err);
    rc = seek(reader, range->after, &err);
    if (rc == MR_OK)
        rc = print(reader, range, &json, &err);
    mr_json_fini(&json);
    mr_log_reader_close(&reader);
    if ((rc == MR_OK || rc == MR_AGAIN) && fflush(stdout) != 0)
        rc = mr_fail(&err, MR_FATAL, "write to standard output");
    return rc == MR_OK || rc == MR_AGAIN ? MR_EXIT_DONE : failed(dir, &err);
}

static bool parse_number(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0')
        return false;
    *out = value;
    return true;
}

static bool parse_time(const char *text, int64_t *out_us)
{
    struct tm parts = {0};
    const char *at = strptime(text, "%Y-%m-%dT%H:%M:%S", &parts);
    int64_t fraction_us = 0, unit_us = 100000;
    if (!at)
        return false;
    if (*at == '.')
        for (at++; *at >= '0' && *at <= '9'; at++, unit_us /= 10)
            fraction_us += (*at - '0') * unit_us;
    if (strcmp(at, "Z") != 0)
        return false;
    *out_us = (int64_t)timegm(&parts) * 1000000 + fraction_us;
    return true;
}

/* One option of show or follow. NULL: taken; else what was expected. */
static const char *take_option(int option, const char *value, struct range *range)
{
    switch (option) {
    case 'j':
        range->as_json = true;
        return NULL;
    case 'i':
        range->id = value;
        range->from_end = false;
        return NULL;
    case 'n':
        return parse_number(value, &range->count) ? NULL : "expected a number, got ";
    case 'a':
        range->from_end = false;
        return parse_number(value, &range->after) ? NULL : "expected a number, got ";
    case 's':
        range->from_end = false;
        return parse_time(value, &range->since_us) ? NULL : "expected a time, got ";
    case 'u':
        return parse_time(value, &range->until_us) ? NULL : "expected a time, got ";
    default:
        return "unknown or incomplete option ";
    }
}

static int run_show(int argc, char **argv, bool follow)
{
    static const struct option options[] = {{"after", required_argument, NULL, 'a'},
                                            {"count", required_argument, NULL, 'n'},
                                            {"id", required_argument, NULL, 'i'},
                                            {"since", required_argument, NULL, 's'},
                                            {"until", required_argument, NULL, 'u'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    struct range range = {.count = UINT64_MAX,
                          .since_us = INT64_MIN,
                          .until_us = INT64_MAX,
                          .follow = follow,
                          .from_end = follow};
    int option;
    opterr = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        const char *problem = take_option(option, optarg, &range);
        if (problem)
            return usage(problem, option == '?' ? argv[optind - 1] : optarg);
    }
    if (argc - optind != 1)
        return usage(argv[0], " takes one directory");
    if (range.id && range.count == UINT64_MAX && !follow)
        range.count = 1;
    return show(argv[optind], &range);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return usage("expected list, verify, show or follow", "");
    const char *command = argv[1];
    if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0) {
        fputs(usage_text, stdout);
        return MR_EXIT_DONE;
    }
    bool list = strcmp(command, "list") == 0 || strcmp(command, "ls") == 0;
    if (list || strcmp(command, "verify") == 0) {
        bool json = list && argc == 4 && strcmp(argv[3], "--json") == 0;
        if (argc != 3 && !json)
            return usage(command, " takes one directory");
        return verify(argv[2], list, json);
    }
    bool follow = strcmp(command, "follow") == 0;
    if (follow || strcmp(command, "show") == 0)
        return run_show(argc - 1, argv + 1, follow);
    return usage("expected list, verify, show or follow, got ", command);
}
