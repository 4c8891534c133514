/* string.format of the extension library "strings": clauses %s %d %f %e %b %x %X %o and %%, with
 * ".N" in front of the letter for the digits of %f and %e. */
#include <math.h>

#include "cel/chars.h"
#include "cel/lib.h"
#include "cel/number.h"
#include "cel/timestamp.h"
#include "cel/utf8.h"
#include "cel/writer.h"

enum {
    PRECISION_DEFAULT = 6,
    PRECISION_MAX = 100,
    DOUBLE_TEXT_MAX = 512, /* 309 digits, a point, 100 digits behind it */
    DEPTH_MAX = 100,       /* of recursion: two frames take some 400 bytes */
};

/* Kind NULL: went well. A limit of the text is found by mr_cel_writer_end. */
static struct mr_cel_val put_value(struct mr_cel_writer *out, struct mr_cel_val value);

static struct mr_cel_val misplaced(struct mr_cel_ctx *ctx, const char *clause,
                                   struct mr_cel_val value)
{
    struct mr_str name = mr_cel_type_name(value);
    return mr_cel_errorf(ctx, MR_CEL_E_INVALID_ARGUMENT, "%s of a %.*s", clause, (int)name.len,
                         name.data);
}

/* True: value is none of the finite ones, and is written as a word. */
static bool put_strange(struct mr_cel_writer *out, double value)
{
    if (isfinite(value))
        return false;
    mr_cel_writer_put(out, isnan(value) ? MR_STR("NaN")
                           : value > 0  ? MR_STR("Infinity")
                                        : MR_STR("-Infinity"));
    return true;
}

/* The fewest digits that read back the same, never with an exponent. */
static void put_plain(struct mr_cel_writer *out, double value)
{
    char text[MR_CEL_DOUBLE_TEXT_MAX], plain[400];
    if (put_strange(out, value))
        return;
    size_t len = mr_cel_chars_shortest(text, sizeof text, value), at = 0, i = 0;
    if (text[0] == '-')
        plain[at++] = text[i++];
    size_t e = len;
    while (text[--e] != 'e')
        continue;
    int exponent = 0;
    for (size_t k = e + 2; k < len; k++)
        exponent = exponent * 10 + text[k] - '0';
    exponent = text[e + 1] == '-' ? -exponent : exponent;
    if (exponent < 0) {
        memcpy(plain + at, "0.", 2);
        at += 2;
        for (int k = -1; k > exponent; k--)
            plain[at++] = '0';
    }
    for (; i < e || exponent >= 0; i++) {
        if (i < e && text[i] == '.')
            continue;
        plain[at++] = i < e ? text[i] : '0';
        if (exponent-- == 0 && i + 1 < e)
            plain[at++] = '.';
    }
    mr_cel_writer_put(out, (struct mr_str){plain, at});
}

/* base 2, 8 or 16. */
static void put_based(struct mr_cel_writer *out, uint64_t value, unsigned base, bool upper)
{
    char digits[64], *at = digits + sizeof digits;
    do {
        *--at = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[value % base];
        value /= base;
    } while (value > 0);
    mr_cel_writer_put(out, (struct mr_str){at, (size_t)(digits + sizeof digits - at)});
}

static struct mr_cel_val put_list(struct mr_cel_writer *out, struct mr_cel_val list)
{
    struct mr_cel_iter it;
    struct mr_cel_val failed = mr_cel_null();
    bool first = true;
    mr_cel_writer_put_char(out, '[');
    for (mr_cel_iter_init(&it, out->ctx, list); failed.kind == MR_CEL_NULL && mr_cel_iter_next(&it);
         first = false) {
        if (!first)
            mr_cel_writer_put(out, MR_STR(", "));
        failed = put_value(out, it.value);
    }
    mr_cel_writer_put_char(out, ']');
    return failed.kind != MR_CEL_NULL ? failed : it.failed;
}

/* Entries as text, in the order of their keys' text. */
struct entries {
    const struct mr_str *keys, *values;
};

static bool less_entry(const void *context, uint32_t a, uint32_t b)
{
    const struct entries *entries = context;
    struct mr_str left = entries->keys[a], right = entries->keys[b];
    int order = memcmp(left.data, right.data, left.len < right.len ? left.len : right.len);
    return order != 0 ? order < 0 : left.len < right.len;
}

