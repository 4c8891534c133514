/* Enter and leave, against a model that keeps every document: whoever keeps a result set by what is
 * told of transitions alone has exactly what the model has, after every event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "cel/normalise.h"
#include "matcher/engine/watch.h"

enum { DOCUMENTS = 40, SUBSCRIPTIONS = 64, A_VALUES = 4, B_VALUES = 20, STEPS = 40000 };

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((z ^ z >> 31) % n);
}

static void random_seed(void)
{
    const char *text = getenv("MR_TEST_SEED");
    random_state = text ? strtoull(text, NULL, 10) : (uint64_t)time(NULL) * 1000003u;
    printf("rerun with MR_TEST_SEED=%llu\n", (unsigned long long)random_state);
}

static uint32_t steps_wanted(void)
{
    const char *text = getenv("MR_TEST_STEPS");
    return text ? (uint32_t)strtoul(text, NULL, 10) : STEPS;
}

/* ---- the model ---- */

struct document {
    bool there;
    int32_t a, b; /* negative: the field is missing */
};

enum filter_kind { A_IS, B_WITHIN, A_IS_AND_B_ABOVE, A_IN_OR_B_IS, ALL, BY_ID, FILTER_KINDS };
struct subscription {
    bool there, moves;
    enum filter_kind kind;
    int32_t x, y;
    bool set[DOCUMENTS]; /* as told */
};

struct world {
    struct mr_watch *watch;
    struct mr_program_compiler *compiler;
    struct document documents[DOCUMENTS];
    struct subscription subscriptions[SUBSCRIPTIONS];
    struct mr_bson_writer before, after;
    uint64_t checked;
};

static bool holds(const struct subscription *s, uint32_t id, const struct document *d)
{
    switch (s->kind) {
    case A_IS:
        return d->a == s->x;
    case B_WITHIN:
        return d->b >= 0 && d->b >= s->y && d->b < s->y + 5;
    case A_IS_AND_B_ABOVE:
        return d->a == s->x && d->b >= 0 && d->b > s->y;
    case A_IN_OR_B_IS:
        return d->a == s->x || d->a == (s->x + 1) % A_VALUES || d->b == s->y;
    case BY_ID:
        return id == (uint32_t)s->y;
    default:
        return true;
    }
}

static void put_expression(const struct subscription *s, char text[200])
{
    /* Half of the filters of the first kind are code, so that both ways of the engine are met. */
    int len = 0;
    switch (s->kind) {
    case A_IS:
        len = snprintf(text, 200, s->y % 2 ? "doc.a == %d" : "doc.a + 1 == %d + 1", s->x);
        break;
    case B_WITHIN:
        len = snprintf(text, 200, "doc.b >= %d && doc.b < %d", s->y, s->y + 5);
        break;
    case A_IS_AND_B_ABOVE:
        len = snprintf(text, 200, "doc.a == %d && doc.b > %d", s->x, s->y);
        break;
    case A_IN_OR_B_IS:
        len = snprintf(text, 200, "doc.a in [%d, %d] || doc.b == %d", s->x, (s->x + 1) % A_VALUES,
                       s->y);
        break;
    default:
        len = snprintf(text, 200, "true");
        break;
    }
    assert_true(len > 0 && len < 200);
}

static struct mr_str id_text(uint32_t id, char text[16])
{
    return (struct mr_str){text, (size_t)snprintf(text, 16, "doc-%u", id)};
}

static void subscribe(struct world *w, uint32_t number)
{
    struct subscription *s = &w->subscriptions[number];
    *s = (struct subscription){.there = true,
                               .moves = random_below(3) > 0,
                               .kind = (enum filter_kind)random_below(FILTER_KINDS),
                               .x = (int32_t)random_below(A_VALUES),
                               .y = (int32_t)random_below(B_VALUES)};
    char text[200], id[16];
    put_expression(s, text);
    const struct mr_predicate by_id = {
        .path = MR_STR("_id"),
        .op = MR_PRED_EQ,
        .value = {.kind = MR_CONST_STRING, .string = id_text((uint32_t)s->y, id)}};
    const struct mr_program_source source = {.database = MR_STR("db"),
                                             .collection = MR_STR("orders"),
                                             .predicates = &by_id,
                                             .predicate_count = s->kind == BY_ID,
                                             .cel = mr_str_from(s->kind == BY_ID ? "" : text)};
    void *program;
    uint32_t len;
    assert_int_equal(mr_program_compile(w->compiler, &source, &program, &len, NULL), MR_OK);
    assert_int_equal(
        mr_watch_add(w->watch, number, s->moves ? MR_SUBSCRIBE_TRANSITIONS : 0, program, len),
        MR_OK);
    free(program);
    for (uint32_t i = 0; i < DOCUMENTS; i++) /* it has read the collection before */
        s->set[i] = w->documents[i].there && holds(s, i, &w->documents[i]);
}

