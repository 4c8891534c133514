/* The outbox between one putter and one sender. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "jetstream/outbox.h"

static struct mr_js_outbox outbox;

static enum mr_rc put(uint64_t tag, size_t payload_len)
{
    static char payload[8192];
    memset(payload, (int)('a' + tag % 26), payload_len);
    return mr_js_outbox_put(&outbox, &(struct mr_js_message){.tag = tag,
                                                             .subject = MR_STR("s.t"),
                                                             .id = MR_STR("id"),
                                                             .headers = MR_STR("A: b\r\n"),
                                                             .payload = {payload, payload_len},
                                                             .payload_end = MR_STR("}")});
}

static void check(uint64_t n, uint64_t tag, size_t payload_len)
{
    const struct mr_js_entry *e = mr_js_outbox_entry(&outbox, n);
    const char *bytes = mr_js_outbox_bytes(&outbox, e);
    assert_int_equal(e->tag, tag);
    assert_int_equal(e->payload_len, payload_len + 1);
    assert_memory_equal(bytes, "s.tidA: b\r\n", 11);
    if (payload_len > 0)
        assert_true(bytes[11] == (char)('a' + tag % 26) &&
                    bytes[11 + payload_len - 1] == bytes[11]);
    assert_true(bytes[11 + payload_len] == '}');
}

static void messages_come_out_whole_and_in_order_for_many_rounds(void **state)
{
    (void)state;
    uint64_t putted = 0, released = 0;
    assert_int_equal(mr_js_outbox_init(&outbox, 4096, NULL), MR_OK);
    srand(1);
    size_t lens[64];
    while (released < 100000) {
        size_t len = (size_t)rand() % 900;
        if (putted - released < 32 && put(putted, len) == MR_OK) {
            lens[putted++ % 64] = len;
            continue;
        }
        assert_true(putted > released);
        uint64_t take = 1 + (uint64_t)rand() % (putted - released);
        for (uint64_t i = 0; i < take; i++)
            check(released + i, released + i, lens[(released + i) % 64]);
        mr_js_outbox_release(&outbox, released += take);
    }
    mr_js_outbox_fini(&outbox);
}

static void a_full_one_refuses_and_has_room_again_behind_a_release(void **state)
{
    (void)state;
    assert_int_equal(mr_js_outbox_init(&outbox, 4096, NULL), MR_OK);
    /* 1024 bytes each: it is exactly full. */
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(put(i, 1012), MR_OK);
    assert_int_equal(put(4, 0), MR_FULL);
    assert_true(mr_js_outbox_fill(&outbox) == 1.0);
    mr_js_outbox_release(&outbox, 4);
    assert_true(mr_js_outbox_fill(&outbox) == 0.0);
    for (uint64_t i = 4; i < 8; i++)
        assert_int_equal(put(i, 1012), MR_OK);
    for (uint64_t i = 4; i < 8; i++)
        check(i, i, 1012);
    assert_int_equal(mr_js_outbox_pending_tag(&outbox), 4);
    mr_js_outbox_fini(&outbox);
}

static void small_messages_are_bounded_in_number(void **state)
{
    (void)state;
    assert_int_equal(mr_js_outbox_init(&outbox, 4096, NULL), MR_OK);
    for (uint64_t i = 0; i < 32; i++)
        assert_int_equal(put(i, 0), MR_OK);
    assert_int_equal(put(32, 0), MR_FULL);
    mr_js_outbox_fini(&outbox);
}

static void what_is_too_large_for_good_is_told_from_what_is_full(void **state)
{
    (void)state;
    assert_int_equal(mr_js_outbox_init(&outbox, 4096, NULL), MR_OK);
    assert_int_equal(put(0, 2100), MR_USAGE);
    assert_int_equal(mr_js_outbox_pending_tag(&outbox), UINT64_MAX);
    mr_js_outbox_fini(&outbox);
}

enum { THREAD_MESSAGES = 200000 };

static void *put_all(void *context)
{
    (void)context;
    for (uint64_t i = 0; i < THREAD_MESSAGES;) {
        i += put(i, i % 50) == MR_OK;
        mr_js_outbox_flush(&outbox);
    }
    return NULL;
}

static void a_sender_in_another_thread_gets_all_of_it(void **state)
{
    (void)state;
    pthread_t putter;
    assert_int_equal(mr_js_outbox_init(&outbox, 65536, NULL), MR_OK);
    assert_int_equal(pthread_create(&putter, NULL, put_all, NULL), 0);
    for (uint64_t n = 0; n < THREAD_MESSAGES;) {
        if (mr_js_outbox_may_sleep(&outbox, n))
            continue; /* no sleep: only the flags are under test */
        mr_js_outbox_awake(&outbox);
        uint64_t tail = atomic_load_explicit(&outbox.tail, memory_order_acquire);
        for (; n < tail; n++)
            check(n, n, n % 50);
        mr_js_outbox_release(&outbox, n);
    }
    pthread_join(putter, NULL);
    mr_js_outbox_fini(&outbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_out_whole_and_in_order_for_many_rounds),
        cmocka_unit_test(a_full_one_refuses_and_has_room_again_behind_a_release),
        cmocka_unit_test(small_messages_are_bounded_in_number),
        cmocka_unit_test(what_is_too_large_for_good_is_told_from_what_is_full),
        cmocka_unit_test(a_sender_in_another_thread_gets_all_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
