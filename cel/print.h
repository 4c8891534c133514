/* cel/print.h: a syntax tree as text, for tests and for people who look into the library. */
#ifndef MR_CEL_PRINT_H
#define MR_CEL_PRINT_H
#include "cel/ast.h"

/* The notation of cel-go's debug printer, in which the conformance suite's packages ship expected
 * trees: calls and lists with a part a line, the kind of every node behind it as
 * ^#*expr.Expr_CallExpr#. What this tree keeps together is written as the specification has it: the
 * macros of the standard library (before a check) as loops, chains of && and || as balanced trees
 * of two, doubled ! and - not at all. Macros of the libraries are written as the calls that they
 * look like. NULL data: the arena is full. The text lives in the arena. */
struct mr_str mr_cel_ast_print(const struct mr_cel_ast *ast, struct mr_cel_arena *arena);
#endif
