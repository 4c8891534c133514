/* cel/calls.c: what the table of functions says about a call: is it possible, has it an instruction
 * of its own. */
#include "cel/compile.h"

/* Types are written one behind the other; some are followed by their parameters. */
static uint32_t count_types(const char *codes)
{
    uint32_t count = 0, parameters = 0;
    for (; *codes; codes++) {
        if (parameters > 0)
            parameters--;
        else
            count++;
        parameters += *codes == 'M' ? 2 : *codes == 'L' || *codes == 'O' || *codes == 'T' ? 1 : 0;
    }
    return count;
}

/* Has a function a signature of this many arguments, in this style (or in any: -1)? */
static bool has_signature(uint32_t function, uint32_t count, int style)
{
    if (function == MR_CEL_FN_NONE || function >= MR_CEL_FN_DECLARED)
        return false;
    if (function == MR_CEL_FN_MATH_GREATEST || function == MR_CEL_FN_MATH_LEAST)
        return count >= 1;
    const struct mr_cel_function_row *row = mr_cel_function_row((enum mr_cel_function)function);
    for (uint32_t i = row[0].overload_first; i < row[1].overload_first; i++) {
        const struct mr_cel_overload_row *overload = mr_cel_overload_row((enum mr_cel_overload)i);
        if ((style < 0 || overload->style == style) && count_types(overload->arguments) == count)
            return true;
    }
    return false;
}

bool mr_cel_arity_is_possible(uint32_t function, uint32_t count)
{
    return has_signature(function, count, -1);
}

bool mr_cel_call_is_possible(const struct mr_cel_node *call)
{
    return has_signature(call->function, call->count,
                         call->flags & MR_CEL_FLAG_MEMBER ? MR_CEL_CALL_MEMBER
                                                          : MR_CEL_CALL_GLOBAL);
}

/* The instruction of a function with two operands, or RETURN: it has none of its own. */
enum mr_cel_op mr_cel_op_of(uint32_t function)
{
    switch (function) {
    case MR_CEL_FN_ADD:
        return MR_CEL_OP_ADD;
    case MR_CEL_FN_SUBTRACT:
        return MR_CEL_OP_SUBTRACT;
    case MR_CEL_FN_MULTIPLY:
        return MR_CEL_OP_MULTIPLY;
    case MR_CEL_FN_DIVIDE:
        return MR_CEL_OP_DIVIDE;
    case MR_CEL_FN_MODULO:
        return MR_CEL_OP_MODULO;
    case MR_CEL_FN_EQUAL:
        return MR_CEL_OP_EQUAL;
    case MR_CEL_FN_NOT_EQUAL:
        return MR_CEL_OP_NOT_EQUAL;
    case MR_CEL_FN_LESS:
        return MR_CEL_OP_LESS;
    case MR_CEL_FN_LESS_EQUAL:
        return MR_CEL_OP_LESS_EQUAL;
    case MR_CEL_FN_GREATER:
        return MR_CEL_OP_GREATER;
    case MR_CEL_FN_GREATER_EQUAL:
        return MR_CEL_OP_GREATER_EQUAL;
    case MR_CEL_FN_IN:
        return MR_CEL_OP_IN;
    case MR_CEL_FN_INDEX:
        return MR_CEL_OP_INDEX;
    case MR_CEL_FN_OPTIONAL_INDEX:
        return MR_CEL_OP_OPTIONAL_INDEX;
    case MR_CEL_FN_STARTS_WITH:
        return MR_CEL_OP_STARTS_WITH;
    case MR_CEL_FN_ENDS_WITH:
        return MR_CEL_OP_ENDS_WITH;
    case MR_CEL_FN_CONTAINS:
        return MR_CEL_OP_CONTAINS;
    case MR_CEL_FN_NOT:
        return MR_CEL_OP_NOT;
    case MR_CEL_FN_NEGATE:
        return MR_CEL_OP_NEGATE;
    case MR_CEL_FN_SIZE:
        return MR_CEL_OP_SIZE;
    case MR_CEL_FN_OPTIONAL_OF:
        return MR_CEL_OP_OPTIONAL_OF;
    default:
        return MR_CEL_OP_RETURN;
    }
}
