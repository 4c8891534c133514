/* millrace match: try subscriptions against events, offline, with the engine of the matchers. */
#include "tools/match.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "common/clock.h"

static const char usage_text[] =
    "usage: millrace match --subscriptions FILE --events FILE [options]\n"
    "\n"
    "Which subscriptions does each event concern? With the engine and the filters of a running\n"
    "instance, without one.\n"
    "\n"
    "  --subscriptions FILE  one JSON object a line: {\"id\", \"collection\", \"database\"?,\n"
    "                        \"filters\"?: [{\"field\", \"op\", \"value\"}], \"cel\"?}; - is "
    "standard input\n"
    "  --events FILE         one a line: {\"collection\", \"doc\", \"id\"?, \"database\"?, "
    "\"op\"?}\n"
    "  --shards N            match in N threads, each document in one of them (default 1)\n"
    "  --output pairs|none   pairs: event number (from 0), tab, subscription id (default pairs)\n"
    "  --stats json          figures as one JSON object; on standard error beside pairs\n"
    "  --explain EVENT SUB   why event number EVENT does or does not match subscription SUB\n"
    "  --bloom               put a Bloom filter in front of the equality index\n"
    "\n"
    "A line that cannot be used is told with its number on standard error and left out; the exit\n"
    "code is then 1.\n";

enum { BATCH_EVENTS = 1 << 16, SHARDS_MAX = 64 };

struct options {
    const char *subscriptions, *events, *explain_sub;
    uint64_t explain_event;
    uint32_t shards;
    bool pairs, stats, explain, bloom;
};

struct run {
    struct options options;
    struct mr_match_input *subs_file, *events_file;
    struct mr_program_compiler *compiler;
    struct mr_match_shards *shards;
    struct mr_match_sub *subs;
    uint64_t sub_count, sub_capacity;
    struct mr_match_event *events; /* one batch */
    uint64_t event_count, events_before;
    uint64_t load_ns, match_ns, read_ns;
};

/* ---- options ---- */

static int wrong_use(const char *format, const char *what)
{
    fputs("millrace match: ", stderr);
    fprintf(stderr, format, what);
    fputs("; millrace match --help says more\n", stderr);
    return MR_EXIT_USAGE;
}

static bool parse_number(const char *text, uint64_t max, uint64_t *out)
{
    char *end;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == 0 && *out <= max;
}

/* -1: go on; else the exit code. */
static int parse_options(int argc, char **argv, struct options *o)
{
    enum { SUBS = 1, EVENTS, SHARDS, OUTPUT, STATS, EXPLAIN, BLOOM, HELP };
    static const struct option options[] = {{"subscriptions", required_argument, NULL, SUBS},
                                            {"events", required_argument, NULL, EVENTS},
                                            {"shards", required_argument, NULL, SHARDS},
                                            {"output", required_argument, NULL, OUTPUT},
                                            {"stats", required_argument, NULL, STATS},
                                            {"explain", required_argument, NULL, EXPLAIN},
                                            {"bloom", no_argument, NULL, BLOOM},
                                            {"help", no_argument, NULL, HELP},
                                            {NULL, 0, NULL, 0}};
    uint64_t number;
    *o = (struct options){.shards = 1, .pairs = true};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == SUBS) {
            o->subscriptions = optarg;
        } else if (option == EVENTS) {
            o->events = optarg;
        } else if (option == SHARDS) {
            if (!parse_number(optarg, SHARDS_MAX, &number) || number == 0)
                return wrong_use("--shards: expected 1 to 64, got \"%s\"", optarg);
            o->shards = (uint32_t)number;
        } else if (option == OUTPUT) {
            o->pairs = strcmp(optarg, "pairs") == 0;
            if (!o->pairs && strcmp(optarg, "none") != 0)
                return wrong_use("--output: expected pairs or none, got \"%s\"", optarg);
        } else if (option == STATS) {
            o->stats = true;
            if (strcmp(optarg, "json") != 0)
                return wrong_use("--stats: expected json, got \"%s\"", optarg);
        } else if (option == EXPLAIN) {
            o->explain = true;
            if (!parse_number(optarg, UINT64_MAX / 2, &o->explain_event))
                return wrong_use("--explain: expected an event's number, got \"%s\"", optarg);
            if (optind >= argc)
                return wrong_use("--explain: expected a subscription's id behind \"%s\"", optarg);
            o->explain_sub = argv[optind++];
        } else if (option == BLOOM) {
            o->bloom = true;
        } else if (option == HELP) {
            fputs(usage_text, stdout);
            return 0;
        } else {
            return MR_EXIT_USAGE;
        }
    }
    if (optind < argc)
        return wrong_use("unexpected argument \"%s\"", argv[optind]);
    if (!o->subscriptions || !o->events)
        return wrong_use("%s is needed", o->subscriptions ? "--events" : "--subscriptions");
    return -1;
}

