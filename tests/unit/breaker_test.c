/* The circuit breaker, by its own clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "jetstream/breaker.h"

#define OPEN_NS (5 * MR_NS_PER_S)

static void it_opens_after_so_many_failures_in_a_row_and_then_waits(void **state)
{
    (void)state;
    struct mr_breaker b = {.failures_max = 3, .open_ns = OPEN_NS};
    uint64_t now = 1000;
    for (int i = 0; i < 2; i++) {
        assert_true(mr_breaker_may_try(&b, now));
        mr_breaker_failed(&b, now);
        assert_int_equal(b.state, MR_BREAKER_CLOSED);
        assert_false(mr_breaker_may_try(&b, now));
        now = b.next_ns;
    }
    assert_true(mr_breaker_may_try(&b, now));
    mr_breaker_failed(&b, now);
    assert_int_equal(b.state, MR_BREAKER_OPEN);
    assert_int_equal(b.opens, 1);
    assert_false(mr_breaker_may_try(&b, now + OPEN_NS - 1));
    assert_int_equal(b.state, MR_BREAKER_OPEN);
    assert_true(mr_breaker_may_try(&b, now + OPEN_NS));
    assert_int_equal(b.state, MR_BREAKER_HALF_OPEN);
}

static void half_open_one_failure_opens_it_and_one_success_closes_it(void **state)
{
    (void)state;
    struct mr_breaker b = {.failures_max = 1, .open_ns = OPEN_NS};
    mr_breaker_failed(&b, 0);
    assert_int_equal(b.state, MR_BREAKER_OPEN);
    assert_true(mr_breaker_may_try(&b, OPEN_NS));
    mr_breaker_failed(&b, OPEN_NS);
    assert_int_equal(b.state, MR_BREAKER_OPEN);
    assert_int_equal(b.opens, 2);
    assert_false(mr_breaker_may_try(&b, 2 * OPEN_NS - 1));
    assert_true(mr_breaker_may_try(&b, 2 * OPEN_NS));
    mr_breaker_succeeded(&b);
    assert_int_equal(b.state, MR_BREAKER_CLOSED);
    assert_true(mr_breaker_may_try(&b, 2 * OPEN_NS));
}

static void a_success_forgets_the_failures_before_it(void **state)
{
    (void)state;
    struct mr_breaker b = {.failures_max = 2, .open_ns = OPEN_NS};
    for (int i = 0; i < 10; i++) {
        mr_breaker_failed(&b, 0);
        mr_breaker_succeeded(&b);
    }
    assert_int_equal(b.state, MR_BREAKER_CLOSED);
    assert_int_equal(b.opens, 0);
}

static void waits_double_and_stay_under_a_second(void **state)
{
    (void)state;
    struct mr_breaker b = {.failures_max = 100, .open_ns = OPEN_NS};
    uint64_t before = 0;
    for (int i = 0; i < 50; i++) {
        mr_breaker_failed(&b, 0);
        assert_true(b.next_ns >= before && b.next_ns <= MR_NS_PER_S);
        before = b.next_ns;
    }
    assert_int_equal(before, MR_NS_PER_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_opens_after_so_many_failures_in_a_row_and_then_waits),
        cmocka_unit_test(half_open_one_failure_opens_it_and_one_success_closes_it),
        cmocka_unit_test(a_success_forgets_the_failures_before_it),
        cmocka_unit_test(waits_double_and_stay_under_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
