/* Durable subscriptions inside the pump: who speaks for them, what takes their place, what a
 * restart brings back. */
#include <signal.h>
#include <sys/resource.h>

#include "proto/protobuf.h"
#include "proto/streamer_fields.h"
#include "tests/pump/driver.h"

/* One request of the control plane, and what became of it. */
struct ask {
    struct mr_control control; /* first */
    struct mr_control_item item;
    struct mr_predicate predicate;
    char collection[8];
    bool answered;
};

static void answered(struct mr_control *control)
{
    ((struct ask *)control)->answered = true;
}

/* What is asked of a subscription: everything of a collection, "cN". */
static void ask(struct ask *a, enum mr_control_kind kind, const char *name, const char *id,
                uint32_t collection)
{
    *a = (struct ask){.control = {.kind = kind,
                                  .gateway = mr_str_from(name),
                                  .id = mr_str_from(id),
                                  .ttl_s = 60,
                                  .done = answered}};
    snprintf(a->collection, sizeof a->collection, "c%u", collection);
    if (kind == MR_CONTROL_REGISTER || kind == MR_CONTROL_REPLACE) {
        size_t len;
        a->item.subscribe = (struct mr_request){.kind = MR_REQUEST_SUBSCRIBE,
                                                .subscription_id = a->control.id,
                                                .database = MR_STR("db"),
                                                .collection = mr_str_from(a->collection)};
        a->item.spec.data = mr_spec_encode(&a->item.subscribe, &len);
        a->item.spec.len = len;
        a->control.items = &a->item;
        a->control.item_count = 1;
    }
    mr_control_put(mr_pump_controls(pump), &a->control);
}

static enum mr_control_code code_of(const struct ask *a)
{
    return a->control.code != MR_CONTROL_OK ? a->control.code : a->item.code;
}

/* It is answered by now, or when the store has it. */
static enum mr_control_code finish(struct ask *a)
{
    for (int i = 0; i < 5000 && !a->answered; i++) {
        settle();
        usleep(200);
    }
    assert_true(a->answered);
    enum mr_control_code code = code_of(a);
    mr_control_fini(&a->control);
    free((char *)(uintptr_t)a->item.spec.data);
    return code;
}

static enum mr_control_code asked(enum mr_control_kind kind, const char *name, const char *id,
                                  uint32_t collection)
{
    struct ask a;
    ask(&a, kind, name, id, collection);
    return finish(&a);
}

static void start_with(const char *store, uint32_t shards)
{
    test_sink_reset();
    bed_open(&bed, shards, 1, 0);
    snprintf(bed.process.config.subscriptions_store.text, MR_CONFIG_TEXT_MAX, "%s", store);
    open_pump();
    settle();
}

/* A stream says for whom it speaks, and from where to go on; UINT64_MAX: from now. */
static void speak(mr_gateway_id id, const char *name, uint64_t after)
{
    struct test_request beat = {
        .kind = MR_REQUEST_HEARTBEAT, .gateway = id, .gateway_name = name, .value = -1};
    if (after != UINT64_MAX)
        snprintf(beat.after, sizeof beat.after, "%s", marker_text(pump->deliverer.log_id, after));
    test_sink_push(&beat);
}

static void append(uint32_t count)
{
    bed_append(&bed, count);
    settle();
}

/* The stream has just what concerns the collection, from behind after to the end. */
static void check_all(mr_gateway_id id, const char *name, uint32_t collection, uint64_t after)
{
    const struct test_subscription *s = of(id, name);
    uint32_t n = 0;
    for (uint64_t sequence = after + 1; sequence <= bed.count; sequence++) {
        if (!bed_concerns(&bed.history[sequence - 1], collection, -1))
            continue;
        if (n == s->count || s->sequences[n] != sequence)
            fail_msg("stream %" PRIu64 ", %s: delivery %u is %" PRIu64 ", expected %" PRIu64, id,
                     name, n, n < s->count ? s->sequences[n] : 0, sequence);
        n++;
    }
    assert_int_equal(n, s->count);
}

static struct mr_subscription *named(const char *id)
{
    return mr_subscription_find_durable(&pump->table, mr_str_from(id));
}

/* Its network has died: what is delivered from now on fills its queue. */
static void queue_is_full(mr_gateway_id id, struct mr_str subscription_id, uint64_t sequence)
{
    (void)id;
    (void)subscription_id;
    (void)sequence;
    test_sink.fill = 0.9;
}

static void turns(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        turn();
        usleep(1000);
    }
}