/* ---- steps ---- */

static enum mr_rc read_subs(struct run *run, struct mr_err *err)
{
    for (;;) {
        if (run->sub_count == run->sub_capacity) {
            uint64_t capacity = run->sub_capacity ? run->sub_capacity * 2 : 1024;
            struct mr_match_sub *subs = realloc(run->subs, capacity * sizeof *subs);
            if (!subs)
                return mr_fail(err, MR_FATAL, "keep %" PRIu64 " subscriptions", capacity);
            run->subs = subs;
            run->sub_capacity = capacity;
        }
        enum mr_rc rc =
            mr_match_next_sub(run->subs_file, run->compiler, &run->subs[run->sub_count], err);
        if (rc != MR_OK)
            return rc == MR_AGAIN ? MR_OK : rc;
        run->sub_count++;
    }
}

/* MR_AGAIN: there are no more. */
static enum mr_rc read_batch(struct run *run, struct mr_err *err)
{
    for (uint64_t i = 0; i < run->event_count; i++)
        free(run->events[i].names);
    run->events_before += run->event_count;
    run->event_count = 0;
    while (run->event_count < BATCH_EVENTS) {
        enum mr_rc rc = mr_match_next_event(run->events_file, &run->events[run->event_count], err);
        if (rc == MR_AGAIN)
            return run->event_count > 0 ? MR_OK : MR_AGAIN;
        if (rc != MR_OK)
            return rc;
        run->event_count++;
    }
    return MR_OK;
}

static void put_pairs(void *context, uint64_t event, const uint64_t *subs, uint32_t count)
{
    const struct run *run = context;
    for (uint32_t i = 0; i < count; i++)
        printf("%" PRIu64 "\t%s\n", run->events_before + event, run->subs[subs[i]].id);
}

static enum mr_rc match_all(struct run *run, struct mr_err *err)
{
    for (;;) {
        uint64_t started = mr_clock_ns();
        enum mr_rc rc = read_batch(run, err);
        run->read_ns += mr_clock_ns() - started;
        if (rc != MR_OK)
            return rc == MR_AGAIN ? MR_OK : rc;
        started = mr_clock_ns();
        rc = mr_match_shards_run(run->shards, run->events, run->event_count,
                                 run->options.pairs ? put_pairs : NULL, run, err);
        run->match_ns += mr_clock_ns() - started;
        if (rc != MR_OK)
            return rc;
    }
}

static enum mr_rc explain(struct run *run, struct mr_err *err)
{
    const struct mr_match_sub *sub = NULL;
    for (uint64_t i = 0; i < run->sub_count && !sub; i++)
        if (strcmp(run->subs[i].id, run->options.explain_sub) == 0)
            sub = &run->subs[i];
    if (!sub)
        return mr_reject(err, MR_USAGE, "no subscription \"%s\"", run->options.explain_sub);
    for (;;) {
        enum mr_rc rc = read_batch(run, err);
        if (rc == MR_AGAIN)
            return mr_reject(err, MR_USAGE, "no event %" PRIu64 ": there are %" PRIu64,
                             run->options.explain_event, run->events_before);
        if (rc != MR_OK)
            return rc;
        if (run->options.explain_event - run->events_before < run->event_count)
            return mr_match_explain(
                stdout, sub, &run->events[run->options.explain_event - run->events_before], err);
    }
}

