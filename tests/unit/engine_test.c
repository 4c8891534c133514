/* The engine against the naive evaluator: every subscription on its own with mr_program_matches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "matcher/engine/engine.h"
#include "tests/unit/engine_util.h"

/* ---- a reproducible source of randomness ---- */

static uint64_t random_state;

static uint64_t random_next(void)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint32_t random_below(uint32_t n)
{
    return (uint32_t)(random_next() % n);
}

static void random_seed(const char *what)
{
    const char *text = getenv("MR_TEST_SEED");
    random_state = text ? strtoull(text, NULL, 10) : (uint64_t)time(NULL) * 1000003u;
    printf("%s: rerun with MR_TEST_SEED=%llu\n", what, (unsigned long long)random_state);
}

/* ---- random filters and documents over a small vocabulary, so that they meet often ---- */

static const char *const keys[] = {
    "a", "b", "c", "exactly8", "longer_than_eight", "longer_than_nine_", "0", "1", "_id", ""};
static const char *const paths[] = {"a",
                                    "b",
                                    "c",
                                    "a.a",
                                    "a.b",
                                    "b.0",
                                    "b.1",
                                    "b.0.a",
                                    "c.c.c",
                                    "exactly8",
                                    "_id",
                                    "longer_than_eight",
                                    "longer_than_nine_",
                                    "longer_than_eight.exactly8",
                                    "_id.a",
                                    "a.longer_than_eight.b"};
static const char *const texts[] = {
    "", "x", "y", "xy", "a", "exactly8", "a longer text than sixteen bytes"};
static const char *const ids[] = {"x", "y", "doc-1", ""};
static const char *const databases[] = {"", "db", "*"};
static const char *const collections[] = {"", "orders", "users", "*"};
#define PICK(list) mr_str_from((list)[random_below(sizeof(list) / sizeof *(list))])

static struct mr_const random_scalar(void)
{
    static const double doubles[] = {0.5, -1.0, 2.0, 0x1p63, 1e300, -0.0, 3.0};
    static const int64_t ints[] = {0, 1, 2, 3, -1, INT64_MAX, INT64_MIN, (INT64_C(1) << 53) + 1};
    switch (random_below(6)) {
    case 0:
        return (struct mr_const){.kind = MR_CONST_NULL};
    case 1:
        return (struct mr_const){.kind = MR_CONST_BOOL, .boolean = random_below(2)};
    case 2:
        return (struct mr_const){.kind = MR_CONST_DOUBLE, .number = doubles[random_below(7)]};
    case 3:
        return (struct mr_const){.kind = MR_CONST_INT, .integer = ints[random_below(8)]};
    default:
        return (struct mr_const){.kind = MR_CONST_STRING, .string = PICK(texts)};
    }
}

/* ---- random combinations ---- */

enum { TERMS_MAX = 64, ITEMS_MAX = 5 };
struct terms {
    struct mr_term terms[TERMS_MAX];
    const struct mr_term *children[TERMS_MAX];
    struct mr_const items[TERMS_MAX][ITEMS_MAX];
    uint32_t count, child_count;
};

static struct mr_predicate random_leaf(struct mr_const *items)
{
    bool cel = random_below(2);
    struct mr_predicate p = {.path = PICK(paths),
                             .op = (enum mr_predicate_op)(
                                 1 + random_below((cel ? MR_PRED_CODE : MR_PRED_STATED_END) - 1)),
                             .cel = cel,
                             .value = random_scalar()};
    if (random_below(3) == 0)
        p.op = MR_PRED_EQ;
    for (uint32_t item = 0; item < ITEMS_MAX; item++)
        items[item] = random_scalar();
    if (cel && random_below(16) == 0)
        p.value = (struct mr_const){.kind = MR_CONST_DATE, .integer = random_below(4)};
    if (p.op == MR_PRED_PREFIX || p.op == MR_PRED_NOT_PREFIX)
        p.value = (struct mr_const){.kind = MR_CONST_STRING, .string = PICK(texts)};
    else if (p.op >= MR_PRED_EXISTS)
        p.value = (struct mr_const){.kind = MR_CONST_NULL};
    else if (p.op == MR_PRED_IN || p.op == MR_PRED_NOT_IN || random_below(12) == 0) {
        p.value = (struct mr_const){.kind = MR_CONST_LIST};
        p.value.list.items = items;
        p.value.list.count = random_below(ITEMS_MAX + 1);
    }
    return p;
}

