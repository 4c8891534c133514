/* bench-match [events]: the matching engine on one core, JSON on standard output.
 *
 * Workload "spread": subscriptions over 100 collections: 35 % user_id ==, 35 % author.id == (50,000
 * values), 20 % status == and price >, 5 % price range, 2.5 % tag in three of 200, 2.5 % labels
 * contains; documents of 15 top-level fields and about 460 bytes. "hot": the same mix, all in one
 * collection. The floor is what it costs to visit every field of the same documents. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <bson/bson.h>

#include "common/clock.h"
#include "matcher/engine/engine.h"

enum { USERS = 50000, TAGS = 200, COLLECTIONS = 100, DOCUMENT_MAX = 1024 };

static uint64_t random_state = 20261121;

static uint64_t random_next(void)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint32_t below(uint32_t n)
{
    return (uint32_t)(random_next() % n);
}

static double money(uint32_t from, uint32_t to)
{
    return (double)(from * 100 + below((to - from) * 100)) / 100.0;
}

static const char *const statuses[] = {"active", "active", "active",   "pending", "pending",
                                       "closed", "draft",  "archived", "hidden",  "sold"};

static struct mr_str text(char *out, size_t size, const char *format, uint32_t number)
{
    return (struct mr_str){out, (size_t)snprintf(out, size, format, number)};
}

static struct mr_const string_const(struct mr_str s)
{
    return (struct mr_const){.kind = MR_CONST_STRING, .string = s};
}

static struct mr_const number_const(double number)
{
    return (struct mr_const){.kind = MR_CONST_DOUBLE, .number = number};
}

static struct mr_predicate predicate(const char *path, enum mr_predicate_op op,
                                     struct mr_const value)
{
    return (struct mr_predicate){.path = mr_str_from(path), .op = op, .value = value};
}

/* One random subscription's program. */
static void *make_program(bool hot, uint32_t *len)
{
    char a[16], b[3][16], name[16];
    struct mr_const items[3];
    struct mr_predicate p[2];
    uint32_t count = 1, kind = below(1000);
    struct mr_str collection = text(name, sizeof name, "c%03u", hot ? 0 : below(COLLECTIONS));
    struct mr_const user = string_const(text(a, sizeof a, "u%05u", below(USERS)));
    if (kind < 700) {
        p[0] = predicate(kind < 350 ? "user_id" : "author.id", MR_PRED_EQ, user);
    } else if (kind < 900) {
        p[0] = predicate("status", MR_PRED_EQ, string_const(mr_str_from(statuses[below(10)])));
        p[1] = predicate("price", MR_PRED_GT, number_const(money(1800, 2000)));
        count = 2;
    } else if (kind < 950) {
        double low = money(0, 1960);
        p[0] = predicate("price", MR_PRED_GE, number_const(low));
        p[1] = predicate("price", MR_PRED_LT, number_const(low + money(10, 40)));
        count = 2;
    } else if (kind < 975) {
        for (int i = 0; i < 3; i++)
            items[i] = string_const(text(b[i], sizeof b[i], "tag%03u", below(TAGS)));
        p[0] = predicate("tag", MR_PRED_IN, (struct mr_const){.kind = MR_CONST_LIST});
        p[0].value.list.items = items;
        p[0].value.list.count = 3;
    } else {
        p[0] = predicate("labels", MR_PRED_CONTAINS,
                         string_const(text(a, sizeof a, "tag%03u", below(TAGS))));
    }
    void *bytes;
    if (mr_program_build(MR_STR("db"), collection, p, count, &bytes, len, NULL) != MR_OK)
        abort();
    return bytes;
}

struct sample {
    char collection[8];
    struct mr_str document;
};

static void put_number(struct mr_bson_writer *w, const char *key, const char *format,
                       uint32_t number)
{
    char value[32];
    mr_bson_put_string(w, mr_str_from(key), text(value, sizeof value, format, number));
}

