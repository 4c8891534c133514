/* Parts of timestamps, in UTC or in a zone, and of durations. */
#include "cel/lib.h"
#include "cel/timestamp.h"
#include "cel/zone.h"

/* Calendar and clock at args[0] in the zone args[1] (UTC without). False: *error says why. */
static bool civil_of(struct mr_cel_ctx *ctx, const struct mr_cel_val *args, uint32_t count,
                     struct mr_cel_civil *out, struct mr_cel_val *error)
{
    int32_t offset = 0;
    if (!mr_cel_args_are(args, count, count == 1 ? "t" : "ts")) {
        *error = mr_cel_no_overload();
        return false;
    }
    if (count == 2 && !mr_cel_zone_offset(mr_cel_str(args[1]), args[0].integer, &offset)) {
        *error = mr_cel_errorf(ctx, MR_CEL_E_INVALID_ARGUMENT, "no time zone \"%.*s\"",
                               args[1].len < 64 ? (int)args[1].len : 64, args[1].text);
        return false;
    }
    struct mr_cel_time time = {.seconds = args[0].integer, .nanos = (int32_t)args[0].len};
    *out = mr_cel_civil_at(time, offset);
    return true;
}

#define CIVIL_PART(name, part)                                                                    \
    struct mr_cel_val mr_cel_fn_get_##name(struct mr_cel_ctx *ctx, const struct mr_cel_val *args, \
                                           uint32_t count)                                        \
    {                                                                                             \
        struct mr_cel_civil civil;                                                                \
        struct mr_cel_val error;                                                                  \
        return civil_of(ctx, args, count, &civil, &error) ? mr_cel_int(civil.part) : error;       \
    }
CIVIL_PART(full_year, year)
CIVIL_PART(month, month - 1)
CIVIL_PART(date, day)
CIVIL_PART(day_of_month, day - 1)
CIVIL_PART(day_of_week, day_of_week)
CIVIL_PART(day_of_year, day_of_year)

/* The clock's parts are asked of durations, too: there all of it in that unit, or (milliseconds)
 * what is behind the seconds. */
#define CLOCK_PART(name, part, of_duration)                                                       \
    struct mr_cel_val mr_cel_fn_get_##name(struct mr_cel_ctx *ctx, const struct mr_cel_val *args, \
                                           uint32_t count)                                        \
    {                                                                                             \
        struct mr_cel_civil civil;                                                                \
        struct mr_cel_val error;                                                                  \
        if (mr_cel_args_are(args, count, "p"))                                                    \
            return mr_cel_int(args[0].integer of_duration);                                       \
        return civil_of(ctx, args, count, &civil, &error) ? mr_cel_int(civil.part) : error;       \
    }
CLOCK_PART(hours, hour, / INT64_C(3600000000000))
CLOCK_PART(minutes, minute, / INT64_C(60000000000))
CLOCK_PART(seconds, second, / 1000000000)
CLOCK_PART(milliseconds, millisecond, % 1000000000 / 1000000)
