#include "puller/sources/pg_numeric.h"

enum {
    DECIMAL_DIGITS = 34,
    EXPONENT_BIAS = 6176,
    EXPONENT_MAX = 6111,
    DIGITS_MAX = 32768, /* base 10,000: more than any numeric has */
    SIGN_NEGATIVE = 0x4000,
    SIGN_NAN = 0xC000,
    SIGN_INFINITY = 0xD000,
    SIGN_NEGATIVE_INFINITY = 0xF000,
};
__extension__ typedef unsigned __int128 mr_u128;

static bool special_value(struct mr_str text, uint64_t *low, uint64_t *high)
{
    *low = 0;
    if (mr_str_equal(text, MR_STR("NaN")))
        *high = UINT64_C(0x7C00000000000000);
    else if (mr_str_equal(text, MR_STR("Infinity")))
        *high = UINT64_C(0x7800000000000000);
    else if (mr_str_equal(text, MR_STR("-Infinity")))
        *high = UINT64_C(0xF800000000000000);
    else
        return false;
    return true;
}

/* Digits with at most one point among them -> coefficient and scale. Zeros at the end that would
 * not fit are counted in *zeros instead, so that 1e40 and 1.000...0 still have a value here. */
static bool read_digits(const char *at, const char *end, mr_u128 *coefficient, int *exponent)
{
    mr_u128 value = 0;
    int digits = 0, scale = 0, zeros = 0; /* zeros: pending, not yet in value */
    bool point = false, any = false;
    for (; at < end; at++) {
        if (*at == '.' && !point) {
            point = true;
            continue;
        }
        if (*at < '0' || *at > '9')
            return false;
        any = true;
        scale += point;
        if (*at == '0' && (digits == DECIMAL_DIGITS || zeros > 0)) {
            zeros++;
            continue;
        }
        if (digits + zeros >= DECIMAL_DIGITS)
            return false; /* a digit other than zero that does not fit */
        value = value * (mr_u128)10 + (mr_u128)(unsigned)(*at - '0');
        digits += value != 0;
    }
    *coefficient = value;
    *exponent = zeros - scale;
    return any;
}

bool mr_pg_numeric_decimal128(struct mr_str text, uint64_t *low, uint64_t *high)
{
    if (special_value(text, low, high))
        return true;
    const char *at = text.data, *end = text.data + text.len;
    bool negative = at < end && *at == '-';
    mr_u128 coefficient;
    int exponent;
    if (!read_digits(at + negative, end, &coefficient, &exponent))
        return false;
    if (exponent < -EXPONENT_BIAS || exponent > EXPONENT_MAX) {
        if (coefficient != 0)
            return false;
        exponent = exponent < 0 ? -EXPONENT_BIAS : EXPONENT_MAX;
    }
    /* 34 digits are less than 2^113: the form with the exponent in bits 62 to 49 always does. */
    *low = (uint64_t)coefficient;
    *high = (uint64_t)(coefficient >> 64) | (uint64_t)(exponent + EXPONENT_BIAS) << 49 |
            (uint64_t)negative << 63;
    return true;
}

static char *put_group(char *at, unsigned group, bool padded)
{
    char digits[4] = {(char)('0' + group / 1000), (char)('0' + group / 100 % 10),
                      (char)('0' + group / 10 % 10), (char)('0' + group % 10)};
    int from = 0;
    while (!padded && from < 3 && digits[from] == '0')
        from++;
    for (; from < 4; from++)
        *at++ = digits[from];
    return at;
}

static char *put_numeric(char *at, const uint8_t *groups, int count, int weight, int dscale)
{
    if (weight < 0)
        *at++ = '0';
    for (int i = 0; i <= weight; i++)
        at = put_group(at, i < count ? mr_pg_load16(groups + 2 * i) : 0, i > 0);
    if (dscale == 0)
        return at;
    *at++ = '.';
    char *fraction = at;
    for (int i = weight + 1; at - fraction < dscale; i++)
        at = put_group(at, i >= 0 && i < count ? mr_pg_load16(groups + 2 * i) : 0, true);
    return fraction + dscale;
}

enum mr_rc mr_pg_numeric_text(const struct mr_pg_value *value, struct mr_pg_scratch *scratch,
                              struct mr_str *out)
{
    struct mr_pg_bytes in = mr_pg_bytes_of(value->data, value->len);
    int count = mr_pg_u16(&in), weight = (int16_t)mr_pg_u16(&in), sign = mr_pg_u16(&in),
        dscale = mr_pg_u16(&in);
    const uint8_t *groups = mr_pg_take(&in, (size_t)count * 2);
    if (!groups || in.bad || in.at != in.end || count > DIGITS_MAX || dscale > 0x3FFF)
        return MR_CORRUPT;
    for (int i = 0; i < count; i++)
        if (mr_pg_load16(groups + 2 * i) > 9999)
            return MR_CORRUPT;
    if (sign == SIGN_NAN || sign == SIGN_INFINITY || sign == SIGN_NEGATIVE_INFINITY) {
        *out = sign == SIGN_NAN        ? MR_STR("NaN")
               : sign == SIGN_INFINITY ? MR_STR("Infinity")
                                       : MR_STR("-Infinity");
        return MR_OK;
    }
    if (sign != 0 && sign != SIGN_NEGATIVE)
        return MR_CORRUPT;
    size_t whole = weight < 0 ? 1 : ((size_t)weight + 1) * 4;
    char *text = mr_pg_scratch_reserve(scratch, 1 + whole + 1 + (size_t)dscale + 4);
    if (!text)
        return MR_FATAL;
    char *at = text;
    if (sign == SIGN_NEGATIVE)
        *at++ = '-';
    at = put_numeric(at, groups, count, weight, dscale);
    *out = (struct mr_str){text, (size_t)(at - text)};
    return MR_OK;
}
