/* cel/ops.c: operators; see ops.h. */
#include "cel/ops.h"

#include "cel/timestamp.h"
#include "cel/utf8.h"

static const struct mr_str no_detail = {NULL, 0};

static struct mr_cel_val overflow(const char *what)
{
    return mr_cel_error(MR_CEL_E_OVERFLOW, mr_str_from(what));
}

bool mr_cel_strange_of(const struct mr_cel_val *args, uint32_t count, struct mr_cel_val *out)
{
    bool any = false;
    for (uint32_t i = 0; i < count; i++) {
        if (!mr_cel_is_strange(args[i]))
            continue;
        if (!any || (out->kind != MR_CEL_UNKNOWN && args[i].kind == MR_CEL_UNKNOWN))
            *out = args[i];
        else if (args[i].kind == MR_CEL_UNKNOWN)
            out->bits |= args[i].bits;
        any = true;
    }
    return any;
}

static struct mr_cel_val concatenate_text(struct mr_cel_ctx *ctx, struct mr_cel_val a,
                                          struct mr_cel_val b)
{
    if (a.len == 0)
        return b;
    if (b.len == 0)
        return a;
    size_t len = (size_t)a.len + b.len;
    char *text = mr_cel_alloc(ctx, len);
    if (!text || len > UINT32_MAX)
        return mr_cel_stopped(ctx);
    memcpy(text, a.text, a.len);
    memcpy(text + a.len, b.text, b.len);
    return mr_cel_text((enum mr_cel_kind)a.kind, (struct mr_str){text, len});
}

static struct mr_cel_val concatenate_lists(struct mr_cel_ctx *ctx, struct mr_cel_val a,
                                           struct mr_cel_val b)
{
    const struct mr_cel_val *left, *right;
    uint32_t left_count, right_count;
    struct mr_cel_val failed;
    if (!mr_cel_list_items(ctx, a, &left, &left_count, &failed) ||
        !mr_cel_list_items(ctx, b, &right, &right_count, &failed))
        return failed;
    if (left_count == 0)
        return b;
    if (right_count == 0)
        return a;
    uint64_t count = (uint64_t)left_count + right_count;
    struct mr_cel_val *items = mr_cel_alloc(ctx, count * sizeof *items);
    if (!items || count > UINT32_MAX)
        return mr_cel_stopped(ctx);
    memcpy(items, left, left_count * sizeof *items);
    memcpy(items + left_count, right, right_count * sizeof *items);
    return mr_cel_list(items, (uint32_t)count);
}

static struct mr_cel_val int_arithmetic(enum mr_cel_op op, int64_t a, int64_t b)
{
    int64_t result = 0;
    bool over = false;
    switch (op) {
    case MR_CEL_OP_ADD:
        over = __builtin_add_overflow(a, b, &result);
        break;
    case MR_CEL_OP_SUBTRACT:
        over = __builtin_sub_overflow(a, b, &result);
        break;
    case MR_CEL_OP_MULTIPLY:
        over = __builtin_mul_overflow(a, b, &result);
        break;
    default:
        if (b == 0)
            return mr_cel_error(op == MR_CEL_OP_DIVIDE ? MR_CEL_E_DIVIDE_BY_ZERO
                                                       : MR_CEL_E_MODULUS_BY_ZERO,
                                no_detail);
        over = a == INT64_MIN && b == -1;
        if (!over)
            result = op == MR_CEL_OP_DIVIDE ? a / b : a % b;
    }
    return over ? overflow("int") : mr_cel_int(result);
}

static struct mr_cel_val uint_arithmetic(enum mr_cel_op op, uint64_t a, uint64_t b)
{
    uint64_t result = 0;
    bool over = false;
    switch (op) {
    case MR_CEL_OP_ADD:
        over = __builtin_add_overflow(a, b, &result);
        break;
    case MR_CEL_OP_SUBTRACT:
        over = __builtin_sub_overflow(a, b, &result);
        break;
    case MR_CEL_OP_MULTIPLY:
        over = __builtin_mul_overflow(a, b, &result);
        break;
    default:
        if (b == 0)
            return mr_cel_error(op == MR_CEL_OP_DIVIDE ? MR_CEL_E_DIVIDE_BY_ZERO
                                                       : MR_CEL_E_MODULUS_BY_ZERO,
                                no_detail);
        result = op == MR_CEL_OP_DIVIDE ? a / b : a % b;
    }
    return over ? overflow("uint") : mr_cel_uint(result);
}

