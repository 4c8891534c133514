/* cel/zone_rule.h: the rule by which a zone goes on behind the last change that its file lists:
 * POSIX's TZ format as extended by RFC 8536, "CET-1CEST,M3.5.0,M10.5.0/3". */
#ifndef MR_CEL_ZONE_RULE_H
#define MR_CEL_ZONE_RULE_H
#include <stdint.h>

#include "common/str.h"

/* When clocks change, every year. */
struct mr_cel_zone_change {
    enum { MR_CEL_CHANGE_WEEKDAY, MR_CEL_CHANGE_JULIAN, MR_CEL_CHANGE_DAY } kind;
    int month, week; /* WEEKDAY: month from 1, week 1 to 5 (5: the last) */
    int day;         /* WEEKDAY: 0 is Sunday; JULIAN: 1 to 365 without leap days; DAY: 0 to 365 */
    int32_t seconds; /* behind local midnight, may be negative or beyond a day */
};
struct mr_cel_zone_rule {
    int32_t standard_offset, summer_offset; /* seconds east of UTC */
    bool has_summer;
    struct mr_cel_zone_change to_summer, to_standard;
};
/* False: text is no such rule. */
bool mr_cel_zone_rule_parse(struct mr_str text, struct mr_cel_zone_rule *out);
int32_t mr_cel_zone_rule_offset(const struct mr_cel_zone_rule *rule, int64_t seconds);
#endif
