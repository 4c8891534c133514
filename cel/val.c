/* cel/val.c: values, errors and the accounting of an evaluation; see val.h and fn.h. */
#include "cel/val.h"

#include <stdio.h>
#include <time.h>

#include "cel/arena.h"
#include "cel/fn.h"

static const struct {
    const char *name, *text;
} codes[MR_CEL_E_COUNT] = {
    {"none", "no error"},
#define MR_CEL_CODE(name, text) {#name, text},
#include "cel/codes.def"
#undef MR_CEL_CODE
};

const char *mr_cel_code_name(enum mr_cel_code code)
{
    MR_ASSERT(code < MR_CEL_E_COUNT);
    return codes[code].name;
}

const char *mr_cel_code_text(enum mr_cel_code code)
{
    MR_ASSERT(code < MR_CEL_E_COUNT);
    return codes[code].text;
}

struct mr_str mr_cel_type_name(struct mr_cel_val v)
{
    static const struct mr_str names[MR_CEL_KIND_COUNT] = {
        [MR_CEL_NULL] = {"null_type", 9},
        [MR_CEL_BOOL] = {"bool", 4},
        [MR_CEL_INT] = {"int", 3},
        [MR_CEL_UINT] = {"uint", 4},
        [MR_CEL_DOUBLE] = {"double", 6},
        [MR_CEL_STRING] = {"string", 6},
        [MR_CEL_BYTES] = {"bytes", 5},
        [MR_CEL_LIST] = {"list", 4},
        [MR_CEL_MAP] = {"map", 3},
        [MR_CEL_TIMESTAMP] = {"google.protobuf.Timestamp", 25},
        [MR_CEL_DURATION] = {"google.protobuf.Duration", 24},
        [MR_CEL_TYPE] = {"type", 4},
        [MR_CEL_OPTIONAL] = {"optional_type", 13},
        [MR_CEL_IP] = {"net.IP", 6},
        [MR_CEL_CIDR] = {"net.CIDR", 8},
        [MR_CEL_UNKNOWN] = {"unknown", 7},
        [MR_CEL_ERROR] = {"error", 5},
    };
    return v.kind < MR_CEL_KIND_COUNT ? names[v.kind] : MR_STR("error");
}

enum { STEPS_BETWEEN_CLOCKS = 16384 };

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void refill(struct mr_cel_ctx *ctx)
{
    ctx->budget = ctx->steps_left < STEPS_BETWEEN_CLOCKS ? ctx->steps_left : STEPS_BETWEEN_CLOCKS;
    ctx->steps_left -= ctx->budget;
}

void mr_cel_ctx_start(struct mr_cel_ctx *ctx, uint64_t steps_max)
{
    ctx->steps_left = steps_max < INT64_MAX ? (int64_t)steps_max : INT64_MAX;
    refill(ctx);
}

uint64_t mr_cel_ctx_used(const struct mr_cel_ctx *ctx, uint64_t steps_max)
{
    int64_t left = ctx->fatal == MR_CEL_E_LIMIT_STEPS ? 0 : ctx->steps_left + ctx->budget;
    return left > 0 && (uint64_t)left <= steps_max ? steps_max - (uint64_t)left : steps_max;
}

/* The clock is first read here, so that short evaluations never do: the limit counts from then on.
 */
static bool in_time(struct mr_cel_ctx *ctx)
{
    if (ctx->time_ns_max == 0)
        return true;
    uint64_t now = now_ns();
    if (ctx->deadline_ns == 0)
        ctx->deadline_ns = now + ctx->time_ns_max;
    return now < ctx->deadline_ns;
}

bool mr_cel_charge_slowly(struct mr_cel_ctx *ctx)
{
    if (ctx->fatal != 0)
        return false;
    ctx->steps_left += ctx->budget; /* what was overdrawn */
    ctx->budget = 0;
    if (ctx->steps_left <= 0) {
        ctx->fatal = MR_CEL_E_LIMIT_STEPS;
    } else if (!in_time(ctx)) {
        ctx->fatal = MR_CEL_E_LIMIT_TIME;
    } else {
        refill(ctx);
        return true;
    }
    ctx->budget = -1; /* whoever charges next comes here, and is refused */
    return false;
}

void *mr_cel_alloc(struct mr_cel_ctx *ctx, size_t size)
{
    if (!mr_cel_charge(ctx, 1 + size / 16))
        return NULL;
    void *bytes = mr_cel_arena_alloc(ctx->arena, size);
    if (!bytes) {
        ctx->fatal = MR_CEL_E_LIMIT_MEMORY;
        ctx->budget = -1;
    }
    return bytes;
}

struct mr_cel_val mr_cel_errorf(struct mr_cel_ctx *ctx, enum mr_cel_code code, const char *format,
                                ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len < 0)
        len = 0;
    if ((size_t)len >= sizeof text)
        len = sizeof text - 1;
    char *copy = mr_cel_alloc(ctx, (size_t)len);
    if (!copy)
        return mr_cel_stopped(ctx);
    memcpy(copy, text, (size_t)len);
    return mr_cel_error(code, (struct mr_str){copy, (size_t)len});
}

struct mr_cel_val mr_cel_optional_some(struct mr_cel_ctx *ctx, struct mr_cel_val value)
{
    struct mr_cel_val *copy = mr_cel_alloc(ctx, sizeof *copy);
    if (!copy)
        return mr_cel_stopped(ctx);
    *copy = value;
    return (struct mr_cel_val){.kind = MR_CEL_OPTIONAL, .some = copy};
}

