/* cel/names.h: the names of an environment, as the checker looks them up. Internal to the front
 * end. */
#ifndef MR_CEL_NAMES_H
#define MR_CEL_NAMES_H
#include "cel/env.h"

/* One signature beside those of functions.def. Types are in the codes of that file; an opaque type
 * is CODE_OPAQUE, its number + 1 as a byte, the number of its parameters + 1 as a byte, and its
 * parameters; type parameters are A to H. */
struct mr_cel_declared {
    const struct mr_cel_declared *next;
    const char *result, *arguments;
    struct mr_str id;
    uint8_t style; /* enum mr_cel_call_style */
};
#define MR_CEL_CODE_OPAQUE 'Q'
enum { MR_CEL_CODE_PARAMS_MAX = 8 };

/* All that one dotted name means. It can be several things at once. */
struct mr_cel_name {
    struct mr_str text;
    uint32_t hash;
    bool is_prefix;                         /* other names start with it and a dot */
    uint8_t type_kind;                      /* enum mr_cel_type_kind + 1; 0: no type */
    uint16_t function;                      /* enum mr_cel_function; NONE: no function */
    uint32_t variable;                      /* number + 1; 0: no variable */
    uint32_t number;                        /* function DECLARED: its number */
    const struct mr_cel_declared *declared; /* signatures beside the table's */
};

/* NULL: nothing has this name. Borrowed until destroy. */
const struct mr_cel_name *mr_cel_env_find(const struct mr_cel_env *env, struct mr_str name);
/* The name of a variable or type (functions: of a function) that is most like this one, for "did
 * you mean"; empty: none is near. */
struct mr_str mr_cel_env_nearest(const struct mr_cel_env *env, struct mr_str name, bool functions);
/* Opaque type number index, as declared. */
struct mr_str mr_cel_env_opaque(const struct mr_cel_env *env, uint32_t index);

/* Edits (insert, delete, replace, swap neighbours) between two words; max + 1: more than max. */
unsigned mr_cel_edit_distance(struct mr_str a, struct mr_str b, unsigned max);
#endif
