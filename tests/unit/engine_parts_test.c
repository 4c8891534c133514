/* The engine's parts on their own: code that misbehaves, Bloom filters, intervals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cel/normalise.h"
#include "matcher/engine/engine.h"
#include "matcher/engine/table.h"
#include "tests/unit/engine_util.h"

static uint32_t random_below(uint32_t n)
{
    static uint64_t state = 20261121;
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((z ^ z >> 31) % n);
}

static struct mr_engine *engine_new(void)
{
    struct mr_engine *engine;
    assert_int_equal(mr_engine_create(&engine, NULL), MR_OK);
    return engine;
}

static void add_cel(struct mr_engine *engine, uint64_t id, const char *text)
{
    struct mr_program_compiler *compiler;
    const struct mr_program_source source = {MR_STR("db"), MR_STR("orders"), NULL, 0,
                                             mr_str_from(text)};
    void *bytes;
    uint32_t len;
    assert_int_equal(mr_program_compiler_create(&compiler, NULL), MR_OK);
    assert_int_equal(mr_program_compile(compiler, &source, &bytes, &len, NULL), MR_OK);
    assert_int_equal(mr_engine_add(engine, id, bytes, len), MR_OK);
    free(bytes);
    mr_program_compiler_destroy(&compiler);
}

static struct mr_str list_document(struct mr_bson_writer *w)
{
    mr_bson_writer_init(w);
    mr_bson_begin(w);
    mr_bson_put_int32(w, MR_STR("n"), 1);
    mr_bson_begin_array(w, MR_STR("l"));
    for (int i = 0; i < 200; i++) {
        char key[8];
        snprintf(key, sizeof key, "%d", i);
        mr_bson_put_int32(w, mr_str_from(key), i);
    }
    mr_bson_end(w);
    mr_bson_end(w);
    return mr_bson_bytes(w);
}

static void code_that_fails_again_and_again_is_quarantined_alone(void **state)
{
    (void)state;
    struct mr_engine *engine = engine_new();
    struct mr_bson_writer w;
    const struct mr_engine_event event = {.database = MR_STR("db"),
                                          .collection = MR_STR("orders"),
                                          .document_id = MR_STR("o"),
                                          .document = list_document(&w)};
    add_cel(engine, 1, "doc.n / 0 == 1");
    add_cel(engine, 2, "doc.l.all(a, doc.l.all(b, doc.l.all(c, a + b + c >= 0)))");
    add_cel(engine, 3, "doc.missing.exists(x, x > 1) || doc.none + 1 == 2");
    add_cel(engine, 4, "doc.n % 2 == 1");
    add_cel(engine, 5, "doc.n % 2 == 1 && doc.l.exists(x, x == 7)");
    uint64_t offender, offenders = 0;
    for (int i = 0; i < MR_ENGINE_ERRORS_MAX + 10; i++) {
        const uint64_t *found;
        assert_int_equal(mr_engine_match(engine, &event, &found), 2);
        assert_true(found[0] == 4 && found[1] == 5);
        bool budget;
        while (mr_engine_offender(engine, &offender, &budget)) {
            offenders |= UINT64_C(1) << offender;
            assert_int_equal(budget, offender == 2);
        }
    }
    assert_int_equal(offenders, 1 << 1 | 1 << 2); /* a field that is missing is no offence */
    struct mr_engine_stats stats;
    mr_engine_stats(engine, &stats);
    assert_int_equal(stats.quarantined, 2);
    for (uint64_t id = 1; id <= 5; id++)
        assert_int_equal(mr_engine_remove(engine, id), MR_OK);
    mr_engine_stats(engine, &stats);
    assert_int_equal(stats.quarantined, 0);
    mr_bson_writer_fini(&w);
    mr_engine_destroy(&engine);
}

static uint32_t match_user(struct mr_engine *engine, uint32_t user)
{
    char text[24];
    struct mr_bson_writer w;
    const uint64_t *found;
    mr_bson_writer_init(&w);
    mr_bson_begin(&w);
    mr_bson_put_string(&w, MR_STR("user"),
                       (struct mr_str){text, (size_t)snprintf(text, sizeof text, "user-%u", user)});
    mr_bson_end(&w);
    const struct mr_engine_event event = {.database = MR_STR("db"),
                                          .collection = MR_STR("orders"),
                                          .document_id = MR_STR("o"),
                                          .document = mr_bson_bytes(&w)};
    uint32_t count = mr_engine_match(engine, &event, &found);
    mr_bson_writer_fini(&w);
    return count;
}

static void bloom_filters_turn_away_what_is_not_there_and_nothing_else(void **state)
{
    (void)state;
    enum { USERS = 20000 };
    struct mr_engine *engine = engine_new();
    struct mr_engine_stats stats;
    mr_engine_set_bloom(engine, true);
    for (uint32_t i = 0; i < USERS; i++) {
        char user[24];
        snprintf(user, sizeof user, "user-%u", i);
        struct mr_predicate p = equals("user", user);
        add_one(engine, i, &p, 1);
    }
    mr_engine_stats(engine, &stats);
    uint64_t built = stats.bloom_rebuilds;
    assert_true(stats.bloom_bytes > 0);
    for (uint32_t i = 0; i < USERS; i += 2)
        assert_int_equal(mr_engine_remove(engine, i), MR_OK);
    mr_engine_stats(engine, &stats);
    assert_true(stats.bloom_rebuilds > built); /* they had aged */
    for (uint32_t i = 0; i < USERS; i++)
        assert_int_equal(match_user(engine, i), i % 2);
    mr_engine_stats(engine, &stats);
    uint64_t rejected = stats.bloom_rejected, wrong = stats.bloom_false;
    for (uint32_t i = USERS; i < USERS * 3; i++) /* who never was there */
        assert_int_equal(match_user(engine, i), 0);
    mr_engine_stats(engine, &stats);
    wrong = stats.bloom_false - wrong;
    uint64_t missing = stats.bloom_rejected - rejected + wrong;
    assert_int_equal(missing, USERS * 2);
    assert_true(wrong * 100 < missing);
    printf("%llu of %llu false\n", (unsigned long long)wrong, (unsigned long long)missing);
    for (uint32_t i = 1; i < USERS; i += 2)
        assert_int_equal(mr_engine_remove(engine, i), MR_OK);
    mr_engine_stats(engine, &stats);
    assert_int_equal(stats.bloom_bytes, 0);
    mr_engine_destroy(&engine);
}

