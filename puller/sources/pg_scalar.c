#include "puller/sources/pg_scalar.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/utf8.h"
#include "proto/json_number.h"
#include "puller/sources/pg_json.h"
#include "puller/sources/pg_numeric.h"
#include "puller/sources/pg_time.h"

enum { NUMBER_TEXT_MAX = 64 }; /* longest text of a number that is no numeric */

static struct mr_str text_of(const struct mr_pg_value *value)
{
    return (struct mr_str){(const char *)value->data, value->len};
}

void mr_pg_put_string(struct mr_bson_writer *w, struct mr_str key, struct mr_str text)
{
    if (mr_utf8_valid(text.data, text.len))
        mr_bson_put_string(w, key, text);
    else
        mr_bson_put_binary(w, key, 0, text);
}

static void put_integer(struct mr_bson_writer *w, struct mr_str key, enum mr_pg_kind kind,
                        int64_t value)
{
    if (kind == MR_PG_INT2 || kind == MR_PG_INT4)
        mr_bson_put_int32(w, key, (int32_t)value);
    else
        mr_bson_put_int64(w, key, value);
}

static bool parse_integer(struct mr_str text, int64_t *out)
{
    bool negative = text.len > 0 && text.data[0] == '-';
    uint64_t value = 0;
    if (text.len == negative || text.len > 20)
        return false;
    for (size_t i = negative; i < text.len; i++) {
        unsigned digit = (unsigned)(text.data[i] - '0');
        if (digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
    }
    if (value > (uint64_t)INT64_MAX + negative)
        return false;
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

/* strtod wants a NUL behind the text, which a message does not have. */
static bool parse_double(struct mr_str text, double *out)
{
    char copy[NUMBER_TEXT_MAX];
    if (text.len == 0 || text.len >= sizeof copy)
        return false;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    char *end;
    *out = strtod(copy, &end);
    return end == copy + text.len;
}

static void put_numeric(struct mr_bson_writer *w, struct mr_str key, struct mr_str text)
{
    uint64_t low, high;
    if (mr_pg_numeric_decimal128(text, &low, &high))
        mr_bson_put_decimal128(w, key, low, high);
    else
        mr_pg_put_string(w, key, text);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "\x0aff" into scratch memory; false: not of this form. */
static bool parse_hex(struct mr_str text, struct mr_pg_scratch *scratch, struct mr_str *out)
{
    if (text.len < 2 || text.data[0] != '\\' || text.data[1] != 'x' || text.len % 2 != 0)
        return false;
    size_t len = text.len / 2 - 1;
    char *bytes = mr_pg_scratch_reserve(scratch, len);
    if (!bytes)
        return false;
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(text.data[2 + 2 * i]), low = hex_digit(text.data[3 + 2 * i]);
        if (high < 0 || low < 0)
            return false;
        bytes[i] = (char)(high << 4 | low);
    }
    *out = (struct mr_str){bytes, len};
    return true;
}

enum mr_rc mr_pg_scalar_put_text(struct mr_bson_writer *w, struct mr_str key, enum mr_pg_kind kind,
                                 const struct mr_pg_value *value, struct mr_pg_scratch *scratch)
{
    struct mr_str text = text_of(value), bytes;
    int64_t integer;
    double number;
    switch (kind) {
    case MR_PG_BOOL:
        if (text.len != 1 || (text.data[0] != 't' && text.data[0] != 'f'))
            break;
        mr_bson_put_bool(w, key, text.data[0] == 't');
        return MR_OK;
    case MR_PG_INT2:
    case MR_PG_INT4:
    case MR_PG_INT8:
    case MR_PG_OID:
        if (!parse_integer(text, &integer))
            break;
        put_integer(w, key,
                    kind == MR_PG_INT4 && (integer < INT32_MIN || integer > INT32_MAX) ? MR_PG_INT8
                                                                                       : kind,
                    integer);
        return MR_OK;
    case MR_PG_FLOAT4:
    case MR_PG_FLOAT8:
        if (!parse_double(text, &number))
            break;
        mr_bson_put_double(w, key, kind == MR_PG_FLOAT4 ? (double)(float)number : number);
        return MR_OK;
    case MR_PG_NUMERIC:
        put_numeric(w, key, text);
        return MR_OK;
    case MR_PG_BYTEA:
        if (!parse_hex(text, scratch, &bytes))
            break;
        mr_bson_put_binary(w, key, 0, bytes);
        return MR_OK;
    case MR_PG_DATE:
    case MR_PG_TIMESTAMP:
    case MR_PG_TIMESTAMPTZ:
        if (!mr_pg_time_parse_ms(text, &integer))
            break;
        mr_bson_put_date_ms(w, key, integer);
        return MR_OK;
    case MR_PG_JSON:
    case MR_PG_JSONB:
        return mr_pg_json_put(w, key, text, scratch);
    default:
        break;
    }
    mr_pg_put_string(w, key, text);
    return MR_OK;
}

/* Binary length that each kind must have; 0: any. */
static uint32_t binary_len(enum mr_pg_kind kind)
{
    switch (kind) {
    case MR_PG_BOOL:
        return 1;
    case MR_PG_INT2:
        return 2;
    case MR_PG_INT4:
    case MR_PG_OID:
    case MR_PG_FLOAT4:
    case MR_PG_DATE:
        return 4;
    case MR_PG_INT8:
    case MR_PG_FLOAT8:
    case MR_PG_TIME:
    case MR_PG_TIMESTAMP:
    case MR_PG_TIMESTAMPTZ:
        return 8;
    case MR_PG_TIMETZ:
        return 12;
    case MR_PG_INTERVAL:
    case MR_PG_UUID:
        return 16;
    default:
        return 0;
    }
}

static int64_t binary_integer(enum mr_pg_kind kind, const uint8_t *data)
{
    switch (kind) {
    case MR_PG_INT2:
        return (int16_t)mr_pg_load16(data);
    case MR_PG_INT4:
    case MR_PG_DATE:
        return (int32_t)mr_pg_load32(data);
    case MR_PG_OID:
        return mr_pg_load32(data);
    default:
        return (int64_t)mr_pg_load64(data);
    }
}

static double binary_double(enum mr_pg_kind kind, const uint8_t *data)
{
    if (kind == MR_PG_FLOAT4) {
        uint32_t bits = mr_pg_load32(data);
        float narrow;
        memcpy(&narrow, &bits, sizeof narrow);
        return (double)narrow;
    }
    uint64_t bits = mr_pg_load64(data);
    double wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

/* jsonb in binary form is one byte of version and then its text. */
static enum mr_rc jsonb_text(const struct mr_pg_value *value, struct mr_str *out)
{
    if (value->len < 1 || value->data[0] != 1)
        return MR_CORRUPT;
    *out = (struct mr_str){(const char *)value->data + 1, value->len - 1};
    return MR_OK;
}

/* Kinds whose BSON form is their text. */
static enum mr_rc put_as_text(struct mr_bson_writer *w, struct mr_str key, enum mr_pg_kind kind,
                              const struct mr_pg_value *value, struct mr_pg_scratch *scratch)
{
    struct mr_str text;
    enum mr_rc rc = mr_pg_scalar_text(kind, value, scratch, &text);
    if (rc != MR_OK)
        return rc;
    if (kind == MR_PG_NUMERIC)
        put_numeric(w, key, text);
    else if (kind == MR_PG_JSON || kind == MR_PG_JSONB)
        return mr_pg_json_put(w, key, text, scratch);
    else
        mr_pg_put_string(w, key, text);
    return MR_OK;
}

enum mr_rc mr_pg_scalar_put_binary(struct mr_bson_writer *w, struct mr_str key,
                                   enum mr_pg_kind kind, const struct mr_pg_value *value,
                                   struct mr_pg_scratch *scratch)
{
    uint32_t wanted = binary_len(kind);
    if (kind == MR_PG_OPAQUE || (wanted != 0 && value->len != wanted))
        return MR_CORRUPT;
    switch (kind) {
    case MR_PG_BOOL:
        mr_bson_put_bool(w, key, value->data[0] != 0);
        return MR_OK;
    case MR_PG_INT2:
    case MR_PG_INT4:
    case MR_PG_INT8:
    case MR_PG_OID:
        put_integer(w, key, kind, binary_integer(kind, value->data));
        return MR_OK;
    case MR_PG_FLOAT4:
    case MR_PG_FLOAT8:
        mr_bson_put_double(w, key, binary_double(kind, value->data));
        return MR_OK;
    case MR_PG_BYTEA:
        mr_bson_put_binary(w, key, 0, text_of(value));
        return MR_OK;
    case MR_PG_DATE:
        mr_bson_put_date_ms(w, key, mr_pg_date_ms((int32_t)binary_integer(kind, value->data)));
        return MR_OK;
    case MR_PG_TIMESTAMP:
    case MR_PG_TIMESTAMPTZ:
        mr_bson_put_date_ms(w, key, mr_pg_timestamp_ms(binary_integer(kind, value->data)));
        return MR_OK;
    default:
        return put_as_text(w, key, kind, value, scratch);
    }
}

/* The shortest digits that read back as the same value, laid out as the server does: scientific
 * outside of 1e-4 to 1e15 (float4: 1e6). */
static size_t format_double(double number, bool narrow, char out[NUMBER_TEXT_MAX])
{
    if (isnan(number) || isinf(number))
        return (size_t)snprintf(out, NUMBER_TEXT_MAX, "%s",
                                isnan(number) ? "NaN"
                                : number < 0  ? "-Infinity"
                                              : "Infinity");
    int precision = 0;
    char digits[NUMBER_TEXT_MAX];
    for (; precision < 17; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision, number);
        double back = strtod(digits, NULL);
        if (narrow ? (float)back == (float)number : back >= number && back <= number)
            break;
    }
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent < -4 || exponent >= (narrow ? 6 : 15))
        return (size_t)snprintf(out, NUMBER_TEXT_MAX, "%s", digits);
    int decimals = precision > exponent ? precision - exponent : 0;
    return (size_t)snprintf(out, NUMBER_TEXT_MAX, "%.*f", decimals, number);
}

static size_t format_uuid(const uint8_t *bytes, char *out)
{
    static const char hex[] = "0123456789abcdef";
    char *at = out;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = hex[bytes[i] >> 4];
        *at++ = hex[bytes[i] & 15];
    }
    return (size_t)(at - out);
}