static void make_document(struct sample *out, bool hot)
{
    struct mr_bson_writer w;
    snprintf(out->collection, sizeof out->collection, "c%03u", hot ? 0 : below(COLLECTIONS));
    mr_bson_writer_init(&w);
    mr_bson_begin(&w);
    put_number(&w, "_id", "%024u", below(UINT32_MAX));
    put_number(&w, "user_id", "u%05u", below(USERS));
    if (below(20) != 0) {
        mr_bson_begin_document(&w, MR_STR("author"));
        put_number(&w, "id", "u%05u", below(USERS));
        mr_bson_put_string(&w, MR_STR("name"), MR_STR("Ada Lovelace"));
        mr_bson_end(&w);
    }
    mr_bson_put_string(&w, MR_STR("status"), mr_str_from(statuses[below(10)]));
    if (below(20) != 0)
        mr_bson_put_double(&w, MR_STR("price"), money(0, 2000));
    mr_bson_put_int32(&w, MR_STR("qty"), (int32_t)below(1000));
    put_number(&w, "tag", "tag%03u", below(TAGS));
    mr_bson_put_string(&w, MR_STR("title"), MR_STR("rotu kemi salo dene"));
    mr_bson_put_string(&w, MR_STR("region"), MR_STR("eu-west"));
    mr_bson_put_double(&w, MR_STR("score"), (double)below(10000) / 10000.0);
    mr_bson_put_bool(&w, MR_STR("verified"), below(2));
    mr_bson_put_int64(&w, MR_STR("created_at"), 1700000000000 + below(1000000000));
    mr_bson_put_int64(&w, MR_STR("updated_at"), 1710000000000 + below(1000000000));
    mr_bson_begin_array(&w, MR_STR("labels"));
    put_number(&w, "0", "tag%03u", below(TAGS));
    put_number(&w, "1", "tag%03u", below(TAGS));
    mr_bson_end(&w);
    mr_bson_put_string(&w, MR_STR("body"),
                       MR_STR("bako deli fumo gani hero kita lomu mani nepo pasu rite sona tuli "
                              "bemo dafi gora keno lita mupa nore"));
    mr_bson_end(&w);
    out->document = mr_bson_bytes(&w); /* kept until the end */
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

static double floor_ns(const struct sample *samples, uint32_t count, bool libbson)
{
    uint64_t fields = 0, started = mr_clock_ns();
    for (uint32_t i = 0; i < count; i++) {
        struct mr_str d = samples[i].document;
        bson_iter_t iter;
        if (!libbson)
            fields += visit_ours(d.data, d.len);
        else if (bson_iter_init_from_data(&iter, (const uint8_t *)d.data, d.len))
            fields += visit_libbson(&iter);
    }
    uint64_t took = mr_clock_ns() - started;
    if (fields == 0)
        abort();
    return (double)took / count;
}

/* ---- one size ---- */

static uint64_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%*s %lu", &pages) != 1)
        abort();
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint32_t match_one(struct mr_engine *engine, const struct sample *sample)
{
    const uint64_t *ids;
    const struct mr_engine_event event = {.database = MR_STR("db"),
                                          .collection = mr_str_from(sample->collection),
                                          .document_id = MR_STR("000000000000000000000000"),
                                          .document = sample->document};
    return mr_engine_match(engine, &event, &ids);
}

static int order_u64(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

struct subs {
    void **programs;
    uint32_t *lens;
    uint32_t count;
};

static double add_all(struct mr_engine *engine, const struct subs *subs)
{
    uint64_t started = mr_clock_ns();
    for (uint32_t i = 0; i < subs->count; i++)
        if (mr_engine_add(engine, i, subs->programs[i], subs->lens[i]) != MR_OK)
            abort();
    return (double)(mr_clock_ns() - started) / subs->count;
}

static double remove_all(struct mr_engine *engine, uint32_t count)
{
    uint64_t started = mr_clock_ns();
    for (uint32_t i = 0; i < count; i++)
        if (mr_engine_remove(engine, i) != MR_OK)
            abort();
    return (double)(mr_clock_ns() - started) / count;
}

static void run(const char *workload, uint32_t sub_count, const struct sample *samples,
                uint32_t sample_count)
{
    struct mr_engine *engine;
    struct subs subs = {.programs = calloc(sub_count, sizeof(void *)),
                        .lens = calloc(sub_count, sizeof(uint32_t)),
                        .count = sub_count};
    uint64_t *times = calloc(sample_count, sizeof *times);
    if (!subs.programs || !subs.lens || !times || mr_engine_create(&engine, NULL) != MR_OK)
        abort();
    uint64_t build_started = mr_clock_ns();
    for (uint32_t i = 0; i < sub_count; i++)
        subs.programs[i] = make_program(workload[0] == 'h', &subs.lens[i]);
    double build_ns = (double)(mr_clock_ns() - build_started) / sub_count;
    uint64_t resident = resident_bytes();
    double add_ns = add_all(engine, &subs);
    resident = resident_bytes() - resident;
    uint64_t pairs = 0;
    for (uint32_t i = 0; i < sample_count; i++) /* warm */
        pairs += match_one(engine, &samples[i]);
    uint64_t started = mr_clock_ns();
    for (uint32_t i = 0; i < sample_count; i++)
        (void)match_one(engine, &samples[i]);
    double mean_ns = (double)(mr_clock_ns() - started) / sample_count;
    for (uint32_t i = 0; i < sample_count; i++) {
        uint64_t at = mr_clock_ns();
        (void)match_one(engine, &samples[i]);
        times[i] = mr_clock_ns() - at;
    }
    qsort(times, sample_count, sizeof *times, order_u64);
    struct mr_engine_stats stats;
    mr_engine_stats(engine, &stats);
    double remove_ns = remove_all(engine, sub_count);
    printf("    {\"workload\": \"%s\", \"subscriptions\": %u, \"events_per_s\": %.0f, \"mean_ns\": "
           "%.0f, "
           "\"p50_ns\": %llu, \"p99_ns\": %llu, \"max_ns\": %llu, \"matches_per_event\": %.3f, "
           "\"candidates_per_event\": %.2f, \"build_program_ns\": %.0f, \"add_ns\": %.0f, "
           "\"adds_per_s\": %.0f, \"remove_ns\": %.0f, \"bytes_per_subscription\": %.0f, "
           "\"rss_per_subscription\": %.0f}",
           workload, sub_count, 1e9 / mean_ns, mean_ns, (unsigned long long)times[sample_count / 2],
           (unsigned long long)times[(size_t)sample_count * 99 / 100],
           (unsigned long long)times[sample_count - 1], (double)pairs / sample_count,
           (double)stats.candidates / (double)stats.events, build_ns, add_ns, 1e9 / add_ns,
           remove_ns, (double)stats.bytes / sub_count, (double)resident / sub_count);
    mr_engine_destroy(&engine);
    for (uint32_t i = 0; i < sub_count; i++)
        free(subs.programs[i]);
    free(subs.programs);
    free(subs.lens);
    free(times);
}

int main(int argc, char **argv)
{
    uint32_t count = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 20000;
    static const uint32_t sizes[] = {1000, 10000, 100000, 1000000};
    struct sample *samples = calloc(count + 1, sizeof *samples),
                  *hot = calloc(count + 1, sizeof *hot);
    if (!samples || !hot || count == 0) {
        fprintf(stderr, "usage: bench-match [events]\n");
        return 2;
    }
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        make_document(&samples[i], false);
        make_document(&hot[i], true);
        bytes += samples[i].document.len;
    }
    (void)floor_ns(samples, count, false);
    printf("{\n  \"bench\": \"match\", \"events\": %u, \"document_bytes\": %llu,\n", count,
           (unsigned long long)(bytes / count));
    printf("  \"floor_visit_ns\": {\"millrace\": %.0f, \"libbson\": %.0f},\n  \"runs\": [\n",
           floor_ns(samples, count, false), floor_ns(samples, count, true));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        run("spread", sizes[i], samples, count);
        printf(",\n");
        fflush(stdout);
    }
    run("hot", 10000, hot, count / 4 + 1);
    printf("\n  ]\n}\n");
    return 0;
}
