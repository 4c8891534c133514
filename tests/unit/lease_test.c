#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "publisher/lease.h"
#include "publisher/spec.h"
#include "publisher/store.h"

static uint64_t seed = 1;

static uint64_t random_below(uint64_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (seed >> 33) % below;
}

/* 10,000 leases live an hour and a half of simulated time, renewed and removed at random: each ends
 * within a tick of its deadline, in no other way, and never before it. */
static void leases_end_when_a_model_says_so(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    struct mr_lease *leases = calloc(COUNT, sizeof *leases);
    struct mr_wheel wheel;
    struct mr_err err = {0};
    uint64_t now_ns = 5 * MR_NS_PER_S, ended = 0, renewed = 0;
    assert_int_equal(mr_wheel_init(&wheel, now_ns, &err), MR_OK);
    for (uint32_t i = 0; i < COUNT; i++) {
        leases[i].deadline_ns = now_ns + (60 + random_below(3541)) * MR_NS_PER_S;
        mr_wheel_put(&wheel, &leases[i]);
    }
    uint32_t left = COUNT;
    while (left > 0 && now_ns < 20000 * MR_NS_PER_S) {
        uint64_t before_ns = now_ns;
        now_ns += random_below(900 * MR_NS_PER_MS);
        for (struct mr_lease *lease; (lease = mr_wheel_due(&wheel, now_ns)) != NULL;
             ended++, left--) {
            assert_true(lease->deadline_ns <= now_ns);
            assert_true(lease->deadline_ns + MR_WHEEL_TICK_NS >= before_ns - MR_NS_PER_S);
            assert_int_equal(lease->slot_tick, 0);
            lease->deadline_ns = 0;
        }
        struct mr_lease *some = &leases[random_below(COUNT)];
        if (some->deadline_ns == 0 || now_ns > 5000 * MR_NS_PER_S)
            continue;
        some->deadline_ns = now_ns + (60 + random_below(3541)) * MR_NS_PER_S;
        mr_wheel_put(&wheel, some);
        renewed++;
    }
    assert_int_equal(ended, COUNT);
    assert_true(renewed > 1000);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(leases[i].deadline_ns, 0);
    mr_wheel_fini(&wheel);
    free(leases);
}

static void a_deadline_beyond_the_wheel_comes_true(void **state)
{
    (void)state;
    struct mr_wheel wheel;
    struct mr_err err = {0};
    struct mr_lease lease = {.deadline_ns = 3 * MR_WHEEL_AHEAD_NS + 7};
    assert_int_equal(mr_wheel_init(&wheel, 0, &err), MR_OK);
    mr_wheel_put(&wheel, &lease);
    uint64_t now_ns = 0;
    while (!mr_wheel_due(&wheel, now_ns))
        now_ns += MR_NS_PER_S;
    assert_true(now_ns >= lease.deadline_ns && now_ns <= lease.deadline_ns + 2 * MR_NS_PER_S);
    mr_wheel_fini(&wheel);
}

static void a_deadline_goes_by_the_clock_of_its_boot(void **state)
{
    (void)state;
    const char here[MR_BOOT_ID_BYTES] = "here", there[MR_BOOT_ID_BYTES] = "there";
    uint64_t ttl_ns = 300 * MR_NS_PER_S, now_ns = mr_clock_ns(), hour_ns = 3600 * MR_NS_PER_S;
    int64_t wall_us = mr_clock_wall_us(), hour_us = (int64_t)(hour_ns / MR_NS_PER_US);
    /* The same boot: the wall clock may have been set by an hour either way. */
    for (int64_t step = -hour_us; step <= hour_us; step += hour_us)
        assert_int_equal(mr_spec_deadline(here, here, now_ns + ttl_ns, wall_us + step, ttl_ns),
                         now_ns + ttl_ns);
    assert_int_equal(mr_spec_deadline(here, here, now_ns - 1, wall_us + hour_us, ttl_ns), 0);
    /* Another one: what the wall clock leaves, never more than the ttl. */
    uint64_t left = mr_spec_deadline(here, there, 1, wall_us + 100 * 1000000, ttl_ns);
    assert_true(left >= now_ns + 99 * MR_NS_PER_S && left <= now_ns + 101 * MR_NS_PER_S);
    left = mr_spec_deadline(here, there, UINT64_MAX, wall_us + hour_us, ttl_ns);
    assert_true(left >= now_ns + ttl_ns && left <= now_ns + ttl_ns + MR_NS_PER_S);
    assert_int_equal(mr_spec_deadline(here, there, UINT64_MAX, wall_us - 1, ttl_ns), 0);
}