static void a_stream_that_takes_over_in_a_catch_up_goes_on_from_its_own_marker(void **state)
{
    (void)state;
    start_with("memory", 2);
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
    append(60);
    gateway(MR_REQUEST_OPEN, 1);
    speak(1, "g1", 0);
    test_sink.record = queue_is_full;
    for (int i = 0; i < 5000 && of(1, "x")->count == 0; i++)
        turns(1);
    turns(5);
    assert_int_equal(of(1, "x")->count, 1);
    gateway(MR_REQUEST_OPEN, 2);
    speak(2, "g1", 0);
    turns(5);
    gateway(MR_REQUEST_CLOSE, 1);
    test_sink.record = NULL;
    test_sink.fill = 0;
    append(20);
    check_all(2, "x", 0, 0);
    assert_int_equal(of(1, "x")->count, 1);
    stop();
}

static void what_shards_matched_for_a_dead_publisher_comes_from_the_log(void **state)
{
    (void)state;
    enum { SHARDS = 8 };
    static const char *const ids[BED_COLLECTIONS] = {"x0", "x1", "x2"};
    start_with("lmdb", SHARDS);
    for (uint32_t i = 0; i < BED_COLLECTIONS; i++)
        assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", ids[i], i), MR_CONTROL_OK);
    append(20);
    mr_pump_close(&pump);
    /* More than one batch of a catch-up: the last shard alone has not matched it. */
    bed_append(&bed, 6000);
    bed_feed(&bed, UINT64_MAX, true);
    for (uint32_t shard = 0; shard < SHARDS - 1; shard++)
        bed_match(&bed, shard, UINT32_MAX);
    open_pump();
    for (int i = 0; i < 100 && !pump->serving; i++) {
        for (uint32_t shard = 0; shard < SHARDS; shard++)
            bed_apply(&bed, shard);
        turn();
    }
    turns(2);
    assert_true(named("x0")->applied && named("x0")->active_after > pump->merged);
    test_sink.fill = 0.9;
    gateway(MR_REQUEST_OPEN, 1);
    speak(1, "g1", 20);
    turns(10);
    gateway(MR_REQUEST_CLOSE, 1);
    gateway(MR_REQUEST_OPEN, 2);
    speak(2, "g1", 20);
    turns(1);
    test_sink.fill = 0;
    for (int i = 0; i < 5000 && !TAILQ_EMPTY(&pump->resume.all); i++)
        turns(1);
    append(20);
    for (uint32_t i = 0; i < BED_COLLECTIONS; i++)
        check_all(2, ids[i], i, 20);
    stop();
}

static void a_stream_that_takes_over_from_one_that_was_cut_gets_deliveries(void **state)
{
    (void)state;
    start_with("memory", 2);
    gateway(MR_REQUEST_OPEN, 1);
    speak(1, "g1", UINT64_MAX);
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
    test_sink.cut = 1;
    append(20);
    gateway(MR_REQUEST_OPEN, 2); /* before the CLOSE of the first one */
    speak(2, "g1", 0);
    gateway(MR_REQUEST_CLOSE, 1);
    append(20);
    check_all(2, "x", 0, 0);
    stop();
}

static void a_replacement_never_takes_the_place_of_another_subscription(void **state)
{
    (void)state;
    start_with("memory", 2);
    static const char *const names[] = {"g2", "g1"};
    for (int i = 0; i < 2; i++) {
        struct ask put, removal, post;
        assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
        ask(&put, MR_CONTROL_REPLACE, "g1", "x", 1);
        ask(&removal, MR_CONTROL_REMOVE, NULL, "x", 0);
        ask(&post, MR_CONTROL_REGISTER, names[i], "x", 2);
        assert_int_equal(finish(&put), MR_CONTROL_SUBSCRIPTION_NOT_FOUND);
        assert_int_equal(finish(&removal), MR_CONTROL_OK);
        assert_int_equal(finish(&post), MR_CONTROL_OK);
        gateway(MR_REQUEST_OPEN, 1 + (mr_gateway_id)i);
        speak(1 + (mr_gateway_id)i, names[i], UINT64_MAX);
        settle();
        uint64_t after = bed.count;
        append(40);
        check_all(1 + (mr_gateway_id)i, "x", 2, after);
        assert_int_equal(asked(MR_CONTROL_REMOVE, NULL, "x", 0), MR_CONTROL_OK);
    }
    stop();
}

/* As the store keeps it. */
static void restart(void)
{
    mr_pump_close(&pump);
    open_pump();
    settle();
}

