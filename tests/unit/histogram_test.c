/* The histogram: each value in a bucket that is narrow enough, quantiles that are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shm/histogram.h"

static void small_values_are_exact(void **state)
{
    (void)state;
    for (uint32_t v = 0; v < 32; v++) {
        assert_int_equal(mr_histogram_index(v), v);
        assert_int_equal(mr_histogram_bucket_max_ns(v), v);
    }
}

static void a_bucket_holds_its_bounds_and_is_a_sixteenth_wide(void **state)
{
    (void)state;
    uint64_t least = 0;
    for (uint32_t i = 0; i < MR_HISTOGRAM_BUCKETS - 1; i++) {
        uint64_t most = mr_histogram_bucket_max_ns(i);
        assert_true(most >= least);
        assert_int_equal(mr_histogram_index(least), i);
        assert_int_equal(mr_histogram_index(most), i);
        assert_true((most - least + 1) * 16 <= (least < 16 ? 16 : least));
        least = most + 1;
    }
    assert_true(least < UINT64_C(1) << 40 && least > UINT64_C(1) << 39);
}

static void the_last_bucket_takes_everything_above(void **state)
{
    (void)state;
    assert_int_equal(mr_histogram_index(UINT64_C(1) << 40), MR_HISTOGRAM_BUCKETS - 1);
    assert_int_equal(mr_histogram_index(UINT64_MAX), MR_HISTOGRAM_BUCKETS - 1);
    assert_int_equal(mr_histogram_bucket_max_ns(MR_HISTOGRAM_BUCKETS - 1), UINT64_MAX);
}

static void quantiles_are_within_a_bucket_of_the_truth(void **state)
{
    (void)state;
    static struct mr_histogram_shm h;
    for (uint64_t v = 1; v <= 100000; v++)
        mr_histogram_add(&h, v);
    const double shares[] = {0.01, 0.5, 0.9, 0.99, 0.999};
    for (int i = 0; i < 5; i++) {
        double truth = shares[i] * 100000;
        double seen = (double)mr_histogram_quantile_ns(&h, shares[i]);
        assert_true(seen >= truth && seen <= truth * 17 / 16 + 1);
    }
    assert_int_equal(mr_histogram_quantile_ns(&h, 1), 100000);
    assert_int_equal(mr_histogram_quantile_ns(&h, 0), 1);
    assert_int_equal(atomic_load(&h.sum_ns), UINT64_C(100000) * 100001 / 2);
}

static void an_empty_one_says_zero_and_one_value_says_itself(void **state)
{
    (void)state;
    static struct mr_histogram_shm h;
    assert_int_equal(mr_histogram_quantile_ns(&h, 0.99), 0);
    mr_histogram_add_n(&h, 123456789, 10);
    assert_int_equal(atomic_load(&h.count), 10);
    assert_int_equal(atomic_load(&h.max_ns), 123456789);
    assert_int_equal(mr_histogram_quantile_ns(&h, 0.5), 123456789);
    mr_histogram_add(&h, UINT64_MAX);
    assert_true(mr_histogram_quantile_ns(&h, 1) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_values_are_exact),
        cmocka_unit_test(a_bucket_holds_its_bounds_and_is_a_sixteenth_wide),
        cmocka_unit_test(the_last_bucket_takes_everything_above),
        cmocka_unit_test(quantiles_are_within_a_bucket_of_the_truth),
        cmocka_unit_test(an_empty_one_says_zero_and_one_value_says_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