static struct mr_cel_val double_arithmetic(enum mr_cel_op op, double a, double b)
{
    switch (op) {
    case MR_CEL_OP_ADD:
        return mr_cel_double(a + b);
    case MR_CEL_OP_SUBTRACT:
        return mr_cel_double(a - b);
    case MR_CEL_OP_MULTIPLY:
        return mr_cel_double(a * b);
    case MR_CEL_OP_DIVIDE:
        return mr_cel_double(a / b);
    default:
        return mr_cel_no_overload();
    }
}

static struct mr_cel_val shift_time(struct mr_cel_val time, int64_t duration_ns)
{
    struct mr_cel_time from = {time.integer, (int32_t)time.len}, to;
    if (!mr_cel_time_add(from, duration_ns, &to))
        return mr_cel_error(MR_CEL_E_RANGE, MR_STR("timestamp"));
    return mr_cel_timestamp(to.seconds, (uint32_t)to.nanos);
}

static struct mr_cel_val time_arithmetic(enum mr_cel_op op, struct mr_cel_val a,
                                         struct mr_cel_val b)
{
    int64_t ns;
    if (op == MR_CEL_OP_ADD) {
        if (a.kind == MR_CEL_TIMESTAMP && b.kind == MR_CEL_DURATION)
            return shift_time(a, b.integer);
        if (a.kind == MR_CEL_DURATION && b.kind == MR_CEL_TIMESTAMP)
            return shift_time(b, a.integer);
        if (a.kind == MR_CEL_DURATION && b.kind == MR_CEL_DURATION)
            return __builtin_add_overflow(a.integer, b.integer, &ns) ? overflow("duration")
                                                                     : mr_cel_duration(ns);
    } else if (op == MR_CEL_OP_SUBTRACT) {
        if (a.kind == MR_CEL_TIMESTAMP && b.kind == MR_CEL_DURATION) {
            if (b.integer == INT64_MIN) { /* has no negative: two steps */
                struct mr_cel_val half = shift_time(a, INT64_MAX);
                return half.kind == MR_CEL_TIMESTAMP ? shift_time(half, 1) : half;
            }
            return shift_time(a, -b.integer);
        }
        if (a.kind == MR_CEL_DURATION && b.kind == MR_CEL_DURATION)
            return __builtin_sub_overflow(a.integer, b.integer, &ns) ? overflow("duration")
                                                                     : mr_cel_duration(ns);
        if (a.kind == MR_CEL_TIMESTAMP && b.kind == MR_CEL_TIMESTAMP)
            return mr_cel_time_subtract((struct mr_cel_time){a.integer, (int32_t)a.len},
                                        (struct mr_cel_time){b.integer, (int32_t)b.len}, &ns)
                       ? mr_cel_duration(ns)
                       : overflow("duration");
    }
    return mr_cel_no_overload();
}

struct mr_cel_val mr_cel_arithmetic(struct mr_cel_ctx *ctx, enum mr_cel_op op, struct mr_cel_val a,
                                    struct mr_cel_val b)
{
    if (a.kind != b.kind)
        return time_arithmetic(op, a, b);
    switch (a.kind) {
    case MR_CEL_INT:
        return int_arithmetic(op, a.integer, b.integer);
    case MR_CEL_UINT:
        return uint_arithmetic(op, a.bits, b.bits);
    case MR_CEL_DOUBLE:
        return double_arithmetic(op, a.number, b.number);
    case MR_CEL_STRING:
    case MR_CEL_BYTES:
        return op == MR_CEL_OP_ADD ? concatenate_text(ctx, a, b) : mr_cel_no_overload();
    case MR_CEL_LIST:
        return op == MR_CEL_OP_ADD ? concatenate_lists(ctx, a, b) : mr_cel_no_overload();
    default:
        return time_arithmetic(op, a, b);
    }
}

