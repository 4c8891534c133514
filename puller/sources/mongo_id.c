#include "puller/sources/mongo_id.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/doc_hash.h"
#include "proto/json_number.h"

enum {
    CUT_BYTES = 900, /* of an id that is too long: this much of it, then a hash of all of it */
    NAMES_MAX = 64,  /* fields of a key that are put in order; more stay as they are */
    DEPTH_MAX = 16,
};

static void put(struct mr_mongo_id *out, struct mr_str text)
{
    size_t room = sizeof out->text - out->len;
    size_t len = text.len < room ? text.len : room;
    if (len > 0)
        memcpy(out->text + out->len, text.data, len);
    out->len += text.len; /* the whole length: over the limit means cut */
    if (out->len > sizeof out->text)
        out->len = sizeof out->text + 1;
}

static void put_text(struct mr_mongo_id *out, const char *text)
{
    put(out, mr_str_from(text));
}

static void put_int(struct mr_mongo_id *out, int64_t value)
{
    char text[MR_TEXT_INT_MAX];
    put(out, (struct mr_str){text, mr_text_int(text, value)});
}

/* Shortest digits that give the number back; with an exponent below 1e-4 and from 1e+06 or so on:
 * Go's strconv.FormatFloat(value, 'g', -1, 64). */
static void put_double(struct mr_mongo_id *out, double value)
{
    enum { EXPONENT_FROM = 6, EXPONENT_BELOW = -4, DIGITS_MAX = 17 };
    char text[40];
    if (isnan(value) || isinf(value)) {
        put_text(out, isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf");
        return;
    }
    int digits = 1;
    for (; digits < DIGITS_MAX; digits++) {
        snprintf(text, sizeof text, "%.*e", digits - 1, value);
        if (strtod(text, NULL) == value)
            break;
    }
    snprintf(text, sizeof text, "%.*e", digits - 1, value);
    int exponent = atoi(strchr(text, 'e') + 1);
    if (exponent >= EXPONENT_BELOW && exponent < EXPONENT_FROM) {
        int decimals = digits - 1 - exponent;
        snprintf(text, sizeof text, "%.*f", decimals > 0 ? decimals : 0, value);
    }
    put_text(out, text);
}

static void put_hex(struct mr_mongo_id *out, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char digits[3];
        snprintf(digits, sizeof digits, "%02x", bytes[i]);
        put_text(out, digits);
    }
}

static void put_value(struct mr_mongo_id *out, const struct mr_bson_value *v, int depth);

static int by_name(const void *a, const void *b)
{
    const struct mr_bson_element *x = a, *y = b;
    size_t len = x->key.len < y->key.len ? x->key.len : y->key.len;
    int order = memcmp(x->key.data, y->key.data, len);
    return order != 0 ? order : (x->key.len > y->key.len) - (x->key.len < y->key.len);
}

static void put_members(struct mr_mongo_id *out, const struct mr_bson_value *v, int depth)
{
    struct mr_bson_element elements[NAMES_MAX];
    struct mr_bson_iter iter;
    size_t count = 0;
    bool map = v->type == MR_BSON_DOCUMENT;
    if (mr_bson_iter_init(&iter, v->data, v->len) == MR_OK)
        while (count < NAMES_MAX && mr_bson_iter_next(&iter, &elements[count]) == MR_OK)
            count++;
    if (map)
        qsort(elements, count, sizeof elements[0], by_name);
    put_text(out, map ? "map[" : "[");
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            put_text(out, " ");
        if (map) {
            put(out, elements[i].key);
            put_text(out, ":");
        }
        put_value(out, &elements[i].value, depth + 1);
    }
    put_text(out, "]");
}

static void put_binary(struct mr_mongo_id *out, const struct mr_bson_value *v)
{
    put_text(out, "{");
    put_int(out, v->data[4]);
    put_text(out, " [");
    for (uint32_t i = 5; i < v->len; i++) {
        if (i > 5)
            put_text(out, " ");
        put_int(out, v->data[i]);
    }
    put_text(out, "]}");
}

