/* cel/utf8.h: text by code point (RFC 3629: no surrogates, nothing overlong, at most U+10FFFF). */
#ifndef MR_CEL_UTF8_H
#define MR_CEL_UTF8_H
#include <stdint.h>

#include "common/str.h"

/* Whether the bytes are UTF-8. Everything below asks for text of which this is true. */
bool mr_cel_utf8_valid(struct mr_str text);

/* The code point at *offset, which must be less than text.len and a code point's start; moves
 * *offset behind it. Never reads beyond the text: a damaged byte counts as U+FFFD, one byte. */
uint32_t mr_cel_utf8_next(struct mr_str text, size_t *offset);
/* Encode; returns how many bytes, 1 to 4. code_point: valid. */
size_t mr_cel_utf8_put(char out[4], uint32_t code_point);
/* A Unicode scalar value: not a surrogate, at most U+10FFFF. */
static inline bool mr_cel_utf8_is_scalar(uint32_t code_point)
{
    return code_point < 0xd800 || (code_point > 0xdfff && code_point <= 0x10ffff);
}

size_t mr_cel_utf8_count(struct mr_str text); /* code points */
/* Byte offset of code point number index; text.len when the text has just as many; false: fewer. */
bool mr_cel_utf8_offset(struct mr_str text, size_t index, size_t *offset);
/* White space of Unicode (property White_Space). */
bool mr_cel_utf8_is_space(uint32_t code_point);
#endif
