/* cel/type.h: the checker's types. */
#ifndef MR_CEL_TYPE_H
#define MR_CEL_TYPE_H
#include "cel/arena.h"

enum mr_cel_type_kind {
    MR_CEL_TYPE_DYN, /* anything: decided at run time */
    MR_CEL_TYPE_NULL,
    MR_CEL_TYPE_BOOL,
    MR_CEL_TYPE_INT,
    MR_CEL_TYPE_UINT,
    MR_CEL_TYPE_DOUBLE,
    MR_CEL_TYPE_STRING,
    MR_CEL_TYPE_BYTES,
    MR_CEL_TYPE_TIMESTAMP,
    MR_CEL_TYPE_DURATION,
    MR_CEL_TYPE_IP,
    MR_CEL_TYPE_CIDR,
    MR_CEL_TYPE_LIST,     /* params: element */
    MR_CEL_TYPE_MAP,      /* params: key, value */
    MR_CEL_TYPE_OPTIONAL, /* params: value */
    MR_CEL_TYPE_TYPE,     /* params: the type whose value it is; none: any */
    MR_CEL_TYPE_PARAM,    /* a type parameter of a declaration, by name */
    MR_CEL_TYPE_VARIABLE, /* while checking only: still to be deduced */
    MR_CEL_TYPE_OPAQUE,   /* declared by the environment, by name; any parameters */
    MR_CEL_TYPE_COUNT
};

/* Immutable; simple ones are static, the others lie in the arena of whoever made them. */
struct mr_cel_type {
    uint8_t kind; /* enum mr_cel_type_kind */
    uint8_t param_count;
    uint16_t height;   /* types inside types; 0: no parameters */
    uint32_t variable; /* VARIABLE: its number */
    const struct mr_cel_type *const *params;
    struct mr_str name; /* PARAM, OPAQUE */
};

enum { MR_CEL_TYPE_PARAMS_MAX = 8, MR_CEL_TYPE_HEIGHT_MAX = 120 };

/* A type without parameters: DYN to CIDR; LIST, MAP, OPTIONAL: of dyn; TYPE: of any. Static
 * storage. */
const struct mr_cel_type *mr_cel_type_simple(enum mr_cel_type_kind kind);
/* NULL: the arena is full. */
const struct mr_cel_type *mr_cel_type_list(struct mr_cel_arena *arena,
                                           const struct mr_cel_type *element);
const struct mr_cel_type *mr_cel_type_map(struct mr_cel_arena *arena, const struct mr_cel_type *key,
                                          const struct mr_cel_type *value);
const struct mr_cel_type *mr_cel_type_optional(struct mr_cel_arena *arena,
                                               const struct mr_cel_type *value);
/* The type of a type's value: type(T). */
const struct mr_cel_type *mr_cel_type_type(struct mr_cel_arena *arena,
                                           const struct mr_cel_type *type);

/* Any kind; name for PARAM and OPAQUE. A type higher than MR_CEL_TYPE_HEIGHT_MAX is dyn. NULL: the
 * arena is full, or a parameter is NULL. */
const struct mr_cel_type *mr_cel_type_of(struct mr_cel_arena *arena, enum mr_cel_type_kind kind,
                                         struct mr_str name,
                                         const struct mr_cel_type *const *params,
                                         uint32_t param_count);
/* The name by which an expression refers to the kind: "int", "list", "google.protobuf.Timestamp".
 * DYN to TYPE; static storage. */
struct mr_str mr_cel_type_kind_name(enum mr_cel_type_kind kind);

bool mr_cel_type_equal(const struct mr_cel_type *a, const struct mr_cel_type *b);

/* Text: "int", "list(string)", "map(string, dyn)", "optional_type(int)", "type(int)", "null_type",
 * "google.protobuf.Timestamp", "net.IP". Writes at most size bytes with a NUL (what does not fit is
 * cut) and returns the length written. */
size_t mr_cel_type_print(const struct mr_cel_type *type, char *text, size_t size);
/* The same text, and "timestamp", "duration", "null", "list", "map", "any" as short forms. An
 * upper-case letter alone is a type parameter; any other name is an opaque type of that name.
 * Returns MR_OK; MR_USAGE with what was expected where; MR_FULL: the arena is full. The result
 * borrows from text. */
MR_MUST_USE enum mr_rc mr_cel_type_parse(struct mr_str text, struct mr_cel_arena *arena,
                                         const struct mr_cel_type **out, struct mr_err *err);
#endif
