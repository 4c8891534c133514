/* cel/order.c: equality, order and hashes of values; see fn.h.
 *
 * Numbers are compared as the specification's cases have it: an int beside a double becomes a
 * double (so the comparison of great numbers is not exact), an int beside a uint is exact. Keys of
 * maps are the same key only when they are exactly equal. */
#include "cel/fn.h"

static int order_of_doubles(double a, double b)
{
    return a < b ? -1 : a > b ? 1 : a == b ? 0 : 2;
}

static int order_int_double(int64_t a, double b)
{
    if (b < -0x1p63)
        return 1;
    if (b > 0x1p63)
        return -1;
    return order_of_doubles((double)a, b);
}

static int order_uint_double(uint64_t a, double b)
{
    if (b < 0)
        return 1;
    if (b > 0x1p64)
        return -1;
    return order_of_doubles((double)a, b);
}

static int order_int_uint(int64_t a, uint64_t b)
{
    if (a < 0 || b > INT64_MAX)
        return -1;
    return ((uint64_t)a > b) - ((uint64_t)a < b);
}

static int reversed(int order)
{
    return order == 2 ? 2 : -order;
}

/* -1, 0, 1; 2: one is NaN. Both are numbers. */
static int order_of_numbers(struct mr_cel_val a, struct mr_cel_val b)
{
    switch (a.kind * 16 + b.kind) {
    case MR_CEL_INT * 16 + MR_CEL_INT:
        return (a.integer > b.integer) - (a.integer < b.integer);
    case MR_CEL_UINT * 16 + MR_CEL_UINT:
        return (a.bits > b.bits) - (a.bits < b.bits);
    case MR_CEL_INT * 16 + MR_CEL_UINT:
        return order_int_uint(a.integer, b.bits);
    case MR_CEL_UINT * 16 + MR_CEL_INT:
        return -order_int_uint(b.integer, a.bits);
    case MR_CEL_INT * 16 + MR_CEL_DOUBLE:
        return order_int_double(a.integer, b.number);
    case MR_CEL_DOUBLE * 16 + MR_CEL_INT:
        return reversed(order_int_double(b.integer, a.number));
    case MR_CEL_UINT * 16 + MR_CEL_DOUBLE:
        return order_uint_double(a.bits, b.number);
    case MR_CEL_DOUBLE * 16 + MR_CEL_UINT:
        return reversed(order_uint_double(b.bits, a.number));
    default:
        return order_of_doubles(a.number, b.number);
    }
}

static int order_of_bytes(struct mr_cel_val a, struct mr_cel_val b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len > 0 ? memcmp(a.text, b.text, len) : 0;
    if (order != 0)
        return order < 0 ? -1 : 1;
    return (a.len > b.len) - (a.len < b.len);
}

bool mr_cel_compare(struct mr_cel_val a, struct mr_cel_val b, int *order)
{
    if (mr_cel_is_number(a) && mr_cel_is_number(b)) {
        *order = order_of_numbers(a, b);
        return *order != 2;
    }
    *order = 0;
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case MR_CEL_BOOL:
        *order = (a.boolean ? 1 : 0) - (b.boolean ? 1 : 0);
        return true;
    case MR_CEL_STRING:
    case MR_CEL_BYTES:
        *order = order_of_bytes(a, b);
        return true;
    case MR_CEL_DURATION:
        *order = (a.integer > b.integer) - (a.integer < b.integer);
        return true;
    case MR_CEL_TIMESTAMP:
        *order = (a.integer > b.integer) - (a.integer < b.integer);
        if (*order == 0)
            *order = (a.len > b.len) - (a.len < b.len);
        return true;
    default:
        return false;
    }
}

