#include "cel/utf8.h"

#include "common/utf8.h"

bool mr_cel_utf8_valid(struct mr_str text)
{
    return mr_utf8_valid(text.data, text.len);
}

uint32_t mr_cel_utf8_next(struct mr_str text, size_t *offset)
{
    const uint8_t *at = (const uint8_t *)text.data + *offset;
    size_t len = mr_utf8_len(at, text.len - *offset);
    *offset += len > 0 ? len : 1;
    switch (len) {
    case 1:
        return at[0];
    case 2:
        return (uint32_t)(at[0] & 0x1f) << 6 | (at[1] & 0x3f);
    case 3:
        return (uint32_t)(at[0] & 0x0f) << 12 | (uint32_t)(at[1] & 0x3f) << 6 | (at[2] & 0x3f);
    case 4:
        return (uint32_t)(at[0] & 0x07) << 18 | (uint32_t)(at[1] & 0x3f) << 12 |
               (uint32_t)(at[2] & 0x3f) << 6 | (at[3] & 0x3f);
    default:
        return 0xfffd;
    }
}

size_t mr_cel_utf8_put(char out[4], uint32_t code_point)
{
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    size_t len = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, code_point >>= 6)
        out[i] = (char)(0x80 | (code_point & 0x3f));
    static const uint8_t leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    out[0] = (char)(leads[len] | code_point);
    return len;
}

size_t mr_cel_utf8_count(struct mr_str text)
{
    size_t count = 0;
    for (size_t i = 0; i < text.len; i++) /* every byte but a code point's second to last */
        count += !mr_utf8_is_tail((uint8_t)text.data[i]);
    return count;
}

bool mr_cel_utf8_offset(struct mr_str text, size_t index, size_t *offset)
{
    size_t at = 0;
    for (; index > 0; index--) {
        if (at >= text.len)
            return false;
        mr_cel_utf8_next(text, &at);
    }
    *offset = at;
    return true;
}

bool mr_cel_utf8_is_space(uint32_t code_point)
{
    switch (code_point) {
    case 0x20:
    case 0x85:
    case 0xa0:
    case 0x1680:
    case 0x2028:
    case 0x2029:
    case 0x202f:
    case 0x205f:
    case 0x3000:
        return true;
    default:
        return (code_point >= 0x09 && code_point <= 0x0d) ||
               (code_point >= 0x2000 && code_point <= 0x200a);
    }
}