static void put_decimal(struct mr_mongo_id *out, const struct mr_bson_value *v)
{
    uint64_t halves[2];
    char text[MR_TEXT_DECIMAL_MAX];
    memcpy(halves, v->data, sizeof halves);
    put(out, (struct mr_str){text, mr_text_decimal128(text, halves[0], halves[1])});
}

static void put_timestamp(struct mr_mongo_id *out, uint64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "{%" PRIu32 " %" PRIu32 "}", (uint32_t)(value >> 32),
             (uint32_t)value);
    put_text(out, text);
}

static void put_value(struct mr_mongo_id *out, const struct mr_bson_value *v, int depth)
{
    switch (depth < DEPTH_MAX ? v->type : MR_BSON_MINKEY) {
    case MR_BSON_STRING:
    case MR_BSON_SYMBOL:
        put(out, mr_bson_string(v));
        break;
    case MR_BSON_INT32:
        put_int(out, mr_bson_int32(v));
        break;
    case MR_BSON_INT64:
    case MR_BSON_DATE:
        put_int(out, mr_bson_int64(v));
        break;
    case MR_BSON_DOUBLE:
        put_double(out, mr_bson_double(v));
        break;
    case MR_BSON_DECIMAL128:
        put_decimal(out, v);
        break;
    case MR_BSON_BOOL:
        put_text(out, mr_bson_bool(v) ? "true" : "false");
        break;
    case MR_BSON_OID:
        put_text(out, "ObjectID(\"");
        put_hex(out, v->data, v->len);
        put_text(out, "\")");
        break;
    case MR_BSON_DOCUMENT:
    case MR_BSON_ARRAY:
        put_members(out, v, depth);
        break;
    case MR_BSON_BINARY:
        put_binary(out, v);
        break;
    case MR_BSON_TIMESTAMP:
        put_timestamp(out, (uint64_t)mr_bson_int64(v));
        break;
    case MR_BSON_NULL:
    case MR_BSON_UNDEFINED:
        put_text(out, "<nil>");
        break;
    default:
        put_text(out, "{}");
    }
}

static void put_uuid(struct mr_mongo_id *out, const uint8_t bytes[16])
{
    static const uint8_t parts[] = {4, 2, 2, 2, 6};
    for (size_t i = 0; i < sizeof parts; i++) {
        if (i > 0)
            put_text(out, "-");
        put_hex(out, bytes, parts[i]);
        bytes += parts[i];
    }
}

static void put_hash(struct mr_mongo_id *out, size_t at, struct mr_str all)
{
    out->len =
        at + (size_t)snprintf(out->text + at, sizeof out->text - at, "~%016" PRIx64 "%016" PRIx64,
                              mr_doc_hash(all, MR_STR("0"), MR_STR("")),
                              mr_doc_hash(all, MR_STR("1"), MR_STR("")));
}

/* all: what the id was made from. */
static void cut_long(struct mr_mongo_id *out, struct mr_str all)
{
    if (out->len <= sizeof out->text)
        return;
    size_t cut = CUT_BYTES; /* not inside of a character */
    while (cut > 0 && ((unsigned char)out->text[cut] & 0xc0) == 0x80)
        cut--;
    put_hash(out, cut, all);
}

static struct mr_str bytes_of(const struct mr_bson_value *key)
{
    return (struct mr_str){(const char *)key->data, key->len};
}

void mr_mongo_id_of(struct mr_mongo_id *out, const struct mr_bson_value *key)
{
    enum { UUID_SUBTYPE = 4, UUID_VALUE_BYTES = 5 + 16 };
    out->len = 0;
    if (key->type == MR_BSON_OID)
        put_hex(out, key->data, key->len);
    else if (key->type == MR_BSON_BINARY && key->len == UUID_VALUE_BYTES &&
             key->data[4] == UUID_SUBTYPE)
        put_uuid(out, key->data + 5);
    else
        put_value(out, key, 0);
    cut_long(out, bytes_of(key));
}

void mr_mongo_id_of_text(struct mr_mongo_id *out, struct mr_str text)
{
    out->len = 0;
    put(out, text);
    cut_long(out, text);
}

void mr_mongo_id_of_damaged(struct mr_mongo_id *out, const struct mr_bson_value *key)
{
    put_hash(out, 0, bytes_of(key));
}