struct mr_cel_val mr_cel_negate(struct mr_cel_val a)
{
    if (a.kind == MR_CEL_INT)
        return a.integer == INT64_MIN ? overflow("int") : mr_cel_int(-a.integer);
    return a.kind == MR_CEL_DOUBLE ? mr_cel_double(-a.number) : mr_cel_no_overload();
}

struct mr_cel_val mr_cel_ordered(struct mr_cel_ctx *ctx, enum mr_cel_op op, struct mr_cel_val a,
                                 struct mr_cel_val b)
{
    int order;
    if (a.kind == MR_CEL_STRING && !mr_cel_charge(ctx, a.len / 64))
        return mr_cel_stopped(ctx);
    if (!mr_cel_compare(a, b, &order))
        return order == 2 ? mr_cel_bool(false) : mr_cel_no_overload();
    return mr_cel_bool(op == MR_CEL_OP_LESS         ? order < 0
                       : op == MR_CEL_OP_LESS_EQUAL ? order <= 0
                       : op == MR_CEL_OP_GREATER    ? order > 0
                                                    : order >= 0);
}

struct mr_cel_val mr_cel_in(struct mr_cel_ctx *ctx, struct mr_cel_val item,
                            struct mr_cel_val container)
{
    struct mr_cel_val found;
    if (container.kind == MR_CEL_MAP) {
        bool there = mr_cel_map_get(ctx, container, item, &found);
        return there && found.kind == MR_CEL_ERROR ? found : mr_cel_bool(there);
    }
    if (container.kind != MR_CEL_LIST)
        return mr_cel_no_overload();
    struct mr_cel_iter it;
    for (mr_cel_iter_init(&it, ctx, container); mr_cel_iter_next(&it);)
        if (mr_cel_equal(ctx, item, it.value))
            return mr_cel_bool(true);
    return it.failed.kind == MR_CEL_ERROR ? it.failed : mr_cel_bool(false);
}

/* An index of a list: an int or uint, or a double that is one. */
static bool to_index(struct mr_cel_val key, int64_t *out)
{
    if (key.kind == MR_CEL_INT || key.kind == MR_CEL_UINT) {
        *out = key.kind == MR_CEL_UINT && key.bits > INT64_MAX ? INT64_MAX : key.integer;
        return true;
    }
    if (key.kind != MR_CEL_DOUBLE || !(key.number >= -0x1p53 && key.number <= 0x1p53) ||
        (double)(int64_t)key.number != key.number)
        return false;
    *out = (int64_t)key.number;
    return true;
}

static struct mr_cel_val key_error(struct mr_cel_ctx *ctx, enum mr_cel_code code,
                                   struct mr_cel_val key)
{
    switch (key.kind) {
    case MR_CEL_STRING:
        return mr_cel_error(code, mr_cel_str(key));
    case MR_CEL_BOOL:
        return mr_cel_error(code, mr_str_from(key.boolean ? "true" : "false"));
    case MR_CEL_INT:
        return mr_cel_errorf(ctx, code, "%lld", (long long)key.integer);
    case MR_CEL_UINT:
        return mr_cel_errorf(ctx, code, "%llu", (unsigned long long)key.bits);
    case MR_CEL_DOUBLE:
        return mr_cel_errorf(ctx, code, "%g", key.number);
    default:
        return mr_cel_no_overload();
    }
}

/* *found: the value, or an error; false: there is none, and nothing else is wrong. */
static bool look_up(struct mr_cel_ctx *ctx, struct mr_cel_val container, struct mr_cel_val key,
                    struct mr_cel_val *found)
{
    int64_t index;
    if (container.kind == MR_CEL_MAP) {
        if (mr_cel_map_get(ctx, container, key, found))
            return true;
        if (key.kind == MR_CEL_STRING || key.kind == MR_CEL_BOOL || mr_cel_is_number(key))
            return false;
        *found = mr_cel_no_overload();
        return true;
    }
    if (container.kind == MR_CEL_LIST && to_index(key, &index))
        return index >= 0 && mr_cel_list_at(ctx, container, (uint64_t)index, found);
    *found = container.kind == MR_CEL_LIST && key.kind == MR_CEL_DOUBLE
                 ? key_error(ctx, MR_CEL_E_INDEX, key)
                 : mr_cel_no_overload();
    return true;
}

