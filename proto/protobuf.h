/* proto/protobuf.h: the protobuf wire format, read and written in place. For the few messages where
 * generated code costs too much (deliveries) or loses too much (a string's length behind a zero
 * byte).
 *
 * Readers take any bytes: every length is checked, nothing is allocated, strings point into the
 * input. Groups (wire types 3 and 4), which no version of these messages has ever had, are refused.
 */
#ifndef MR_PROTO_PROTOBUF_H
#define MR_PROTO_PROTOBUF_H
#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"

enum mr_pb_type { MR_PB_VARINT = 0, MR_PB_FIXED64 = 1, MR_PB_BYTES = 2, MR_PB_FIXED32 = 5 };
enum { MR_PB_VARINT_MAX = 10, MR_PB_NUMBER_MAX = (1 << 29) - 1 };

struct mr_pb_reader {
    const uint8_t *at, *end;
    const char *problem; /* why reading stopped before the end; NULL: it did not. Static storage */
};

struct mr_pb_field {
    uint32_t number;
    uint32_t type;       /* enum mr_pb_type */
    uint64_t value;      /* VARINT, FIXED64, FIXED32 */
    struct mr_str bytes; /* BYTES; borrowed from the input */
};

static inline struct mr_pb_reader mr_pb_read(struct mr_str bytes)
{
    const uint8_t *at = (const uint8_t *)bytes.data;
    return (struct mr_pb_reader){at, bytes.len ? at + bytes.len : at, NULL};
}

static inline bool mr_pb_stop(struct mr_pb_reader *r, const char *problem)
{
    r->problem = problem;
    return false;
}

static inline bool mr_pb_get_varint(struct mr_pb_reader *r, uint64_t *out)
{
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 70; shift += 7) {
        if (r->at == r->end)
            return mr_pb_stop(r, "it ends within a number");
        uint8_t byte = *r->at++;
        if (shift == 63 && byte > 1)
            return mr_pb_stop(r, "a number has more than 64 bits");
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return mr_pb_stop(r, "a number has more than 64 bits");
}

static inline bool mr_pb_get_fixed(struct mr_pb_reader *r, uint32_t len, uint64_t *out)
{
    if ((size_t)(r->end - r->at) < len)
        return mr_pb_stop(r, "it ends within a number");
    *out = 0;
    memcpy(out, r->at, len); /* little endian, like every machine this is built for */
    r->at += len;
    return true;
}

/* The next field. False at the end, and when the input is broken (then problem says why). */
static inline bool mr_pb_next(struct mr_pb_reader *r, struct mr_pb_field *out)
{
    uint64_t tag, len;
    if (r->problem || r->at == r->end || !mr_pb_get_varint(r, &tag))
        return false;
    if (tag >> 3 == 0 || tag >> 3 > MR_PB_NUMBER_MAX)
        return mr_pb_stop(r, "a field number is out of range");
    out->number = (uint32_t)(tag >> 3);
    out->type = (uint32_t)(tag & 7);
    out->value = 0;
    out->bytes = (struct mr_str){NULL, 0};
    switch (out->type) {
    case MR_PB_VARINT:
        return mr_pb_get_varint(r, &out->value);
    case MR_PB_FIXED64:
        return mr_pb_get_fixed(r, 8, &out->value);
    case MR_PB_FIXED32:
        return mr_pb_get_fixed(r, 4, &out->value);
    case MR_PB_BYTES:
        if (!mr_pb_get_varint(r, &len))
            return false;
        if (len > (uint64_t)(r->end - r->at))
            return mr_pb_stop(r, "a field is longer than the message");
        out->bytes = (struct mr_str){(const char *)r->at, (size_t)len};
        r->at += len;
        return true;
    default:
        return mr_pb_stop(r, "a field has an unknown wire type");
    }
}

/* Writers: the caller has made room; each returns the place behind what it wrote. The sizes of
 * fields are exact and count tag and length. Numbers and strings that are zero or empty are left
 * out, as proto3 has it. */
static inline size_t mr_pb_varint_size(uint64_t value)
{
    return (size_t)(63 - __builtin_clzll(value | 1)) / 7 + 1;
}
static inline uint64_t mr_pb_tag(uint32_t number, enum mr_pb_type type)
{
    return (uint64_t)number << 3 | type;
}
static inline size_t mr_pb_bytes_size(uint32_t number, size_t len) /* also when len is 0 */
{
    return mr_pb_varint_size(mr_pb_tag(number, MR_PB_BYTES)) + mr_pb_varint_size(len) + len;
}
static inline size_t mr_pb_text_size(uint32_t number, struct mr_str text)
{
    return text.len ? mr_pb_bytes_size(number, text.len) : 0;
}
static inline size_t mr_pb_number_size(uint32_t number, uint64_t value)
{
    return value ? mr_pb_varint_size(mr_pb_tag(number, MR_PB_VARINT)) + mr_pb_varint_size(value)
                 : 0;
}

static inline uint8_t *mr_pb_put_varint(uint8_t *at, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *at++ = (uint8_t)(value | 0x80);
    *at++ = (uint8_t)value;
    return at;
}
/* Tag and length of a field whose len bytes the caller writes next. */
static inline uint8_t *mr_pb_put_head(uint8_t *at, uint32_t number, size_t len)
{
    return mr_pb_put_varint(mr_pb_put_varint(at, mr_pb_tag(number, MR_PB_BYTES)), len);
}
static inline uint8_t *mr_pb_put_bytes(uint8_t *at, uint32_t number, struct mr_str bytes)
{
    at = mr_pb_put_head(at, number, bytes.len);
    if (bytes.len)
        memcpy(at, bytes.data, bytes.len);
    return at + bytes.len;
}
static inline uint8_t *mr_pb_put_text(uint8_t *at, uint32_t number, struct mr_str text)
{
    return text.len ? mr_pb_put_bytes(at, number, text) : at;
}
static inline uint8_t *mr_pb_put_number(uint8_t *at, uint32_t number, uint64_t value)
{
    if (!value)
        return at;
    return mr_pb_put_varint(mr_pb_put_varint(at, mr_pb_tag(number, MR_PB_VARINT)), value);
}
#endif
