/* What the store has of durable subscriptions: rows of others, rows that it did not take or delete
 * when it was asked to. */
#include <signal.h>
#include <sys/resource.h>

#include "tests/pump/durable.h"

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

static void what_was_accepted_stays_when_limits_are_lowered(void **state)
{
    (void)state;
    enum { FILTERS = 3 };
    static const char text[] = "longer than the limit will be when the publisher starts again";
    struct mr_predicate predicates[FILTERS];
    size_t len;
    for (int i = 0; i < FILTERS; i++)
        predicates[i] = (struct mr_predicate){
            .path = MR_STR("n"),
            .op = MR_PRED_NE,
            .value = {.kind = MR_CONST_STRING, .string = {text, sizeof text - 1 - (size_t)i}}};
    start_with("lmdb", 1);
    struct ask a, show;
    ask(&a, MR_CONTROL_REGISTER, "g1", "x", 0);
    free((char *)(uintptr_t)a.item.spec.data);
    a.item.subscribe.predicates = predicates;
    a.item.subscribe.predicate_count = FILTERS;
    a.item.spec.data = mr_spec_encode(&a.item.subscribe, &len);
    a.item.spec.len = len;
    assert_int_equal(finish(&a), MR_CONTROL_OK);
    bed.process.config.publisher_filters_max = FILTERS - 1;
    bed.process.config.publisher_value_bytes_max = 16;
    restart();
    assert_non_null(named("x"));
    gateway(MR_REQUEST_OPEN, 1);
    speak(1, "g1", UINT64_MAX);
    settle();
    append(20);
    check_all(1, "x", 0, 0);
    ask(&show, MR_CONTROL_GET, "", "x", 0);
    turn();
    assert_true(show.answered && show.control.body.len > 0);
    assert_non_null(memmem(show.control.body.data, show.control.body.len, text, sizeof text - 1));
    assert_int_equal(finish(&show), MR_CONTROL_OK);
    /* A sink that delivers to it subscribes as it was accepted. */
    enum mr_control_code code;
    struct mr_err err;
    assert_int_not_equal(mr_pump_check(pump, &a.item.subscribe, &code, &err), MR_OK);
    a.item.subscribe.internal = true;
    assert_int_equal(mr_pump_check(pump, &a.item.subscribe, &code, &err), MR_OK);
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
        assert_int_equal(STAILQ_EMPTY(&pump->durable.failed), !at_the_end);
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

/* Filters of "x" were to be replaced, which is taken back; the store does not take that. */
static void start_and_fail_to_take_back(struct ask *put)
{
    start_with("lmdb", 1);
    assert_int_equal(asked(MR_CONTROL_REGISTER, "g1", "x", 0), MR_CONTROL_OK);
    append(60);
    ask(put, MR_CONTROL_REPLACE, "g1", "x", 1);
    turn();
    for (int i = 0; i < 5000 && !mr_keeper_waiting(pump->durable.keeper); i++)
        usleep(1000);
    store_fails(true);
    test_sink.fill = 0.9; /* its catch-up is under way */
    gateway(MR_REQUEST_OPEN, 1);
    speak(1, "g1", 0);
    for (int i = 0; i < 5000 && STAILQ_EMPTY(&pump->durable.failed); i++)
        turns(1);
    test_sink.fill = 0;
    assert_true(put->answered);
    store_fails(false);
}

static void filters_that_were_not_replaced_come_back_when_the_store_takes_them_late(void **state)
{
    (void)state;
    for (int at_the_end = 0; at_the_end < 2; at_the_end++) {
        struct ask put;
        start_and_fail_to_take_back(&put);
        assert_int_equal(finish(&put), MR_CONTROL_SUBSCRIPTION_BUSY);
        assert_non_null(named("x"));
        pump->durable.failed_ns = at_the_end ? mr_clock_ns() : 0;
        turns(at_the_end ? 0 : 100);
        close_with(!at_the_end);
        test_sink.request_first = test_sink.request_count;
        open_pump();
        settle();
        gateway(MR_REQUEST_OPEN, 2);
        speak(2, "g1", 0);
        settle();
        check_all(2, "x", 0, 0);
        stop();
    }
}

static void filters_that_are_replaced_after_all_are_not_taken_back_late(void **state)
{
    (void)state;
    struct ask put;
    start_and_fail_to_take_back(&put);
    assert_int_equal(finish(&put), MR_CONTROL_SUBSCRIPTION_BUSY);
    settle();
    ask(&put, MR_CONTROL_REPLACE, "g1", "x", 2);
    pump->durable.failed_ns = 0; /* while the store takes the new ones */
    assert_int_equal(finish(&put), MR_CONTROL_OK);
    pump->durable.failed_ns = 0;
    turns(20);
    assert_true(STAILQ_EMPTY(&pump->durable.failed));
    restart();
    gateway(MR_REQUEST_OPEN, 2);
    speak(2, "g1", UINT64_MAX);
    settle();
    uint64_t after = bed.count;
    append(40);
    check_all(2, "x", 2, after);
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
        cmocka_unit_test(a_gateway_that_leaves_as_it_is_written_down_was_seen_just_now),
        cmocka_unit_test(what_others_wrote_into_the_store_is_left_out),
        cmocka_unit_test(what_was_accepted_stays_when_limits_are_lowered),
        cmocka_unit_test(a_deletion_that_failed_is_done_later_and_at_the_latest_at_the_end),
        cmocka_unit_test(a_deletion_that_failed_does_not_take_what_has_its_id_by_now),
        cmocka_unit_test(a_deletion_that_failed_is_done_when_the_next_of_its_id_is_not_kept),
        cmocka_unit_test(filters_that_were_not_replaced_come_back_when_the_store_takes_them_late),
        cmocka_unit_test(filters_that_are_replaced_after_all_are_not_taken_back_late),
        cmocka_unit_test(what_has_expired_goes_even_when_what_was_to_replace_it_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
