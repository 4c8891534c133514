/* bench-match [--bloom] DIRECTORY [COUNT ...]: the matching engine on one core, JSON on standard
 * output.
 *
 * DIRECTORY has subs.ndjson and events.ndjson as bench/w1 writes them. For each COUNT (default: all
 * subscriptions) the first so many are added to a new engine; then, in turns, all events are
 * matched from their BSON bytes to ids, and libbson visits every field of the same documents, which
 * is the floor. bench/match runs it over all workloads.
 *
 * Other programs on the machine only ever add to a time. So means are sums over 500 events at a
 * time, each from the quietest of 15 rounds; percentiles are those of the quietest round. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <bson/bson.h>

#include "common/clock.h"
#include "tools/cel_json.h"
#include "tools/match.h"

enum { ROUNDS = 15, CYCLES = 10, CHANGES_PER_S = 10000, COMPILES = 20000, CHUNK_EVENTS = 500 };

struct workload {
    struct mr_match_sub *subs;
    struct mr_match_event *events;
    struct mr_engine_event *views;
    uint32_t sub_count, event_count;
    double compile_ns; /* of a subscription: CEL to its program */
};

static void fail(const char *what, const struct mr_err *err)
{
    fprintf(stderr, "bench-match: %s: %s\n", what, err->text);
    exit(1);
}

static void *grow(void *items, uint32_t count, size_t size)
{
    if (count & (count - 1))
        return items;
    void *grown = realloc(items, (count ? 2 * (size_t)count : 1) * size);
    if (!grown)
        abort();
    return grown;
}

static struct mr_match_input *open_input(const char *directory, const char *name)
{
    char path[4096];
    struct mr_err err = {.rc = MR_OK};
    struct mr_match_input *input;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (mr_match_input_open(&input, path, &err) != MR_OK)
        fail("open", &err);
    return input;
}

/* From CEL to a program, without the JSON around it. */
static uint64_t compile(struct mr_program_compiler *compiler, struct mr_str bson)
{
    struct mr_bson_value collection, cel;
    void *program;
    uint32_t len;
    if (!mr_bson_find(bson.data, bson.len, MR_STR("collection"), &collection) ||
        !mr_bson_find(bson.data, bson.len, MR_STR("cel"), &cel))
        abort();
    const struct mr_program_source source = {.collection = mr_bson_string(&collection),
                                             .cel = mr_bson_string(&cel)};
    uint64_t started = mr_clock_ns();
    if (mr_program_compile(compiler, &source, &program, &len, NULL) != MR_OK)
        abort();
    uint64_t took = mr_clock_ns() - started;
    free(program);
    return took;
}

static double compile_ns(const char *directory, struct mr_program_compiler *compiler)
{
    static char line[65536];
    char path[4096];
    struct mr_cel_json *json;
    struct mr_str bson;
    uint64_t took = 0, count = 0;
    snprintf(path, sizeof path, "%s/subs.ndjson", directory);
    FILE *f = fopen(path, "r");
    if (!f || mr_cel_json_create(&json, NULL) != MR_OK)
        abort();
    for (; count < COMPILES && fgets(line, sizeof line, f); count++) {
        if (mr_cel_json_parse(json, mr_str_from(line), &bson, NULL) != MR_OK)
            abort();
        took += compile(compiler, bson);
    }
    fclose(f);
    mr_cel_json_destroy(&json);
    return (double)took / (double)(count ? count : 1);
}

static void read_subs(struct workload *w, const char *directory)
{
    struct mr_match_input *input = open_input(directory, "subs.ndjson");
    struct mr_program_compiler *compiler;
    struct mr_err err = {.rc = MR_OK};
    enum mr_rc rc = mr_program_compiler_create(&compiler, &err);
    while (rc == MR_OK) {
        w->subs = grow(w->subs, w->sub_count, sizeof *w->subs);
        rc = mr_match_next_sub(input, compiler, &w->subs[w->sub_count], &err);
        w->sub_count += rc == MR_OK;
    }
    if (rc != MR_AGAIN || w->sub_count == 0)
        fail("read subscriptions", &err);
    w->compile_ns = compile_ns(directory, compiler);
    mr_program_compiler_destroy(&compiler);
    mr_match_input_close(&input);
}