static enum mr_rc bytea_text(const struct mr_pg_value *value, struct mr_pg_scratch *scratch,
                             struct mr_str *out)
{
    static const char hex[] = "0123456789abcdef";
    char *text = mr_pg_scratch_reserve(scratch, 2 + 2 * (size_t)value->len);
    if (!text)
        return MR_FATAL;
    text[0] = '\\';
    text[1] = 'x';
    for (uint32_t i = 0; i < value->len; i++) {
        text[2 + 2 * i] = hex[value->data[i] >> 4];
        text[3 + 2 * i] = hex[value->data[i] & 15];
    }
    *out = (struct mr_str){text, 2 + 2 * (size_t)value->len};
    return MR_OK;
}

static size_t format_time_kinds(enum mr_pg_kind kind, const uint8_t *data, char *text)
{
    int64_t us = binary_len(kind) >= 8 ? (int64_t)mr_pg_load64(data) : 0;
    switch (kind) {
    case MR_PG_DATE:
        return mr_pg_date_format((int32_t)mr_pg_load32(data), text);
    case MR_PG_TIME:
        return mr_pg_timeofday_format(us, INT32_MIN, text);
    case MR_PG_TIMETZ:
        return mr_pg_timeofday_format(us, (int32_t)mr_pg_load32(data + 8), text);
    case MR_PG_INTERVAL:
        return mr_pg_interval_format(us, (int32_t)mr_pg_load32(data + 8),
                                     (int32_t)mr_pg_load32(data + 12), text);
    default:
        return mr_pg_timestamp_format(us, kind == MR_PG_TIMESTAMPTZ, text);
    }
}

