#include "proto/json_number.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"

__extension__ typedef unsigned __int128 uint128;

static const char pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233"
                            "34353637383940414243444546474849505152535455565758596061626364656667"
                            "6869707172737475767778798081828384858687888990919293949596979899";

/* Decimal digits of value, right-aligned in a field that ends at end; returns where they start. */
static char *digits_before(char *end, uint64_t value)
{
    while (value >= 100) {
        end -= 2;
        memcpy(end, pairs + value % 100 * 2, 2);
        value /= 100;
    }
    if (value >= 10) {
        end -= 2;
        memcpy(end, pairs + value * 2, 2);
        return end;
    }
    *--end = (char)('0' + value);
    return end;
}

static size_t put_unsigned(char *out, uint64_t value)
{
    char field[MR_TEXT_INT_MAX];
    char *start = digits_before(field + sizeof field, value);
    size_t len = (size_t)(field + sizeof field - start);
    memcpy(out, start, len);
    return len;
}

size_t mr_text_int(char *out, int64_t value)
{
    if (value >= 0)
        return put_unsigned(out, (uint64_t)value);
    *out = '-';
    return 1 + put_unsigned(out + 1, 0 - (uint64_t)value);
}

/* Few fraction digits: the least count k for which round(x * 10^k) / 10^k is x again. Up to 15
 * digits in sum no two decimals share a double, and both operands of the division are exact, so
 * this is the shortest text and reads back the same. Returns 0 when more digits are needed. */
