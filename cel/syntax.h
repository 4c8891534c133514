/* cel/syntax.h: from text to a checked syntax tree. Source of the grammar and of the rules: the
 * specification's language definition; docs/cel-syntax.md names what was decided. */
#ifndef MR_CEL_SYNTAX_H
#define MR_CEL_SYNTAX_H
#include "cel/ast.h"
#include "cel/diag.h"
#include "cel/env.h"

enum {
    MR_CEL_NO_MACROS = 1, /* macros are calls of functions that do not exist */
    MR_CEL_NO_CHECK =
        2, /* names are resolved; types and unknown names are left to the evaluation */
};

/* One compilation. Nothing is allocated but from arena; the tree lives in it. */
struct mr_cel_front {
    const struct mr_cel_env *env;
    const struct mr_cel_limits *limits;
    struct mr_cel_arena *arena;
    struct mr_cel_diag *diag; /* set whenever something else than MR_OK is returned */
    uint32_t flags;           /* MR_CEL_NO_MACROS | MR_CEL_NO_CHECK */
};

/* Parse. Needs at most 64 KiB of C stack at the default limits. source is borrowed by the tree.
 * Returns MR_OK or MR_USAGE with the reason in diag (stage PARSE or LIMIT). */
MR_MUST_USE enum mr_rc mr_cel_parse(const struct mr_cel_front *front, struct mr_str source,
                                    struct mr_cel_ast *out);
/* Resolve names and deduce types: fills in what cel/ast.h calls checked. The names of a chain of
 * selections may turn out to be one variable or type ("a.b.c"): then the SELECT node becomes an
 * IDENT; and a call "a.f(x)" of a function "a.f" loses its target. Returns MR_OK or MR_USAGE with
 * the reason in diag (stage CHECK or LIMIT). */
MR_MUST_USE enum mr_rc mr_cel_check(const struct mr_cel_front *front, struct mr_cel_ast *ast);
#endif
