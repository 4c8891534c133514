/* cel/value.h: what a predicate sees of a document's value: a scalar taken out of its BSON once and
 * then compared with as many constants as need be. */
#ifndef MR_CEL_VALUE_H
#define MR_CEL_VALUE_H
#include "cel/program.h"

enum mr_value_kind {
    MR_VALUE_MISSING,
    MR_VALUE_NULL,
    MR_VALUE_BOOL,
    MR_VALUE_INT,     /* int32, int64; for filters dates as milliseconds, whole decimals that fit */
    MR_VALUE_DOUBLE,  /* as stored; may be NaN; for CEL decimals, too */
    MR_VALUE_DECIMAL, /* for filters: a decimal128 that is no int64 */
    MR_VALUE_DATE,    /* for CEL */
    MR_VALUE_OID,     /* for CEL: a string of 24 hex digits */
    MR_VALUE_STRING,
    MR_VALUE_ARRAY,
    MR_VALUE_DOCUMENT,
    MR_VALUE_ERROR, /* for CEL: there, but of no value: a date beyond the year 9999 */
    MR_VALUE_OTHER, /* there, but equal to no constant */
};

/* Borrows from the document. */
struct mr_value {
    enum mr_value_kind kind;
    bool beyond;         /* DECIMAL: outside of int64, integer means nothing */
    bool cel;            /* read by CEL's rules; what is inside will be, too */
    int64_t integer;     /* INT; DATE: ms; BOOL: 0 or 1; DECIMAL: the greatest int64 below it */
    double number;       /* DOUBLE; DECIMAL: the nearest double */
    struct mr_str bytes; /* STRING: text; ARRAY, DOCUMENT: BSON; OID: its 12 bytes */
};

/* value NULL: missing. */
struct mr_value mr_value_from_bson(const struct mr_bson_value *value, bool cel);
/* A document's id; empty: there is none (missing). */
struct mr_value mr_value_from_id(struct mr_str id);

/* The text of a STRING or OID; buffer is where an OID's is written. {NULL, 0}: it is neither. */
enum { MR_VALUE_OID_TEXT = 24 };
struct mr_str mr_value_text(const struct mr_value *value, char buffer[MR_VALUE_OID_TEXT]);

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