static void read_events(struct workload *w, const char *directory)
{
    struct mr_match_input *input = open_input(directory, "events.ndjson");
    struct mr_err err = {.rc = MR_OK};
    enum mr_rc rc = MR_OK;
    while (rc == MR_OK) {
        w->events = grow(w->events, w->event_count, sizeof *w->events);
        rc = mr_match_next_event(input, &w->events[w->event_count], &err);
        w->event_count += rc == MR_OK;
    }
    if (rc != MR_AGAIN || w->event_count == 0)
        fail("read events", &err);
    mr_match_input_close(&input);
    w->views = calloc(w->event_count, sizeof *w->views);
    if (!w->views)
        abort();
    for (uint32_t i = 0; i < w->event_count; i++)
        w->views[i] = mr_match_event_view(&w->events[i]);
}

/* ---- floors ---- */

static uint64_t visit_ours(const void *data, size_t len)
{
    struct mr_bson_iter iter;
    struct mr_bson_element e;
    uint64_t fields = 0;
    if (mr_bson_iter_init(&iter, data, len) != MR_OK)
        abort();
    while (mr_bson_iter_next(&iter, &e) == MR_OK) {
        fields++;
        if (e.value.type == MR_BSON_DOCUMENT || e.value.type == MR_BSON_ARRAY)
            fields += visit_ours(e.value.data, e.value.len);
    }
    return fields;
}

static uint64_t visit_libbson(bson_iter_t *iter)
{
    uint64_t fields = 0;
    while (bson_iter_next(iter)) {
        bson_iter_t inner;
        fields++;
        if ((BSON_ITER_HOLDS_DOCUMENT(iter) || BSON_ITER_HOLDS_ARRAY(iter)) &&
            bson_iter_recurse(iter, &inner))
            fields += visit_libbson(&inner);
    }
    return fields;
}

static uint64_t visit_event_ours(void *context, const struct mr_engine_event *event)
{
    (void)context;
    return visit_ours(event->document.data, event->document.len);
}

static uint64_t visit_event_libbson(void *context, const struct mr_engine_event *event)
{
    bson_iter_t iter;
    (void)context;
    if (!bson_iter_init_from_data(&iter, (const uint8_t *)event->document.data,
                                  event->document.len))
        abort();
    return visit_libbson(&iter);
}

/* ---- matching ---- */