static const struct mr_term *random_term(struct terms *t, uint32_t depth)
{
    uint32_t index = t->count++;
    struct mr_term *term = &t->terms[index];
    uint32_t kind = depth == 0 ? 1 + random_below(2) : random_below(3);
    if (depth >= 3 || kind == 0) {
        *term = (struct mr_term){.kind = MR_TERM_LEAF, .leaf = random_leaf(t->items[index])};
        return term;
    }
    const struct mr_term *children[4];
    uint32_t count = random_below(depth == 0 ? 5 : 4);
    for (uint32_t i = 0; i < count; i++)
        children[i] = random_term(t, t->count + 12 > TERMS_MAX ? 3 : depth + 1);
    *term = (struct mr_term){.kind = kind == 1 ? MR_TERM_AND : MR_TERM_OR,
                             .count = count,
                             .children = &t->children[t->child_count]};
    for (uint32_t i = 0; i < count; i++)
        t->children[t->child_count++] = children[i];
    return term;
}

/* A program of up to four conjuncts, or any combination; what build refuses is drawn again. */
static void *random_program(uint32_t *len)
{
    for (;;) {
        static struct terms t;
        void *bytes;
        t.count = t.child_count = 0;
        const struct mr_term *term = random_term(&t, 0);
        if (mr_program_build_term(PICK(databases), PICK(collections), term, &bytes, len, NULL) ==
            MR_OK)
            return bytes;
    }
}

static void random_value(struct mr_bson_writer *w, struct mr_str key, uint32_t depth);

static void random_level(struct mr_bson_writer *w, bool array, uint32_t depth)
{
    static const char *const indexes[] = {"0", "1", "2", "3", "4", "5"};
    uint32_t count = random_below(6);
    for (uint32_t i = 0; i < count; i++)
        random_value(w, array ? mr_str_from(indexes[i]) : PICK(keys), depth + 1);
    mr_bson_end(w);
}

static void random_value(struct mr_bson_writer *w, struct mr_str key, uint32_t depth)
{
    struct mr_const c = random_scalar();
    uint32_t shape = random_below(depth < 4 ? 14 : 9);
    if (shape >= 12) {
        mr_bson_begin_array(w, key);
        random_level(w, true, depth);
    } else if (shape >= 9) {
        mr_bson_begin_document(w, key);
        random_level(w, false, depth);
    } else if (shape == 8) {
        mr_bson_put_decimal128(w, key, random_below(40),
                               (uint64_t)(0x3040 - 2 * random_below(3)) << 48);
    } else if (shape == 7) {
        mr_bson_put_date_ms(w, key, random_below(4));
    } else if (shape == 6) {
        mr_bson_put_binary(w, key, 0, MR_STR("x"));
    } else if (c.kind == MR_CONST_INT && c.integer < 4 && c.integer >= -1) {
        mr_bson_put_int32(w, key, (int32_t)c.integer);
    } else if (c.kind == MR_CONST_INT) {
        mr_bson_put_int64(w, key, c.integer);
    } else if (c.kind == MR_CONST_DOUBLE) {
        mr_bson_put_double(w, key, c.number);
    } else if (c.kind == MR_CONST_BOOL) {
        mr_bson_put_bool(w, key, c.boolean);
    } else if (c.kind == MR_CONST_STRING) {
        mr_bson_put_string(w, key, c.string);
    } else {
        mr_bson_put_null(w, key);
    }
}

