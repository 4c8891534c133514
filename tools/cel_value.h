/* tools/cel_value.h: CEL values as the NDJSON of docs/cel.md spells them, and as people read them.
 */
#ifndef MR_TOOLS_CEL_VALUE_H
#define MR_TOOLS_CEL_VALUE_H
#include "cel/fn.h"
#include "proto/json.h"

/* A VALUE, {"int64":"5"} and so on, that was read as BSON. Lists and maps go to the arena of ctx;
 * text is borrowed from the BSON. MR_USAGE: it is none. */
MR_MUST_USE enum mr_rc mr_cel_value_read(struct mr_cel_ctx *ctx, const struct mr_bson_value *json,
                                         struct mr_cel_val *out, struct mr_err *err);

/* How a value is written. */
enum mr_cel_value_style {
    MR_CEL_VALUE_TYPED, /* {"int64":"5"} */
    MR_CEL_VALUE_PLAIN, /* as an expression would say it: 5, 5u, "a", timestamp("...") */
};
/* Append value, which is no error. Damaged BSON inside is written as "damaged". bytes_max: a small
 * value can have a huge text, when it holds the same parts many times; false: it is longer, and
 * what was appended makes no sense. */
MR_MUST_USE bool mr_cel_value_write(struct mr_json *out, struct mr_cel_ctx *ctx,
                                    struct mr_cel_val value, enum mr_cel_value_style style,
                                    size_t bytes_max);
#endif
