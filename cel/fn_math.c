/* The extension library "math". */
#include <math.h>

#include "cel/lib.h"

/* best, or value when it lies beyond; kind ERROR: the two are not to be compared. */
static struct mr_cel_val better(struct mr_cel_val best, struct mr_cel_val value, int beyond)
{
    int order;
    if (!mr_cel_is_number(best) || !mr_cel_is_number(value))
        return mr_cel_no_overload();
    if (!mr_cel_compare(value, best, &order))
        return mr_cel_error(MR_CEL_E_INVALID_ARGUMENT, MR_STR("NaN has no order"));
    return order == beyond ? value : best;
}

static struct mr_cel_val extreme_of_list(struct mr_cel_ctx *ctx, struct mr_cel_val list, int beyond)
{
    struct mr_cel_iter it;
    struct mr_cel_val best = mr_cel_error(MR_CEL_E_INVALID_ARGUMENT, MR_STR("an empty list"));
    bool first = true;
    for (mr_cel_iter_init(&it, ctx, list);
         (first || best.kind != MR_CEL_ERROR) && mr_cel_iter_next(&it); first = false)
        best = first ? it.value : better(best, it.value, beyond);
    return it.failed.kind != MR_CEL_NULL ? it.failed : best;
}

/* Of one number, a list of them, or several: the first that no other one is beyond. */
static struct mr_cel_val extreme(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                 uint32_t count, int beyond)
{
    struct mr_cel_val best = count > 0 ? args[0] : mr_cel_null();
    if (count == 1 && best.kind == MR_CEL_LIST)
        best = extreme_of_list(ctx, best, beyond);
    for (uint32_t i = 1; i < count && best.kind != MR_CEL_ERROR; i++)
        best = better(best, args[i], beyond);
    return mr_cel_is_number(best) || best.kind == MR_CEL_ERROR ? best : mr_cel_no_overload();
}

struct mr_cel_val mr_cel_fn_math_greatest(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                          uint32_t count)
{
    return extreme(ctx, args, count, 1);
}

struct mr_cel_val mr_cel_fn_math_least(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                       uint32_t count)
{
    return extreme(ctx, args, count, -1);
}

struct mr_cel_val mr_cel_fn_math_abs(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                     uint32_t count)
{
    (void)ctx;
    if (mr_cel_args_are(args, count, "d"))
        return mr_cel_double(fabs(args[0].number));
    if (mr_cel_args_are(args, count, "u"))
        return args[0];
    if (!mr_cel_args_are(args, count, "i"))
        return mr_cel_no_overload();
    if (args[0].integer == INT64_MIN)
        return mr_cel_error(MR_CEL_E_OVERFLOW, MR_STR("int"));
    return mr_cel_int(args[0].integer < 0 ? -args[0].integer : args[0].integer);
}

struct mr_cel_val mr_cel_fn_math_sign(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                      uint32_t count)
{
    (void)ctx;
    if (mr_cel_args_are(args, count, "i"))
        return mr_cel_int((args[0].integer > 0) - (args[0].integer < 0));
    if (mr_cel_args_are(args, count, "u"))
        return mr_cel_uint(args[0].bits > 0);
    if (!mr_cel_args_are(args, count, "d"))
        return mr_cel_no_overload();
    double value = args[0].number;
    return mr_cel_double(isnan(value) ? value : (value > 0) - (value < 0));
}

struct mr_cel_val mr_cel_fn_math_sqrt(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                      uint32_t count)
{
    (void)ctx;
    if (mr_cel_args_are(args, count, "d"))
        return mr_cel_double(sqrt(args[0].number));
    if (mr_cel_args_are(args, count, "i"))
        return mr_cel_double(sqrt((double)args[0].integer));
    if (mr_cel_args_are(args, count, "u"))
        return mr_cel_double(sqrt((double)args[0].bits));
    return mr_cel_no_overload();
}

/* Functions of one double. */
#define OF_DOUBLE(name, make, expression)                                                          \
    struct mr_cel_val mr_cel_fn_math_##name(struct mr_cel_ctx *ctx, const struct mr_cel_val *args, \
                                            uint32_t count)                                        \
    {                                                                                              \
        (void)ctx;                                                                                 \
        if (!mr_cel_args_are(args, count, "d"))                                                    \
            return mr_cel_no_overload();                                                           \
        double x = args[0].number;                                                                 \
        return make(expression);                                                                   \
    }
OF_DOUBLE(ceil, mr_cel_double, ceil(x))
OF_DOUBLE(floor, mr_cel_double, floor(x))
OF_DOUBLE(round, mr_cel_double, round(x)) /* halves away from zero */
OF_DOUBLE(trunc, mr_cel_double, trunc(x))
OF_DOUBLE(is_inf, mr_cel_bool, isinf(x) != 0)
OF_DOUBLE(is_nan, mr_cel_bool, isnan(x) != 0)
OF_DOUBLE(is_finite, mr_cel_bool, isfinite(x) != 0)

/* Functions of the bits of two ints or two uints. */
#define OF_BITS(name, operator)                                                                \
    struct mr_cel_val mr_cel_fn_math_bit_##name(struct mr_cel_ctx *ctx,                        \
                                                const struct mr_cel_val *args, uint32_t count) \
    {                                                                                          \
        (void)ctx;                                                                             \
        if (!mr_cel_args_are(args, count, "ii") && !mr_cel_args_are(args, count, "uu"))        \
            return mr_cel_no_overload();                                                       \
        struct mr_cel_val value = args[0];                                                     \
        value.bits = args[0].bits operator args[1].bits;                                       \
        return value;                                                                          \
    }
OF_BITS(and, &)
OF_BITS(or, |)
OF_BITS(xor, ^)

struct mr_cel_val mr_cel_fn_math_bit_not(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                         uint32_t count)
{
    (void)ctx;
    if (!mr_cel_args_are(args, count, "i") && !mr_cel_args_are(args, count, "u"))
        return mr_cel_no_overload();
    struct mr_cel_val value = args[0];
    value.bits = ~value.bits;
    return value;
}

/* Bits that leave are lost, zeros come in, of an int's sign too. */
static struct mr_cel_val shift(const struct mr_cel_val *args, uint32_t count, bool left)
{
    if (!mr_cel_args_are(args, count, "ii") && !mr_cel_args_are(args, count, "ui"))
        return mr_cel_no_overload();
    int64_t places = args[1].integer;
    if (places < 0)
        return mr_cel_error(MR_CEL_E_INVALID_ARGUMENT, MR_STR("a shift by a negative offset"));
    struct mr_cel_val value = args[0];
    value.bits = places > 63 ? 0 : left ? value.bits << places : value.bits >> places;
    return value;
}

struct mr_cel_val mr_cel_fn_math_bit_shift_left(struct mr_cel_ctx *ctx,
                                                const struct mr_cel_val *args, uint32_t count)
{
    (void)ctx;
    return shift(args, count, true);
}

struct mr_cel_val mr_cel_fn_math_bit_shift_right(struct mr_cel_ctx *ctx,
                                                 const struct mr_cel_val *args, uint32_t count)
{
    (void)ctx;
    return shift(args, count, false);
}
