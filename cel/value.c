#include "cel/value.h"

#include <math.h>
#include <stdlib.h>

#include "cel/fn.h"

__extension__ typedef unsigned __int128 wide;

/* IEEE 754-2008 decimal128, binary integer significand: value = (-1)^negative * significand *
 * 10^exponent. */
struct decimal {
    wide significand;
    int exponent;
    bool negative;
    enum { DECIMAL_FINITE, DECIMAL_INFINITE, DECIMAL_NAN } kind;
};
enum { DECIMAL_BIAS = 6176, DECIMAL_DIGITS = 34 };

static struct decimal decimal_decode(const uint8_t *bytes)
{
    uint64_t low, high;
    memcpy(&low, bytes, sizeof low);
    memcpy(&high, bytes + sizeof low, sizeof high);
    struct decimal d = {.negative = high >> 63};
    wide limit = 1;
    for (int i = 0; i < DECIMAL_DIGITS; i++)
        limit *= 10;
    if ((high >> 61 & 3) == 3) {
        uint64_t special = high >> 58 & 31;
        if (special == 30)
            d.kind = DECIMAL_INFINITE;
        else if (special == 31)
            d.kind = DECIMAL_NAN;
        return d; /* otherwise a significand of more than 34 digits, which the standard reads as
                     zero */
    }
    d.exponent = (int)(high >> 49 & 0x3fff) - DECIMAL_BIAS;
    d.significand = (wide)(high & ((UINT64_C(1) << 49) - 1)) << 64 | low;
    if (d.significand >= limit)
        d.significand = 0;
    return d;
}

/* The nearest double. The usual sizes take one exact division or product, which rounds correctly;
 * the rest goes through strtod, in a form without a decimal point, which no locale changes. */
static double decimal_number(const struct decimal *d)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    double number;
    if (d->significand < (UINT64_C(1) << 53) && d->exponent >= -22 && d->exponent <= 22) {
        number = (double)(uint64_t)d->significand;
        number = d->exponent < 0 ? number / powers[-d->exponent] : number * powers[d->exponent];
    } else {
        char text[DECIMAL_DIGITS + 16], *at = text + DECIMAL_DIGITS + 1;
        char *end = at;
        wide rest = d->significand;
        do {
            *--at = (char)('0' + (int)(rest % 10));
            rest /= 10;
        } while (rest != 0);
        *end++ = 'e';
        *end++ = d->exponent < 0 ? '-' : '+';
        int exponent = abs(d->exponent);
        for (int unit = 1000; unit > 0; unit /= 10)
            *end++ = (char)('0' + exponent / unit % 10);
        *end = 0;
        number = strtod(at, NULL);
    }
    return d->negative ? -number : number;
}

/* Magnitude as a whole number: false when it is over 2^64. *fraction: something is left behind the
 * point. */
static bool decimal_whole(const struct decimal *d, uint64_t *whole, bool *fraction)
{
    wide rest = d->significand;
    *fraction = false;
    for (int e = d->exponent; e < 0 && rest != 0; e++) {
        *fraction |= rest % 10 != 0;
        rest /= 10;
    }
    for (int e = d->exponent; e > 0 && rest != 0 && rest <= UINT64_MAX; e--)
        rest *= 10; /* at most 2^64 * 10 */
    *whole = (uint64_t)rest;
    return rest <= UINT64_MAX;
}

static struct mr_value value_from_decimal(const uint8_t *bytes)
{
    struct decimal d = decimal_decode(bytes);
    if (d.kind != DECIMAL_FINITE) {
        double number = d.kind == DECIMAL_NAN ? NAN : d.negative ? -INFINITY : INFINITY;
        return (struct mr_value){.kind = MR_VALUE_DOUBLE, .number = number};
    }
    struct mr_value value = {.kind = MR_VALUE_DECIMAL};
    uint64_t whole;
    bool fraction;
    uint64_t limit = (uint64_t)INT64_MAX + (d.negative ? 1 : 0);
    if (!decimal_whole(&d, &whole, &fraction) || whole > limit || (fraction && whole == limit)) {
        value.beyond = true;
    } else if (!d.negative) {
        value.integer = (int64_t)whole;
    } else {
        /* Negation in unsigned arithmetic, for -2^63; below a negative fraction lies the next
         * whole. */
        value.integer = (int64_t)(0 - whole - (fraction ? 1 : 0));
    }
    if (!value.beyond && !fraction)
        value.kind = MR_VALUE_INT;
    else
        value.number = decimal_number(&d);
    return value;
}

