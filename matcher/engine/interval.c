/* What the leaves of a conjunction say of one number, and how that is kept. */
#include <math.h>

#include "matcher/engine/index.h"

static bool const_number(const struct mr_const *value, enum mr_order *order, double *number,
                         bool *exact)
{
    switch (value->kind) {
    case MR_CONST_INT:
    case MR_CONST_DATE:
        *order = value->kind == MR_CONST_INT ? MR_ORDER_NUMBER : MR_ORDER_DATE;
        *number = (double)value->integer;
        *exact = value->integer >= -(INT64_C(1) << 53) && value->integer <= INT64_C(1) << 53;
        return true;
    case MR_CONST_DOUBLE:
        *order = MR_ORDER_NUMBER;
        *number = value->number;
        *exact = !isinf(value->number);
        return true;
    case MR_CONST_STRING:
        *order = MR_ORDER_STRING;
        *number = mr_string_number(value->string);
        *exact = false;
        return true;
    default:
        return false;
    }
}

void mr_interval_narrow(struct mr_interval *interval, const struct mr_leaf *leaf)
{
    struct mr_const value = mr_leaf_const(leaf);
    enum mr_order order;
    double number;
    bool exact;
    if (leaf->op < MR_PRED_LT || leaf->op > MR_PRED_GE ||
        !const_number(&value, &order, &number, &exact))
        return;
    if (interval->order != MR_ORDER_NONE && interval->order != order) {
        interval->exact = false; /* x < 5 && x < "a" never holds; either bound will do */
        return;
    }
    interval->order = order;
    interval->exact &= exact;
    bool upper = leaf->op == MR_PRED_LT || leaf->op == MR_PRED_LE;
    bool strict = leaf->op == MR_PRED_LT || leaf->op == MR_PRED_GT;
    double outwards = upper ? INFINITY : -INFINITY;
    if (!exact && order != MR_ORDER_STRING)
        number = nextafter(number, outwards);
    else if (exact && strict)
        number = nextafter(number, -outwards);
    if (upper)
        interval->high = fmin(interval->high, number);
    else
        interval->low = fmax(interval->low, number);
}

struct mr_interval_class mr_interval_classify(const struct mr_interval *interval)
{
    struct mr_interval_class class = {.span = MR_SPAN_ANY};
    if (interval->slot == MR_SLOT_NONE)
        return class;
    double width = nextafter(interval->high - interval->low, INFINITY);
    if (isinf(interval->high) || (isinf(width) && !isinf(interval->low))) {
        class = (struct mr_interval_class){.span = MR_SPAN_LOW, .key = interval->low};
    } else if (isinf(interval->low)) {
        class = (struct mr_interval_class){.span = MR_SPAN_HIGH, .key = -interval->high};
    } else {
        int exponent = 0;
        if (width > 0)
            (void)frexp(width, &exponent); /* width < 2^exponent */
        class = (struct mr_interval_class){.span = MR_SPAN_BOTH,
                                           .width = (int16_t)exponent,
                                           .key = interval->low,
                                           .other = interval->high};
    }
    return class;
}