static void what_is_acknowledged_is_there_after_a_restart_whatever_its_marker(void **state)
{
    (void)state;
    start_with("lmdb", 1);
    append(20);
    static const char *const ids[] = {"x", "y"};
    for (int i = 0; i < 2; i++) {
        struct ask a;
        const char *after = i == 0 ? "latest" : marker_text(pump->deliverer.log_id, 3);
        ask(&a, MR_CONTROL_REGISTER, "g1", ids[i], 0);
        /* The pump looks at its queue in the next turn. */
        char spec[256];
        memcpy(spec, a.item.spec.data, a.item.spec.len);
        uint8_t *end = mr_pb_put_text((uint8_t *)spec + a.item.spec.len, MR_FIELD_SUBSCRIBE_AFTER,
                                      mr_str_from(after));
        struct mr_str without = a.item.spec;
        a.item.spec = (struct mr_str){spec, (size_t)(end - (uint8_t *)spec)};
        a.item.subscribe.after = mr_str_from(after);
        turn();
        a.item.spec = without;
        assert_int_equal(finish(&a), MR_CONTROL_OK);
    }
    restart();
    gateway(MR_REQUEST_OPEN, 1);
    speak(1, "g1", UINT64_MAX);
    settle();
    for (int i = 0; i < 2; i++) {
        assert_non_null(named(ids[i]));
        assert_int_equal(of(0, ids[i])->answers, 0);
    }
    append(20);
    check_all(1, "x", 0, 20);
    check_all(1, "y", 0, 20);
    stop();
}

static void a_catch_up_gets_all_that_the_old_filters_matched_before_they_are_replaced(void **state)
{
    (void)state;
    start_with("memory", 2);
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
    append(60);
    gateway(MR_REQUEST_OPEN, 1);
    speak(1, "g1", 0);
    test_sink.record = queue_is_full;
    turns(20);
    struct ask put;
    ask(&put, MR_CONTROL_REPLACE, "g1", "x", 1);
    turns(5);
    test_sink.record = NULL;
    test_sink.fill = 0;
    enum mr_control_code code = finish(&put);
    settle();
    check_all(1, "x", 0, 0);
    assert_int_equal(code, MR_CONTROL_SUBSCRIPTION_BUSY);
    assert_int_equal(asked(MR_CONTROL_REPLACE, "g1", "x", 1), MR_CONTROL_OK);
    stop();
}

static void a_gateway_that_comes_while_filters_are_replaced_keeps_the_old_ones(void **state)
{
    (void)state;
    static const char *const stores[] = {"memory", "lmdb"}; /* the shards, the store has it last */
    for (int i = 0; i < 2; i++) {
        struct ask put;
        start_with(stores[i], 2);
        assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
        append(60);
        ask(&put, MR_CONTROL_REPLACE, "g1", "x", 1);
        turn();
        assert_true(named("x")->lease->successor || named("x")->lease->replacing);
        test_sink.fill = 0.9; /* a disk may take longer than a catch-up */
        gateway(MR_REQUEST_OPEN, 1);
        speak(1, "g1", 0);
        for (int k = 0; k < 5000 && !put.answered; k++)
            turns(1);
        test_sink.fill = 0;
        enum mr_control_code code = finish(&put);
        append(20);
        check_all(1, "x", 0, 0);
        assert_int_equal(code, MR_CONTROL_SUBSCRIPTION_BUSY);
        assert_int_equal(pump->table.count, 1);
        if (i == 1) {
            test_sink.request_first = test_sink.request_count;
            restart();
            gateway(MR_REQUEST_OPEN, 2);
            speak(2, "g1", 0);
            settle();
            check_all(2, "x", 0, 0);
        }
        stop();
    }
}

static void a_renewal_while_filters_are_replaced_leaves_the_new_ones_in_the_store(void **state)
{
    (void)state;
    for (int waits = 0; waits < 2; waits++) { /* for the store, for the shards */
        struct ask put, renewal;
        start_with("lmdb", 1);
        assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
        ask(&put, MR_CONTROL_REPLACE, "g1", "x", 1);
        for (int i = 0; i < 5000 && waits && !named("x")->lease->successor; i++)
            turns(1);
        const struct mr_subscription *successor = named("x")->lease->successor;
        uint64_t deadline_ns = successor ? successor->lease->deadline_ns : 0;
        ask(&renewal, MR_CONTROL_RENEW, NULL, "x", 0);
        turn();
        assert_true(!successor || successor->lease->deadline_ns > deadline_ns);
        assert_int_equal(finish(&renewal), MR_CONTROL_OK);
        assert_int_equal(finish(&put), MR_CONTROL_OK);
        restart();
        gateway(MR_REQUEST_OPEN, 1);
        speak(1, "g1", UINT64_MAX);
        settle();
        append(40);
        check_all(1, "x", 1, 0);
        stop();
    }
}

