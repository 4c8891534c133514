#include "proto/marker.h"

#include <assert.h>

enum {
    MARKER_VERSION = 1,
    MARKER_BYTES = 17, /* version, log id, sequence; little endian */
    MARKER_TEXT = 23,  /* its base64: five groups of three bytes, and two bytes in three digits */
};
static_assert((int)MARKER_TEXT < (int)MR_MARKER_TEXT_MAX, "a marker and its NUL fit");

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void put_u64(uint8_t *out, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get_u64(const uint8_t *in)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | in[i];
    return value;
}

size_t mr_marker_format(struct mr_marker marker, char out[MR_MARKER_TEXT_MAX])
{
    uint8_t bytes[MARKER_BYTES + 1] = {MARKER_VERSION};
    put_u64(bytes + 1, marker.log_id);
    put_u64(bytes + 9, marker.sequence);
    size_t len = 0;
    for (size_t i = 0; i <= MARKER_BYTES; i += 3) {
        uint32_t group = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];
        for (int shift = 18; shift >= 0 && len < MARKER_TEXT; shift -= 6)
            out[len++] = digits[group >> shift & 63];
    }
    out[len] = 0;
    return len;
}

static int digit_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '-')
        return 62;
    return c == '_' ? 63 : -1;
}

enum mr_rc mr_marker_parse(struct mr_str text, struct mr_marker *out, struct mr_err *err)
{
    if (text.len != MARKER_TEXT)
        return mr_reject(err, MR_USAGE, "progress marker: expected %d characters, got %zu",
                         MARKER_TEXT, text.len);
    uint8_t bytes[MARKER_BYTES];
    size_t count = 0;
    uint32_t bits = 0, bit_count = 0;
    for (size_t i = 0; i < text.len; i++) {
        int value = digit_value(text.data[i]);
        if (value < 0)
            return mr_reject(err, MR_USAGE,
                             "progress marker: character %zu is not in the base64url alphabet",
                             i + 1);
        bits = (bits << 6 | (uint32_t)value) & 0xffff;
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            bytes[count++] = (uint8_t)(bits >> bit_count);
        }
    }
    MR_ASSERT(count == MARKER_BYTES && bit_count == 2);
    /* One text a marker: the two bits left over must be zero. */
    if (bytes[0] != MARKER_VERSION || (bits & 3) != 0)
        return mr_reject(err, MR_USAGE, "progress marker: not a marker of version %d",
                         MARKER_VERSION);
    *out = (struct mr_marker){.log_id = get_u64(bytes + 1), .sequence = get_u64(bytes + 9)};
    return MR_OK;
}
