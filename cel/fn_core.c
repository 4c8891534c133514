/* cel/fn_core.c: the functions of the language's standard library that are no operators;
 * conversions above all. */
#include "cel/function.h"
#include "cel/lib.h"
#include "cel/number.h"
#include "cel/ops.h"
#include "cel/regex.h"
#include "cel/timestamp.h"
#include "cel/utf8.h"

static struct mr_cel_val cannot_convert(struct mr_cel_ctx *ctx, struct mr_cel_val from,
                                        const char *to)
{
    struct mr_str type = mr_cel_type_name(from);
    if (from.kind == MR_CEL_STRING)
        return mr_cel_errorf(ctx, MR_CEL_E_CONVERSION, "%s from string \"%.*s\"", to,
                             from.len < 64 ? (int)from.len : 64, from.text);
    return mr_cel_errorf(ctx, MR_CEL_E_CONVERSION, "%s from %.*s: out of range", to, (int)type.len,
                         type.data);
}

struct mr_cel_val mr_cel_fn_size(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                 uint32_t count)
{
    (void)count;
    return mr_cel_size(ctx, args[0]);
}

struct mr_cel_val mr_cel_fn_type(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                 uint32_t count)
{
    (void)ctx, (void)count;
    return mr_cel_type_value(mr_cel_type_name(args[0]));
}

struct mr_cel_val mr_cel_fn_dyn(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                uint32_t count)
{
    (void)ctx, (void)count;
    return args[0];
}

struct mr_cel_val mr_cel_fn_bool(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                 uint32_t count)
{
    (void)count;
    static const char *const names[2][6] = {{"0", "f", "F", "false", "FALSE", "False"},
                                            {"1", "t", "T", "true", "TRUE", "True"}};
    if (args[0].kind == MR_CEL_BOOL)
        return args[0];
    if (args[0].kind != MR_CEL_STRING)
        return mr_cel_no_overload();
    for (int value = 0; value < 2; value++)
        for (int i = 0; i < 6; i++)
            if (mr_str_equal(mr_cel_str(args[0]), mr_str_from(names[value][i])))
                return mr_cel_bool(value != 0);
    return cannot_convert(ctx, args[0], "bool");
}

struct mr_cel_val mr_cel_fn_int(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                uint32_t count)
{
    (void)count;
    struct mr_cel_val a = args[0];
    int64_t value;
    switch (a.kind) {
    case MR_CEL_INT:
        return a;
    case MR_CEL_UINT:
        return a.bits > INT64_MAX ? mr_cel_error(MR_CEL_E_OVERFLOW, MR_STR("int"))
                                  : mr_cel_int(a.integer);
    case MR_CEL_DOUBLE: /* the bounds themselves are refused: a double near them stands for more
                           than one int */
        return a.number > -0x1p63 && a.number < 0x1p63
                   ? mr_cel_int((int64_t)a.number)
                   : mr_cel_error(MR_CEL_E_OVERFLOW, MR_STR("int"));
    case MR_CEL_STRING:
        return mr_cel_int_parse(mr_cel_str(a), &value) ? mr_cel_int(value)
                                                       : cannot_convert(ctx, a, "int");
    case MR_CEL_TIMESTAMP:
    case MR_CEL_DURATION:
        return mr_cel_int(a.integer);
    default:
        return mr_cel_no_overload();
    }
}

struct mr_cel_val mr_cel_fn_uint(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                 uint32_t count)
{
    (void)count;
    struct mr_cel_val a = args[0];
    uint64_t value;
    switch (a.kind) {
    case MR_CEL_UINT:
        return a;
    case MR_CEL_INT:
        return a.integer < 0 ? mr_cel_error(MR_CEL_E_OVERFLOW, MR_STR("uint"))
                             : mr_cel_uint(a.bits);
    case MR_CEL_DOUBLE:
        return a.number >= 0 && a.number < 0x1p64 ? mr_cel_uint((uint64_t)a.number)
                                                  : mr_cel_error(MR_CEL_E_OVERFLOW, MR_STR("uint"));
    case MR_CEL_STRING:
        return mr_cel_uint_parse(mr_cel_str(a), &value) ? mr_cel_uint(value)
                                                        : cannot_convert(ctx, a, "uint");
    default:
        return mr_cel_no_overload();
    }
}

struct mr_cel_val mr_cel_fn_double(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                   uint32_t count)
{
    (void)count;
    struct mr_cel_val a = args[0];
    double value;
    switch (a.kind) {
    case MR_CEL_DOUBLE:
        return a;
    case MR_CEL_INT:
        return mr_cel_double((double)a.integer);
    case MR_CEL_UINT:
        return mr_cel_double((double)a.bits);
    case MR_CEL_STRING:
        return mr_cel_double_parse(mr_cel_str(a), &value) ? mr_cel_double(value)
                                                          : cannot_convert(ctx, a, "double");
    default:
        return mr_cel_no_overload();
    }
}

static struct mr_cel_val copy_text(struct mr_cel_ctx *ctx, const char *text, size_t len)
{
    char *copy = mr_cel_alloc(ctx, len);
    if (!copy)
        return mr_cel_stopped(ctx);
    memcpy(copy, text, len);
    return mr_cel_string((struct mr_str){copy, len});
}

