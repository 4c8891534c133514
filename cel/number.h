/* cel/number.h: numbers as CEL writes and reads them, in every locale the same. */
#ifndef MR_CEL_NUMBER_H
#define MR_CEL_NUMBER_H
#include <stdint.h>

#include "common/str.h"

enum { MR_CEL_INT_TEXT_MAX = 21, MR_CEL_DOUBLE_TEXT_MAX = 32 };

/* Each writes at most its MAX bytes, no NUL, and returns how many. */
size_t mr_cel_int_format(char out[MR_CEL_INT_TEXT_MAX], int64_t value);
size_t mr_cel_uint_format(char out[MR_CEL_INT_TEXT_MAX], uint64_t value);
/* The fewest digits that read back the same, with an exponent when it would be below -4 or above
 * 5: "1", "0.25", "100000", "1e+06", "1.23456789e+08", "-0", "+Inf",
 * "-Inf", "NaN": the text of string(double). */
size_t mr_cel_double_format(char out[MR_CEL_DOUBLE_TEXT_MAX], double value);

/* Strict: the whole text is the number, nothing around it. Base ten; int: an optional sign; uint:
 * none. False: it is none, or does not fit. */
bool mr_cel_int_parse(struct mr_str text, int64_t *out);
bool mr_cel_uint_parse(struct mr_str text, uint64_t *out);
/* An optional sign, digits with an optional point (digits on at least one side of it), an optional
 * exponent; or inf, infinity (with an optional sign) or nan in any case of letters. Too small
 * becomes zero; false: it is none, or too large. */
bool mr_cel_double_parse(struct mr_str text, double *out);
#endif
