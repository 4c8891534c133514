/* cel/normalise.h: from what a subscription states, structured filters and a CEL expression over
 * the variable doc, to a filter program.
 *
 * The checked tree of an expression becomes a combination of predicates as far as predicates can
 * say it, by the table in docs/matching.md; each part that they cannot say becomes a code leaf of
 * its own. NOT is moved down to the leaves: under CEL's logic, in which errors are a third value,
 * an expression is true exactly if the combination of "is true" and "is false" of its leaves holds.
 */
#ifndef MR_CEL_NORMALISE_H
#define MR_CEL_NORMALISE_H
#include "cel/diag.h"
#include "cel/program.h"

/* What compilations share: the environment, memory. One thread at a time. */
struct mr_program_compiler;
MR_MUST_USE enum mr_rc mr_program_compiler_create(struct mr_program_compiler **out,
                                                  struct mr_err *err);
void mr_program_compiler_destroy(struct mr_program_compiler **compiler);

/* All filters and the expression must hold. */
struct mr_program_source {
    struct mr_str database, collection;
    const struct mr_predicate *predicates;
    uint32_t predicate_count;
    struct mr_str cel; /* empty: none */
};
/* As mr_program_build. MR_USAGE with "cel: LINE:COLUMN: what" for an expression that is none, does
 * not fit the types, is no bool, or is over a limit of cel/limits.def. */
MR_MUST_USE enum mr_rc mr_program_compile(struct mr_program_compiler *compiler,
                                          const struct mr_program_source *source, void **out,
                                          uint32_t *len, struct mr_err *err);
/* Where the last expression was wrong; text empty: it was not. */
const struct mr_cel_diag *mr_program_compiler_diag(const struct mr_program_compiler *compiler);
#endif
