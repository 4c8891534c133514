/* cel/ops.h: the operators of the language on values: what the evaluator's instructions do beyond
 * their quickest cases, and what the compiler computes constants with. Operands are no errors and
 * no unknowns; the result may be an error. */
#ifndef MR_CEL_OPS_H
#define MR_CEL_OPS_H
#include "cel/bytecode.h"

/* op: ADD, SUBTRACT, MULTIPLY, DIVIDE, MODULO. */
struct mr_cel_val mr_cel_arithmetic(struct mr_cel_ctx *ctx, enum mr_cel_op op, struct mr_cel_val a,
                                    struct mr_cel_val b);
struct mr_cel_val mr_cel_negate(struct mr_cel_val a);
/* op: LESS, LESS_EQUAL, GREATER, GREATER_EQUAL. */
struct mr_cel_val mr_cel_ordered(struct mr_cel_ctx *ctx, enum mr_cel_op op, struct mr_cel_val a,
                                 struct mr_cel_val b);
struct mr_cel_val mr_cel_in(struct mr_cel_ctx *ctx, struct mr_cel_val item,
                            struct mr_cel_val container);
struct mr_cel_val mr_cel_index(struct mr_cel_ctx *ctx, struct mr_cel_val container,
                               struct mr_cel_val key);
/* container[?key]: an optional. */
struct mr_cel_val mr_cel_optional_index(struct mr_cel_ctx *ctx, struct mr_cel_val container,
                                        struct mr_cel_val key);
struct mr_cel_val mr_cel_select(struct mr_cel_ctx *ctx, struct mr_cel_val container,
                                struct mr_str field);
struct mr_cel_val mr_cel_optional_select(struct mr_cel_ctx *ctx, struct mr_cel_val container,
                                         struct mr_str field);
/* has(container.field) */
struct mr_cel_val mr_cel_has(struct mr_cel_ctx *ctx, struct mr_cel_val container,
                             struct mr_str field);
/* op: STARTS_WITH, ENDS_WITH, CONTAINS. */
struct mr_cel_val mr_cel_text_test(struct mr_cel_ctx *ctx, enum mr_cel_op op, struct mr_cel_val a,
                                   struct mr_cel_val b);
struct mr_cel_val mr_cel_size(struct mr_cel_ctx *ctx, struct mr_cel_val a);
/* The items of list in the order of the keys at the same places: stable. */
struct mr_cel_val mr_cel_sort_by(struct mr_cel_ctx *ctx, struct mr_cel_val list,
                                 struct mr_cel_val keys);
/* Of errors and unknowns among the operands of one call, what it comes to: all unknowns together,
 * or else the first error. False: there is neither. */
bool mr_cel_strange_of(const struct mr_cel_val *args, uint32_t count, struct mr_cel_val *out);
#endif