struct mr_cel_val mr_cel_index(struct mr_cel_ctx *ctx, struct mr_cel_val container,
                               struct mr_cel_val key)
{
    struct mr_cel_val found;
    if (container.kind == MR_CEL_OPTIONAL)
        return mr_cel_optional_index(ctx, container, key);
    if (look_up(ctx, container, key, &found))
        return found;
    return key_error(ctx, container.kind == MR_CEL_MAP ? MR_CEL_E_NO_SUCH_KEY : MR_CEL_E_INDEX,
                     key);
}

struct mr_cel_val mr_cel_optional_index(struct mr_cel_ctx *ctx, struct mr_cel_val container,
                                        struct mr_cel_val key)
{
    struct mr_cel_val found;
    if (container.kind == MR_CEL_OPTIONAL) {
        if (!container.some)
            return container;
        container = *container.some;
    }
    if (!look_up(ctx, container, key, &found))
        return mr_cel_optional_none();
    return mr_cel_is_strange(found) ? found : mr_cel_optional_some(ctx, found);
}

struct mr_cel_val mr_cel_select(struct mr_cel_ctx *ctx, struct mr_cel_val container,
                                struct mr_str field)
{
    struct mr_cel_val found;
    if (container.kind == MR_CEL_OPTIONAL)
        return mr_cel_optional_select(ctx, container, field);
    if (container.kind != MR_CEL_MAP)
        return mr_cel_is_strange(container) ? container
                                            : mr_cel_error(MR_CEL_E_NO_SUCH_FIELD, field);
    return mr_cel_map_get(ctx, container, mr_cel_string(field), &found)
               ? found
               : mr_cel_error(MR_CEL_E_NO_SUCH_KEY, field);
}

struct mr_cel_val mr_cel_optional_select(struct mr_cel_ctx *ctx, struct mr_cel_val container,
                                         struct mr_str field)
{
    struct mr_cel_val found;
    if (container.kind == MR_CEL_OPTIONAL) {
        if (!container.some)
            return container;
        container = *container.some;
    }
    if (container.kind != MR_CEL_MAP)
        return mr_cel_error(MR_CEL_E_NO_SUCH_FIELD, field);
    if (!mr_cel_map_get(ctx, container, mr_cel_string(field), &found))
        return mr_cel_optional_none();
    return mr_cel_is_strange(found) ? found : mr_cel_optional_some(ctx, found);
}

struct mr_cel_val mr_cel_has(struct mr_cel_ctx *ctx, struct mr_cel_val container,
                             struct mr_str field)
{
    struct mr_cel_val found;
    if (container.kind == MR_CEL_OPTIONAL) {
        if (!container.some)
            return mr_cel_bool(false);
        container = *container.some;
    }
    if (container.kind != MR_CEL_MAP)
        return mr_cel_is_strange(container) ? container
                                            : mr_cel_error(MR_CEL_E_NO_SUCH_FIELD, field);
    bool there = mr_cel_map_get(ctx, container, mr_cel_string(field), &found);
    return there && mr_cel_is_strange(found) ? found : mr_cel_bool(there);
}

struct mr_cel_val mr_cel_text_test(struct mr_cel_ctx *ctx, enum mr_cel_op op, struct mr_cel_val a,
                                   struct mr_cel_val b)
{
    if (a.kind != MR_CEL_STRING || b.kind != MR_CEL_STRING)
        return mr_cel_no_overload();
    if (b.len > a.len)
        return mr_cel_bool(false);
    if (b.len == 0)
        return mr_cel_bool(true);
    if (op == MR_CEL_OP_STARTS_WITH || op == MR_CEL_OP_ENDS_WITH) {
        if (!mr_cel_charge(ctx, b.len / 64))
            return mr_cel_stopped(ctx);
        const char *at = op == MR_CEL_OP_STARTS_WITH ? a.text : a.text + (a.len - b.len);
        return mr_cel_bool(memcmp(at, b.text, b.len) == 0);
    }
    if (!mr_cel_charge(ctx, 1 + (a.len + b.len) / 16)) /* memmem is linear */
        return mr_cel_stopped(ctx);
    return mr_cel_bool(memmem(a.text, a.len, b.text, b.len) != NULL);
}

