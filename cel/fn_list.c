/* The extension libraries "lists" and "sets". */
#include "cel/lib.h"
#include "cel/ops.h"

/* The items of a list as an array; false: *failed is what to return. */
static bool items_of(struct mr_cel_ctx *ctx, struct mr_cel_val list,
                     const struct mr_cel_val **items, uint32_t *count, struct mr_cel_val *failed)
{
    if (list.kind == MR_CEL_LIST)
        return mr_cel_list_items(ctx, list, items, count, failed);
    *failed = mr_cel_no_overload();
    return false;
}

/* A list that grows in the arena. */
struct grown {
    struct mr_cel_ctx *ctx;
    struct mr_cel_val *items;
    uint32_t count, capacity;
};

static bool grown_add(struct grown *list, struct mr_cel_val value)
{
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity > 0 ? list->capacity * 2 : 16;
        struct mr_cel_val *items =
            capacity > list->capacity ? mr_cel_list_new(list->ctx, capacity) : NULL;
        if (!items || !mr_cel_charge(list->ctx, list->count))
            return false;
        if (list->count > 0)
            memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = value;
    return true;
}

/* Is value among the items? Charged for; on a limit ctx->fatal is set. */
static bool among(struct mr_cel_ctx *ctx, struct mr_cel_val value, const struct mr_cel_val *items,
                  uint32_t count)
{
    if (!mr_cel_charge(ctx, count))
        return false;
    for (uint32_t i = 0; i < count && !ctx->fatal; i++)
        if (mr_cel_equal(ctx, value, items[i]))
            return true;
    return false;
}

struct mr_cel_val mr_cel_fn_distinct(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                     uint32_t count)
{
    const struct mr_cel_val *items;
    struct mr_cel_val failed = mr_cel_no_overload();
    uint32_t item_count;
    if (count != 1 || !items_of(ctx, args[0], &items, &item_count, &failed))
        return failed;
    struct grown out = {.ctx = ctx};
    for (uint32_t i = 0; i < item_count && !ctx->fatal; i++)
        if (!among(ctx, items[i], out.items, out.count) && !grown_add(&out, items[i]))
            break;
    return ctx->fatal ? mr_cel_stopped(ctx) : mr_cel_list(out.items, out.count);
}

static struct mr_cel_val item_or_none(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                      uint32_t count, bool last)
{
    const struct mr_cel_val *items;
    struct mr_cel_val failed = mr_cel_no_overload();
    uint32_t item_count;
    if (count != 1 || !items_of(ctx, args[0], &items, &item_count, &failed))
        return failed;
    return item_count == 0 ? mr_cel_optional_none()
                           : mr_cel_optional_some(ctx, items[last ? item_count - 1 : 0]);
}

struct mr_cel_val mr_cel_fn_first(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                  uint32_t count)
{
    return item_or_none(ctx, args, count, false);
}

struct mr_cel_val mr_cel_fn_last(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                 uint32_t count)
{
    return item_or_none(ctx, args, count, true);
}

/* What of list is no list, down to levels of nesting, goes to out. Kind NULL: done. */
static struct mr_cel_val flatten_into(struct grown *out, struct mr_cel_val list, uint64_t levels)
{
    enum { DEPTH_MAX = 100 }; /* of recursion: a frame takes some 300 bytes */
    struct mr_cel_ctx *ctx = out->ctx;
    struct mr_cel_val failed = mr_cel_null();
    struct mr_cel_iter it;
    if (ctx->depth == DEPTH_MAX)
        return mr_cel_error(MR_CEL_E_LIMIT_DEPTH, (struct mr_str){NULL, 0});
    ctx->depth++;
    for (mr_cel_iter_init(&it, ctx, list); failed.kind == MR_CEL_NULL && mr_cel_iter_next(&it);) {
        if (levels > 0 && it.value.kind == MR_CEL_LIST)
            failed = flatten_into(out, it.value, levels - 1);
        else if (!grown_add(out, it.value))
            failed = mr_cel_stopped(ctx);
    }
    ctx->depth--;
    return failed.kind != MR_CEL_NULL ? failed : it.failed;
}

/* args: list[, levels]. */
struct mr_cel_val mr_cel_fn_flatten(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                    uint32_t count)
{
    if (!mr_cel_args_are(args, count, "l") && !mr_cel_args_are(args, count, "li"))
        return mr_cel_no_overload();
    if (count == 2 && args[1].integer < 0)
        return mr_cel_error(MR_CEL_E_INVALID_ARGUMENT, MR_STR("level must be non-negative"));
    struct grown out = {.ctx = ctx};
    struct mr_cel_val failed = flatten_into(&out, args[0], count == 2 ? args[1].bits : 1);
    return failed.kind != MR_CEL_NULL ? failed : mr_cel_list(out.items, out.count);
}