static uint64_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%*s %lu", &pages) != 1)
        abort();
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int order_u64(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

struct bench {
    const struct workload *w;
    struct mr_engine *engine;
    uint32_t count; /* subscriptions */
    uint64_t *times;
};

/* Ids are the numbers of the lines from 1, as the workload's own are. */
static double add_all(struct bench *b)
{
    uint64_t started = mr_clock_ns();
    for (uint32_t i = 0; i < b->count; i++)
        if (mr_engine_add(b->engine, i + 1, b->w->subs[i].program, b->w->subs[i].len) != MR_OK)
            abort();
    return (double)(mr_clock_ns() - started) / b->count;
}

static double remove_all(struct bench *b)
{
    uint64_t started = mr_clock_ns();
    for (uint32_t i = 0; i < b->count; i++)
        if (mr_engine_remove(b->engine, i + 1) != MR_OK)
            abort();
    return (double)(mr_clock_ns() - started) / b->count;
}

/* Sum of event * 1000003 + id over all matches, as in tests/integration/w1.py. */
static uint64_t checksum(struct bench *b, uint64_t *pairs)
{
    uint64_t sum = 0;
    *pairs = 0;
    for (uint32_t i = 0; i < b->w->event_count; i++) {
        const uint64_t *ids;
        uint32_t count = mr_engine_match(b->engine, &b->w->views[i], &ids);
        for (uint32_t k = 0; k < count; k++)
            sum += i * UINT64_C(1000003) + ids[k];
        *pairs += count;
    }
    return sum;
}

static uint64_t match_event(void *context, const struct mr_engine_event *event)
{
    const uint64_t *ids;
    return mr_engine_match(context, event, &ids);
}

/* Do something with all events, and keep how long each chunk of them took at the least. */
struct mean {
    uint64_t (*work)(void *context, const struct mr_engine_event *event);
    void *context;
    uint64_t *chunks_ns;
    uint64_t done; /* so that no work is seen to be idle */
};

static void mean_round(struct mean *mean, const struct workload *w)
{
    uint64_t at = mr_clock_ns();
    for (uint32_t i = 0; i < w->event_count;) {
        uint32_t chunk = i / CHUNK_EVENTS, end = (chunk + 1) * CHUNK_EVENTS;
        for (; i < end && i < w->event_count; i++)
            mean->done += mean->work(mean->context, &w->views[i]);
        uint64_t now = mr_clock_ns();
        if (mean->chunks_ns[chunk] == 0 || now - at < mean->chunks_ns[chunk])
            mean->chunks_ns[chunk] = now - at;
        at = now;
    }
}

static double mean_ns(struct mean *mean, const struct workload *w)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i * CHUNK_EVENTS < w->event_count; i++)
        sum += mean->chunks_ns[i];
    free(mean->chunks_ns);
    return (double)sum / w->event_count;
}

/* Add or remove one subscription, in turn. */
static void change(struct bench *b, uint32_t *number)
{
    uint32_t i = *number / 2 % b->count;
    enum mr_rc rc = *number % 2 == 0
                        ? mr_engine_remove(b->engine, i + 1)
                        : mr_engine_add(b->engine, i + 1, b->w->subs[i].program, b->w->subs[i].len);
    if (rc != MR_OK)
        abort();
    ++*number;
}

/* Each event by the clock. While subscriptions change, those that are due come first, and the event
 * behind them is that much later. */
static void timed_round(struct bench *b, uint64_t changes_per_s, uint64_t percentiles[3])
{
    const uint64_t *ids;
    uint32_t number = 0, count = b->w->event_count;
    uint64_t started = mr_clock_ns(), at = started;
    for (uint32_t i = 0; i < count; i++) {
        while (changes_per_s > 0 && number < (at - started) * changes_per_s / 1000000000)
            change(b, &number);
        (void)mr_engine_match(b->engine, &b->w->views[i], &ids);
        uint64_t now = mr_clock_ns();
        b->times[i] = now - at;
        at = now;
    }
    if (number % 2 == 1)
        change(b, &number);
    qsort(b->times, count, sizeof *b->times, order_u64);
    const uint64_t found[3] = {b->times[count / 2], b->times[(size_t)count * 99 / 100],
                               b->times[count - 1]};
    if (percentiles[1] == 0 || found[1] < percentiles[1])
        memcpy(percentiles, found, sizeof found);
}

static void measure(struct bench *b)
{
    uint64_t still[3] = {0}, changing[3] = {0};
    struct mean means[3] = {{.work = match_event, .context = b->engine},
                            {.work = visit_event_libbson},
                            {.work = visit_event_ours}};
    for (int k = 0; k < 3; k++) {
        means[k].chunks_ns = calloc(b->w->event_count / CHUNK_EVENTS + 1, sizeof(uint64_t));
        if (!means[k].chunks_ns)
            abort();
    }
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k < 3; k++)
            mean_round(&means[k], b->w);
        timed_round(b, 0, still);
        timed_round(b, CHANGES_PER_S, changing);
    }
    double mean = mean_ns(&means[0], b->w), libbson = mean_ns(&means[1], b->w);
    double ours = mean_ns(&means[2], b->w);
    printf("\"events_per_s\": %.0f, \"mean_ns\": %.0f, \"p50_ns\": %" PRIu64
           ", \"p99_ns\": %" PRIu64 ", \"max_ns\": %" PRIu64 ", \"changing_p50_ns\": %" PRIu64
           ", \"changing_p99_ns\": %" PRIu64 ", \"libbson_ns\": %.0f, \"visit_ns\": %.0f",
           1e9 / mean, mean, still[0], still[1], still[2], changing[0], changing[1], libbson, ours);
}