/* What the store has, while no pump has it open. */
static struct mr_store *open_store(void)
{
    struct mr_store *store;
    struct mr_err err;
    assert_int_equal(mr_store_lmdb.open(&store, &bed.process.config, &err), MR_OK);
    return store;
}

static void put_row(struct mr_store *store, enum mr_store_table table, struct mr_str key,
                    struct mr_str value)
{
    struct mr_store_change change = {.table = table, .key = key, .value = value};
    struct mr_store_changes changes = STAILQ_HEAD_INITIALIZER(changes);
    struct mr_err err;
    STAILQ_INSERT_TAIL(&changes, &change, next);
    assert_int_equal(store->ops->commit(store, &changes, &err), MR_OK);
}

struct row {
    const char *key;
    char value[512];
    size_t len; /* 0: there is none */
};

static enum mr_rc take_row(void *context, struct mr_str key, struct mr_str value,
                           struct mr_err *err)
{
    struct row *row = context;
    (void)err;
    if (mr_str_equal(key, mr_str_from(row->key)) && value.len <= sizeof row->value) {
        memcpy(row->value, value.data, value.len);
        row->len = value.len;
    }
    return MR_OK;
}

static struct row get_row(struct mr_store *store, enum mr_store_table table, const char *key)
{
    struct row row = {.key = key};
    struct mr_err err;
    assert_int_equal(store->ops->load(store, table, take_row, &row, &err), MR_OK);
    return row;
}

static void a_gateway_that_leaves_as_it_is_written_down_was_seen_just_now(void **state)
{
    (void)state;
    start_with("lmdb", 1);
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
    gateway(MR_REQUEST_OPEN, 1);
    speak(1, "g1", UINT64_MAX);
    settle();
    pump->durable.seen_kept_ns = 0; /* it is time to */
    gateway(MR_REQUEST_CLOSE, 1);
    turn();
    mr_pump_close(&pump);
    struct mr_store *store = open_store();
    struct row row = get_row(store, MR_STORE_GATEWAYS, "g1");
    store->ops->close(store);
    struct mr_spec_seen seen;
    assert_int_equal(row.len, sizeof seen);
    memcpy(&seen, row.value, sizeof seen);
    assert_true(llabs(mr_clock_wall_us() - seen.seen_us) < 600 * INT64_C(1000000));
    open_pump();
    settle();
    stop();
}

static void what_others_wrote_into_the_store_is_left_out(void **state)
{
    (void)state;
    char name[400];
    memset(name, 'k', sizeof name);
    struct mr_str key = {name, sizeof name};
    start_with("lmdb", 1);
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
    mr_pump_close(&pump);
    struct mr_store *store = open_store();
    struct row good = get_row(store, MR_STORE_SUBSCRIPTIONS, "x");
    struct mr_spec spec;
    struct mr_err err;
    assert_int_equal(mr_spec_read((struct mr_str){good.value, good.len}, &spec, &err), MR_OK);
    for (int expired = 0; expired < 2; expired++) {
        uint32_t len;
        spec.head.deadline_ns = expired ? 1 : spec.head.deadline_ns;
        spec.gateway = expired ? MR_STR("g1") : key;
        char *record = mr_spec_make(&spec, &len);
        put_row(store, MR_STORE_SUBSCRIPTIONS, expired ? key : MR_STR("y"),
                (struct mr_str){record, len});
        free(record);
    }
    struct mr_spec_seen seen = {.version = MR_SPEC_VERSION, .seen_ns = mr_clock_ns()};
    put_row(store, MR_STORE_GATEWAYS, key, (struct mr_str){(const char *)&seen, sizeof seen});
    seen.version++;
    put_row(store, MR_STORE_GATEWAYS, MR_STR("g1"),
            (struct mr_str){(const char *)&seen, sizeof seen});
    store->ops->close(store);
    open_pump();
    settle();
    assert_non_null(named("x"));
    assert_int_equal(named("x")->gateway->seen_ns, 0);
    assert_int_equal(pump->table.count, 1);
    assert_null(mr_gateway_named(&pump->table, key));
    stop();
}

