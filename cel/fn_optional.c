/* cel/fn_optional.c: functions of optional values; or and orValue are instructions, because they
 * compute their argument only when it is needed. */
#include "cel/ops.h"

struct mr_cel_val mr_cel_fn_optional_none(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                          uint32_t count)
{
    (void)ctx, (void)args, (void)count;
    return mr_cel_optional_none();
}

struct mr_cel_val mr_cel_fn_optional_of(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                        uint32_t count)
{
    (void)count;
    return mr_cel_optional_some(ctx, args[0]);
}

static bool is_zero(struct mr_cel_ctx *ctx, struct mr_cel_val v)
{
    uint32_t count;
    switch (v.kind) {
    case MR_CEL_NULL:
        return true;
    case MR_CEL_BOOL:
    case MR_CEL_INT:
    case MR_CEL_UINT:
    case MR_CEL_DURATION:
        return v.bits == 0;
    case MR_CEL_DOUBLE:
        return v.number == 0;
    case MR_CEL_STRING:
    case MR_CEL_BYTES:
        return v.len == 0;
    case MR_CEL_LIST:
    case MR_CEL_MAP:
        return mr_cel_count(ctx, v, &count) && count == 0;
    case MR_CEL_TIMESTAMP:
        return v.integer == MR_CEL_TIMESTAMP_MIN && v.len == 0;
    default:
        return false;
    }
}

struct mr_cel_val mr_cel_fn_optional_of_non_zero(struct mr_cel_ctx *ctx,
                                                 const struct mr_cel_val *args, uint32_t count)
{
    (void)count;
    return is_zero(ctx, args[0]) ? mr_cel_optional_none() : mr_cel_optional_some(ctx, args[0]);
}

struct mr_cel_val mr_cel_fn_has_value(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                      uint32_t count)
{
    if (args[0].kind != MR_CEL_OPTIONAL)
        return mr_cel_no_overload();
    bool there = args[0].some != NULL;
    return mr_cel_bool(there && (count == 1 || mr_cel_equal(ctx, *args[0].some, args[1])));
}

struct mr_cel_val mr_cel_fn_value(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                  uint32_t count)
{
    (void)ctx, (void)count;
    if (args[0].kind != MR_CEL_OPTIONAL)
        return mr_cel_no_overload();
    return args[0].some ? *args[0].some : mr_cel_error(MR_CEL_E_NO_VALUE, (struct mr_str){NULL, 0});
}

/* The values of a list's optionals that have one. */
struct mr_cel_val mr_cel_fn_unwrap(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                   uint32_t count)
{
    const struct mr_cel_val *items;
    struct mr_cel_val failed;
    if (args[0].kind != MR_CEL_LIST)
        return mr_cel_no_overload();
    if (!mr_cel_list_items(ctx, args[0], &items, &count, &failed))
        return failed;
    struct mr_cel_val *values = mr_cel_list_new(ctx, count);
    uint32_t found = 0;
    if (!values)
        return mr_cel_stopped(ctx);
    for (uint32_t i = 0; i < count; i++) {
        if (items[i].kind != MR_CEL_OPTIONAL)
            return mr_cel_no_overload();
        if (items[i].some)
            values[found++] = *items[i].some;
    }
    return mr_cel_list(values, found);
}