static struct mr_cel_val put_entries(struct mr_cel_writer *out, struct mr_cel_val map,
                                     struct mr_str *keys, struct mr_str *values, uint32_t count)
{
    struct mr_cel_iter it;
    uint32_t filled = 0;
    for (mr_cel_iter_init(&it, out->ctx, map); mr_cel_iter_next(&it) && filled < count; filled++) {
        struct mr_cel_writer key = {.ctx = out->ctx}, value = {.ctx = out->ctx};
        struct mr_cel_val failed = put_value(&key, it.key);
        if (failed.kind == MR_CEL_NULL)
            failed = put_value(&value, it.value);
        if (failed.kind != MR_CEL_NULL)
            return failed;
        if (key.failed || value.failed)
            return mr_cel_stopped(out->ctx);
        keys[filled] = key.data ? mr_cel_writer_bytes(&key) : MR_STR("");
        values[filled] = mr_cel_writer_bytes(&value);
    }
    if (it.failed.kind != MR_CEL_NULL)
        return it.failed;
    struct entries entries = {keys, values};
    uint32_t *order = mr_cel_sort_order(out->ctx, filled, less_entry, &entries);
    if (!order)
        return mr_cel_stopped(out->ctx);
    mr_cel_writer_put_char(out, '{');
    for (uint32_t i = 0; i < filled; i++) {
        mr_cel_writer_put(out, i > 0 ? MR_STR(", ") : MR_STR(""));
        mr_cel_writer_put(out, keys[order[i]]);
        mr_cel_writer_put(out, MR_STR(": "));
        mr_cel_writer_put(out, values[order[i]]);
    }
    mr_cel_writer_put_char(out, '}');
    return mr_cel_null();
}

static struct mr_cel_val put_map(struct mr_cel_writer *out, struct mr_cel_val map)
{
    uint32_t count;
    if (!mr_cel_count(out->ctx, map, &count))
        return out->ctx->fatal ? mr_cel_stopped(out->ctx)
                               : mr_cel_error(MR_CEL_E_BAD_DOCUMENT, (struct mr_str){NULL, 0});
    struct mr_str *texts = mr_cel_alloc(out->ctx, 2 * (size_t)count * sizeof *texts);
    return texts ? put_entries(out, map, texts, texts + count, count) : mr_cel_stopped(out->ctx);
}

static struct mr_cel_val put_nested(struct mr_cel_writer *out, struct mr_cel_val value)
{
    struct mr_cel_ctx *ctx = out->ctx;
    if (ctx->depth == DEPTH_MAX)
        return mr_cel_error(MR_CEL_E_LIMIT_DEPTH, (struct mr_str){NULL, 0});
    ctx->depth++;
    struct mr_cel_val failed =
        value.kind == MR_CEL_LIST ? put_list(out, value) : put_map(out, value);
    ctx->depth--;
    return failed;
}

/* %s */
static struct mr_cel_val put_value(struct mr_cel_writer *out, struct mr_cel_val value)
{
    switch (value.kind) {
    case MR_CEL_NULL:
        mr_cel_writer_put(out, MR_STR("null"));
        return mr_cel_null();
    case MR_CEL_DOUBLE:
        put_plain(out, value.number);
        return mr_cel_null();
    case MR_CEL_TYPE:
        mr_cel_writer_put(out, mr_cel_str(value));
        return mr_cel_null();
    case MR_CEL_LIST:
    case MR_CEL_MAP:
        return put_nested(out, value);
    case MR_CEL_BOOL:
    case MR_CEL_INT:
    case MR_CEL_UINT:
    case MR_CEL_STRING:
    case MR_CEL_BYTES:
    case MR_CEL_TIMESTAMP:
    case MR_CEL_DURATION: {
        struct mr_cel_val text = mr_cel_fn_string(out->ctx, &value, 1);
        if (text.kind != MR_CEL_STRING)
            return text;
        mr_cel_writer_put(out, mr_cel_str(text));
        return mr_cel_null();
    }
    default:
        return misplaced(out->ctx, "%s", value);
    }
}

/* %d */
static struct mr_cel_val put_decimal(struct mr_cel_writer *out, struct mr_cel_val value)
{
    return mr_cel_is_number(value) ? put_value(out, value) : misplaced(out->ctx, "%d", value);
}

/* %f %e */
static struct mr_cel_val put_digits(struct mr_cel_writer *out, struct mr_cel_val value, char clause,
                                    int precision)
{
    char text[DOUBLE_TEXT_MAX];
    if (!mr_cel_is_number(value))
        return misplaced(out->ctx, clause == 'f' ? "%f" : "%e", value);
    double number = value.kind == MR_CEL_DOUBLE ? value.number
                    : value.kind == MR_CEL_INT  ? (double)value.integer
                                                : (double)value.bits;
    if (put_strange(out, number))
        return mr_cel_null();
    size_t len = clause == 'f' ? mr_cel_chars_fixed(text, sizeof text, number, precision)
                               : mr_cel_chars_scientific(text, sizeof text, number, precision);
    MR_ASSERT(len > 0);
    mr_cel_writer_put(out, (struct mr_str){text, len});
    return mr_cel_null();
}

