#include <stdlib.h>

#include "common/bson.h"

enum { WRITER_BYTES_FIRST = 256 };

/* Make room for len more bytes; false: failed for good. */
static bool reserve(struct mr_bson_writer *w, size_t len)
{
    if (!w->ok)
        return false;
    if (w->len > w->len_max || len > w->len_max - w->len) {
        w->ok = false;
        return false;
    }
    if (w->len + len <= w->capacity)
        return true;
    if (w->fixed) {
        w->ok = false;
        return false;
    }
    size_t capacity = w->capacity ? w->capacity : WRITER_BYTES_FIRST;
    while (capacity < w->len + len)
        capacity *= 2;
    uint8_t *data = realloc(w->data, capacity);
    if (!data) {
        w->ok = false;
        return false;
    }
    w->data = data;
    w->capacity = capacity;
    return true;
}

static void append(struct mr_bson_writer *w, const void *data, size_t len)
{
    if (len != 0)
        memcpy(w->data + w->len, data, len);
    w->len += len;
}

/* Write type and key, with room behind them for value_len bytes of value; false: failed. */
static bool put_head(struct mr_bson_writer *w, uint8_t type, struct mr_str key, size_t value_len)
{
    /* A key is NUL-terminated, so one with a NUL inside would end early and shift all that follows.
     */
    if (w->depth == 0 || key.len > INT32_MAX || (key.len && memchr(key.data, 0, key.len)))
        w->ok = false;
    if (value_len > INT32_MAX || !reserve(w, 2 + key.len + value_len)) {
        w->ok = false;
        return false;
    }
    w->data[w->len++] = type;
    append(w, key.data, key.len);
    w->data[w->len++] = 0;
    return true;
}

static void put_fixed(struct mr_bson_writer *w, uint8_t type, struct mr_str key, const void *value,
                      size_t len)
{
    if (put_head(w, type, key, len))
        append(w, value, len);
}

/* Begin a document's bytes; its length is filled in by mr_bson_end. */
static void open_level(struct mr_bson_writer *w)
{
    if (w->depth == MR_BSON_DEPTH_MAX || !reserve(w, 4)) {
        w->ok = false;
        return;
    }
    w->starts[w->depth++] = w->len;
    w->len += 4;
}

void mr_bson_writer_init(struct mr_bson_writer *w)
{
    w->data = NULL;
    w->capacity = 0;
    w->len_max = INT32_MAX; /* a document states its length in 31 bits */
    w->fixed = false;
    mr_bson_writer_reset(w);
}

void mr_bson_writer_init_fixed(struct mr_bson_writer *w, void *data, size_t capacity)
{
    w->data = data;
    w->capacity = capacity;
    w->len_max = INT32_MAX;
    w->fixed = true;
    mr_bson_writer_reset(w);
}

void mr_bson_writer_fini(struct mr_bson_writer *w)
{
    if (!w->fixed)
        free(w->data);
    w->data = NULL;
    w->len = w->capacity = 0;
}

void mr_bson_writer_reset(struct mr_bson_writer *w)
{
    w->len = 0;
    w->ok = true;
    w->depth = 0;
}

void mr_bson_begin(struct mr_bson_writer *w)
{
    if (w->len != 0) /* one outermost document */
        w->ok = false;
    open_level(w);
}

void mr_bson_end(struct mr_bson_writer *w)
{
    if (w->depth == 0 || !reserve(w, 1)) {
        w->ok = false;
        return;
    }
    w->data[w->len++] = 0;
    size_t start = w->starts[--w->depth];
    uint32_t len = (uint32_t)(w->len - start);
    memcpy(w->data + start, &len, sizeof len);
}

void mr_bson_begin_document(struct mr_bson_writer *w, struct mr_str key)
{
    if (put_head(w, MR_BSON_DOCUMENT, key, 0))
        open_level(w);
}

void mr_bson_begin_array(struct mr_bson_writer *w, struct mr_str key)
{
    if (put_head(w, MR_BSON_ARRAY, key, 0))
        open_level(w);
}

void mr_bson_put_double(struct mr_bson_writer *w, struct mr_str key, double value)
{
    put_fixed(w, MR_BSON_DOUBLE, key, &value, sizeof value);
}

void mr_bson_put_int32(struct mr_bson_writer *w, struct mr_str key, int32_t value)
{
    put_fixed(w, MR_BSON_INT32, key, &value, sizeof value);
}

void mr_bson_put_int64(struct mr_bson_writer *w, struct mr_str key, int64_t value)
{
    put_fixed(w, MR_BSON_INT64, key, &value, sizeof value);
}

void mr_bson_put_bool(struct mr_bson_writer *w, struct mr_str key, bool value)
{
    uint8_t byte = value;
    put_fixed(w, MR_BSON_BOOL, key, &byte, sizeof byte);
}

void mr_bson_put_null(struct mr_bson_writer *w, struct mr_str key)
{
    put_fixed(w, MR_BSON_NULL, key, NULL, 0);
}

void mr_bson_put_string(struct mr_bson_writer *w, struct mr_str key, struct mr_str value)
{
    if (value.len >= INT32_MAX - 5) {
        w->ok = false;
        return;
    }
    if (!put_head(w, MR_BSON_STRING, key, 5 + value.len))
        return;
    uint32_t len = (uint32_t)value.len + 1;
    append(w, &len, sizeof len);
    append(w, value.data, value.len);
    w->data[w->len++] = 0;
}

void mr_bson_put_date_ms(struct mr_bson_writer *w, struct mr_str key, int64_t ms)
{
    put_fixed(w, MR_BSON_DATE, key, &ms, sizeof ms);
}

void mr_bson_put_binary(struct mr_bson_writer *w, struct mr_str key, uint8_t subtype,
                        struct mr_str v)
{
    if (v.len >= INT32_MAX - 5) {
        w->ok = false;
        return;
    }
    if (!put_head(w, MR_BSON_BINARY, key, 5 + v.len))
        return;
    uint32_t len = (uint32_t)v.len;
    append(w, &len, sizeof len);
    w->data[w->len++] = subtype;
    append(w, v.data, v.len);
}

void mr_bson_put_decimal128(struct mr_bson_writer *w, struct mr_str key, uint64_t low,
                            uint64_t high)
{
    uint64_t halves[2] = {low, high};
    put_fixed(w, MR_BSON_DECIMAL128, key, halves, sizeof halves);
}

void mr_bson_put_value(struct mr_bson_writer *w, struct mr_str key,
                       const struct mr_bson_value *value)
{
    put_fixed(w, value->type, key, value->data, value->len);
}

struct mr_str mr_bson_bytes(const struct mr_bson_writer *w)
{
    if (!w->ok || w->depth != 0 || w->len == 0)
        return (struct mr_str){NULL, 0};
    return (struct mr_str){(const char *)w->data, w->len};
}