/* As a full disk: what is written to files is refused. */
static void store_fails(bool fails)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = fails ? 0 : limit.rlim_max;
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static bool in_store(const char *id)
{
    struct mr_store *store = open_store();
    struct row row = get_row(store, MR_STORE_SUBSCRIPTIONS, id);
    store->ops->close(store);
    return row.len > 0;
}

static void close_with(bool fails)
{
    store_fails(fails);
    mr_pump_close(&pump);
    store_fails(false);
}

/* One whose deletion the store did not take. */
static void start_and_fail_to_remove(void)
{
    start_with("lmdb", 1);
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
    store_fails(true);
    assert_int_equal(asked(MR_CONTROL_REMOVE, NULL, "x", 0), MR_CONTROL_UNAVAILABLE);
    assert_null(named("x"));
    store_fails(false);
}

static void a_deletion_that_failed_is_done_later_and_at_the_latest_at_the_end(void **state)
{
    (void)state;
    for (int at_the_end = 0; at_the_end < 2; at_the_end++) {
        start_and_fail_to_remove();
        pump->durable.failed_ns = at_the_end ? mr_clock_ns() : 0;
        turns(at_the_end ? 0 : 100);
        close_with(!at_the_end);
        assert_false(in_store("x"));
        open_pump();
        settle();
        stop();
    }
}

static void a_deletion_that_failed_does_not_take_what_has_its_id_by_now(void **state)
{
    (void)state;
    start_and_fail_to_remove();
    struct ask a;
    ask(&a, MR_CONTROL_REGISTER, "g2", "x", 1);
    pump->durable.failed_ns = 0; /* while the store takes the new one */
    assert_int_equal(finish(&a), MR_CONTROL_OK);
    pump->durable.failed_ns = 0;
    turns(20);
    restart();
    assert_non_null(named("x"));
    assert_true(mr_str_equal(named("x")->gateway->name, MR_STR("g2")));
    stop();
}

static void a_deletion_that_failed_is_done_when_the_next_of_its_id_is_not_kept(void **state)
{
    (void)state;
    start_and_fail_to_remove();
    store_fails(true);
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g2", "x", 1), MR_CONTROL_UNAVAILABLE);
    store_fails(false);
    pump->durable.failed_ns = 0;
    turns(100);
    close_with(true);
    assert_false(in_store("x"));
    open_pump();
    settle();
    stop();
}

static void what_has_expired_goes_even_when_what_was_to_replace_it_is_refused(void **state)
{
    (void)state;
    start_with("lmdb", 1);
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
    named("x")->lease->deadline_ns = 1; /* the wheel has not come round to it */
    bed.process.config.publisher_subscriptions_per_database_max = 0;
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 1), MR_CONTROL_TENANT_QUOTA_EXCEEDED);
    assert_null(mr_gateway_named(&pump->table, MR_STR("g1")));
    turns(20);
    close_with(true);
    assert_false(in_store("x"));
    open_pump();
    settle();
    stop();
}

int main(void)
{
    mr_log_setup(MR_LOG_ERROR, MR_LOG_TEXT, "test");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_that_takes_over_in_a_catch_up_goes_on_from_its_own_marker),
        cmocka_unit_test(what_shards_matched_for_a_dead_publisher_comes_from_the_log),
        cmocka_unit_test(a_stream_that_takes_over_from_one_that_was_cut_gets_deliveries),
        cmocka_unit_test(a_replacement_never_takes_the_place_of_another_subscription),
        cmocka_unit_test(what_is_acknowledged_is_there_after_a_restart_whatever_its_marker),
        cmocka_unit_test(a_catch_up_gets_all_that_the_old_filters_matched_before_they_are_replaced),
        cmocka_unit_test(a_gateway_that_comes_while_filters_are_replaced_keeps_the_old_ones),
        cmocka_unit_test(a_renewal_while_filters_are_replaced_leaves_the_new_ones_in_the_store),
        cmocka_unit_test(a_gateway_that_leaves_as_it_is_written_down_was_seen_just_now),
        cmocka_unit_test(what_others_wrote_into_the_store_is_left_out),
        cmocka_unit_test(a_deletion_that_failed_is_done_later_and_at_the_latest_at_the_end),
        cmocka_unit_test(a_deletion_that_failed_does_not_take_what_has_its_id_by_now),
        cmocka_unit_test(a_deletion_that_failed_is_done_when_the_next_of_its_id_is_not_kept),
        cmocka_unit_test(what_has_expired_goes_even_when_what_was_to_replace_it_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