static void put_stats(const struct run *run)
{
    struct mr_engine_stats s;
    struct rusage usage = {0};
    mr_match_shards_stats(run->shards, &s);
    (void)getrusage(RUSAGE_SELF, &usage);
    double match_s = (double)run->match_ns / 1e9;
    FILE *out = run->options.pairs ? stderr : stdout;
    fprintf(out,
            "{\"subscriptions\": %" PRIu64 ", \"filters\": %" PRIu64 ", \"events\": %" PRIu64
            ", \"hits\": %" PRIu64 ", \"pairs\": %" PRIu64 ", \"bad_lines\": %" PRIu64
            ", \"shards\": %u, \"load_s\": %.3f, \"read_events_s\": %.3f, \"match_s\": %.3f"
            ", \"events_per_s\": %.0f, \"us_per_event\": %.3f",
            s.subscriptions, s.filters, s.events, s.hits, s.pairs,
            mr_match_bad_lines(run->subs_file) + mr_match_bad_lines(run->events_file),
            run->options.shards, (double)run->load_ns / 1e9, (double)run->read_ns / 1e9, match_s,
            match_s > 0 ? (double)s.events / match_s : 0,
            s.events ? match_s * 1e6 / (double)s.events : 0);
    fprintf(out,
            ", \"index_bytes\": %" PRIu64 ", \"max_rss_kb\": %ld, \"filters_evaluated\": %" PRIu64
            ", \"predicates_evaluated\": %" PRIu64 ", \"code_runs\": %" PRIu64
            ", \"code_errors\": %" PRIu64 ", \"quarantined\": %" PRIu64
            ", \"anchors\": {\"keys\": %" PRIu64 ", \"presence\": %" PRIu64 ", \"always\": %" PRIu64
            ", \"moved\": %" PRIu64 "}",
            s.bytes, usage.ru_maxrss, s.candidates, s.evaluations, s.code_runs, s.code_errors,
            s.quarantined, s.anchors[0], s.anchors[1], s.anchors[2], s.moved);
    if (run->options.bloom)
        fprintf(out,
                ", \"bloom\": {\"lookups\": %" PRIu64 ", \"rejected\": %" PRIu64
                ", \"false_positives\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"rebuilds\": %" PRIu64
                "}",
                s.bloom_lookups, s.bloom_rejected, s.bloom_false, s.bloom_bytes, s.bloom_rebuilds);
    fputs("}\n", out);
}

static enum mr_rc work(struct run *run, struct mr_err *err)
{
    uint64_t started = mr_clock_ns();
    enum mr_rc rc = mr_match_input_open(&run->subs_file, run->options.subscriptions, err);
    if (rc == MR_OK)
        rc = mr_match_input_open(&run->events_file, run->options.events, err);
    if (rc == MR_OK)
        rc = mr_program_compiler_create(&run->compiler, err);
    if (rc == MR_OK)
        rc = mr_match_shards_create(&run->shards, run->options.shards, run->options.bloom, err);
    if (rc == MR_OK)
        rc = read_subs(run, err);
    if (rc != MR_OK)
        return rc;
    run->events = calloc(BATCH_EVENTS, sizeof *run->events);
    if (!run->events)
        return mr_fail(err, MR_FATAL, "keep %d events", BATCH_EVENTS);
    if (run->options.explain)
        return explain(run, err);
    rc = mr_match_shards_load(run->shards, run->subs, run->sub_count, err);
    run->load_ns = mr_clock_ns() - started;
    if (rc == MR_OK)
        rc = match_all(run, err);
    if (rc == MR_OK && run->options.stats)
        put_stats(run);
    if (rc == MR_OK && fflush(stdout) != 0)
        rc = mr_fail(err, MR_FATAL, "write to standard output");
    return rc;
}

int main(int argc, char **argv)
{
    struct run run = {.sub_count = 0};
    struct mr_err err = {0};
    int code = parse_options(argc, argv, &run.options);
    if (code >= 0)
        return code;
    static char buffer[1 << 16];
    (void)setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    enum mr_rc rc = work(&run, &err);
    if (rc != MR_OK)
        fprintf(stderr, "millrace match: %s\n", err.text);
    bool bad =
        rc == MR_OK && mr_match_bad_lines(run.subs_file) + mr_match_bad_lines(run.events_file) > 0;
    for (uint64_t i = 0; i < run.sub_count; i++) {
        free(run.subs[i].id);
        free(run.subs[i].program);
    }
    for (uint64_t i = 0; i < run.event_count; i++)
        free(run.events[i].names);
    free(run.subs);
    free(run.events);
    mr_match_shards_destroy(&run.shards);
    mr_program_compiler_destroy(&run.compiler);
    mr_match_input_close(&run.subs_file);
    mr_match_input_close(&run.events_file);
    return rc == MR_OK ? bad : mr_exit_code(rc);
}
