/* Unit tests of supervisor/backoff.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "supervisor/backoff.h"

static const struct mr_backoff_limits limits = {10, 1000, 5000, 0};

static void waits_double_up_to_the_longest_with_jitter_of_a_half(void **state)
{
    struct mr_backoff backoff = {.random = 1};
    uint64_t wait, full = 10;
    (void)state;
    for (int i = 0; i < 12; i++) {
        assert_true(mr_backoff_next(&backoff, &limits, 0, &wait));
        assert_in_range(wait, full / 2, full);
        full = full * 2 < 1000 ? full * 2 : 1000;
    }
}

static void processes_with_different_seeds_wait_differently(void **state)
{
    struct mr_backoff a = {.random = 1, .failures = 6}, b = {.random = 3, .failures = 6};
    uint64_t wait_a, wait_b, same = 0;
    (void)state;
    for (int i = 0; i < 50; i++) {
        assert_true(mr_backoff_next(&a, &limits, 0, &wait_a));
        assert_true(mr_backoff_next(&b, &limits, 0, &wait_b));
        same += wait_a == wait_b;
    }
    assert_in_range(same, 0, 5);
}

static void a_healthy_run_begins_anew(void **state)
{
    struct mr_backoff backoff = {.random = 1, .failures = 20};
    uint64_t wait;
    (void)state;
    assert_true(mr_backoff_next(&backoff, &limits, 5000, &wait));
    assert_in_range(wait, 5, 10);
    assert_int_equal(backoff.failures, 1);
}

static void gives_up_after_the_restarts_and_never_when_they_are_unlimited(void **state)
{
    struct mr_backoff_limits three = limits;
    struct mr_backoff backoff = {.random = 1};
    uint64_t wait;
    (void)state;
    three.restarts_max = 3;
    for (int i = 0; i < 3; i++)
        assert_true(mr_backoff_next(&backoff, &three, 4999, &wait));
    assert_false(mr_backoff_next(&backoff, &three, 4999, &wait));
    assert_true(
        mr_backoff_next(&backoff, &three, 5000, &wait)); /* but a healthy run changes that */
    backoff.failures = 4000000000u;
    assert_true(mr_backoff_next(&backoff, &limits, 0, &wait));
}

static void a_longest_wait_of_an_hour_does_not_overflow(void **state)
{
    struct mr_backoff_limits hour = {60000000000, 3600000000000, UINT64_MAX, 0};
    struct mr_backoff backoff = {.random = 7, .failures = 1000000};
    uint64_t wait;
    (void)state;
    assert_true(mr_backoff_next(&backoff, &hour, 0, &wait));
    assert_in_range(wait, 1800000000000, 3600000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_double_up_to_the_longest_with_jitter_of_a_half),
        cmocka_unit_test(processes_with_different_seeds_wait_differently),
        cmocka_unit_test(a_healthy_run_begins_anew),
        cmocka_unit_test(gives_up_after_the_restarts_and_never_when_they_are_unlimited),
        cmocka_unit_test(a_longest_wait_of_an_hour_does_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
