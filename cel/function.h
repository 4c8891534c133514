/* cel/function.h: ids of functions and signatures, made from functions.def. */
#ifndef MR_CEL_FUNCTION_H
#define MR_CEL_FUNCTION_H
#include <stdint.h>

#include "common/str.h"

enum mr_cel_library {
    MR_CEL_LIB_CORE,
    MR_CEL_LIB_OPTIONALS,
    MR_CEL_LIB_STRINGS,
    MR_CEL_LIB_MATH,
    MR_CEL_LIB_ENCODERS,
    MR_CEL_LIB_LISTS,
    MR_CEL_LIB_SETS,
    MR_CEL_LIB_NETWORK,
    MR_CEL_LIB_MACROS2,  /* two-variable comprehensions; macros only */
    MR_CEL_LIB_BINDINGS, /* cel.bind; a macro only */
    MR_CEL_LIB_BLOCK,    /* cel.block and its indexes: what optimizers write; off by default */
    MR_CEL_LIB_COUNT
};

enum mr_cel_function {
    MR_CEL_FN_NONE, /* not resolved, or not a function of the table */
#define FUNCTION(id, name, library) MR_CEL_FN_##id,
#include "cel/functions.def"
    MR_CEL_FN_DECLARED, /* declared by the environment: node's index says which */
    MR_CEL_FN_COUNT
};

enum mr_cel_overload {
    MR_CEL_OV_NONE, /* several are possible, or not checked: decided by the values */
#define OVERLOAD(function, id, style, result, arguments) MR_CEL_OV_##id,
#include "cel/functions.def"
    MR_CEL_OV_COUNT
};

enum mr_cel_call_style { MR_CEL_CALL_GLOBAL, MR_CEL_CALL_MEMBER };

struct mr_cel_function_row {
    struct mr_str name;
    uint16_t library;        /* enum mr_cel_library */
    uint16_t overload_first; /* enum mr_cel_overload; ends at the next row's */
};
struct mr_cel_overload_row {
    const char *name;
    const char *result, *arguments; /* codes of functions.def */
    uint16_t function;              /* enum mr_cel_function */
    uint8_t style; /* enum mr_cel_call_style; MEMBER: the receiver is the first argument */
};
/* Static storage; row[1] is there for every row but DECLARED's. */
const struct mr_cel_function_row *mr_cel_function_row(enum mr_cel_function function);
const struct mr_cel_overload_row *mr_cel_overload_row(enum mr_cel_overload overload);
const char *mr_cel_library_name(enum mr_cel_library library); /* "strings", ... */
#endif
