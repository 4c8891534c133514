/* cel/limits.h: what bounds an expression before it runs; made from limits.def. */
#ifndef MR_CEL_LIMITS_H
#define MR_CEL_LIMITS_H
#include <stdint.h>

enum mr_cel_limit {
    MR_CEL_LIMIT_NONE,
#define MR_CEL_LIMIT(id, member, value, unit, text) MR_CEL_LIMIT_##id,
#include "cel/limits.def"
    MR_CEL_LIMIT_COUNT
};

/* Each the greatest value that is allowed. */
struct mr_cel_limits {
#define MR_CEL_LIMIT(id, member, value, unit, text) uint32_t member;
#include "cel/limits.def"
};
#define MR_CEL_LIMIT(id, member, value, unit, text) .member = (value),
static const struct mr_cel_limits mr_cel_limits_default = {
#include "cel/limits.def"
};
#endif