struct mr_cel_val mr_cel_size(struct mr_cel_ctx *ctx, struct mr_cel_val a)
{
    uint32_t count;
    switch (a.kind) {
    case MR_CEL_STRING:
        if (!mr_cel_charge(ctx, 1 + a.len / 16))
            return mr_cel_stopped(ctx);
        return mr_cel_int((int64_t)mr_cel_utf8_count(mr_cel_str(a)));
    case MR_CEL_BYTES:
        return mr_cel_int(a.len);
    case MR_CEL_LIST:
    case MR_CEL_MAP:
        if (mr_cel_count(ctx, a, &count))
            return mr_cel_int(count);
        return ctx->fatal != 0 ? mr_cel_stopped(ctx)
                               : mr_cel_error(MR_CEL_E_BAD_DOCUMENT, no_detail);
    default:
        return mr_cel_no_overload();
    }
}

/* Merge two sorted runs of indexes; false: two keys have no order, or a limit is reached. */
static bool merge(struct mr_cel_ctx *ctx, const struct mr_cel_val *keys, const uint32_t *from,
                  uint32_t *to, const uint32_t bounds[3])
{
    uint32_t left = bounds[0], right = bounds[1], at = bounds[0];
    while (left < bounds[1] || right < bounds[2]) {
        int order = 0;
        if (left < bounds[1] && right < bounds[2]) {
            if (!mr_cel_charge(ctx, 1) ||
                !mr_cel_compare(keys[from[right]], keys[from[left]], &order))
                return false;
        } else {
            order = left < bounds[1] ? 1 : -1;
        }
        to[at++] = order < 0 ? from[right++] : from[left++];
    }
    return true;
}

struct mr_cel_val mr_cel_sort_by(struct mr_cel_ctx *ctx, struct mr_cel_val list,
                                 struct mr_cel_val keys)
{
    const struct mr_cel_val *items, *by;
    uint32_t count, by_count;
    struct mr_cel_val failed;
    if (list.kind != MR_CEL_LIST || keys.kind != MR_CEL_LIST)
        return mr_cel_no_overload();
    if (!mr_cel_list_items(ctx, list, &items, &count, &failed) ||
        !mr_cel_list_items(ctx, keys, &by, &by_count, &failed))
        return failed;
    if (count != by_count)
        return mr_cel_error(MR_CEL_E_PROGRAM, no_detail);
    uint32_t *order = mr_cel_alloc(ctx, 2 * (size_t)count * sizeof *order), *other = order + count;
    struct mr_cel_val *sorted = mr_cel_list_new(ctx, count);
    if (!order || !sorted)
        return mr_cel_stopped(ctx);
    for (uint32_t i = 0; i < count; i++) {
        order[i] = i;
        int self;
        if (by[i].kind != by[0].kind || (!mr_cel_compare(by[i], by[i], &self) && self != 2))
            return mr_cel_no_overload();
    }
    for (uint64_t width = 1; width < count; width *= 2) {
        for (uint64_t at = 0; at < count; at += 2 * width) {
            uint64_t middle = at + width < count ? at + width : count;
            uint64_t end = at + 2 * width < count ? at + 2 * width : count;
            const uint32_t bounds[3] = {(uint32_t)at, (uint32_t)middle, (uint32_t)end};
            if (!merge(ctx, by, order, other, bounds))
                return ctx->fatal != 0 ? mr_cel_stopped(ctx) : mr_cel_no_overload();
        }
        uint32_t *swap = order;
        order = other;
        other = swap;
    }
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = items[order[i]];
    return mr_cel_list(sorted, count);
}