static void change_subscriptions(struct world *w)
{
    uint32_t number = random_below(SUBSCRIPTIONS);
    if (!w->subscriptions[number].there) {
        subscribe(w, number);
        return;
    }
    assert_int_equal(mr_watch_remove(w->watch, number), MR_OK);
    assert_int_equal(mr_watch_remove(w->watch, number), MR_AGAIN);
    w->subscriptions[number].there = false;
}

static struct mr_str write_document(struct mr_bson_writer *w, const struct document *d)
{
    mr_bson_writer_reset(w);
    mr_bson_begin(w);
    if (d->a >= 0)
        mr_bson_put_int32(w, MR_STR("a"), d->a);
    if (d->b >= 0)
        mr_bson_put_int32(w, MR_STR("b"), d->b);
    mr_bson_end(w);
    return mr_bson_bytes(w);
}

/* ---- an event and what is told of it ---- */

struct change {
    uint32_t id;
    enum mr_operation op;
    uint8_t flags;
    struct document old, new; /* there: false: no document on this side */
    bool with_before, with_after;
};

/* What a matcher is given. */
static struct mr_event make_event(struct world *w, const struct change *c, char id[16])
{
    struct mr_event event = {.database = MR_STR("db"), .collection = MR_STR("orders")};
    event.head.op = (uint8_t)c->op;
    event.head.flags = c->flags;
    if (c->op == MR_OP_TRUNCATE)
        return event;
    event.document_id = id_text(c->id, id);
    if (c->with_before)
        event.before = write_document(&w->before, &c->old);
    if (c->with_after)
        event.document = write_document(&w->after, &c->new);
    else if (c->op == MR_OP_DELETE && c->with_before)
        event.document = event.before; /* as sources do */
    return event;
}

static void check_moving(struct subscription *s, uint32_t number, const struct change *c,
                         enum mr_transition told)
{
    bool was = c->old.there && holds(s, c->id, &c->old),
         is = c->new.there &&holds(s, c->id, &c->new);
    bool known = c->op == MR_OP_INSERT || c->with_before;
    enum mr_transition expected = MR_TRANSITION_NONE;
    if (!known)
        expected = is ? MR_TRANSITION_UNKNOWN : MR_TRANSITION_NONE;
    else if (was && is)
        expected = MR_TRANSITION_STAY;
    else if (was)
        expected = MR_TRANSITION_LEAVE;
    else if (is)
        expected = MR_TRANSITION_ENTER;
    if (c->op == MR_OP_DELETE && !known) /* by the id alone, or by nothing */
        expected = s->kind == ALL || (s->kind == BY_ID && (uint32_t)s->y == c->id)
                       ? MR_TRANSITION_UNKNOWN
                       : MR_TRANSITION_NONE;
    if (told != expected)
        fail_msg("subscription %u of kind %d: told %d of document %u, expected %d (op %d)", number,
                 s->kind, told, c->id, expected, c->op);
    if (told == MR_TRANSITION_ENTER || told == MR_TRANSITION_UNKNOWN)
        s->set[c->id] = c->op != MR_OP_DELETE;
    else if (told == MR_TRANSITION_LEAVE)
        s->set[c->id] = false;
}

static void deliver(struct world *w, const struct change *c)
{
    char id[16];
    struct mr_event event = make_event(w, c, id);
    const uint64_t *ids;
    uint32_t count = mr_watch_match(w->watch, &event, &ids), at = 0;
    for (uint32_t i = 1; i < count; i++)
        assert_true(mr_match_id(ids[i - 1]) < mr_match_id(ids[i]));
    for (uint32_t i = 0; i < SUBSCRIPTIONS; i++) {
        struct subscription *s = &w->subscriptions[i];
        bool there = at < count && mr_match_id(ids[at]) == i;
        uint32_t tag = there ? mr_match_tag(ids[at++]) : 0;
        assert_int_equal(tag & ~(uint32_t)MR_TAG_TRANSITION, 0);
        if (!s->there) {
            assert_false(there);
        } else if (c->op == MR_OP_TRUNCATE) {
            assert_true(there);
            assert_int_equal(tag, s->moves ? MR_TRANSITION_LEAVE : MR_TRANSITION_NONE);
            memset(s->set, 0, sizeof s->set);
        } else if (s->moves) {
            assert_int_equal(there, tag != MR_TRANSITION_NONE);
            check_moving(s, i, c, (enum mr_transition)tag);
        } else {
            assert_int_equal(tag, 0);
            const struct document none = {.a = -1, .b = -1};
            const struct document *seen = c->with_after                             ? &c->new
                                          : c->op == MR_OP_DELETE && c->with_before ? &c->old
                                                                                    : &none;
            assert_int_equal(there, holds(s, c->id, seen));
        }
        w->checked++;
    }
    assert_int_equal(at, count);
}

