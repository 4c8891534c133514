/* Coalescing against a model: whatever the changes, whoever stops where, the final states are those
 * that the changes one by one lead to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/bson.h"
#include "common/doc_hash.h"
#include "relay/coalesce.h"

enum { DOCUMENTS = 6, COLLECTIONS = 2, EVENTS_MAX = 60, VALUE_BYTES = 19, UPDATE_BYTES = 48 };
enum { ABSENT = -1, NO_BODY = -1, UNKNOWN_BODY = -2 };

/* What a consumer knows of a document: n, and a body that may be too large to be sent. */
struct state {
    int n, body;
};
struct states {
    struct state of[COLLECTIONS][DOCUMENTS];
};

struct run {
    uint32_t count;
    struct mr_event events[EVENTS_MAX];
    char ids[EVENTS_MAX][16];
    uint8_t values[EVENTS_MAX][VALUE_BYTES]; /* {"n": int32} or {"n": int32, "body": int32} */
    uint8_t updates[EVENTS_MAX][UPDATE_BYTES];
};

static uint64_t seed = 88172645463325252u;

static uint32_t dice(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 20) % below;
}

static struct mr_str put_value(uint8_t out[VALUE_BYTES], int n, int body)
{
    struct mr_bson_writer w;
    mr_bson_writer_init_fixed(&w, out, VALUE_BYTES);
    mr_bson_begin(&w);
    mr_bson_put_int32(&w, MR_STR("n"), n);
    if (body != NO_BODY)
        mr_bson_put_int32(&w, MR_STR("b"), body);
    mr_bson_end(&w);
    assert_true(w.ok);
    return mr_bson_bytes(&w);
}

/* {"unchanged": ["b"]}, as a source says that the document lacks its body. */
static struct mr_str put_missing(uint8_t out[UPDATE_BYTES], struct mr_str how)
{
    struct mr_bson_writer w;
    mr_bson_writer_init_fixed(&w, out, UPDATE_BYTES);
    mr_bson_begin(&w);
    mr_bson_begin_array(&w, how);
    mr_bson_put_string(&w, MR_STR("0"), MR_STR("b"));
    mr_bson_end(&w);
    mr_bson_end(&w);
    assert_true(w.ok);
    return mr_bson_bytes(&w);
}

static bool find_int(struct mr_str bson, struct mr_str name, int *out)
{
    struct mr_bson_value value;
    bool found = mr_bson_find(bson.data, bson.len, name, &value);
    if (found)
        *out = mr_bson_int32(&value);
    return found;
}

static int get_value(struct mr_str bson)
{
    int value = ABSENT;
    assert_true(find_int(bson, MR_STR("n"), &value));
    return value;
}

static bool says(const struct mr_event *event, struct mr_str how)
{
    struct mr_bson_value value;
    return event->update.len > 0 &&
           mr_bson_find(event->update.data, event->update.len, how, &value);
}

static void add_event(struct run *run, uint64_t sequence, uint8_t op, uint32_t document)
{
    static const char *const names[COLLECTIONS] = {"orders", "rooms"};
    uint32_t i = run->count++;
    struct mr_event *event = &run->events[i];
    *event = (struct mr_event){.head = {.sequence = sequence, .op = op},
                               .database = MR_STR("shop"),
                               .collection = mr_str_from(names[document % COLLECTIONS])};
    if (op == MR_OP_TRUNCATE || op == MR_OP_GAP)
        return;
    snprintf(run->ids[i], sizeof run->ids[i], "d%u", document / COLLECTIONS);
    event->document_id = mr_str_from(run->ids[i]);
    event->head.document_hash = mr_doc_hash(event->database, event->collection, event->document_id);
    if (op != MR_OP_DELETE)
        event->document = put_value(run->values[i], (int)sequence, (int)sequence);
}

static void clear(struct state *state)
{
    *state = (struct state){ABSENT, NO_BODY};
}

static void apply(struct states *s, const struct mr_event *event)
{
    uint32_t collection = mr_str_equal(event->collection, MR_STR("rooms"));
    if (event->head.op == MR_OP_TRUNCATE)
        for (int i = 0; i < DOCUMENTS; i++)
            clear(&s->of[collection][i]);
    if (event->head.op >= MR_OP_TRUNCATE)
        return;
    struct state *state = &s->of[collection][atoi(event->document_id.data + 1)];
    if (event->head.op == MR_OP_DELETE) {
        clear(state);
        return;
    }
    struct mr_str fields = event->document.len ? event->document : event->update;
    state->n = get_value(fields);
    if (!find_int(fields, MR_STR("b"), &state->body) && !says(event, MR_STR("unchanged")))
        state->body = says(event, MR_STR("omitted")) ? UNKNOWN_BODY : NO_BODY;
}

/* A document that lacks its body: there is none, it was not touched, or it is too large. */
static void take_body(struct run *run, uint32_t i)
{
    const struct mr_str how[] = {MR_STR("unchanged"), MR_STR("omitted")};
    struct mr_event *event = &run->events[i];
    uint32_t kind = dice(3);
    event->document = put_value(run->values[i], (int)event->head.sequence, NO_BODY);
    if (kind < 2)
        event->update =
            put_missing(run->updates[i], how[event->head.op == MR_OP_INSERT ? 1 : kind]);
}

