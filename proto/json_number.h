/* proto/json_number.h: numbers and dates as text. Each writes at most its MAX bytes, no NUL, and
 * returns how many. */
#ifndef MR_PROTO_JSON_NUMBER_H
#define MR_PROTO_JSON_NUMBER_H
#include <stddef.h>
#include <stdint.h>

enum {
    MR_TEXT_INT_MAX = 20,
    MR_TEXT_DOUBLE_MAX = 32,
    MR_TEXT_DECIMAL_MAX = 48,
    MR_TEXT_DATE_MAX = 40
};

size_t mr_text_int(char *out, int64_t value);
size_t mr_text_double(char *out, double value); /* finite */
size_t mr_text_decimal128(char *out, uint64_t low, uint64_t high);
size_t mr_text_date_ms(char *out, int64_t ms);
#endif