static void a_record_reads_back_as_it_was_made(void **state)
{
    (void)state;
    const struct mr_const items[] = {
        {.kind = MR_CONST_STRING, .string = MR_STR("a\0b")},
        {.kind = MR_CONST_INT, .integer = INT64_MIN},
        {.kind = MR_CONST_DOUBLE, .number = -0.0},
        {.kind = MR_CONST_BOOL, .boolean = false},
    };
    const struct mr_predicate filters[] = {
        {.path = MR_STR("a.b"),
         .op = MR_PRED_IN,
         .value = {.kind = MR_CONST_LIST, .list = {items, 4}}},
        {.path = MR_STR("_id"),
         .op = MR_PRED_EQ,
         .value = {.kind = MR_CONST_STRING, .string = MR_STR("")}},
        {.path = MR_STR("n"), .op = MR_PRED_GE, .value = {.kind = MR_CONST_INT}},
    };
    const struct mr_request request = {.subscription_id = MR_STR("s"),
                                       .database = MR_STR("d"),
                                       .collection = MR_STR("c"),
                                       .predicates = filters,
                                       .predicate_count = 3};
    struct mr_spec spec = {.head = {.ttl_s = 300, .created_us = -5}, .gateway = MR_STR("g")}, read;
    struct mr_err err = {0};
    size_t len;
    uint32_t record_len;
    void *subscribe = mr_spec_encode(&request, &len);
    spec.subscribe = (struct mr_str){subscribe, len};
    char *record = mr_spec_make(&spec, &record_len);
    assert_int_equal(mr_spec_read((struct mr_str){record, record_len}, &read, &err), MR_OK);
    assert_int_equal(read.head.ttl_s, 300);
    assert_true(mr_str_equal(read.gateway, MR_STR("g")));
    const struct mr_wire_limits limits = {.filters_max = 32, .value_bytes_max = 1024};
    struct mr_wire_arena arena = {0};
    struct mr_request back;
    assert_int_equal(mr_wire_decode_subscribe(read.subscribe, &limits, &arena, &back, &err), MR_OK);
    assert_int_equal(back.problem.len, 0);
    assert_int_equal(back.predicate_count, 3);
    size_t again_len;
    void *again = mr_spec_encode(&back, &again_len);
    assert_int_equal(again_len, len);
    assert_memory_equal(again, subscribe, len);
    assert_int_equal(back.predicates[0].value.list.count, 4);
    assert_int_equal(back.predicates[0].value.list.items[0].string.len, 3);
    /* Every cut of it is refused, and so is another version. */
    for (uint32_t cut = 0; cut < record_len; cut++)
        assert_int_equal(mr_spec_read((struct mr_str){record, cut}, &read, &err), MR_CORRUPT);
    record[0] = 99;
    assert_int_equal(mr_spec_read((struct mr_str){record, record_len}, &read, &err), MR_CORRUPT);
    mr_wire_arena_fini(&arena);
    free(again);
    free(record);
    free(subscribe);
}

static enum mr_rc count_row(void *context, struct mr_str key, struct mr_str value,
                            struct mr_err *err)
{
    uint32_t *count = context;
    (void)err;
    assert_true(key.len > 0);
    assert_int_equal(value.len, 5);
    ++*count;
    return MR_OK;
}

static void change(struct mr_store *store, int from, int to, bool put)
{
    struct mr_store_changes changes = STAILQ_HEAD_INITIALIZER(changes);
    struct mr_store_change *one;
    struct mr_err err = {0};
    char key[32];
    for (int i = from; i < to; i++) {
        int len = snprintf(key, sizeof key, "key%d", i);
        one = mr_store_change_create(MR_STORE_SUBSCRIPTIONS, (struct mr_str){key, (size_t)len},
                                     put ? MR_STR("value") : (struct mr_str){NULL, 0});
        assert_non_null(one);
        STAILQ_INSERT_TAIL(&changes, one, next);
    }
    assert_int_equal(store->ops->commit(store, &changes, &err), MR_OK);
    while ((one = STAILQ_FIRST(&changes)) != NULL) {
        STAILQ_REMOVE_HEAD(&changes, next);
        free(one);
    }
}

static void what_the_store_has_committed_is_there_after_it_is_opened_again(void **state)
{
    (void)state;
    struct mr_config *config = malloc(sizeof *config);
    struct mr_store *store;
    struct mr_err err = {0};
    char dir[] = "/tmp/millrace-store-XXXXXX", command[64];
    assert_non_null(mkdtemp(dir));
    mr_config_init(config);
    snprintf(config->instance_data_dir.text, sizeof config->instance_data_dir.text, "%s", dir);
    for (int round = 0; round < 3; round++) {
        uint32_t count = 0;
        assert_int_equal(mr_store_lmdb.open(&store, config, &err), MR_OK);
        assert_int_equal(store->ops->load(store, MR_STORE_SUBSCRIPTIONS, count_row, &count, &err),
                         MR_OK);
        assert_int_equal(count, round == 0 ? 0 : round == 1 ? 1000 : 990);
        change(store, 0, 1000, true);
        change(store, round == 0 ? 1000 : 0, round == 0 ? 1010 : 10, false);
        store->ops->close(store);
    }
    snprintf(config->instance_data_dir.text, sizeof config->instance_data_dir.text, "%s/not/there",
             dir);
    assert_int_not_equal(mr_store_lmdb.open(&store, config, &err), MR_OK);
    assert_non_null(strstr(err.text, "make subscription store"));
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
    free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leases_end_when_a_model_says_so),
        cmocka_unit_test(a_deadline_beyond_the_wheel_comes_true),
        cmocka_unit_test(a_deadline_goes_by_the_clock_of_its_boot),
        cmocka_unit_test(a_record_reads_back_as_it_was_made),
        cmocka_unit_test(what_the_store_has_committed_is_there_after_it_is_opened_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