/* What CEL sees in another way than filters do, by its own mapping. */
static bool cel_value(const struct mr_bson_value *v, struct mr_value *out)
{
    if (v->type <= MR_BSON_ARRAY || v->type == MR_BSON_BOOL || v->type == MR_BSON_INT32 ||
        v->type == MR_BSON_INT64 || v->type == MR_BSON_NULL)
        return false;
    *out = (struct mr_value){.kind = MR_VALUE_OTHER};
    if (v->type == MR_BSON_OID) { /* its text would need memory */
        out->kind = MR_VALUE_OID;
        out->bytes = (struct mr_str){(const char *)v->data, v->len};
        return true;
    }
    struct mr_cel_val val = mr_cel_from_bson(NULL, v);
    switch ((enum mr_cel_kind)val.kind) {
    case MR_CEL_DOUBLE:
        out->kind = MR_VALUE_DOUBLE;
        out->number = val.number;
        break;
    case MR_CEL_STRING:
        out->kind = MR_VALUE_STRING;
        out->bytes = mr_cel_str(val);
        break;
    case MR_CEL_TIMESTAMP: /* BSON knows no less than milliseconds */
        out->kind = MR_VALUE_DATE;
        out->integer = val.integer * 1000 + val.len / 1000000;
        break;
    case MR_CEL_NULL:
        out->kind = MR_VALUE_NULL;
        break;
    case MR_CEL_ERROR:
        out->kind = MR_VALUE_ERROR;
        break;
    default:
        break;
    }
    return true;
}

static struct mr_value filter_value(const struct mr_bson_value *v)
{
    switch (v->type) {
    case MR_BSON_STRING:
        return (struct mr_value){.kind = MR_VALUE_STRING, .bytes = mr_bson_string(v)};
    case MR_BSON_INT32:
        return (struct mr_value){.kind = MR_VALUE_INT, .integer = mr_bson_int32(v)};
    case MR_BSON_INT64:
    case MR_BSON_DATE:
        return (struct mr_value){.kind = MR_VALUE_INT, .integer = mr_bson_int64(v)};
    case MR_BSON_DOUBLE:
        return (struct mr_value){.kind = MR_VALUE_DOUBLE, .number = mr_bson_double(v)};
    case MR_BSON_DECIMAL128:
        return value_from_decimal(v->data);
    case MR_BSON_BOOL:
        return (struct mr_value){.kind = MR_VALUE_BOOL, .integer = mr_bson_bool(v)};
    case MR_BSON_NULL:
        return (struct mr_value){.kind = MR_VALUE_NULL};
    case MR_BSON_ARRAY:
    case MR_BSON_DOCUMENT:
        return (struct mr_value){.kind =
                                     v->type == MR_BSON_ARRAY ? MR_VALUE_ARRAY : MR_VALUE_DOCUMENT,
                                 .bytes = {(const char *)v->data, v->len}};
    default:
        return (struct mr_value){.kind = MR_VALUE_OTHER};
    }
}

struct mr_value mr_value_from_bson(const struct mr_bson_value *v, bool cel)
{
    struct mr_value value;
    if (!v)
        return (struct mr_value){.kind = MR_VALUE_MISSING};
    if (!cel || !cel_value(v, &value))
        value = filter_value(v);
    value.cel = cel;
    return value;
}

