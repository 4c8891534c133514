/* cel/chars.h: doubles to and from text, by the C++ library's <charconv>: exact, and the same in
 * every locale. The shim that number.c builds on; plain C on this side. */
#ifndef MR_CEL_CHARS_H
#define MR_CEL_CHARS_H
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Each writes at most capacity bytes, no NUL, and returns how many; 0: they do not fit.
 * value: finite. Shortest: the fewest digits that read back the same, as "-d.ddde-07". */
size_t mr_cel_chars_shortest(char *out, size_t capacity, double value);
/* precision: digits behind the point, from 0. fixed "123.46"; scientific "1.23e+02". */
size_t mr_cel_chars_fixed(char *out, size_t capacity, double value, int precision);
size_t mr_cel_chars_scientific(char *out, size_t capacity, double value, int precision);

enum mr_cel_chars { MR_CEL_CHARS_OK, MR_CEL_CHARS_RANGE, MR_CEL_CHARS_BAD };
/* text: an optional '-' and a decimal number with nothing behind it. RANGE: too large or too small
 * for a double, out unchanged. */
enum mr_cel_chars mr_cel_chars_parse(const char *text, size_t len, double *out);

#ifdef __cplusplus
}
#endif
#endif