/* A whole document, none at all, or one that was damaged somewhere. */
static struct mr_str random_document(struct mr_bson_writer *w)
{
    mr_bson_writer_reset(w);
    mr_bson_begin(w);
    random_level(w, false, 0);
    struct mr_str doc = mr_bson_bytes(w);
    assert_true(doc.len > 0);
    uint32_t kind = random_below(20);
    if (kind == 0)
        return (struct mr_str){NULL, 0};
    if (kind == 1)
        w->data[random_below((uint32_t)doc.len)] = (uint8_t)random_next();
    if (kind == 2)
        doc.len -= random_below(3);
    return doc;
}

/* ---- the model ---- */

enum { MODEL_MAX = 400 };
struct model_sub {
    void *bytes; /* NULL: free */
    uint32_t len;
};
struct model {
    struct model_sub subs[MODEL_MAX];
};

/* Spread ids over all bytes, so that the sort has something to do. */
static uint64_t model_id(uint32_t index)
{
    return ((uint64_t)index * 37 % MODEL_MAX) << 40 | index;
}

static void model_toggle(struct model *model, struct mr_engine *engine)
{
    uint32_t index = random_below(MODEL_MAX);
    struct model_sub *sub = &model->subs[index];
    if (sub->bytes) {
        assert_int_equal(mr_engine_remove(engine, model_id(index)), MR_OK);
        free(sub->bytes);
        sub->bytes = NULL;
    } else {
        sub->bytes = random_program(&sub->len);
        assert_int_equal(mr_engine_add(engine, model_id(index), sub->bytes, sub->len), MR_OK);
    }
}

static bool name_matches(struct mr_str wanted, struct mr_str name)
{
    return mr_str_equal(wanted, MR_STR("*")) || mr_str_equal(wanted, name);
}

static bool model_matches(const struct model_sub *sub, const struct mr_engine_event *event)
{
    struct mr_program program;
    assert_int_equal(mr_program_load(sub->bytes, sub->len, &program), MR_OK);
    if (event->everyone && event->collection.len == 0)
        return event->database.len == 0 || name_matches(program.database, event->database);
    return name_matches(program.database, event->database) &&
           name_matches(program.collection, event->collection) &&
           (event->everyone || mr_program_matches(&program, event->document.data,
                                                  event->document.len, event->document_id, NULL));
}

/* Returns the number of (subscription, document) checks. */
static uint64_t check_event(const struct model *model, struct mr_engine *engine,
                            const struct mr_engine_event *event)
{
    const uint64_t *found;
    uint64_t checks = 0;
    uint32_t count = mr_engine_match(engine, event, &found), expected = 0;
    for (uint32_t i = 1; i < count; i++)
        assert_true(found[i - 1] < found[i]);
    for (uint32_t index = 0; index < MODEL_MAX; index++) {
        if (!model->subs[index].bytes)
            continue;
        checks++;
        bool in = false;
        for (uint32_t i = 0; i < count; i++)
            in |= found[i] == model_id(index);
        bool wanted = model_matches(&model->subs[index], event);
        if (in != wanted)
            fail_msg("subscription %u: engine says %d, naive evaluator %d", index, in, wanted);
        expected += wanted;
    }
    assert_int_equal(count, expected);
    return checks;
}

static struct mr_engine_event random_event(struct mr_bson_writer *w)
{
    return (struct mr_engine_event){.database = PICK(databases),
                                    .collection = PICK(collections),
                                    .document_id = PICK(ids),
                                    .document = random_document(w),
                                    .everyone = random_below(50) == 0};
}

static struct mr_engine *engine_new(void)
{
    struct mr_engine *engine;
    assert_int_equal(mr_engine_create(&engine, NULL), MR_OK);
    return engine;
}