/* Changes as a source gives them: what is not there is inserted, what is there is changed. */
static void make_run(struct run *run, struct states *now, uint32_t count, bool odd)
{
    run->count = 0;
    for (uint64_t sequence = 1; sequence <= count; sequence++) {
        uint32_t document = dice(DOCUMENTS * COLLECTIONS);
        bool there = now->of[document % COLLECTIONS][document / COLLECTIONS].n != ABSENT;
        uint8_t op = !there         ? MR_OP_INSERT
                     : dice(3) == 0 ? MR_OP_DELETE
                     : dice(3) == 0 ? MR_OP_REPLACE
                                    : MR_OP_UPDATE;
        if (odd && dice(25) == 0)
            op = dice(2) ? MR_OP_TRUNCATE : MR_OP_GAP;
        if (odd && !there && dice(5) == 0)
            op = MR_OP_DELETE; /* of what was never seen */
        add_event(run, sequence, op, document);
        struct mr_event *event = &run->events[run->count - 1];
        if (odd && op == MR_OP_INSERT && dice(4) == 0)
            event->head.flags |= MR_EVENT_SNAPSHOT;
        if (odd && op == MR_OP_UPDATE && dice(6) == 0) { /* tells the change only */
            event->update = event->document;
            event->document = (struct mr_str){NULL, 0};
        } else if (op <= MR_OP_REPLACE && dice(4) == 0) {
            take_body(run, run->count - 1);
        }
        apply(now, event);
    }
}

static void begin_states(struct states *s)
{
    for (int c = 0; c < COLLECTIONS; c++)
        for (int i = 0; i < DOCUMENTS; i++)
            s->of[c][i] = dice(2) ? (struct state){ABSENT, NO_BODY} : (struct state){0, 0};
}

static uint32_t coalesce(struct mr_coalesce *c, const struct run *run, uint64_t after, uint64_t end,
                         bool atomic)
{
    mr_coalesce_begin(c, atomic);
    for (uint64_t i = after; i < end; i++)
        mr_coalesce_add(c, &run->events[i]);
    return mr_coalesce_end(c, end);
}

/* Places rise, and nobody's marker is behind what was not sent. */
static void check_order(const struct mr_coalesce *c, uint64_t end)
{
    for (uint32_t i = 0; i < c->count; i++) {
        const struct mr_coalesced *item = &c->items[i];
        bool last = i + 1 == c->count;
        assert_true(i == 0 || item->first > c->items[i - 1].first);
        if (last)
            assert_true(item->through == end);
        else if (c->atomic)
            assert_true(item->through == 0);
        else
            assert_true(item->through == c->items[i + 1].first - 1);
    }
}

/* One message, or a part of it, and where the consumer will go on. */
static uint64_t consume(struct states *got, const struct mr_coalesce *c, uint64_t after,
                        uint64_t end)
{
    uint32_t stop = dice(2) ? c->count : dice(c->count + 1);
    if (c->atomic && stop < c->count)
        return after; /* nothing of it is kept */
    for (uint32_t i = 0; i < stop; i++)
        apply(got, &c->items[i].event);
    if (stop == c->count && (c->atomic || dice(2)))
        return end;
    uint32_t kept = dice(stop + 1); /* its marker may be older than what it applied */
    return kept ? c->items[kept - 1].through : after;
}

static void final_states_are_those_of_the_changes_one_by_one(void **state)
{
    (void)state;
    static struct mr_coalesce c;
    static struct run run;
    for (int round = 0; round < 100000; round++) {
        bool atomic = dice(2);
        struct states begin, end, got;
        begin_states(&begin);
        end = got = begin;
        make_run(&run, &end, 1 + dice(EVENTS_MAX), dice(2));
        for (uint64_t after = 0; after < run.count;) {
            uint64_t to = after + 1 + dice((uint32_t)(run.count - after));
            coalesce(&c, &run, after, to, atomic);
            check_order(&c, to);
            after = consume(&got, &c, after, to);
        }
        if (memcmp(&got, &end, sizeof got) != 0)
            fail_msg("round %d: %u events, atomic %d", round, run.count, atomic);
    }
}