static void run(const struct workload *w, uint32_t count, bool bloom)
{
    struct bench b = {.w = w, .count = count, .times = calloc(w->event_count, sizeof(uint64_t))};
    struct mr_engine_stats stats;
    uint64_t pairs;
    if (!b.times || mr_engine_create(&b.engine, NULL) != MR_OK)
        abort();
    mr_engine_set_bloom(b.engine, bloom);
    uint64_t before = resident_bytes(), started = mr_clock_ns();
    double add_ns = add_all(&b);
    double load_s = (double)(mr_clock_ns() - started) / 1e9;
    uint64_t loaded = resident_bytes();
    uint64_t sum = checksum(&b, &pairs);
    printf("    {\"subscriptions\": %u, \"matches\": %" PRIu64 ", \"checksum\": %" PRIu64 ", ",
           count, pairs, sum);
    measure(&b);
    mr_engine_stats(b.engine, &stats);
    double remove_ns = remove_all(&b);
    double candidates = (double)stats.candidates / (double)stats.events;
    for (int i = 1; i < CYCLES; i++) {
        (void)add_all(&b);
        (void)remove_all(&b);
    }
    (void)add_all(&b);
    uint64_t again = resident_bytes();
    printf(", \"matches_per_event\": %.3f, \"candidates_per_event\": %.2f, \"load_s\": %.3f"
           ", \"compile_ns\": %.0f, \"add_ns\": %.0f, \"remove_ns\": %.0f"
           ", \"rss_per_subscription\": %.0f, \"rss_growth_after_cycles\": %.4f"
           ", \"bloom\": {\"lookups\": %" PRIu64 ", \"rejected\": %" PRIu64 ", \"false\": %" PRIu64
           ", \"bytes\": %" PRIu64 "}}",
           (double)pairs / w->event_count, candidates, load_s, w->compile_ns, add_ns, remove_ns,
           (double)(loaded - before) / count,
           ((double)again - (double)loaded) / (double)(loaded - before), stats.bloom_lookups,
           stats.bloom_rejected, stats.bloom_false, stats.bloom_bytes);
    mr_engine_destroy(&b.engine);
    free(b.times);
}

int main(int argc, char **argv)
{
    struct workload w = {.sub_count = 0};
    bool bloom = argc > 1 && strcmp(argv[1], "--bloom") == 0;
    argv += bloom;
    argc -= bloom;
    if (argc < 2) {
        fprintf(stderr, "usage: bench-match [--bloom] DIRECTORY [COUNT ...]\n");
        return 2;
    }
    read_subs(&w, argv[1]);
    read_events(&w, argv[1]);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < w.event_count; i++)
        bytes += w.events[i].document_len;
    printf("{\n  \"bench\": \"match\", \"events\": %u, \"document_bytes\": %" PRIu64
           ",\n  \"runs\": [\n",
           w.event_count, bytes / w.event_count);
    for (int i = 2; i < argc || i == 2; i++) {
        uint32_t count = i < argc ? (uint32_t)strtoul(argv[i], NULL, 10) : w.sub_count;
        if (i > 2)
            printf(",\n");
        run(&w, count > 0 && count < w.sub_count ? count : w.sub_count, bloom);
        fflush(stdout);
    }
    printf("\n  ]\n}\n");
    return 0;
}
