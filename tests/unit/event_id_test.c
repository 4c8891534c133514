#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/event.h"

static void a_derived_id_is_time_increment_and_hash(void **state)
{
    (void)state;
    struct mr_event event = {.collection = MR_STR("documents"), .document_id = MR_STR("u1")};
    event.head.source_order = UINT64_C(1767225600) << 32 | 7;
    char id[MR_EVENT_ID_MAX];
    /* printf documents/u1 | sha256sum */
    assert_int_equal(mr_event_id(&event, id), 29);
    assert_string_equal(id, "1767225600-7-db5630e13ccd74d3");
}

static void an_event_without_names_has_an_id_too(void **state)
{
    (void)state;
    struct mr_event event = {.head.source_order = UINT64_MAX};
    char id[MR_EVENT_ID_MAX];
    assert_int_equal(mr_event_id(&event, id), 38);
    assert_string_equal(id, "4294967295-4294967295-8a5edab282632443");
}

static void an_id_that_the_event_carries_is_kept(void **state)
{
    (void)state;
    struct mr_event event = {.event_id = MR_STR("mine")};
    char id[MR_EVENT_ID_MAX];
    assert_int_equal(mr_event_id(&event, id), 4);
    assert_string_equal(id, "mine");
}

static void *derive_many(void *wrong)
{
    char names[2][MR_EVENT_ID_MAX] = {"0-0-db5630e13ccd74d3", "0-0-8a5edab282632443"};
    struct mr_event events[2] = {
        {.collection = MR_STR("documents"), .document_id = MR_STR("u1")},
        {.collection = MR_STR("")},
    };
    for (int i = 0; i < 2000; i++) {
        char id[MR_EVENT_ID_MAX];
        mr_event_id(&events[i & 1], id);
        *(int *)wrong += strcmp(id, names[i & 1]) != 0;
    }
    return NULL;
}

static void threads_derive_ids_side_by_side(void **state)
{
    (void)state;
    pthread_t threads[4];
    int wrong[4] = {0};
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, derive_many, &wrong[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(wrong[i], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_derived_id_is_time_increment_and_hash),
        cmocka_unit_test(an_event_without_names_has_an_id_too),
        cmocka_unit_test(an_id_that_the_event_carries_is_kept),
        cmocka_unit_test(threads_derive_ids_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
