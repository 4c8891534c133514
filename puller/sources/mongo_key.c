#include "puller/sources/mongo_key.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json_number.h"

static const struct {
    uint8_t type, kind;
} kinds[] = {
    {MR_BSON_MINKEY, MR_MONGO_MIN},        {MR_BSON_NULL, MR_MONGO_NULL},
    {MR_BSON_UNDEFINED, MR_MONGO_NULL},    {MR_BSON_INT32, MR_MONGO_NUMBER},
    {MR_BSON_INT64, MR_MONGO_NUMBER},      {MR_BSON_DOUBLE, MR_MONGO_NUMBER},
    {MR_BSON_DECIMAL128, MR_MONGO_NUMBER}, {MR_BSON_STRING, MR_MONGO_STRING},
    {MR_BSON_SYMBOL, MR_MONGO_STRING},     {MR_BSON_DOCUMENT, MR_MONGO_OBJECT},
    {MR_BSON_ARRAY, MR_MONGO_ARRAY},       {MR_BSON_BINARY, MR_MONGO_BINARY},
    {MR_BSON_OID, MR_MONGO_OID},           {MR_BSON_BOOL, MR_MONGO_BOOL},
    {MR_BSON_DATE, MR_MONGO_DATE},         {MR_BSON_TIMESTAMP, MR_MONGO_TIMESTAMP},
    {MR_BSON_REGEX, MR_MONGO_REGEX},       {MR_BSON_DBPOINTER, MR_MONGO_POINTER},
    {MR_BSON_CODE, MR_MONGO_CODE},         {MR_BSON_CODE_SCOPE, MR_MONGO_CODE_SCOPE},
    {MR_BSON_MAXKEY, MR_MONGO_MAX},
};

enum mr_mongo_kind mr_mongo_kind_of(uint8_t type)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].type == type)
            return kinds[i].kind;
    return MR_MONGO_MAX;
}

const char *mr_mongo_kind_name(enum mr_mongo_kind kind)
{
    static const char *const names[MR_MONGO_KIND_COUNT] = {
        "minKey",    "null",    "number",    "string",     "object",
        "array",     "binData", "objectId",  "bool",       "date",
        "timestamp", "regex",   "dbPointer", "javascript", "javascriptWithScope",
        "maxKey"};
    return names[kind];
}

static int sign(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static bool is_int(const struct mr_bson_value *v)
{
    return v->type == MR_BSON_INT32 || v->type == MR_BSON_INT64;
}

static int64_t int_of(const struct mr_bson_value *v)
{
    return v->type == MR_BSON_INT32 ? mr_bson_int32(v) : mr_bson_int64(v);
}

/* A long double holds every int64 and double exactly; of a decimal128 as much as matters for
 * numbers that anybody has as _id: 18 digits. */
static long double number_of(const struct mr_bson_value *v)
{
    if (is_int(v))
        return (long double)int_of(v);
    if (v->type == MR_BSON_DOUBLE)
        return mr_bson_double(v);
    uint64_t halves[2];
    memcpy(halves, v->data, sizeof halves);
    char text[MR_TEXT_DECIMAL_MAX + 1];
    text[mr_text_decimal128(text, halves[0], halves[1])] = '\0';
    return strtold(text, NULL);
}

static int compare_numbers(const struct mr_bson_value *a, const struct mr_bson_value *b)
{
    if (is_int(a) && is_int(b))
        return sign(int_of(a), int_of(b));
    long double x = number_of(a), y = number_of(b);
    if (isnan(x) || isnan(y)) /* NaN stands before all numbers */
        return isnan(y) - isnan(x);
    return (x > y) - (x < y);
}

/* Length, then subtype, then bytes. */
static int compare_binaries(const struct mr_bson_value *a, const struct mr_bson_value *b)
{
    if (a->len != b->len)
        return sign(a->len, b->len);
    return memcmp(a->data + 4, b->data + 4, a->len - 4);
}

/* Element by element: kind, then name, then value; a shorter one comes first. */
static int compare_documents(const struct mr_bson_value *a, const struct mr_bson_value *b,
                             bool names)
{
    struct mr_bson_iter left, right;
    struct mr_bson_element x, y;
    bool more_left = mr_bson_iter_init(&left, a->data, a->len) == MR_OK;
    bool more_right = mr_bson_iter_init(&right, b->data, b->len) == MR_OK;
    for (;;) {
        more_left = more_left && mr_bson_iter_next(&left, &x) == MR_OK;
        more_right = more_right && mr_bson_iter_next(&right, &y) == MR_OK;
        if (!more_left || !more_right)
            return more_left - more_right;
        int order = sign(mr_mongo_kind_of(x.value.type), mr_mongo_kind_of(y.value.type));
        if (order == 0 && names)
            order = mr_str_compare(x.key, y.key);
        if (order == 0)
            order = mr_mongo_key_compare(&x.value, &y.value);
        if (order != 0)
            return order;
    }
}

static int compare_timestamps(const struct mr_bson_value *a, const struct mr_bson_value *b)
{
    uint64_t x = (uint64_t)mr_bson_int64(a), y = (uint64_t)mr_bson_int64(b);
    return (x > y) - (x < y);
}

int mr_mongo_key_compare(const struct mr_bson_value *a, const struct mr_bson_value *b)
{
    enum mr_mongo_kind kind = mr_mongo_kind_of(a->type), other = mr_mongo_kind_of(b->type);
    if (kind != other)
        return sign(kind, other);
    switch (kind) {
    case MR_MONGO_MIN:
    case MR_MONGO_NULL:
    case MR_MONGO_MAX:
        return 0;
    case MR_MONGO_NUMBER:
        return compare_numbers(a, b);
    case MR_MONGO_STRING:
        return mr_str_compare(mr_bson_string(a), mr_bson_string(b));
    case MR_MONGO_OBJECT:
        return compare_documents(a, b, true);
    case MR_MONGO_ARRAY:
        return compare_documents(a, b, false);
    case MR_MONGO_BINARY:
        return compare_binaries(a, b);
    case MR_MONGO_DATE:
        return sign(mr_bson_int64(a), mr_bson_int64(b));
    case MR_MONGO_TIMESTAMP:
        return compare_timestamps(a, b);
    default:
        return mr_str_compare((struct mr_str){(const char *)a->data, a->len},
                              (struct mr_str){(const char *)b->data, b->len});
    }
}

bool mr_mongo_key_is_nan(const struct mr_bson_value *key)
{
    return (key->type == MR_BSON_DOUBLE || key->type == MR_BSON_DECIMAL128) &&
           isnan(number_of(key));
}