/* MILLRACE_TEST_EVENTS: how many pairs of a set of subscriptions and a document. */
static void random_sets_match_as_the_naive_evaluator_says(void **state)
{
    (void)state;
    random_seed("random sets");
    const char *text = getenv("MILLRACE_TEST_EVENTS");
    uint64_t wanted = text ? strtoull(text, NULL, 10) : 4200, events = 0;
    struct mr_bson_writer w;
    mr_bson_writer_init(&w);
    uint64_t checks = 0;
    while (events < wanted) {
        struct model model = {0};
        struct mr_engine *engine = engine_new();
        for (uint32_t step = 0; step < 600; step++) {
            model_toggle(&model, engine);
            if (step < 250)
                continue;
            struct mr_engine_event event = random_event(&w);
            checks += check_event(&model, engine, &event);
            events++;
        }
        for (uint32_t i = 0; i < MODEL_MAX; i++)
            free(model.subs[i].bytes);
        mr_engine_destroy(&engine);
        assert_null(engine);
    }
    printf("%llu sets and documents, %llu subscriptions checked\n", (unsigned long long)events,
           (unsigned long long)checks);
    assert_true(checks >= events * 24);
    mr_bson_writer_fini(&w);
}

static void what_grew_step_by_step_matches_as_what_is_built_at_once(void **state)
{
    (void)state;
    random_seed("incremental");
    struct mr_bson_writer w;
    mr_bson_writer_init(&w);
    struct model model = {0};
    struct mr_engine *grown = engine_new(), *fresh = engine_new();
    for (uint32_t step = 0; step < 5000; step++)
        model_toggle(&model, grown);
    for (uint32_t i = 0; i < MODEL_MAX; i++)
        if (model.subs[i].bytes)
            assert_int_equal(
                mr_engine_add(fresh, model_id(i), model.subs[i].bytes, model.subs[i].len), MR_OK);
    struct mr_engine_stats a, b;
    mr_engine_stats(grown, &a);
    mr_engine_stats(fresh, &b);
    assert_int_equal(a.subscriptions, b.subscriptions);
    assert_int_equal(a.filters, b.filters);
    for (uint32_t step = 0; step < 2000; step++) {
        struct mr_engine_event event = random_event(&w);
        const uint64_t *left, *right;
        uint32_t count = mr_engine_match(grown, &event, &left);
        assert_int_equal(mr_engine_match(fresh, &event, &right), count);
        for (uint32_t i = 0; i < count; i++)
            assert_int_equal(left[i], right[i]);
    }
    for (uint32_t i = 0; i < MODEL_MAX; i++)
        free(model.subs[i].bytes);
    mr_engine_destroy(&grown);
    mr_engine_destroy(&fresh);
    mr_bson_writer_fini(&w);
}

/* ---- single facts ---- */

static void a_delete_without_document_reaches_collection_and_id_subscriptions_only(void **state)
{
    (void)state;
    struct mr_engine *engine = engine_new();
    struct mr_predicate by_id = equals("_id", "o-1"), by_field = equals("status", "paid");
    struct mr_predicate not_field = by_field;
    not_field.op = MR_PRED_NE;
    add_one(engine, 4, NULL, 0);
    add_one(engine, 3, &by_id, 1);
    add_one(engine, 2, &by_field, 1);
    add_one(engine, 1, &not_field, 1);
    struct mr_engine_event event = {
        .database = MR_STR("db"), .collection = MR_STR("orders"), .document_id = MR_STR("o-1")};
    const uint64_t *found;
    assert_int_equal(mr_engine_match(engine, &event, &found), 2);
    assert_int_equal(found[0], 3);
    assert_int_equal(found[1], 4);
    event.everyone = true;
    assert_int_equal(mr_engine_match(engine, &event, &found), 4);
    mr_engine_destroy(&engine);
}

static void equal_filters_are_stored_once(void **state)
{
    (void)state;
    struct mr_engine *engine = engine_new();
    struct mr_predicate p[2] = {equals("status", "paid"), equals("user", "u1")};
    for (uint64_t id = 0; id < 1000; id++)
        add_one(engine, id, p, 2);
    struct mr_engine_stats stats;
    mr_engine_stats(engine, &stats);
    assert_int_equal(stats.subscriptions, 1000);
    assert_int_equal(stats.filters, 1);
    for (uint64_t id = 0; id < 1000; id += 2)
        assert_int_equal(mr_engine_remove(engine, id), MR_OK);
    assert_int_equal(mr_engine_remove(engine, 0), MR_AGAIN);
    mr_engine_stats(engine, &stats);
    assert_int_equal(stats.subscriptions, 500);
    mr_engine_destroy(&engine);
}

