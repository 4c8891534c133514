/* common/utf8.h: is text well-formed UTF-8? RFC 3629: no surrogates, nothing overlong, at most
 * U+10FFFF. */
#ifndef MR_COMMON_UTF8_H
#define MR_COMMON_UTF8_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline bool mr_utf8_is_tail(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* Length of the code point that starts at "at", of which left bytes (at least one) may be read; 0:
 * none does. Table 3-7 of the Unicode standard. */
static inline size_t mr_utf8_len(const uint8_t *at, size_t left)
{
    uint8_t lead = at[0];
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2 || lead > 0xf4)
        return 0;
    if (lead < 0xe0)
        return left >= 2 && mr_utf8_is_tail(at[1]) ? 2 : 0;
    uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (left < 3 || at[1] < low || at[1] > high || !mr_utf8_is_tail(at[2]))
        return 0;
    if (lead < 0xf0)
        return 3;
    return left >= 4 && mr_utf8_is_tail(at[3]) ? 4 : 0;
}

/* text may be NULL when len is 0. */
static inline bool mr_utf8_valid(const void *text, size_t len)
{
    const uint8_t *at = (const uint8_t *)text;
    while (len > 0) {
        uint64_t block;
        size_t step = sizeof block; /* ASCII bytes at a time: what most text is */
        if (len < step || (memcpy(&block, at, step), block & UINT64_C(0x8080808080808080)))
            step = mr_utf8_len(at, len);
        if (step == 0)
            return false;
        at += step;
        len -= step;
    }
    return true;
}
#endif