struct mr_cel_val mr_cel_fn_lists_range(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                        uint32_t count)
{
    if (!mr_cel_args_are(args, count, "i"))
        return mr_cel_no_overload();
    if (args[0].integer < 0)
        return mr_cel_errorf(ctx, MR_CEL_E_INVALID_ARGUMENT, "a range of negative size %lld",
                             (long long)args[0].integer);
    /* What does not fit 32 bits does not fit any arena either. */
    uint32_t size = args[0].bits > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)args[0].bits;
    struct mr_cel_val *items = mr_cel_charge(ctx, size) ? mr_cel_list_new(ctx, size) : NULL;
    if (!items)
        return mr_cel_stopped(ctx);
    for (uint32_t i = 0; i < size; i++)
        items[i] = mr_cel_int(i);
    return mr_cel_list(items, size);
}

/* args: list, start, end. */
struct mr_cel_val mr_cel_fn_slice(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                  uint32_t count)
{
    const struct mr_cel_val *items;
    struct mr_cel_val failed;
    uint32_t item_count;
    if (!mr_cel_args_are(args, count, "lii"))
        return mr_cel_no_overload();
    if (!mr_cel_list_items(ctx, args[0], &items, &item_count, &failed))
        return failed;
    int64_t start = args[1].integer, end = args[2].integer;
    const char *why = start < 0 || end < 0 ? "negative indexes not supported"
                      : start > end        ? "start index must be less than or equal to end index"
                      : end > item_count   ? "the list is shorter"
                                           : NULL;
    if (why)
        return mr_cel_errorf(ctx, MR_CEL_E_INVALID_ARGUMENT, "cannot slice(%lld, %lld), %s",
                             (long long)start, (long long)end, why);
    return mr_cel_list(items + start, (uint32_t)(end - start));
}

struct mr_cel_val mr_cel_fn_sort(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                 uint32_t count)
{
    return count == 1 ? mr_cel_sort_by(ctx, args[0], args[0]) : mr_cel_no_overload();
}

/* Two lists as arrays. */
struct pair {
    const struct mr_cel_val *a, *b;
    uint32_t a_count, b_count;
};

static bool take_pair(struct mr_cel_ctx *ctx, const struct mr_cel_val *args, uint32_t count,
                      struct pair *out, struct mr_cel_val *failed)
{
    if (!mr_cel_args_are(args, count, "ll")) {
        *failed = mr_cel_no_overload();
        return false;
    }
    return mr_cel_list_items(ctx, args[0], &out->a, &out->a_count, failed) &&
           mr_cel_list_items(ctx, args[1], &out->b, &out->b_count, failed);
}

/* Is every one of parts among the items? */
static bool holds_all(struct mr_cel_ctx *ctx, const struct mr_cel_val *items, uint32_t count,
                      const struct mr_cel_val *parts, uint32_t part_count)
{
    for (uint32_t i = 0; i < part_count; i++)
        if (!among(ctx, parts[i], items, count))
            return false;
    return true;
}

static struct mr_cel_val answer(struct mr_cel_ctx *ctx, bool result)
{
    return ctx->fatal ? mr_cel_stopped(ctx) : mr_cel_bool(result);
}

struct mr_cel_val mr_cel_fn_sets_contains(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                          uint32_t count)
{
    struct pair lists;
    struct mr_cel_val failed;
    if (!take_pair(ctx, args, count, &lists, &failed))
        return failed;
    return answer(ctx, holds_all(ctx, lists.a, lists.a_count, lists.b, lists.b_count));
}

struct mr_cel_val mr_cel_fn_sets_equivalent(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                            uint32_t count)
{
    struct pair lists;
    struct mr_cel_val failed;
    if (!take_pair(ctx, args, count, &lists, &failed))
        return failed;
    return answer(ctx, holds_all(ctx, lists.a, lists.a_count, lists.b, lists.b_count) &&
                           holds_all(ctx, lists.b, lists.b_count, lists.a, lists.a_count));
}

struct mr_cel_val mr_cel_fn_sets_intersects(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                            uint32_t count)
{
    struct pair lists;
    struct mr_cel_val failed;
    if (!take_pair(ctx, args, count, &lists, &failed))
        return failed;
    for (uint32_t i = 0; i < lists.a_count && !ctx->fatal; i++)
        if (among(ctx, lists.a[i], lists.b, lists.b_count))
            return mr_cel_bool(true);
    return answer(ctx, false);
}

struct mr_cel_val mr_cel_fn_has_only(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                     uint32_t count)
{
    struct pair lists;
    struct mr_cel_val failed;
    if (!take_pair(ctx, args, count, &lists, &failed))
        return failed;
    return answer(ctx, holds_all(ctx, lists.b, lists.b_count, lists.a, lists.a_count));
}