static struct document random_document(void)
{
    return (struct document){.there = true,
                             .a = (int32_t)random_below(A_VALUES + 1) - 1,
                             .b = (int32_t)random_below(B_VALUES + 1) - 1};
}

/* images: the source sends the one before. */
static void step(struct world *w, bool images)
{
    struct change c = {.id = random_below(DOCUMENTS)};
    c.old = w->documents[c.id];
    if (random_below(500) == 0) {
        c.op = MR_OP_TRUNCATE;
        memset(w->documents, 0, sizeof w->documents);
        deliver(w, &c);
        return;
    }
    if (c.old.there && random_below(4) == 0) {
        c.op = MR_OP_DELETE;
        c.with_before = images;
        c.flags = images ? 0 : MR_EVENT_KEY_ONLY;
    } else {
        c.op = MR_OP_INSERT;
        if (c.old.there)
            c.op = random_below(2) ? MR_OP_UPDATE : MR_OP_REPLACE;
        c.new = random_document();
        c.with_after = true;
        c.with_before = c.old.there && images;
    }
    w->documents[c.id] = c.new;
    deliver(w, &c);
}

static void world_open(struct world *w)
{
    memset(w, 0, sizeof *w);
    random_seed();
    assert_int_equal(mr_watch_create(&w->watch, NULL), MR_OK);
    assert_int_equal(mr_program_compiler_create(&w->compiler, NULL), MR_OK);
    mr_bson_writer_init(&w->before);
    mr_bson_writer_init(&w->after);
}

static void world_close(struct world *w)
{
    mr_bson_writer_fini(&w->before);
    mr_bson_writer_fini(&w->after);
    mr_program_compiler_destroy(&w->compiler);
    mr_watch_destroy(&w->watch);
}

static void what_is_told_keeps_every_result_set_as_the_model_has_it(void **state)
{
    (void)state;
    static struct world w;
    world_open(&w);
    for (uint32_t i = 0, steps = steps_wanted(); i < steps; i++) {
        if (random_below(8) == 0)
            change_subscriptions(&w);
        step(&w, true);
        if (i % 64 > 0)
            continue;
        for (uint32_t n = 0; n < SUBSCRIPTIONS; n++)
            for (uint32_t d = 0;
                 w.subscriptions[n].there && w.subscriptions[n].moves && d < DOCUMENTS; d++)
                assert_int_equal(w.subscriptions[n].set[d],
                                 w.documents[d].there &&
                                     holds(&w.subscriptions[n], d, &w.documents[d]));
    }
    struct mr_engine_stats stats;
    mr_watch_stats(w.watch, &stats);
    assert_int_equal(stats.events, steps_wanted());
    printf("%llu pairs of event and subscription\n", (unsigned long long)w.checked);
    world_close(&w);
}

static void without_images_what_is_not_known_is_called_so(void **state)
{
    (void)state;
    static struct world w;
    world_open(&w);
    for (uint32_t i = 0, steps = steps_wanted() / 4; i < steps; i++) {
        if (random_below(8) == 0)
            change_subscriptions(&w);
        step(&w, random_below(2));
    }
    world_close(&w);
}

/* ---- single events ---- */

static uint32_t told(struct mr_watch *watch, const struct mr_event *event)
{
    const uint64_t *ids;
    uint32_t count = mr_watch_match(watch, event, &ids);
    assert_true(count <= 1);
    return count == 1 ? mr_match_tag(ids[0]) : 0;
}

