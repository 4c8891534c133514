/* tools/cel_case.h: one case of the NDJSON of docs/cel.md: an expression, what it may name, and the
 * values of that. */
#ifndef MR_TOOLS_CEL_CASE_H
#define MR_TOOLS_CEL_CASE_H
#include "cel/cel.h"
#include "common/bson.h"

/* Borrowed from the line's BSON. A value of type 0 was not given. */
struct mr_cel_case {
    struct mr_str id, expr, container;
    bool disable_check, disable_macros;
    struct mr_bson_value type_env, bindings, doc;
};
/* bson: a valid object. MR_USAGE: a member is not what it must be, or "expr" is missing; id and
 * what else was read is set all the same. */
MR_MUST_USE enum mr_rc mr_cel_case_read(struct mr_str bson, struct mr_cel_case *out,
                                        struct mr_err *err);

/* Environments, of which the last one is kept: cases that follow each other often share theirs. */
struct mr_cel_bench;
MR_MUST_USE enum mr_rc mr_cel_bench_create(struct mr_cel_bench **out, struct mr_err *err);
void mr_cel_bench_destroy(struct mr_cel_bench **bench);
/* The environment of a case: its declarations, its bindings as dyn where they are not declared, and
 * "doc" as dyn. Borrowed until the next call. MR_USAGE: a declaration is wrong. */
MR_MUST_USE enum mr_rc mr_cel_bench_env(struct mr_cel_bench *bench, const struct mr_cel_case *c,
                                        const struct mr_cel_env **out, struct mr_err *err);
/* Values of the environment's variables, in its order, in the arena of ctx; those that the case
 * does not give are errors. MR_USAGE: a binding is no value. */
MR_MUST_USE enum mr_rc mr_cel_bench_variables(struct mr_cel_ctx *ctx, const struct mr_cel_env *env,
                                              const struct mr_cel_case *c,
                                              const struct mr_cel_val **out, struct mr_err *err);
#endif
