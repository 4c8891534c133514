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
    "usage: millrace-log verify DIR\n"
    "       millrace-log ls DIR\n"
    "       millrace-log show DIR [--after N] [--count N] [--json]\n"
    "\n"
    "verify  check every byte; exit 1 and name file and offset when something is damaged\n"
    "ls      list the segments: sequences, batches, bytes, time of the last write\n"
    "show    print the events behind sequence N (0: from the start), one a line\n"
    "\n"
    "Exit codes: 0 all well, 1 damaged or unreadable, 2 wrong usage.\n";

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
    bool list;
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
    if (!totals->list)
        return;
    char size[32], written[40];
    struct stat info;
    int64_t written_us = 0;
    if (stat(report->path, &info) == 0)
        written_us = (int64_t)info.st_mtim.tv_sec * 1000000 + info.st_mtim.tv_nsec / 1000;
    format_time_us(written, written_us);
    const char *name = strrchr(report->path, '/');
    printf("%-28s %12" PRIu64 " %12" PRIu64 " %9" PRIu64 " %11s  %s\n",
           name ? name + 1 : report->path, report->first, report->last, report->batches,
           mr_format_bytes(size, (double)report->bytes), written);
}

static int verify(const char *dir, bool list)
{
    struct totals totals = {.list = list};
    struct mr_err err;
    char size[32], torn[32];
    if (list)
        printf("%-28s %12s %12s %9s %11s  %s\n", "segment", "first", "last", "batches", "bytes",
               "last written");
    enum mr_rc rc = mr_log_verify(dir, add_segment, &totals, &err);
    if (rc != MR_OK)
        return failed(dir, &err);
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

static int show(const char *dir, uint64_t after, uint64_t count, bool as_json)
{
    struct mr_err err;
    struct mr_log_reader *reader;
    struct mr_json json = {0};
    enum mr_rc rc = mr_log_reader_open(&reader, dir, &err);
    if (rc != MR_OK)
        return failed(dir, &err);
    rc = seek(reader, after, &err);
    while (rc == MR_OK && count > 0) {
        struct mr_log_record record;
        rc = mr_log_next(reader, &record, &err);
        if (rc == MR_OK) {
            count--;
            rc = show_record(&json, &record, as_json, &err);
        }
    }
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

static int run_show(int argc, char **argv)
{
    static const struct option options[] = {{"after", required_argument, NULL, 'a'},
                                            {"count", required_argument, NULL, 'n'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    uint64_t after = 0, count = UINT64_MAX;
    bool as_json = false;
    int option;
    opterr = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'j')
            as_json = true;
        else if (option == 'a' || option == 'n') {
            if (!parse_number(optarg, option == 'a' ? &after : &count))
                return usage("expected a number, got ", optarg);
        } else
            return usage("unknown or incomplete option ", argv[optind - 1]);
    }
    if (argc - optind != 1)
        return usage("show takes one directory", "");
    return show(argv[optind], after, count, as_json);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return usage("expected verify, ls or show", "");
    const char *command = argv[1];
    if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0) {
        fputs(usage_text, stdout);
        return MR_EXIT_DONE;
    }
    bool list = strcmp(command, "ls") == 0;
    if (list || strcmp(command, "verify") == 0) {
        if (argc != 3)
            return usage(command, " takes one directory");
        return verify(argv[2], list);
    }
    if (strcmp(command, "show") == 0)
        return run_show(argc - 1, argv + 1);
    return usage("expected verify, ls or show, got ", command);
}
