/* cel/program.h: a filter program: what a subscription's filters or CEL expression become.
 * Immutable bytes without pointers: it is checked and built by the publisher, travels through
 * shared memory, and is loaded by the matchers, which take it as input (mr_program_load checks all
 * of it).
 *
 * A program is a Boolean combination (AND, OR) of leaves. A leaf is a predicate "path op constant",
 * which an index can use, or code (a compiled CEL program) for whatever else CEL can say. NOT is
 * gone: every predicate has an opposite, or the builder of the term finds another form.
 *
 * A leaf holds or does not; what CEL calls an error does not hold. A predicate follows one of two
 * sets of rules: those of structured filters (docs/matching.md has the whole table), or CEL's own.
 * Where they differ:
 *
 *                    filters                            CEL (cel = true)
 *   path part 0      element 0 of an array              key "0" of a document
 *   "_id"            the document's id, of the event    a field
 *   date             its milliseconds, a number         a timestamp
 *   decimal128       a number, by value                 the nearest double, as mr_cel_from_bson
 *   ObjectId         equal to nothing                   its 24 hex digits, a string
 */
#ifndef MR_CEL_PROGRAM_H
#define MR_CEL_PROGRAM_H
#include "common/bson.h"

enum mr_predicate_op {
    MR_PRED_EQ = 1,
    MR_PRED_NE, /* there, and not equal */
    MR_PRED_LT,
    MR_PRED_LE,
    MR_PRED_GT,
    MR_PRED_GE,
    MR_PRED_IN,       /* equal to one of the list */
    MR_PRED_CONTAINS, /* an array with the constant as element, a document with it as key */
    MR_PRED_STATED_END,
    /* What only CEL can say. */
    MR_PRED_NOT_IN = MR_PRED_STATED_END, /* there, and equal to none of the list */
    MR_PRED_NOT_CONTAINS,                /* an array or document without it */
    MR_PRED_PREFIX,                      /* a string that begins with the constant */
    MR_PRED_NOT_PREFIX,                  /* a string that does not */
    MR_PRED_EXISTS,                      /* constant: null, as for the next three */
    MR_PRED_MISSING,
    MR_PRED_IS_DOCUMENT,
    MR_PRED_IS_NAN, /* a double that is no number: what makes !(x < 1) more than x >= 1 */
    MR_PRED_CODE,   /* path: empty; constant: the compiled program's bytes as a string */
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
    MR_CONST_LIST,
    MR_CONST_DATE /* integer: milliseconds since 1970; in CEL's predicates only */
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

struct mr_predicate {
    struct mr_str path; /* dotted; 1 to 32 parts, none empty */
    enum mr_predicate_op op;
    bool cel; /* by CEL's rules */
    struct mr_const value;
};

/* A Boolean combination as its builder states it. */
enum mr_term_kind { MR_TERM_AND, MR_TERM_OR, MR_TERM_LEAF };
struct mr_term {
    enum mr_term_kind kind;
    uint32_t count; /* AND, OR: children; an AND of none is true, an OR of none false */
    const struct mr_term *const *children;
    struct mr_predicate leaf;
};

enum {
    MR_PROGRAM_LEAVES_MAX = 1024,
    MR_PROGRAM_TOKENS_MAX = 4096,
    MR_PROGRAM_DEPTH_MAX = 32, /* AND and OR inside each other */
    MR_PROGRAM_BYTES_MAX = 1 << 19,
    MR_PROGRAM_PATH_PARTS_MAX = 32
};

/* Build a program for documents of one collection of one database. "" is a name like any other; "*"
 * stands for every name. Refuses (MR_USAGE) with a text that names the filter and the member: an
 * empty path part, an order of lists or null, IN without a list, a NaN, too many parts, "_id" with
 * anything but strings, names of more than 1024 bytes. Equal filters give equal bytes, in whatever
 * order they are stated. out: malloc'd, taken by the caller; 16-byte aligned; *len its size. */
MR_MUST_USE enum mr_rc mr_program_build(struct mr_str database, struct mr_str collection,
                                        const struct mr_predicate *predicates, uint32_t count,
                                        void **out, uint32_t *len, struct mr_err *err);
/* The same of a combination; structured filters and an expression side by side are an AND of both.
 */
MR_MUST_USE enum mr_rc mr_program_build_term(struct mr_str database, struct mr_str collection,
                                             const struct mr_term *term, void **out, uint32_t *len,
                                             struct mr_err *err);

/* A loaded program: a view over its bytes, which must outlive it. load checks every offset and type
 * once and never trusts them again without bound. Code leaves are checked by whoever runs them. */
struct mr_program {
    const uint8_t *bytes;
    uint32_t len;
    struct mr_str database, collection;
    uint32_t leaf_count, token_count;
    uint32_t tokens; /* offset */
};
MR_MUST_USE enum mr_rc mr_program_load(const void *bytes, size_t len, struct mr_program *out);
/* Leaf number index of a loaded program; list items come through mr_program_list_item. */
void mr_program_predicate(const struct mr_program *program, uint32_t index,
                          struct mr_predicate *out);
void mr_program_list_item(const struct mr_program *program, uint32_t index, uint32_t item,
                          struct mr_const *out);

/* The combination, in prefix form: a leaf's index, or AND or OR with the number of terms that
 * follow. */
enum { MR_TOKEN_AND = 0x4000, MR_TOKEN_OR = 0x8000, MR_TOKEN_KIND = 0xc000 };
static inline uint16_t mr_program_token(const struct mr_program *program, uint32_t index)
{
    uint16_t token;
    memcpy(&token, program->bytes + program->tokens + index * sizeof token, sizeof token);
    return token;
}

/* Runs code leaves: one at a time, loaded anew for each. The slow way, as all below. */
struct mr_program_code;
MR_MUST_USE enum mr_rc mr_program_code_create(struct mr_program_code **out, struct mr_err *err);
void mr_program_code_destroy(struct mr_program_code **code);
/* Is the program of a code leaf true for a document (NULL, 0: an empty one)? */
bool mr_program_code_holds(struct mr_program_code *code, struct mr_str program,
                           const void *document, size_t document_len);

/* Evaluate a whole program against an event's document (data NULL, len 0: none) and id: the
 * reference against which the index is tested. code NULL: code leaves do not hold. */
bool mr_program_matches(const struct mr_program *program, const void *document, size_t document_len,
                        struct mr_str document_id, struct mr_program_code *code);
/* One of its leaves on its own. */
bool mr_program_leaf_holds(const struct mr_program *program, uint32_t index, const void *document,
                           size_t document_len, struct mr_str document_id,
                           struct mr_program_code *code);
#endif