static void bytes_that_are_no_program_and_ids_in_use_are_refused(void **state)
{
    (void)state;
    struct mr_engine *engine = engine_new();
    void *bytes;
    uint32_t len;
    assert_int_equal(mr_engine_add(engine, 1, "junk", 4), MR_CORRUPT);
    assert_int_equal(mr_program_build(MR_STR("db"), MR_STR("c"), NULL, 0, &bytes, &len, NULL),
                     MR_OK);
    assert_int_equal(mr_engine_add(engine, 1, bytes, len), MR_OK);
    assert_int_equal(mr_engine_add(engine, 1, bytes, len), MR_USAGE);
    assert_int_equal(mr_engine_add(engine, 2, bytes, len - 8), MR_CORRUPT);
    free(bytes);
    assert_int_equal(mr_engine_remove(engine, 1), MR_OK);
    mr_engine_destroy(&engine);
}

static void memory_comes_back_when_subscriptions_go(void **state)
{
    (void)state;
    struct mr_engine *engine = engine_new();
    struct mr_engine_stats empty, full, after;
    mr_engine_stats(engine, &empty);
    for (int cycle = 0; cycle < 3; cycle++) {
        for (uint64_t id = 0; id < 20000; id++) {
            char user[32];
            snprintf(user, sizeof user, "user-%llu", (unsigned long long)id);
            struct mr_predicate p[2] = {equals(id % 3 ? "user" : "author.id", user),
                                        equals("status", "paid")};
            add_one(engine, id, p, 2);
        }
        mr_engine_stats(engine, &full);
        assert_true(full.bytes > 20000 * 100);
        for (uint64_t id = 0; id < 20000; id++)
            assert_int_equal(mr_engine_remove(engine, id * 7919 % 20000), MR_OK);
        mr_engine_stats(engine, &after);
        assert_int_equal(after.filters, 0);
        assert_true(after.bytes < empty.bytes + 32 * 1024); /* the scratch of one event */
    }
    mr_engine_destroy(&engine);
}

static void filters_on_one_key_are_told_apart_by_their_other_conditions(void **state)
{
    (void)state;
    struct mr_engine *engine = engine_new();
    struct mr_predicate p[2] = {equals("user", "u1"), equals("", "")};
    char path[16];
    for (uint64_t id = 0; id < 10; id++) {
        snprintf(path, sizeof path, "f%llu", (unsigned long long)id);
        p[1] = equals(path, "x");
        p[1].op = MR_PRED_NE;
        add_one(engine, id, p, 2);
    }
    struct mr_bson_writer w;
    mr_bson_writer_init(&w);
    mr_bson_begin(&w);
    mr_bson_put_string(&w, MR_STR("user"), MR_STR("u1"));
    mr_bson_put_string(&w, MR_STR("f3"), MR_STR("y"));
    mr_bson_end(&w);
    struct mr_engine_event event = {.database = MR_STR("db"),
                                    .collection = MR_STR("orders"),
                                    .document_id = MR_STR("o"),
                                    .document = mr_bson_bytes(&w)};
    const uint64_t *found;
    assert_int_equal(mr_engine_match(engine, &event, &found), 1);
    assert_int_equal(found[0], 3);
    struct mr_engine_stats stats;
    mr_engine_stats(engine, &stats);
    assert_int_equal(stats.candidates, 10);
    mr_bson_writer_fini(&w);
    mr_engine_destroy(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_sets_match_as_the_naive_evaluator_says),
        cmocka_unit_test(what_grew_step_by_step_matches_as_what_is_built_at_once),
        cmocka_unit_test(a_delete_without_document_reaches_collection_and_id_subscriptions_only),
        cmocka_unit_test(equal_filters_are_stored_once),
        cmocka_unit_test(bytes_that_are_no_program_and_ids_in_use_are_refused),
        cmocka_unit_test(memory_comes_back_when_subscriptions_go),
        cmocka_unit_test(filters_on_one_key_are_told_apart_by_their_other_conditions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
