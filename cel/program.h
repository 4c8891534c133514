/* cel/program.h: a filter program: what a subscription's filters or CEL expression become.
 * Immutable bytes without pointers: it is checked and built by the publisher, travels through
 * shared memory, and is loaded by the matchers, which take it as input (mr_program_load checks all
 * of it).
 *
 * A program is a conjunction. A conjunct is either a predicate "path op constant", which an index
 * can use, or code (opcodes.def) for whatever else CEL can say. All conjuncts must hold.
 *
 * Semantics of a predicate (facts of the upstream system, without its defects): a missing field
 * never matches, for any operator; numbers compare across int32, int64, double and decimal by
 * value, a date is its milliseconds since 1970; a string never equals a number; ordering compares
 * numbers with numbers, strings with strings (by bytes), bools with bools, else no match; a list
 * constant equals an array of equal elements; IN: the field equals one constant; CONTAINS: the
 * field is an array that has the constant as an element, or a document that has it as a key. The
 * whole table: docs/matching.md */
#ifndef MR_CEL_PROGRAM_H
#define MR_CEL_PROGRAM_H
#include "common/bson.h"

enum mr_predicate_op {
    MR_PRED_EQ = 1,
    MR_PRED_NE,
    MR_PRED_LT,
    MR_PRED_LE,
    MR_PRED_GT,
    MR_PRED_GE,
    MR_PRED_IN,
    MR_PRED_CONTAINS,
    MR_PRED_COUNT
};
const char *mr_predicate_op_name(enum mr_predicate_op op); /* "==", ... */
/* From "==", "!=", ">", ">=", "<", "<=", "in", "contains". False: none of these. */
bool mr_predicate_op_parse(struct mr_str text, enum mr_predicate_op *out);

/* A constant: what a filter's value can be. */
enum mr_const_kind {
    MR_CONST_NULL = 1,
    MR_CONST_BOOL,
    MR_CONST_INT,
    MR_CONST_DOUBLE,
    MR_CONST_STRING,
    MR_CONST_LIST
};
struct mr_const {
    enum mr_const_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double number;
        struct mr_str string;
        struct {
            const struct mr_const *items;
            uint32_t count;
        } list; /* no lists inside */
    };
};

/* The path "_id" means the document's id (head of the event, text), not a field: it is matched by
 * hash. */
struct mr_predicate {
    struct mr_str path; /* dotted; 1 to 32 parts, none empty */
    enum mr_predicate_op op;
    struct mr_const value;
};

enum {
    MR_PROGRAM_CONJUNCTS_MAX = 1024,
    MR_PROGRAM_BYTES_MAX = 1 << 19,
    MR_PROGRAM_PATH_PARTS_MAX = 32
};

/* Build a program for documents of one collection of one database ("" is a name like any other).
 * Refuses (MR_USAGE) with a text that names the conjunct and the member: an empty path part, an
 * order of lists or null, IN without a list, a NaN, too many parts, "_id" with anything but
 * strings, names of more than 1024 bytes. Equal filters give equal bytes, in whatever order they
 * are stated. out: malloc'd, taken by the caller; 8-byte aligned; *len its size. */
MR_MUST_USE enum mr_rc mr_program_build(struct mr_str database, struct mr_str collection,
                                        const struct mr_predicate *predicates, uint32_t count,
                                        void **out, uint32_t *len, struct mr_err *err);

/* A loaded program: a view over its bytes, which must outlive it. load checks every offset and type
 * once and never trusts them again without bound. */
struct mr_program {
    const uint8_t *bytes;
    uint32_t len;
    struct mr_str database, collection;
    uint32_t conjunct_count;
};
MR_MUST_USE enum mr_rc mr_program_load(const void *bytes, size_t len, struct mr_program *out);
/* Predicate number index of a loaded program; list items come through mr_program_list_item. */
void mr_program_predicate(const struct mr_program *program, uint32_t index,
                          struct mr_predicate *out);
void mr_program_list_item(const struct mr_program *program, uint32_t index, uint32_t item,
                          struct mr_const *out);

/* Evaluate one predicate against a value found at its path (NULL: missing), or a whole program
 * against an event's document (data NULL, len 0: none) and id. The reference against which the
 * index is tested, and the residual check behind it. */
bool mr_predicate_holds(const struct mr_program *program, uint32_t index,
                        const struct mr_bson_value *value);
bool mr_program_matches(const struct mr_program *program, const void *document, size_t document_len,
                        struct mr_str document_id);
#endif
