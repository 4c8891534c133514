/* puller/sources/pg_numeric.h: numeric, exact: IEEE 754 decimal128 where it fits, else its text. */
#ifndef MR_PULLER_SOURCES_PG_NUMERIC_H
#define MR_PULLER_SOURCES_PG_NUMERIC_H
#include "puller/sources/pg_types.h"

/* "-12.50", "NaN", "Infinity" as decimal128 (BID), trailing zeros of the fraction kept as far as
 * they fit. False: more than 34 digits, or no number. */
bool mr_pg_numeric_decimal128(struct mr_str text, uint64_t *low, uint64_t *high);

/* The text of a binary numeric, in scratch memory. */
MR_MUST_USE enum mr_rc mr_pg_numeric_text(const struct mr_pg_value *value,
                                          struct mr_pg_scratch *scratch, struct mr_str *out);
#endif
