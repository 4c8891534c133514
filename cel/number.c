#include "cel/number.h"

#include <math.h>

#include "cel/chars.h"
#include "common/err.h"

static size_t put_digits(char *out, uint64_t value)
{
    char field[MR_CEL_INT_TEXT_MAX], *start = field + sizeof field;
    do {
        *--start = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    size_t len = (size_t)(field + sizeof field - start);
    memcpy(out, start, len);
    return len;
}

size_t mr_cel_uint_format(char out[MR_CEL_INT_TEXT_MAX], uint64_t value)
{
    return put_digits(out, value);
}

size_t mr_cel_int_format(char out[MR_CEL_INT_TEXT_MAX], int64_t value)
{
    if (value >= 0)
        return put_digits(out, (uint64_t)value);
    out[0] = '-';
    return 1 + put_digits(out + 1, 0 - (uint64_t)value);
}

static size_t put(char *out, const char *text)
{
    size_t len = strlen(text);
    memcpy(out, text, len);
    return len;
}

/* digits without a point, count of them; point: how many stand before it (may be <= 0). */
static size_t put_plain(char *out, const char *digits, int count, int point)
{
    size_t len = 0;
    if (point <= 0) {
        len = put(out, "0.");
        for (int i = point; i < 0; i++)
            out[len++] = '0';
    }
    for (int i = 0; i < count || i < point; i++) {
        if (i > 0 && i == point)
            out[len++] = '.';
        out[len++] = i < count ? digits[i] : '0';
    }
    return len;
}

size_t mr_cel_double_format(char out[MR_CEL_DOUBLE_TEXT_MAX], double value)
{
    if (isnan(value))
        return put(out, "NaN");
    if (isinf(value))
        return put(out, value > 0 ? "+Inf" : "-Inf");
    if (value == 0)
        return put(out, signbit(value) ? "-0" : "0");
    char text[MR_CEL_DOUBLE_TEXT_MAX], digits[20];
    size_t len = mr_cel_chars_shortest(text, sizeof text, value), at = text[0] == '-';
    MR_ASSERT(len > 0);
    int count = 0, exponent = 0;
    for (; at < len && text[at] != 'e'; at++)
        if (text[at] != '.')
            digits[count++] = text[at];
    for (size_t i = at + 2; i < len; i++) /* behind 'e' and its sign */
        exponent = exponent * 10 + text[i] - '0';
    if (text[at + 1] == '-')
        exponent = -exponent;
    if (exponent < -4 || exponent > 5) {
        memcpy(out, text, len);
        return len;
    }
    size_t sign = text[0] == '-';
    out[0] = '-';
    return sign + put_plain(out + sign, digits, count, exponent + 1);
}

bool mr_cel_uint_parse(struct mr_str text, uint64_t *out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned)text.data[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
    }
    *out = value;
    return text.len > 0;
}

bool mr_cel_int_parse(struct mr_str text, int64_t *out)
{
    bool negative = text.len > 0 && text.data[0] == '-';
    bool sign = negative || (text.len > 0 && text.data[0] == '+');
    uint64_t magnitude;
    if (!mr_cel_uint_parse((struct mr_str){text.data + sign, text.len - sign}, &magnitude) ||
        magnitude > (uint64_t)INT64_MAX + negative)
        return false;
    *out = (int64_t)(negative ? 0 - magnitude : magnitude);
    return true;
}

/* lower: in lower case. */
static bool same_word(struct mr_str text, const char *lower)
{
    size_t len = strlen(lower);
    for (size_t i = 0; i < len && text.len == len; i++)
        if ((text.data[i] | 0x20) != lower[i])
            return false;
    return text.len == len;
}

/* A number out of a double's range: is it too large (rather than too small)? It is known to be
 * well-formed, and its first digit that is not zero decides together with the exponent. */
static bool is_large(struct mr_str text)
{
    int64_t point = 0, exponent = 0; /* place of the first digit that counts */
    bool behind = false, found = false;
    size_t i = 0;
    for (; i < text.len && (text.data[i] | 0x20) != 'e'; i++) {
        if (text.data[i] == '.')
            behind = true;
        else if (text.data[i] >= '0' && text.data[i] <= '9') {
            found = found || text.data[i] != '0';
            point += found && !behind ? 1 : !found && behind ? -1 : 0;
        }
    }
    bool negative = i + 1 < text.len && text.data[i + 1] == '-';
    for (i++; i < text.len; i++)
        if (text.data[i] >= '0' && text.data[i] <= '9' && exponent < INT64_MAX / 100)
            exponent = exponent * 10 + text.data[i] - '0';
    return point + (negative ? -exponent : exponent) > 0;
}

bool mr_cel_double_parse(struct mr_str text, double *out)
{
    bool negative = text.len > 0 && text.data[0] == '-';
    bool sign = negative || (text.len > 0 && text.data[0] == '+');
    struct mr_str rest = {text.data + sign, text.len - sign};
    if (same_word(rest, "inf") || same_word(rest, "infinity")) {
        *out = negative ? -INFINITY : INFINITY;
        return true;
    }
    if (same_word(text, "nan")) {
        *out = NAN;
        return true;
    }
    /* What is left starts with a digit or a point: no second sign, no other word. */
    if (rest.len == 0 || ((unsigned)rest.data[0] - '0' > 9 && rest.data[0] != '.'))
        return false;
    double value = 0;
    switch (mr_cel_chars_parse(rest.data, rest.len, &value)) {
    case MR_CEL_CHARS_OK:
        break;
    case MR_CEL_CHARS_RANGE:
        if (is_large(rest))
            return false;
        break;
    case MR_CEL_CHARS_BAD:
        return false;
    }
    *out = negative ? -value : value;
    return true;
}