/* MILLRACE_TEST_LOOKUPS: how many. */
static void what_is_in_a_table_passes_its_bloom_filters_whatever_comes_and_goes(void **state)
{
    (void)state;
    enum { KEYS = 1 << 16, LOOKUPS_A_CHANGE = 8 };
    const char *text = getenv("MILLRACE_TEST_LOOKUPS");
    uint64_t lookups = text ? strtoull(text, NULL, 10) : 1000000, passed = 0, missing = 0;
    struct mr_bloom_stats stats = {0};
    struct mr_table table = {.bloom = true};
    struct mr_heap heap;
    bool *there = calloc(KEYS, sizeof *there);
    assert_non_null(there);
    assert_int_equal(mr_heap_init(&heap, NULL), MR_OK);
    for (uint64_t done = 0; done < lookups;) {
        uint32_t key = random_below(KEYS), hash = key * UINT32_C(0x9e3779b1);
        /* Waves of more that come and more that go. */
        bool wanted = random_below(16) < (done / (lookups / 8 + 1) % 2 ? 3 : 13);
        if (there[key] && !wanted) {
            mr_table_remove(&table, &heap, hash, key + 1, &stats);
        } else if (!there[key] && wanted) {
            assert_true(mr_table_reserve(&table, &heap, hash, &stats));
            mr_table_put(&table, &heap, hash, key + 1);
        }
        there[key] = wanted;
        for (int i = 0; i < LOOKUPS_A_CHANGE; i++) {
            key = random_below(2 * KEYS); /* half of them never come */
            hash = key * UINT32_C(0x9e3779b1);
            const struct mr_table_part *part = mr_table_part(&table, &heap, hash);
            if (!part || !part->blocks)
                continue;
            bool has = mr_bloom_has(part, hash);
            done++;
            if (key < KEYS) { /* what has gone may pass until the filter is built anew */
                assert_true(has || !there[key]);
                continue;
            }
            missing++;
            passed += has;
        }
    }
    printf("%llu of %llu false, %llu rebuilds\n", (unsigned long long)passed,
           (unsigned long long)missing, (unsigned long long)stats.rebuilds);
    assert_true(missing > 0 && passed * 100 < missing);
    mr_table_fini(&table, &heap, &stats);
    assert_int_equal(stats.bytes, 0);
    mr_heap_fini(&heap);
    free(there);
}

static void thousands_of_overlapping_intervals_are_found_and_forgotten(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    static double low[COUNT], high[COUNT];
    struct mr_engine *engine = engine_new();
    struct mr_bson_writer w;
    mr_bson_writer_init(&w);
    for (uint32_t i = 0; i < COUNT; i++) {
        low[i] = i % 5 == 0 ? -__builtin_inf() : random_below(1000);
        high[i] = i % 5 == 1 ? __builtin_inf() : random_below(1000) + (i % 3 ? 0.5 : 0);
        struct mr_predicate p[2] = {equals("x", ""), equals("x", "")};
        p[0].op = MR_PRED_GE;
        p[1].op = MR_PRED_LT;
        p[0].value = (struct mr_const){.kind = MR_CONST_DOUBLE, .number = low[i]};
        p[1].value = (struct mr_const){.kind = MR_CONST_DOUBLE, .number = high[i]};
        add_one(engine, i, p, 2);
    }
    for (uint32_t removed = 0; removed <= COUNT; removed += 500) {
        for (uint32_t x = 0; x < 1010; x += 3) {
            mr_bson_writer_reset(&w);
            mr_bson_begin(&w);
            mr_bson_put_double(&w, MR_STR("x"), x);
            mr_bson_end(&w);
            const struct mr_engine_event event = {.database = MR_STR("db"),
                                                  .collection = MR_STR("orders"),
                                                  .document = mr_bson_bytes(&w)};
            const uint64_t *found;
            uint32_t count = mr_engine_match(engine, &event, &found), at = 0;
            for (uint32_t i = removed; i < COUNT; i++)
                if (x >= low[i] && x < high[i])
                    assert_true(at < count && found[at++] == i);
            assert_int_equal(at, count);
        }
        for (uint32_t i = removed; i < removed + 500 && i < COUNT; i++)
            assert_int_equal(mr_engine_remove(engine, i), MR_OK);
    }
    mr_bson_writer_fini(&w);
    mr_engine_destroy(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(code_that_fails_again_and_again_is_quarantined_alone),
        cmocka_unit_test(bloom_filters_turn_away_what_is_not_there_and_nothing_else),
        cmocka_unit_test(what_is_in_a_table_passes_its_bloom_filters_whatever_comes_and_goes),
        cmocka_unit_test(thousands_of_overlapping_intervals_are_found_and_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
