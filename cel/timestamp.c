#include "cel/timestamp.h"

#include "common/err.h"

enum {
    SECONDS_PER_DAY = 86400,
    NANOS_PER_SECOND = 1000000000,
    DAYS_PER_ERA = 146097, /* 400 years */
    DAYS_TO_1970 = 719468  /* from 0000-03-01 */
};

/* Eras of 400 years and years that begin in March: the leap day is the last one, and the months'
 * lengths follow one line, (153 * m + 2) / 5. */
int64_t mr_cel_civil_days(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400, year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * DAYS_PER_ERA + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
           day_of_year - DAYS_TO_1970;
}

bool mr_cel_civil_is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* Division towards minus infinity. */
static int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

struct mr_cel_civil mr_cel_civil_at(struct mr_cel_time time, int32_t offset_seconds)
{
    int64_t seconds = time.seconds + offset_seconds;
    int64_t days = floor_divide(seconds, SECONDS_PER_DAY);
    int rest = (int)(seconds - days * SECONDS_PER_DAY);
    int64_t shifted = days + DAYS_TO_1970, era = floor_divide(shifted, DAYS_PER_ERA);
    int64_t day_of_era = shifted - era * DAYS_PER_ERA;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int day_of_march_year =
        (int)(day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100));
    int month_from_march = (5 * day_of_march_year + 2) / 153;
    struct mr_cel_civil civil = {
        .month = month_from_march + (month_from_march < 10 ? 3 : -9),
        .day = day_of_march_year - (153 * month_from_march + 2) / 5 + 1,
        .day_of_week =
            (int)(days + 4 - floor_divide(days + 4, 7) * 7), /* 1970 began on a Thursday */
        .hour = rest / 3600,
        .minute = rest / 60 % 60,
        .second = rest % 60,
        .millisecond = time.nanos / 1000000,
    };
    civil.year = year_of_era + era * 400 + (civil.month <= 2);
    civil.day_of_year = (int)(days - mr_cel_civil_days(civil.year, 1, 1));
    return civil;
}

bool mr_cel_time_add(struct mr_cel_time time, int64_t duration_ns, struct mr_cel_time *out)
{
    int64_t seconds = floor_divide(duration_ns, NANOS_PER_SECOND);
    int64_t nanos = time.nanos + (duration_ns - seconds * NANOS_PER_SECOND);
    seconds += time.seconds + nanos / NANOS_PER_SECOND;
    *out = (struct mr_cel_time){seconds, (int32_t)(nanos % NANOS_PER_SECOND)};
    return mr_cel_time_in_range(seconds);
}

bool mr_cel_time_subtract(struct mr_cel_time a, struct mr_cel_time b, int64_t *duration_ns)
{
    int64_t seconds = a.seconds - b.seconds, nanos = a.nanos - b.nanos;
    if (seconds < 0 && nanos > 0) { /* both of one sign, or the product overflows too early */
        seconds++;
        nanos -= NANOS_PER_SECOND;
    }
    return !__builtin_mul_overflow(seconds, NANOS_PER_SECOND, duration_ns) &&
           !__builtin_add_overflow(*duration_ns, nanos, duration_ns);
}

/* A reader of fixed fields: after any mismatch ok is false. */
struct reader {
    const char *at, *end;
    bool ok;
};

static int take_digits(struct reader *r, int count, int min, int max)
{
    int value = 0;
    r->ok = r->ok && r->end - r->at >= count;
    for (int i = 0; r->ok && i < count; i++) {
        r->ok = r->at[i] >= '0' && r->at[i] <= '9';
        value = value * 10 + (r->at[i] - '0');
    }
    r->at += r->ok ? count : 0;
    r->ok = r->ok && value >= min && value <= max;
    return value;
}

static void take_char(struct reader *r, char c)
{
    r->ok = r->ok && r->at < r->end && *r->at == c;
    r->at += r->ok;
}

static bool next_is(const struct reader *r, char c)
{
    return r->ok && r->at < r->end && *r->at == c;
}