static size_t put_short_fraction(char *out, double x)
{
    static const double powers[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    for (size_t k = 1; k < sizeof powers / sizeof powers[0]; k++) {
        double scaled = x * powers[k];
        if (scaled >= 1e15)
            return 0;
        uint64_t rounded = (uint64_t)(scaled + 0.5);
        if ((double)rounded / powers[k] != x)
            continue;
        char field[MR_TEXT_INT_MAX];
        char *end = field + sizeof field, *start = digits_before(end, rounded);
        while ((size_t)(end - start) <= k) /* "0.05": a zero before the point, zeros behind it */
            *--start = '0';
        size_t whole = (size_t)(end - start) - k;
        memcpy(out, start, whole);
        out[whole] = '.';
        memcpy(out + whole + 1, start + whole, k);
        return whole + 1 + k;
    }
    return 0;
}

/* Digits without leading and trailing zeros, and where the point belongs: 0.DIGITS * 10^point. */
struct decimal {
    char digits[20];
    int count, point;
};

static struct decimal shortest_digits(double x)
{
    struct decimal d = {0};
    char text[40];
    /* A normal double keeps any 15 digits; a subnormal one has fewer that mean anything. */
    int precision = x < 0x1p-1022 ? 1 : 15;
    do
        snprintf(text, sizeof text, "%.*e", precision - 1, x);
    while (precision++ < 17 && strtod(text, NULL) != x);
    for (const char *at = text; *at && *at != 'e'; at++)
        if (*at != '.')
            d.digits[d.count++] = *at;
    while (d.count > 1 && d.digits[d.count - 1] == '0')
        d.count--;
    d.point = atoi(strchr(text, 'e') + 1) + 1;
    return d;
}

static size_t put_exponent(char *out, int exponent, char letter)
{
    out[0] = letter;
    out[1] = exponent < 0 ? '-' : '+';
    return 2 + put_unsigned(out + 2, (uint64_t)abs(exponent));
}

static size_t put_scientific(char *out, const char *digits, size_t count)
{
    size_t len = 0;
    out[len++] = digits[0];
    if (count > 1) {
        out[len++] = '.';
        memcpy(out + len, digits + 1, count - 1);
        len += count - 1;
    }
    return len;
}

static size_t put_long_double(char *out, double x)
{
    struct decimal d = shortest_digits(x);
    size_t count = (size_t)d.count, len = 0;
    if (x < 1e-6 || x >= 1e21) {
        len = put_scientific(out, d.digits, count);
        return len + put_exponent(out + len, d.point - 1, 'e');
    }
    if (d.point <= 0) {
        len = 2 + (size_t)-d.point;
        memset(out, '0', len);
        out[1] = '.';
        memcpy(out + len, d.digits, count);
        return len + count;
    }
    size_t whole = (size_t)d.point;
    if (count <= whole) {
        memcpy(out, d.digits, count);
        memset(out + count, '0', whole - count);
        return whole;
    }
    memcpy(out, d.digits, whole);
    out[whole] = '.';
    memcpy(out + whole + 1, d.digits + whole, count - whole);
    return count + 1;
}

size_t mr_text_double(char *out, double value)
{
    size_t len = 0;
    if (signbit(value)) {
        out[len++] = '-';
        value = -value;
    }
    if (value < 0x1p53) {
        uint64_t whole = (uint64_t)value;
        if ((double)whole == value)
            return len + put_unsigned(out + len, whole);
        size_t short_len = value >= 1e-6 ? put_short_fraction(out + len, value) : 0;
        if (short_len > 0)
            return len + short_len;
    }
    return len + put_long_double(out + len, value);
}

static size_t put_decimal_digits(char out[40], uint128 value)
{
    const uint64_t ten19 = UINT64_C(10000000000000000000);
    uint64_t high = (uint64_t)(value / ten19), low = (uint64_t)(value % ten19);
    if (high == 0)
        return put_unsigned(out, low);
    size_t len = put_unsigned(out, high);
    char field[MR_TEXT_INT_MAX];
    char *end = field + sizeof field, *start = digits_before(end, low);
    while (end - start < 19)
        *--start = '0';
    memcpy(out + len, start, 19);
    return len + 19;
}

/* Plain notation unless it would hide the precision or need more than six zeros. */
static size_t put_decimal(char *out, const char *digits, int count, int exponent)
{
    int scientific = exponent + count - 1;
    if (exponent > 0 || scientific < -6) {
        size_t len = put_scientific(out, digits, (size_t)count);
        return len + put_exponent(out + len, scientific, 'E');
    }
    int whole = count + exponent; /* digits before the point */
    size_t len = 0;
    if (whole <= 0) {
        memcpy(out, "0.", 2);
        memset(out + 2, '0', (size_t)-whole);
        len = 2 + (size_t)-whole;
        memcpy(out + len, digits, (size_t)count);
        return len + (size_t)count;
    }
    memcpy(out, digits, (size_t)whole);
    if (exponent == 0)
        return (size_t)count;
    out[whole] = '.';
    memcpy(out + whole + 1, digits + whole, (size_t)(count - whole));
    return (size_t)count + 1;
}

size_t mr_text_decimal128(char *out, uint64_t low, uint64_t high)
{
    enum { BIAS = 6176 };
    const uint128 limit = (uint128)UINT64_C(100000000000000000) * UINT64_C(100000000000000000);
    size_t len = 0;
    uint32_t combination = (uint32_t)(high >> 58 & 0x1f);
    if (combination == 0x1f) {
        memcpy(out, "NaN", 3);
        return 3;
    }
    if (high >> 63)
        out[len++] = '-';
    if (combination == 0x1e) {
        memcpy(out + len, "Infinity", 8);
        return len + 8;
    }
    /* The second form states significands of more than 34 digits: by definition zero. */
    bool large = combination >> 3 == 3;
    int exponent = (int)(high >> (large ? 47 : 49) & 0x3fff) - BIAS;
    uint128 significand = large ? 0 : (uint128)(high & 0x1ffffffffffff) << 64 | low;
    if (significand >= limit)
        significand = 0;
    char digits[40];
    size_t count = put_decimal_digits(digits, significand);
    MR_ASSERT(count <= 34);
    return len + put_decimal(out + len, digits, (int)count, exponent);
}

/* Days since 1970-01-01 to a date of the proleptic Gregorian calendar, by counting in eras of 400
 * years that start on the first of March. */
static void civil_date(int64_t days, int64_t *year, uint32_t *month, uint32_t *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    uint32_t day_of_era = (uint32_t)(days - era * 146097);
    uint32_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint32_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint32_t shifted_month = (5 * day_of_year + 2) / 153;
    *day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    *month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
    *year = (int64_t)year_of_era + era * 400 + (*month <= 2);
}

static char *put_padded(char *out, uint64_t value, size_t width)
{
    for (size_t i = width; i-- > 0; value /= 10)
        out[i] = (char)('0' + value % 10);
    return out + width;
}

size_t mr_text_date_ms(char *out, int64_t ms)
{
    const int64_t day_ms = 86400000;
    int64_t rest = ms % day_ms; /* of the sign of ms; days * day_ms could overflow */
    int64_t days = ms / day_ms - (rest < 0);
    uint32_t in_day = (uint32_t)(rest < 0 ? rest + day_ms : rest);
    int64_t year;
    uint32_t month, day;
    civil_date(days, &year, &month, &day);
    char *at = out;
    if (year >= 0 && year <= 9999) {
        at = put_padded(at, (uint64_t)year, 4);
    } else {
        uint64_t magnitude = (uint64_t)(year < 0 ? -year : year);
        *at++ = year < 0 ? '-' : '+';
        at = magnitude < 1000000 ? put_padded(at, magnitude, 6) : at + put_unsigned(at, magnitude);
    }
    *at++ = '-';
    at = put_padded(at, month, 2);
    *at++ = '-';
    at = put_padded(at, day, 2);
    *at++ = 'T';
    at = put_padded(at, in_day / 3600000, 2);
    *at++ = ':';
    at = put_padded(at, in_day / 60000 % 60, 2);
    *at++ = ':';
    at = put_padded(at, in_day / 1000 % 60, 2);
    if (in_day % 1000 != 0) {
        *at++ = '.';
        at = put_padded(at, in_day % 1000, 3);
        while (at[-1] == '0')
            at--;
    }
    *at++ = 'Z';
    return (size_t)(at - out);
}
