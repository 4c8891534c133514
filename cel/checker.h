/* cel/checker.h: what the files of the checker share. Internal to the front end.
 *
 * A type is NULL when the diag is set and checking is to end. */
#ifndef MR_CEL_CHECKER_H
#define MR_CEL_CHECKER_H
#include "cel/names.h"
#include "cel/syntax.h"

/* A variable of a macro, on the stack of the macro's visit. */
struct mr_cel_local {
    const struct mr_cel_local *outer;
    struct mr_str name;
    const struct mr_cel_type *type;
    uint32_t slot;
};

/* What a type variable stood for before, so that an attempt can be taken back. */
struct mr_cel_undo {
    uint32_t variable;
    const struct mr_cel_type *before;
};

struct mr_cel_checker {
    const struct mr_cel_front *front;
    struct mr_cel_ast *ast;
    const struct mr_cel_local *locals; /* innermost first */
    uint32_t local_count;              /* slots in use */
    uint32_t loop_depth;

    /* Type variables (cel/infer.c): what each stands for; NULL: not known yet. */
    const struct mr_cel_type **bound;
    uint32_t variable_count, variable_size;
    struct mr_cel_undo *undo;
    uint32_t undo_count, undo_size;
    uint32_t steps;           /* taken */
    enum mr_cel_limit failed; /* a limit that inference ran into; it then says "no" to everything */
};

/* The diag: text about a node, at its sign or name. In a check that does not insist on types, dyn
 * instead. */
const struct mr_cel_type *mr_cel_checker_mismatch(struct mr_cel_checker *c,
                                                  const struct mr_cel_node *node,
                                                  const char *format, ...) MR_PRINTF(3, 4);
/* The diag for a limit; NULL. */
const struct mr_cel_type *mr_cel_checker_over(struct mr_cel_checker *c,
                                              const struct mr_cel_node *node,
                                              enum mr_cel_limit limit);
/* A type as text, cut to fit, in a buffer of the caller. */
enum { MR_CEL_TYPE_TEXT = 80 };
const char *mr_cel_checker_text(struct mr_cel_checker *c, const struct mr_cel_type *type,
                                char text[MR_CEL_TYPE_TEXT]);

const struct mr_cel_type *mr_cel_check_node(struct mr_cel_checker *c, struct mr_cel_node *node);
const struct mr_cel_type *mr_cel_check_call(struct mr_cel_checker *c, struct mr_cel_node *call);
const struct mr_cel_type *mr_cel_check_macro(struct mr_cel_checker *c, struct mr_cel_node *macro);
/* Whether a value of this type can be a bool; if not, sets the diag and says what it was to be. */
bool mr_cel_check_bool(struct mr_cel_checker *c, const struct mr_cel_node *node, const char *what);

/* Resolve the names at the root of a chain of selections, and the IDENT itself (cel/resolve.c). */
MR_MUST_USE bool mr_cel_resolve_chain(struct mr_cel_checker *c, struct mr_cel_node *top);
/* What function a call means, before its target is checked; may make a member call "a.f(x)" the
 * call of "a.f". NULL: none of that name. */
const struct mr_cel_name *mr_cel_resolve_function(struct mr_cel_checker *c,
                                                  struct mr_cel_node *call);

/* What may be meant by what is not known (cel/hint.c). Both set the diag, or return dyn where types
 * are not checked. call: of a function that is none; root: an IDENT that names nothing. */
const struct mr_cel_type *mr_cel_hint_function(struct mr_cel_checker *c,
                                               const struct mr_cel_node *call);
const struct mr_cel_type *mr_cel_hint_name(struct mr_cel_checker *c,
                                           const struct mr_cel_node *root);
/* For a value that stands behind "name-": the minus may be a part of the name. NULL: it does not.
 */
const char *mr_cel_hint_minus(const struct mr_cel_checker *c, const struct mr_cel_node *node);

/* Inference. All return NULL or false also when c->failed got set. */
const struct mr_cel_type *mr_cel_infer_fresh(struct mr_cel_checker *c);
/* What a type is by now, at its top. */
const struct mr_cel_type *mr_cel_infer_resolve(const struct mr_cel_checker *c,
                                               const struct mr_cel_type *type);
/* Whether a value of the first type can be where the second is wanted; may bind variables. */
bool mr_cel_infer_assign(struct mr_cel_checker *c, const struct mr_cel_type *value,
                         const struct mr_cel_type *target);
/* The type that holds both; dyn if they have nothing in common. before: NULL for none. */
const struct mr_cel_type *mr_cel_infer_join(struct mr_cel_checker *c,
                                            const struct mr_cel_type *before,
                                            const struct mr_cel_type *type);
/* The type with all that is known put in; unknown variables stay, or become dyn. */
const struct mr_cel_type *mr_cel_infer_substitute(struct mr_cel_checker *c,
                                                  const struct mr_cel_type *type, bool to_dyn);
bool mr_cel_infer_same(struct mr_cel_checker *c, const struct mr_cel_type *a,
                       const struct mr_cel_type *b);
/* Codes of functions.def and cel/names.h. Reads one code: its kind, the number of types that follow
 * it, and the number of an opaque type. Not for type parameters. */
bool mr_cel_code_is_param(char code);
enum mr_cel_type_kind mr_cel_code_read(const char **code, uint32_t *params, uint32_t *opaque);
/* The type of a signature's code, which moves behind it. params: of this use of the signature;
 * those that are NULL become fresh variables. */
const struct mr_cel_type *mr_cel_infer_instantiate(
    struct mr_cel_checker *c, const char **code,
    const struct mr_cel_type *params[MR_CEL_CODE_PARAMS_MAX]);
/* Take back what was bound since undo_count was `mark`. */
void mr_cel_infer_undo(struct mr_cel_checker *c, uint32_t mark);
#endif