static int32_t take_fraction(struct reader *r)
{
    int32_t nanos = 0;
    int count = 0;
    take_char(r, '.');
    for (; r->ok && r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++, count++)
        if (count < 9)
            nanos = nanos * 10 + (*r->at - '0');
    r->ok = r->ok && count > 0;
    for (; count < 9; count++)
        nanos *= 10;
    return nanos;
}

static int32_t take_offset(struct reader *r)
{
    if (next_is(r, 'Z')) {
        r->at++;
        return 0;
    }
    bool west = next_is(r, '-');
    take_char(r, west ? '-' : '+');
    int hours = take_digits(r, 2, 0, 23);
    take_char(r, ':');
    int seconds = (hours * 60 + take_digits(r, 2, 0, 59)) * 60;
    return west ? -seconds : seconds;
}

/* Eight bytes at once: text must have what pattern has, where a '0' stands for any digit. out: the
 * digits' values in their bytes. */
static inline bool take_eight(const char *text, const char pattern[8], uint64_t *out)
{
    uint64_t word, expected, digits = 0;
    memcpy(&word, text, 8);
    memcpy(&expected, pattern, 8);
    for (int i = 0; i < 8; i++)
        digits |= (uint64_t)(pattern[i] == '0' ? 0x76 : 0x7f) << (8 * i);
    *out = word ^ expected;
    return (((*out + digits) | *out) & UINT64_C(0x8080808080808080)) == 0;
}

/* The two digits from place i on. */
static int two(uint64_t digits, int i)
{
    return (int)(digits >> (8 * i) & 15) * 10 + (int)(digits >> (8 * i + 8) & 15);
}

bool mr_cel_time_parse(struct mr_str text, struct mr_cel_time *out)
{
    static const uint8_t lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    uint64_t first, second, third;
    if (text.len < 20 || !take_eight(text.data, "0000-00-", &first) ||
        !take_eight(text.data + 8, "00T00:00", &second) ||
        !take_eight(text.data + 11, "00:00:00", &third))
        return false;
    int year = two(first, 0) * 100 + two(first, 2), month = two(first, 5), day = two(second, 0);
    int hour = two(third, 0), minute = two(third, 3), second_of_minute = two(third, 6);
    if (month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second_of_minute > 59 ||
        day > lengths[month - 1] + (month == 2 && mr_cel_civil_is_leap(year)))
        return false;
    struct reader r = {text.data + 19, text.data + text.len, true};
    int32_t nanos = next_is(&r, '.') ? take_fraction(&r) : 0;
    int32_t offset = take_offset(&r);
    if (!r.ok || r.at != r.end)
        return false;
    int64_t seconds = mr_cel_civil_days(year, month, day) * SECONDS_PER_DAY + hour * 3600 +
                      minute * 60 + second_of_minute - offset;
    *out = (struct mr_cel_time){seconds, nanos};
    return mr_cel_time_in_range(seconds);
}

/* digits: how many, with zeros in front. */
static char *put_number(char *at, int64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--, value /= 10)
        at[i] = (char)('0' + value % 10);
    return at + digits;
}

static char *put_fraction(char *at, int32_t nanos)
{
    if (nanos == 0)
        return at;
    *at++ = '.';
    at = put_number(at, nanos, 9);
    while (at[-1] == '0')
        at--;
    return at;
}

size_t mr_cel_time_format(char out[MR_CEL_TIME_TEXT_MAX], struct mr_cel_time time)
{
    MR_ASSERT(mr_cel_time_in_range(time.seconds));
    struct mr_cel_civil civil = mr_cel_civil_at(time, 0);
    char *at = put_number(out, civil.year, 4);
    *at++ = '-';
    at = put_number(at, civil.month, 2);
    *at++ = '-';
    at = put_number(at, civil.day, 2);
    *at++ = 'T';
    at = put_number(at, civil.hour, 2);
    *at++ = ':';
    at = put_number(at, civil.minute, 2);
    *at++ = ':';
    at = put_fraction(put_number(at, civil.second, 2), time.nanos);
    *at++ = 'Z';
    return (size_t)(at - out);
}

