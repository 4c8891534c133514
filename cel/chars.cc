#include "cel/chars.h"

#include <charconv>
#include <system_error>

static size_t written(const char *out, std::to_chars_result result)
{
    return result.ec == std::errc() ? static_cast<size_t>(result.ptr - out) : 0;
}

size_t mr_cel_chars_shortest(char *out, size_t capacity, double value)
{
    return written(out, std::to_chars(out, out + capacity, value, std::chars_format::scientific));
}

size_t mr_cel_chars_fixed(char *out, size_t capacity, double value, int precision)
{
    return written(out,
                   std::to_chars(out, out + capacity, value, std::chars_format::fixed, precision));
}

size_t mr_cel_chars_scientific(char *out, size_t capacity, double value, int precision)
{
    return written(
        out, std::to_chars(out, out + capacity, value, std::chars_format::scientific, precision));
}

enum mr_cel_chars mr_cel_chars_parse(const char *text, size_t len, double *out)
{
    double value = 0;
    std::from_chars_result result = std::from_chars(text, text + len, value);
    if (result.ec == std::errc::result_out_of_range && result.ptr == text + len)
        return MR_CEL_CHARS_RANGE;
    if (result.ec != std::errc() || result.ptr != text + len)
        return MR_CEL_CHARS_BAD;
    *out = value;
    return MR_CEL_CHARS_OK;
}
