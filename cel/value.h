/* cel/value.h: what a predicate sees of a document's value: a scalar taken out of its BSON once and
 * then compared with as many constants as need be. */
#ifndef MR_CEL_VALUE_H
#define MR_CEL_VALUE_H
#include "cel/program.h"

enum mr_value_kind {
    MR_VALUE_MISSING,
    MR_VALUE_NULL,
    MR_VALUE_BOOL,
    MR_VALUE_INT,     /* int32, int64, dates as milliseconds since 1970, whole decimals that fit */
    MR_VALUE_DOUBLE,  /* as stored; may be NaN */
    MR_VALUE_DECIMAL, /* a decimal128 that is no int64 */
    MR_VALUE_STRING,
    MR_VALUE_ARRAY,
    MR_VALUE_DOCUMENT,
    MR_VALUE_OTHER, /* there, but equal to no constant */
};

/* Borrows from the document. */
struct mr_value {
    enum mr_value_kind kind;
    bool beyond;         /* DECIMAL: outside of int64, integer means nothing */
    int64_t integer;     /* INT; BOOL: 0 or 1; DECIMAL: the greatest int64 below it */
    double number;       /* DOUBLE; DECIMAL: the nearest double */
    struct mr_str bytes; /* STRING: text; ARRAY, DOCUMENT: BSON */
};

/* value NULL: missing. */
struct mr_value mr_value_from_bson(const struct mr_bson_value *value);
/* A document's id; empty: there is none (missing). */
struct mr_value mr_value_from_id(struct mr_str id);

/* Order of a value and a scalar constant: -1, 0 or 1. False: they have none (other types, NaN). */
bool mr_value_compare(const struct mr_value *value, const struct mr_const *constant, int *order);

/* Where the items of a list constant are, when they are not at list.items. */
struct mr_list {
    void (*item)(const struct mr_list *list, uint32_t item, struct mr_const *out);
    const struct mr_program *program;
    uint32_t index;
};
/* "value op constant". list: NULL when the items are in memory. */
bool mr_value_holds(const struct mr_value *value, enum mr_predicate_op op,
                    const struct mr_const *constant, const struct mr_list *list);
#endif
