/* cel/function.c: the rows of functions.def as tables. */
#include "cel/function.h"

#include "common/err.h"

/* POSITION_OF_<function> is the number of its first overload: the function takes no number away. */
enum {
    POSITION_START, /* MR_CEL_OV_NONE */
#define FUNCTION(id, name, library)                      POSITION_OF_##id, POSITION_BEFORE_##id = POSITION_OF_##id - 1,
#define OVERLOAD(function, id, style, result, arguments) POSITION_##id,
#include "cel/functions.def"
    POSITION_END
};

static const struct mr_cel_function_row functions[] = {
    [MR_CEL_FN_NONE] = {{"", 0}, MR_CEL_LIB_CORE, POSITION_START + 1},
#define FUNCTION(id, name, library) \
    [MR_CEL_FN_##id] = {{name, sizeof(name) - 1}, MR_CEL_LIB_##library, POSITION_OF_##id},
#include "cel/functions.def"
    [MR_CEL_FN_DECLARED] = {{"", 0}, MR_CEL_LIB_CORE, POSITION_END},
};

static const struct mr_cel_overload_row overloads[] = {
    [MR_CEL_OV_NONE] = {"", "", "", MR_CEL_FN_NONE, MR_CEL_CALL_GLOBAL},
#define OVERLOAD(function, id, style, result, arguments) \
    [MR_CEL_OV_##id] = {#id, result, arguments, MR_CEL_FN_##function, MR_CEL_CALL_##style},
#include "cel/functions.def"
};

static const char *const libraries[] = {
    [MR_CEL_LIB_CORE] = "core",         [MR_CEL_LIB_OPTIONALS] = "optionals",
    [MR_CEL_LIB_STRINGS] = "strings",   [MR_CEL_LIB_MATH] = "math",
    [MR_CEL_LIB_ENCODERS] = "encoders", [MR_CEL_LIB_LISTS] = "lists",
    [MR_CEL_LIB_SETS] = "sets",         [MR_CEL_LIB_NETWORK] = "network",
    [MR_CEL_LIB_MACROS2] = "macros2",   [MR_CEL_LIB_BINDINGS] = "bindings",
    [MR_CEL_LIB_BLOCK] = "block",
};

const struct mr_cel_function_row *mr_cel_function_row(enum mr_cel_function function)
{
    MR_ASSERT(function < MR_CEL_FN_COUNT);
    return &functions[function];
}

const struct mr_cel_overload_row *mr_cel_overload_row(enum mr_cel_overload overload)
{
    MR_ASSERT(overload < MR_CEL_OV_COUNT);
    return &overloads[overload];
}

const char *mr_cel_library_name(enum mr_cel_library library)
{
    MR_ASSERT(library < MR_CEL_LIB_COUNT);
    return libraries[library];
}