static bool equal_lists(struct mr_cel_ctx *ctx, struct mr_cel_val a, struct mr_cel_val b)
{
    if (a.form != MR_CEL_FORM_BSON && b.form != MR_CEL_FORM_BSON && a.len != b.len)
        return false;
    struct mr_cel_iter left, right;
    mr_cel_iter_init(&left, ctx, a);
    mr_cel_iter_init(&right, ctx, b);
    for (;;) {
        bool more = mr_cel_iter_next(&left);
        if (more != mr_cel_iter_next(&right))
            return false;
        if (!more)
            return left.failed.kind == MR_CEL_NULL && right.failed.kind == MR_CEL_NULL;
        if (!mr_cel_equal(ctx, left.value, right.value))
            return false;
    }
}

static bool equal_maps(struct mr_cel_ctx *ctx, struct mr_cel_val a, struct mr_cel_val b)
{
    uint32_t left, right;
    if (!mr_cel_count(ctx, a, &left) || !mr_cel_count(ctx, b, &right) || left != right)
        return false;
    struct mr_cel_iter it;
    struct mr_cel_val other;
    for (mr_cel_iter_init(&it, ctx, a); mr_cel_iter_next(&it);)
        if (!mr_cel_map_get(ctx, b, it.key, &other) || !mr_cel_equal(ctx, it.value, other))
            return false;
    return it.failed.kind == MR_CEL_NULL;
}

static bool equal_containers(struct mr_cel_ctx *ctx, struct mr_cel_val a, struct mr_cel_val b)
{
    if (ctx->depth >= MR_CEL_VALUE_DEPTH_MAX) {
        ctx->fatal = MR_CEL_E_LIMIT_DEPTH;
        ctx->budget = -1;
        return false;
    }
    ctx->depth++;
    bool equal = a.kind == MR_CEL_LIST  ? equal_lists(ctx, a, b)
                 : a.kind == MR_CEL_MAP ? equal_maps(ctx, a, b)
                 : a.some && b.some     ? mr_cel_equal(ctx, *a.some, *b.some)
                                        : a.some == b.some;
    ctx->depth--;
    return equal;
}

bool mr_cel_equal(struct mr_cel_ctx *ctx, struct mr_cel_val a, struct mr_cel_val b)
{
    if (a.kind != b.kind)
        return mr_cel_is_number(a) && mr_cel_is_number(b) && order_of_numbers(a, b) == 0;
    switch (a.kind) {
    case MR_CEL_NULL:
        return true;
    case MR_CEL_BOOL:
        return a.boolean == b.boolean;
    case MR_CEL_INT:
    case MR_CEL_UINT:
    case MR_CEL_DURATION:
        return a.bits == b.bits;
    case MR_CEL_DOUBLE:
        return a.number == b.number;
    case MR_CEL_TIMESTAMP:
        return a.integer == b.integer && a.len == b.len;
    case MR_CEL_CIDR:
        if (a.aux != b.aux)
            return false;
        break;
    case MR_CEL_LIST:
    case MR_CEL_MAP:
    case MR_CEL_OPTIONAL:
        return equal_containers(ctx, a, b);
    case MR_CEL_UNKNOWN:
    case MR_CEL_ERROR:
        return false;
    default:
        break;
    }
    return a.len == b.len && mr_cel_charge(ctx, a.len / 64) &&
           (a.len == 0 || memcmp(a.text, b.text, a.len) == 0);
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

uint64_t mr_cel_key_hash(struct mr_cel_val key)
{
    uint64_t hash = key.len;
    switch (key.kind) {
    case MR_CEL_DOUBLE: /* as the integer that it equals, if it equals one */
        if (key.number >= -0x1p63 && key.number < 0x1p63)
            return mix((uint64_t)(int64_t)key.number);
        return mix(key.number >= 0 && key.number < 0x1p64 ? (uint64_t)key.number : 0);
    case MR_CEL_BOOL:
        return mix(key.boolean ? 3 : 5);
    case MR_CEL_INT:
    case MR_CEL_UINT:
        return mix(key.bits);
    default:
        break;
    }
    const char *at = key.text;
    size_t left = key.len;
    for (; left >= 8; left -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        hash = mix(hash ^ word);
    }
    uint64_t word = 0;
    if (left > 0)
        memcpy(&word, at, left);
    return mix(hash ^ word);
}