struct mr_str mr_value_text(const struct mr_value *value, char buffer[MR_VALUE_OID_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    if (value->kind == MR_VALUE_STRING)
        return value->bytes;
    if (value->kind != MR_VALUE_OID)
        return (struct mr_str){NULL, 0};
    for (size_t i = 0; i < MR_VALUE_OID_TEXT / 2; i++) {
        uint8_t byte = (uint8_t)value->bytes.data[i];
        buffer[2 * i] = digits[byte >> 4];
        buffer[2 * i + 1] = digits[byte & 15];
    }
    return (struct mr_str){buffer, MR_VALUE_OID_TEXT};
}

static bool is_text(const struct mr_value *value)
{
    return value->kind == MR_VALUE_STRING || value->kind == MR_VALUE_OID;
}

struct mr_value mr_value_from_id(struct mr_str id)
{
    return (struct mr_value){.kind = id.len ? MR_VALUE_STRING : MR_VALUE_MISSING, .bytes = id};
}

static int order_ints(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static bool order_doubles(double a, double b, int *order)
{
    *order = (a > b) - (a < b);
    return !isnan(a) && !isnan(b);
}

/* Without rounding: 2^53 + 1 is greater than 9007199254740992.0. */
static bool order_int_double(int64_t a, double b, int *order)
{
    if (isnan(b))
        return false;
    if (b >= 0x1p63) {
        *order = -1;
    } else if (b < -0x1p63) {
        *order = 1;
    } else {
        int64_t whole = (int64_t)b; /* towards zero, and both steps are exact */
        double fraction = b - (double)whole;
        *order = a != whole ? order_ints(a, whole) : (fraction < 0) - (fraction > 0);
    }
    return true;
}

static int order_strings(struct mr_str a, struct mr_str b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len ? memcmp(a.data, b.data, len) : 0;
    if (order == 0)
        return (a.len > b.len) - (a.len < b.len);
    return order < 0 ? -1 : 1;
}

static bool compare_with_int(const struct mr_value *value, int64_t constant, int *order)
{
    switch (value->kind) {
    case MR_VALUE_INT:
        *order = order_ints(value->integer, constant);
        return true;
    case MR_VALUE_DOUBLE: {
        bool ordered = order_int_double(constant, value->number, order);
        *order = -*order;
        return ordered;
    }
    case MR_VALUE_DECIMAL: /* never whole, so it lies strictly between integer and the next one */
        if (value->beyond)
            *order = value->number > 0 ? 1 : -1;
        else
            *order = value->integer >= constant ? 1 : -1;
        return true;
    default:
        return false;
    }
}

bool mr_value_compare(const struct mr_value *value, const struct mr_const *constant, int *order)
{
    char buffer[MR_VALUE_OID_TEXT];
    *order = 0;
    switch (constant->kind) {
    case MR_CONST_STRING:
        if (!is_text(value))
            return false;
        *order = order_strings(mr_value_text(value, buffer), constant->string);
        return true;
    case MR_CONST_DATE:
        if (value->kind != MR_VALUE_DATE)
            return false;
        *order = order_ints(value->integer, constant->integer);
        return true;
    case MR_CONST_INT:
        return compare_with_int(value, constant->integer, order);
    case MR_CONST_DOUBLE:
        if (value->kind == MR_VALUE_INT)
            return order_int_double(value->integer, constant->number, order);
        if (value->kind == MR_VALUE_DOUBLE || value->kind == MR_VALUE_DECIMAL)
            return order_doubles(value->number, constant->number, order);
        return false;
    case MR_CONST_BOOL:
        if (value->kind != MR_VALUE_BOOL)
            return false;
        *order = order_ints(value->integer, constant->boolean);
        return true;
    case MR_CONST_NULL:
        return value->kind == MR_VALUE_NULL;
    case MR_CONST_LIST:
        break;
    }
    return false;
}

static bool scalar_equal(const struct mr_value *value, const struct mr_const *constant)
{
    int order;
    return mr_value_compare(value, constant, &order) && order == 0;
}

static struct mr_const list_item(const struct mr_const *constant, const struct mr_list *list,
                                 uint32_t index)
{
    if (!list)
        return constant->list.items[index];
    struct mr_const item;
    list->item(list, index, &item);
    return item;
}

static bool array_equal(const struct mr_value *value, const struct mr_const *constant,
                        const struct mr_list *list)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    if (value->kind != MR_VALUE_ARRAY ||
        mr_bson_iter_init(&iter, value->bytes.data, value->bytes.len) != MR_OK)
        return false;
    for (uint32_t i = 0; i < constant->list.count; i++) {
        if (mr_bson_iter_next(&iter, &element) != MR_OK)
            return false;
        struct mr_value found = mr_value_from_bson(&element.value, value->cel);
        struct mr_const wanted = list_item(constant, list, i);
        if (!scalar_equal(&found, &wanted))
            return false;
    }
    return mr_bson_iter_next(&iter, &element) == MR_AGAIN;
}

static bool equal(const struct mr_value *value, const struct mr_const *constant,
                  const struct mr_list *list)
{
    if (constant->kind == MR_CONST_LIST)
        return array_equal(value, constant, list);
    return scalar_equal(value, constant);
}

static bool contains(const struct mr_value *value, const struct mr_const *constant,
                     const struct mr_list *list)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    if ((value->kind != MR_VALUE_ARRAY && value->kind != MR_VALUE_DOCUMENT) ||
        mr_bson_iter_init(&iter, value->bytes.data, value->bytes.len) != MR_OK)
        return false;
    if (value->kind == MR_VALUE_DOCUMENT && constant->kind != MR_CONST_STRING)
        return false;
    while (mr_bson_iter_next(&iter, &element) == MR_OK) {
        if (value->kind == MR_VALUE_DOCUMENT) {
            if (mr_str_equal(element.key, constant->string))
                return true;
            continue;
        }
        struct mr_value item = mr_value_from_bson(&element.value, value->cel);
        if (equal(&item, constant, list))
            return true;
    }
    return false;
}