static void two_changes_follow_the_table(void **state)
{
    (void)state;
    static const struct {
        uint8_t first, then, is;
    } rows[] = {
        {MR_OP_INSERT, MR_OP_UPDATE, MR_OP_INSERT},   {MR_OP_INSERT, MR_OP_REPLACE, MR_OP_INSERT},
        {MR_OP_INSERT, MR_OP_INSERT, MR_OP_INSERT},   {MR_OP_INSERT, MR_OP_DELETE, MR_OP_DELETE},
        {MR_OP_UPDATE, MR_OP_UPDATE, MR_OP_UPDATE},   {MR_OP_UPDATE, MR_OP_REPLACE, MR_OP_REPLACE},
        {MR_OP_REPLACE, MR_OP_UPDATE, MR_OP_REPLACE}, {MR_OP_UPDATE, MR_OP_DELETE, MR_OP_DELETE},
        {MR_OP_DELETE, MR_OP_INSERT, MR_OP_REPLACE},  {MR_OP_DELETE, MR_OP_UPDATE, MR_OP_REPLACE},
        {MR_OP_DELETE, MR_OP_DELETE, MR_OP_DELETE},
    };
    static struct mr_coalesce c;
    static struct run run;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        run.count = 0;
        add_event(&run, 1, rows[i].first, 0);
        add_event(&run, 2, MR_OP_INSERT, 2); /* another document, between the two */
        add_event(&run, 3, rows[i].then, 0);
        assert_int_equal(coalesce(&c, &run, 0, run.count, false), 2);
        assert_int_equal(c.items[0].event.head.op, rows[i].is);
        assert_string_equal(c.items[0].event.document_id.data, "d0");
        assert_int_equal(c.items[0].first, 1);
        assert_int_equal(c.items[0].through, 1); /* what stands at 2 has not been sent yet */
        assert_int_equal(c.items[1].through, 3);
        if (rows[i].is != MR_OP_DELETE)
            assert_int_equal(get_value(c.items[0].event.document), 3);
    }
}

static void insert_and_delete_vanish_only_when_marker_and_state_are_kept_together(void **state)
{
    (void)state;
    static struct mr_coalesce c;
    static struct run run;
    run.count = 0;
    add_event(&run, 1, MR_OP_INSERT, 0);
    add_event(&run, 2, MR_OP_DELETE, 0);
    add_event(&run, 3, MR_OP_UPDATE, 2);
    assert_int_equal(coalesce(&c, &run, 0, run.count, true), 1);
    assert_int_equal(c.items[0].first, 3);
    assert_int_equal(coalesce(&c, &run, 0, run.count, false), 2);
    assert_int_equal(c.items[0].event.head.op, MR_OP_DELETE);
    run.events[0].head.flags = MR_EVENT_SNAPSHOT; /* it may have been there before */
    assert_int_equal(coalesce(&c, &run, 0, run.count, true), 2);
}

static void the_image_before_is_the_first_one(void **state)
{
    (void)state;
    static struct mr_coalesce c;
    static struct run run;
    uint8_t first[VALUE_BYTES], second[VALUE_BYTES];
    run.count = 0;
    add_event(&run, 1, MR_OP_UPDATE, 0);
    add_event(&run, 2, MR_OP_UPDATE, 0);
    run.events[0].before = put_value(first, 7, 7);
    run.events[1].before = put_value(second, 8, 8);
    run.events[1].update = put_value(second, 8, 8);
    assert_int_equal(coalesce(&c, &run, 0, run.count, true), 1);
    assert_int_equal(get_value(c.items[0].event.before), 7);
    assert_int_equal(c.items[0].event.update.len, 0);
}

static void a_document_that_lacks_what_was_not_sent_replaces_nothing(void **state)
{
    (void)state;
    const struct mr_str how[] = {MR_STR("unchanged"), MR_STR("omitted")};
    static struct mr_coalesce c;
    static struct run run;
    for (size_t i = 0; i < 2; i++) {
        run.count = 0;
        add_event(&run, 1, MR_OP_INSERT, 0);
        add_event(&run, 2, MR_OP_UPDATE, 0);
        add_event(&run, 3, MR_OP_UPDATE, 0);
        run.events[1].document = put_value(run.values[1], 2, NO_BODY);
        run.events[1].update = put_missing(run.updates[1], how[i]);
        assert_int_equal(coalesce(&c, &run, 0, 2, true), 2);
        assert_true(says(&c.items[1].event, how[i]));
        assert_int_equal(c.items[0].event.document.len, VALUE_BYTES);
        assert_int_equal(coalesce(&c, &run, 0, 3, true), 2); /* the third is whole again */
        assert_int_equal(get_value(c.items[1].event.document), 3);
        assert_int_equal(c.items[1].event.update.len, 0);
    }
}

static void an_update_description_that_does_not_read_replaces_nothing(void **state)
{
    (void)state;
    static struct mr_coalesce c;
    static struct run run;
    run.count = 0;
    add_event(&run, 1, MR_OP_INSERT, 0);
    add_event(&run, 2, MR_OP_UPDATE, 0);
    run.events[1].update = put_missing(run.updates[1], MR_STR("unchanged"));
    run.updates[1][4] = 0x7e; /* no type */
    assert_int_equal(coalesce(&c, &run, 0, run.count, true), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(final_states_are_those_of_the_changes_one_by_one),
        cmocka_unit_test(two_changes_follow_the_table),
        cmocka_unit_test(insert_and_delete_vanish_only_when_marker_and_state_are_kept_together),
        cmocka_unit_test(the_image_before_is_the_first_one),
        cmocka_unit_test(a_document_that_lacks_what_was_not_sent_replaces_nothing),
        cmocka_unit_test(an_update_description_that_does_not_read_replaces_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