/* Nanoseconds of a unit at "at"; *len its bytes. 0: none. */
static uint64_t take_unit(struct mr_str rest, size_t *len)
{
    static const struct {
        struct mr_str name;
        uint64_t nanos;
    } units[] = {
        {{"ns", 2}, 1},
        {{"us", 2}, 1000},
        {{"\xc2\xb5s", 3}, 1000},
        {{"\xce\xbcs", 3}, 1000},
        {{"ms", 2}, 1000000},
        {{"s", 1}, 1000000000},
        {{"m", 1}, UINT64_C(60000000000)},
        {{"h", 1}, UINT64_C(3600000000000)},
    };
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        *len = units[i].name.len;
        if (rest.len >= *len && memcmp(rest.data, units[i].name.data, *len) == 0)
            return units[i].nanos;
    }
    return 0;
}

/* One "1.5h" at *at. Adds it to *sum. */
static bool add_term(struct mr_str text, size_t *at, uint64_t *sum)
{
    size_t i = *at, unit_len, count;
    uint64_t whole = 0;
    for (; i < text.len && text.data[i] >= '0' && text.data[i] <= '9'; i++)
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(text.data[i] - '0'), &whole))
            return false;
    count = i - *at;
    size_t fraction = i, fraction_len = 0;
    if (i < text.len && text.data[i] == '.') {
        fraction = ++i;
        while (i < text.len && text.data[i] >= '0' && text.data[i] <= '9')
            i++;
        fraction_len = i - fraction;
    }
    uint64_t unit = take_unit((struct mr_str){text.data + i, text.len - i}, &unit_len);
    if (count + fraction_len == 0 || unit == 0 || __builtin_mul_overflow(whole, unit, &whole))
        return false;
    /* Digit by digit: unit / 10^k stays whole as long as it matters to a nanosecond, as units are
     * powers of ten times at most 3600. */
    uint64_t part = 0, scale = 1;
    for (size_t k = 0; k < fraction_len && scale <= UINT64_C(100000000000000); k++) {
        part = part * 10 + (uint64_t)(text.data[fraction + k] - '0');
        scale *= 10;
    }
    __extension__ unsigned __int128 product = (unsigned __int128)part * unit;
    *at = i + unit_len;
    return !__builtin_add_overflow(*sum, whole, sum) &&
           !__builtin_add_overflow(*sum, (uint64_t)(product / scale), sum);
}

bool mr_cel_duration_parse(struct mr_str text, int64_t *out)
{
    bool negative = text.len > 0 && text.data[0] == '-';
    size_t at = negative || (text.len > 0 && text.data[0] == '+');
    if (text.len - at == 1 && text.data[at] == '0') {
        *out = 0;
        return true;
    }
    uint64_t sum = 0;
    if (at == text.len)
        return false;
    while (at < text.len)
        if (!add_term(text, &at, &sum))
            return false;
    if (sum > (uint64_t)INT64_MAX + negative)
        return false;
    *out = (int64_t)(negative ? 0 - sum : sum);
    return true;
}

size_t mr_cel_duration_format(char out[MR_CEL_DURATION_TEXT_MAX], int64_t duration_ns)
{
    uint64_t rest = duration_ns < 0 ? 0 - (uint64_t)duration_ns : (uint64_t)duration_ns;
    int64_t seconds = (int64_t)(rest / NANOS_PER_SECOND);
    char *at = out;
    if (duration_ns < 0)
        *at++ = '-';
    int digits = 1;
    for (int64_t bound = 10; seconds >= bound; bound *= 10)
        digits++;
    at = put_fraction(put_number(at, seconds, digits), (int32_t)(rest % NANOS_PER_SECOND));
    *at++ = 's';
    return (size_t)(at - out);
}