static bool in_list(const struct mr_value *value, const struct mr_const *constant,
                    const struct mr_list *list)
{
    for (uint32_t i = 0; i < constant->list.count; i++) {
        struct mr_const item = list_item(constant, list, i);
        if (scalar_equal(value, &item))
            return true;
    }
    return false;
}

static bool starts_with(const struct mr_value *value, struct mr_str prefix)
{
    char buffer[MR_VALUE_OID_TEXT];
    struct mr_str text = mr_value_text(value, buffer);
    return text.len >= prefix.len &&
           (prefix.len == 0 || memcmp(text.data, prefix.data, prefix.len) == 0);
}

static bool cel_holds(const struct mr_value *value, enum mr_predicate_op op,
                      const struct mr_const *constant, const struct mr_list *list)
{
    switch (op) {
    case MR_PRED_NOT_IN:
        return !in_list(value, constant, list);
    case MR_PRED_NOT_CONTAINS:
        return (value->kind == MR_VALUE_ARRAY || value->kind == MR_VALUE_DOCUMENT) &&
               !contains(value, constant, list);
    case MR_PRED_PREFIX:
        return is_text(value) && starts_with(value, constant->string);
    case MR_PRED_NOT_PREFIX:
        return is_text(value) && !starts_with(value, constant->string);
    case MR_PRED_EXISTS:
        return true;
    case MR_PRED_IS_DOCUMENT:
        return value->kind == MR_VALUE_DOCUMENT;
    case MR_PRED_IS_NAN:
        return value->kind == MR_VALUE_DOUBLE && isnan(value->number);
    default:
        return false;
    }
}

bool mr_value_holds(const struct mr_value *value, enum mr_predicate_op op,
                    const struct mr_const *constant, const struct mr_list *list)
{
    int order;
    if (value->kind == MR_VALUE_MISSING)
        return op == MR_PRED_MISSING;
    if (value->kind == MR_VALUE_ERROR)
        return op == MR_PRED_EXISTS;
    switch (op) {
    case MR_PRED_EQ:
        return equal(value, constant, list);
    case MR_PRED_NE:
        return !equal(value, constant, list);
    case MR_PRED_LT:
        return mr_value_compare(value, constant, &order) && order < 0;
    case MR_PRED_LE:
        return mr_value_compare(value, constant, &order) && order <= 0;
    case MR_PRED_GT:
        return mr_value_compare(value, constant, &order) && order > 0;
    case MR_PRED_GE:
        return mr_value_compare(value, constant, &order) && order >= 0;
    case MR_PRED_IN:
        return in_list(value, constant, list);
    case MR_PRED_CONTAINS:
        return contains(value, constant, list);
    default:
        return cel_holds(value, op, constant, list);
    }
}