static struct mr_cel_val from_oid(struct mr_cel_ctx *ctx, const uint8_t *bytes)
{
    char *text = mr_cel_alloc(ctx, 24);
    if (!text)
        return mr_cel_stopped(ctx);
    for (int i = 0; i < 12; i++) {
        text[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    return mr_cel_string((struct mr_str){text, 24});
}

static struct mr_cel_val from_date(int64_t ms)
{
    int64_t seconds = ms / 1000 - (ms % 1000 < 0);
    if (!mr_cel_timestamp_in_range(seconds))
        return mr_cel_error(MR_CEL_E_RANGE, MR_STR("date of a document"));
    return mr_cel_timestamp(seconds, (uint32_t)(ms - seconds * 1000) * 1000000);
}

/* The nearest double of a decimal128 (IEEE 754-2008, binary integer significand), as far as a
 * product of doubles is the nearest: its significand has up to 113 bits, and a double's exponents
 * end earlier. */
static struct mr_cel_val from_decimal(const uint8_t *bytes)
{
    uint64_t low, high;
    memcpy(&low, bytes, 8);
    memcpy(&high, bytes + 8, 8);
    bool negative = high >> 63 != 0;
    uint32_t top = (uint32_t)(high >> 58) & 31;
    if (top == 31)
        return mr_cel_double(__builtin_nan(""));
    if (top == 30)
        return mr_cel_double(negative ? -__builtin_inf() : __builtin_inf());
    bool large = top >> 3 == 3; /* significands that no 34 digits have: zero by the standard */
    int exponent = (int)((large ? high >> 47 : high >> 49) & 0x3fff) - 6176;
    uint64_t upper = large ? 0 : high & UINT64_C(0x1ffffffffffff);
    if (large)
        low = 0;
    long double number = (long double)upper * 18446744073709551616.0L + (long double)low;
    long double power = 10, scale = 1;
    for (int left = exponent < 0 ? -exponent : exponent; left != 0; left >>= 1, power *= power)
        if (left & 1)
            scale *= power;
    number = exponent < 0 ? number / scale : number * scale;
    return mr_cel_double((double)(negative ? -number : number));
}

/* Strings whose text is followed by a NUL and led by a length; kinds of BSON that are text. */
static struct mr_cel_val from_text(const uint8_t *data, uint32_t len)
{
    uint32_t text;
    if (len < 5)
        return mr_cel_error(MR_CEL_E_BAD_DOCUMENT, (struct mr_str){NULL, 0});
    memcpy(&text, data, sizeof text);
    if (text < 1 || text > len - 4)
        return mr_cel_error(MR_CEL_E_BAD_DOCUMENT, (struct mr_str){NULL, 0});
    return mr_cel_string((struct mr_str){(const char *)data + 4, text - 1});
}

static struct mr_cel_val from_rare(struct mr_cel_ctx *ctx, const struct mr_bson_value *v)
{
    int64_t word;
    switch (v->type) {
    case MR_BSON_OID:
        return from_oid(ctx, v->data);
    case MR_BSON_DECIMAL128:
        return from_decimal(v->data);
    case MR_BSON_BINARY:
        if (v->len < 5)
            break;
        return mr_cel_bytes((struct mr_str){(const char *)v->data + 5, v->len - 5});
    case MR_BSON_TIMESTAMP:
        memcpy(&word, v->data, sizeof word);
        return mr_cel_timestamp((int64_t)((uint64_t)word >> 32), 0);
    case MR_BSON_REGEX:
        return mr_cel_string(mr_str_from((const char *)v->data));
    case MR_BSON_CODE_SCOPE:
        return v->len < 14 ? from_text(NULL, 0) : from_text(v->data + 4, v->len - 4);
    case MR_BSON_CODE:
    case MR_BSON_SYMBOL:
    case MR_BSON_DBPOINTER:
        return from_text(v->data, v->len);
    case MR_BSON_MINKEY:
        return mr_cel_double(-__builtin_inf());
    case MR_BSON_MAXKEY:
        return mr_cel_double(__builtin_inf());
    case MR_BSON_UNDEFINED:
        return mr_cel_null();
    default:
        break;
    }
    return mr_cel_error(MR_CEL_E_BAD_DOCUMENT, (struct mr_str){NULL, 0});
}

struct mr_cel_val mr_cel_from_bson(struct mr_cel_ctx *ctx, const struct mr_bson_value *v)
{
    int64_t word;
    int32_t half;
    switch (v->type) {
    case MR_BSON_STRING:
        return from_text(v->data, v->len);
    case MR_BSON_INT32:
        memcpy(&half, v->data, sizeof half);
        return mr_cel_int(half);
    case MR_BSON_INT64:
        memcpy(&word, v->data, sizeof word);
        return mr_cel_int(word);
    case MR_BSON_DOUBLE: {
        double number;
        memcpy(&number, v->data, sizeof number);
        return mr_cel_double(number);
    }
    case MR_BSON_BOOL:
        return mr_cel_bool(*v->data != 0);
    case MR_BSON_NULL:
        return mr_cel_null();
    case MR_BSON_DOCUMENT:
    case MR_BSON_ARRAY:
        return (struct mr_cel_val){.kind = v->type == MR_BSON_ARRAY ? MR_CEL_LIST : MR_CEL_MAP,
                                   .form = MR_CEL_FORM_BSON,
                                   .len = v->len,
                                   .bson = v->data};
    case MR_BSON_DATE:
        memcpy(&word, v->data, sizeof word);
        return from_date(word);
    default:
        return from_rare(ctx, v);
    }
}