struct mr_cel_val mr_cel_fn_string(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                   uint32_t count)
{
    (void)count;
    struct mr_cel_val a = args[0];
    char text[64];
    switch (a.kind) {
    case MR_CEL_STRING:
        return a;
    case MR_CEL_BOOL:
        return mr_cel_string(mr_str_from(a.boolean ? "true" : "false"));
    case MR_CEL_INT:
        return copy_text(ctx, text, mr_cel_int_format(text, a.integer));
    case MR_CEL_UINT:
        return copy_text(ctx, text, mr_cel_uint_format(text, a.bits));
    case MR_CEL_DOUBLE:
        return copy_text(ctx, text, mr_cel_double_format(text, a.number));
    case MR_CEL_TIMESTAMP:
        return copy_text(ctx, text,
                         mr_cel_time_format(text, (struct mr_cel_time){a.integer, (int32_t)a.len}));
    case MR_CEL_DURATION:
        return copy_text(ctx, text, mr_cel_duration_format(text, a.integer));
    case MR_CEL_IP:
    case MR_CEL_CIDR:
        return copy_text(ctx, text, mr_cel_address_format(text, a));
    case MR_CEL_BYTES:
        if (!mr_cel_charge(ctx, 1 + a.len / 16))
            return mr_cel_stopped(ctx);
        return mr_cel_utf8_valid(mr_cel_str(a))
                   ? mr_cel_string(mr_cel_str(a))
                   : mr_cel_error(MR_CEL_E_CONVERSION, MR_STR("string from bytes: no valid UTF-8"));
    default:
        return mr_cel_no_overload();
    }
}

struct mr_cel_val mr_cel_fn_bytes(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                  uint32_t count)
{
    (void)ctx, (void)count;
    if (args[0].kind == MR_CEL_STRING)
        return mr_cel_bytes(mr_cel_str(args[0]));
    return args[0].kind == MR_CEL_BYTES ? args[0] : mr_cel_no_overload();
}

struct mr_cel_val mr_cel_fn_timestamp(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                      uint32_t count)
{
    (void)count;
    struct mr_cel_val a = args[0];
    struct mr_cel_time time;
    switch (a.kind) {
    case MR_CEL_TIMESTAMP:
        return a;
    case MR_CEL_INT:
        return mr_cel_timestamp_in_range(a.integer)
                   ? mr_cel_timestamp(a.integer, 0)
                   : mr_cel_error(MR_CEL_E_RANGE, MR_STR("timestamp"));
    case MR_CEL_STRING:
        return mr_cel_time_parse(mr_cel_str(a), &time)
                   ? mr_cel_timestamp(time.seconds, (uint32_t)time.nanos)
                   : cannot_convert(ctx, a, "timestamp");
    default:
        return mr_cel_no_overload();
    }
}

struct mr_cel_val mr_cel_fn_duration(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                     uint32_t count)
{
    (void)count;
    int64_t ns;
    if (args[0].kind == MR_CEL_STRING)
        return mr_cel_duration_parse(mr_cel_str(args[0]), &ns)
                   ? mr_cel_duration(ns)
                   : cannot_convert(ctx, args[0], "duration");
    return args[0].kind == MR_CEL_DURATION ? args[0] : mr_cel_no_overload();
}

struct mr_cel_val mr_cel_fn_contains(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                     uint32_t count)
{
    (void)count;
    return mr_cel_text_test(ctx, MR_CEL_OP_CONTAINS, args[0], args[1]);
}

struct mr_cel_val mr_cel_fn_starts_with(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                        uint32_t count)
{
    (void)count;
    return mr_cel_text_test(ctx, MR_CEL_OP_STARTS_WITH, args[0], args[1]);
}

struct mr_cel_val mr_cel_fn_ends_with(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                      uint32_t count)
{
    (void)count;
    return mr_cel_text_test(ctx, MR_CEL_OP_ENDS_WITH, args[0], args[1]);
}

/* With a pattern that is no constant: those are compiled when the program is loaded. */
struct mr_cel_val mr_cel_fn_matches(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                    uint32_t count)
{
    (void)count;
    if (args[0].kind != MR_CEL_STRING || args[1].kind != MR_CEL_STRING)
        return mr_cel_no_overload();
    if (!ctx->regex)
        return mr_cel_error(MR_CEL_E_BAD_REGEX, MR_STR("patterns must be constants here"));
    const struct mr_cel_regex *regex;
    const char *why;
    if (!mr_cel_charge(ctx, 64 + (uint64_t)args[1].len * 64 + args[0].len / 4))
        return mr_cel_stopped(ctx);
    switch (mr_cel_regex_cache_get(ctx->regex, args[1].text, args[1].len, &regex, &why)) {
    case MR_CEL_REGEX_OK:
        return mr_cel_bool(mr_cel_regex_search(regex, args[0].text, args[0].len));
    case MR_CEL_REGEX_SYNTAX:
        return mr_cel_errorf(ctx, MR_CEL_E_BAD_REGEX, "%s", why);
    case MR_CEL_REGEX_TOO_BIG:
        return mr_cel_error(MR_CEL_E_LIMIT_REGEX, (struct mr_str){NULL, 0});
    default:
        return mr_cel_error(MR_CEL_E_LIMIT_MEMORY, (struct mr_str){NULL, 0});
    }
}

mr_cel_fn *mr_cel_impl(uint32_t id)
{
    static mr_cel_fn *const table[MR_CEL_FN_COUNT] = {
#define MR_CEL_IMPL(id, fn) [MR_CEL_FN_##id] = fn,
#include "cel/impl.def"
#undef MR_CEL_IMPL
    };
    return id < MR_CEL_FN_COUNT ? table[id] : NULL;
}