/* %b %o %x %X of numbers */
static struct mr_cel_val put_bits(struct mr_cel_writer *out, struct mr_cel_val value, char clause)
{
    unsigned base = clause == 'b' ? 2 : clause == 'o' ? 8 : 16;
    uint64_t bits = value.bits;
    if (value.kind == MR_CEL_INT && value.integer < 0) {
        mr_cel_writer_put_char(out, '-');
        bits = 0 - bits;
    } else if (value.kind == MR_CEL_BOOL && clause == 'b') {
        bits = value.boolean;
    } else if (value.kind != MR_CEL_INT && value.kind != MR_CEL_UINT) {
        return misplaced(out->ctx,
                         clause == 'b'   ? "%b"
                         : clause == 'o' ? "%o"
                         : clause == 'x' ? "%x"
                                         : "%X",
                         value);
    }
    put_based(out, bits, base, clause == 'X');
    return mr_cel_null();
}

/* %x %X of strings and bytes */
static struct mr_cel_val put_hex(struct mr_cel_writer *out, struct mr_str bytes, bool upper)
{
    const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char *at = mr_cel_writer_room(out, bytes.len * 2 + 1);
    if (!at || !mr_cel_charge(out->ctx, bytes.len / 8))
        return mr_cel_stopped(out->ctx);
    for (size_t i = 0; i < bytes.len; i++) {
        *at++ = digits[(uint8_t)bytes.data[i] >> 4];
        *at++ = digits[(uint8_t)bytes.data[i] & 15];
    }
    out->len += bytes.len * 2;
    return mr_cel_null();
}

static struct mr_cel_val put_clause(struct mr_cel_writer *out, char clause, int precision,
                                    struct mr_cel_val value)
{
    switch (clause) {
    case 's':
        return put_value(out, value);
    case 'd':
        return put_decimal(out, value);
    case 'f':
    case 'e':
        return put_digits(out, value, clause, precision);
    case 'x':
    case 'X':
        if (value.kind == MR_CEL_STRING || value.kind == MR_CEL_BYTES)
            return put_hex(out, mr_cel_str(value), clause == 'X');
        return put_bits(out, value, clause);
    case 'b':
    case 'o':
        return put_bits(out, value, clause);
    default:
        return mr_cel_error(MR_CEL_E_INVALID_ARGUMENT,
                            MR_STR("format: a clause is none of %s %d %f %e %b %x %X %o %%"));
    }
}

/* ".N" at *at, behind the per cent sign. False: a point without a number up to PRECISION_MAX. */
static bool take_precision(struct mr_str text, size_t *at, int *precision)
{
    *precision = PRECISION_DEFAULT;
    if (*at >= text.len || text.data[*at] != '.')
        return true;
    size_t start = ++*at;
    *precision = 0;
    for (; *at < text.len && text.data[*at] >= '0' && text.data[*at] <= '9'; ++*at)
        if (*precision <= PRECISION_MAX)
            *precision = *precision * 10 + (text.data[*at] - '0');
    return *at > start && *precision <= PRECISION_MAX;
}

/* args: text, list of what belongs into it. */
struct mr_cel_val mr_cel_fn_format(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                   uint32_t count)
{
    const struct mr_cel_val *items;
    struct mr_cel_val failed;
    uint32_t item_count, used = 0;
    if (!mr_cel_args_are(args, count, "sl"))
        return mr_cel_no_overload();
    if (!mr_cel_list_items(ctx, args[1], &items, &item_count, &failed))
        return failed;
    struct mr_str text = mr_cel_str(args[0]);
    struct mr_cel_writer out = {.ctx = ctx};
    for (size_t at = 0; at < text.len && !out.failed;) {
        const char *sign = memchr(text.data + at, '%', text.len - at);
        size_t end = sign ? (size_t)(sign - text.data) : text.len;
        mr_cel_writer_put(&out, (struct mr_str){text.data + at, end - at});
        at = end + 1;
        if (!sign)
            break;
        if (at < text.len && text.data[at] == '%') {
            mr_cel_writer_put_char(&out, '%');
            at++;
            continue;
        }
        int precision;
        if (used >= item_count)
            return mr_cel_errorf(ctx, MR_CEL_E_INVALID_ARGUMENT, "index %u out of range", used);
        if (!take_precision(text, &at, &precision) || at >= text.len)
            return mr_cel_error(MR_CEL_E_INVALID_ARGUMENT,
                                MR_STR("format: a clause is cut short, or its precision over 100"));
        failed = put_clause(&out, text.data[at++], precision, items[used++]);
        if (failed.kind != MR_CEL_NULL)
            return failed;
    }
    return mr_cel_writer_end(&out);
}