/* Kinds of fixed length: into a buffer of MR_PG_TIME_TEXT_MAX bytes. */
static size_t format_fixed(enum mr_pg_kind kind, const uint8_t *data, char *text)
{
    switch (kind) {
    case MR_PG_BOOL:
        text[0] = data[0] ? 't' : 'f';
        return 1;
    case MR_PG_INT2:
    case MR_PG_INT4:
    case MR_PG_INT8:
    case MR_PG_OID:
        return mr_text_int(text, binary_integer(kind, data));
    case MR_PG_FLOAT4:
    case MR_PG_FLOAT8:
        return format_double(binary_double(kind, data), kind == MR_PG_FLOAT4, text);
    case MR_PG_UUID:
        return format_uuid(data, text);
    default:
        return format_time_kinds(kind, data, text);
    }
}

enum mr_rc mr_pg_scalar_text(enum mr_pg_kind kind, const struct mr_pg_value *value,
                             struct mr_pg_scratch *scratch, struct mr_str *out)
{
    uint32_t wanted = binary_len(kind);
    if (kind == MR_PG_OPAQUE || (wanted != 0 && value->len != wanted))
        return MR_CORRUPT;
    switch (kind) {
    case MR_PG_TEXT:
    case MR_PG_JSON:
        *out = text_of(value);
        return MR_OK;
    case MR_PG_JSONB:
        return jsonb_text(value, out);
    case MR_PG_NUMERIC:
        return mr_pg_numeric_text(value, scratch, out);
    case MR_PG_BYTEA:
        return bytea_text(value, scratch, out);
    default:
        break;
    }
    char *text = mr_pg_scratch_reserve(scratch, MR_PG_TIME_TEXT_MAX);
    if (!text)
        return MR_FATAL;
    *out = (struct mr_str){text, format_fixed(kind, value->data, text)};
    return MR_OK;
}