static void soft_deletes_leave_and_come_back(void **state)
{
    (void)state;
    static struct world w;
    world_open(&w);
    do {
        if (w.subscriptions[0].there)
            assert_int_equal(mr_watch_remove(w.watch, 0), MR_OK);
        subscribe(&w, 0);
    } while (!w.subscriptions[0].moves || w.subscriptions[0].kind != A_IS);
    const struct document in = {true, w.subscriptions[0].x, 1},
                          out = {true, (in.a + 1) % A_VALUES, 1};
    struct mr_event event = {.database = MR_STR("db"), .collection = MR_STR("orders")};
    event.document_id = MR_STR("doc-1");
    event.head.op = MR_OP_DELETE;
    event.head.flags = MR_EVENT_SOFT;
    event.before = write_document(&w.before, &in);
    event.document = write_document(&w.after, &in);
    assert_int_equal(told(w.watch, &event), MR_TRANSITION_LEAVE);
    event.before = write_document(&w.before, &out);
    assert_int_equal(told(w.watch, &event), 0); /* it was not in the set */
    event.before = (struct mr_str){NULL, 0};
    assert_int_equal(told(w.watch, &event), MR_TRANSITION_UNKNOWN);
    event.head.op = MR_OP_INSERT;
    event.before = write_document(&w.before, &in);
    assert_int_equal(told(w.watch, &event), MR_TRANSITION_ENTER); /* what was deleted was in none */
    event.head.op = MR_OP_UPDATE;
    event.head.flags = 0;
    event.document = (struct mr_str){NULL, 0};
    assert_int_equal(told(w.watch, &event), MR_TRANSITION_UNKNOWN); /* only what it was is known */
    event.head.op = MR_OP_GAP;
    event.document_id = event.before = event.document;
    assert_int_equal(told(w.watch, &event), MR_TRANSITION_UNKNOWN);
    world_close(&w);
}

static void offenders_are_among_the_ids_once(void **state)
{
    (void)state;
    struct mr_watch *watch;
    struct mr_program_compiler *compiler;
    static const char *const texts[] = {"doc.a / 0 == 1", "doc.a / 0 == 1", "doc.a == 1",
                                        "doc.a == 1 || doc.a / 0 == 2",
                                        "doc.a / 0 == 1 && doc.a == 1"};
    enum { COUNT = sizeof texts / sizeof *texts };
    uint32_t reports[COUNT + 1] = {0}, matches[COUNT + 1] = {0};
    assert_int_equal(mr_watch_create(&watch, NULL), MR_OK);
    assert_int_equal(mr_program_compiler_create(&compiler, NULL), MR_OK);
    for (uint32_t i = 0; i < COUNT; i++) {
        const struct mr_program_source source = {MR_STR("db"), MR_STR("orders"), NULL, 0,
                                                 mr_str_from(texts[i])};
        void *program;
        uint32_t len;
        assert_int_equal(mr_program_compile(compiler, &source, &program, &len, NULL), MR_OK);
        assert_int_equal(
            mr_watch_add(watch, i + 1, i % 2 ? MR_SUBSCRIBE_TRANSITIONS : 0, program, len), MR_OK);
        free(program);
    }
    struct mr_bson_writer w;
    mr_bson_writer_init(&w);
    const struct document in = {true, 1, 1};
    struct mr_event event = {.database = MR_STR("db"), .collection = MR_STR("orders")};
    event.head.op = MR_OP_INSERT;
    event.document = write_document(&w, &in);
    enum { EVENTS = MR_ENGINE_ERRORS_MAX + 100 };
    for (uint32_t i = 0; i < EVENTS; i++) {
        const uint64_t *ids;
        uint32_t count = mr_watch_match(watch, &event, &ids);
        for (uint32_t j = 0; j < count; j++) {
            uint32_t tag = mr_match_tag(ids[j]);
            reports[mr_match_id(ids[j])] += (tag & MR_TAG_QUARANTINED) != 0;
            matches[mr_match_id(ids[j])] += (tag & MR_TAG_ALONE) == 0;
            assert_false(tag & MR_TAG_BUDGET);
        }
    }
    assert_int_equal(reports[1], 1);
    assert_int_equal(reports[2], 1);
    assert_int_equal(reports[3], 0);
    assert_int_equal(reports[5], 1);
    assert_int_equal(matches[1] + matches[2] + matches[5], 0);
    assert_int_equal(matches[3], EVENTS);
    assert_int_equal(matches[4], EVENTS);
    mr_bson_writer_fini(&w);
    mr_program_compiler_destroy(&compiler);
    mr_watch_destroy(&watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_told_keeps_every_result_set_as_the_model_has_it),
        cmocka_unit_test(without_images_what_is_not_known_is_called_so),
        cmocka_unit_test(soft_deletes_leave_and_come_back),
        cmocka_unit_test(offenders_are_among_the_ids_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
