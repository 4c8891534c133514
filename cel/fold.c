/* cel/fold.c: compute when a program is compiled what depends on nothing; see compile.h. What has
 * no value (an error) is left for the evaluation, where && and || may absorb it. */
#include "cel/compile.h"

enum { FOLDED_TEXT_MAX = 4096 }; /* a longer text is not worth its place in the program */

static bool worth_keeping(struct mr_cel_val v)
{
    switch (v.kind) {
    case MR_CEL_STRING:
    case MR_CEL_BYTES:
        return v.len <= FOLDED_TEXT_MAX;
    case MR_CEL_OPTIONAL:
        return !v.some;
    case MR_CEL_LIST:
    case MR_CEL_MAP:
        return v.form == MR_CEL_FORM_ARENA;
    default:
        return !mr_cel_is_strange(v);
    }
}

static void make_constant(struct mr_cel_compiler *c, struct mr_cel_node *node,
                          struct mr_cel_val value)
{
    struct mr_cel_val *slot = mr_cel_buffer_add(c, &c->constants, sizeof *slot);
    if (!slot)
        return;
    *slot = value;
    node->kind = MR_CEL_NODE_CONSTANT;
    node->index = c->constants.count - 1;
}

void mr_cel_fold_in_place(struct mr_cel_compiler *c, struct mr_cel_node *node)
{
    struct mr_cel_val value;
    if (mr_cel_fold(c, node, &value))
        make_constant(c, node, value);
}

/* Values of all children, in the arena; NULL: not all are constant (those that are have become
 * CONSTANT nodes). */
static const struct mr_cel_val *fold_children(struct mr_cel_compiler *c, struct mr_cel_node *node)
{
    struct mr_cel_val *values =
        mr_cel_arena_alloc(c->front->arena, (node->count + 1u) * sizeof *values);
    if (!values) {
        mr_cel_compile_out_of_memory(c);
        return NULL;
    }
    bool all = true;
    uint32_t i = 0;
    for (struct mr_cel_node *child = node->first; child; child = child->next, i++) {
        bool constant = mr_cel_fold(c, child, &values[i]);
        all = all && constant && !(child->flags & MR_CEL_FLAG_OPTIONAL_ENTRY);
        if (!constant)
            values[i].kind = MR_CEL_ERROR;
    }
    if (all)
        return values;
    i = 0;
    for (struct mr_cel_node *child = node->first; child; child = child->next, i++)
        if (values[i].kind != MR_CEL_ERROR)
            make_constant(c, child, values[i]);
    return NULL;
}

static struct mr_cel_val apply(struct mr_cel_compiler *c, const struct mr_cel_node *node,
                               const struct mr_cel_val *args)
{
    struct mr_cel_ctx *ctx = &c->ctx;
    switch (node->function) {
    case MR_CEL_FN_NOT:
        return args[0].kind == MR_CEL_BOOL ? mr_cel_bool(!args[0].boolean) : mr_cel_no_overload();
    case MR_CEL_FN_NEGATE:
        return mr_cel_negate(args[0]);
    case MR_CEL_FN_ADD:
        return mr_cel_arithmetic(ctx, MR_CEL_OP_ADD, args[0], args[1]);
    case MR_CEL_FN_SUBTRACT:
        return mr_cel_arithmetic(ctx, MR_CEL_OP_SUBTRACT, args[0], args[1]);
    case MR_CEL_FN_MULTIPLY:
        return mr_cel_arithmetic(ctx, MR_CEL_OP_MULTIPLY, args[0], args[1]);
    case MR_CEL_FN_DIVIDE:
        return mr_cel_arithmetic(ctx, MR_CEL_OP_DIVIDE, args[0], args[1]);
    case MR_CEL_FN_MODULO:
        return mr_cel_arithmetic(ctx, MR_CEL_OP_MODULO, args[0], args[1]);
    case MR_CEL_FN_EQUAL:
        return mr_cel_bool(mr_cel_equal(ctx, args[0], args[1]));
    case MR_CEL_FN_NOT_EQUAL:
        return mr_cel_bool(!mr_cel_equal(ctx, args[0], args[1]));
    case MR_CEL_FN_LESS:
        return mr_cel_ordered(ctx, MR_CEL_OP_LESS, args[0], args[1]);
    case MR_CEL_FN_LESS_EQUAL:
        return mr_cel_ordered(ctx, MR_CEL_OP_LESS_EQUAL, args[0], args[1]);
    case MR_CEL_FN_GREATER:
        return mr_cel_ordered(ctx, MR_CEL_OP_GREATER, args[0], args[1]);
    case MR_CEL_FN_GREATER_EQUAL:
        return mr_cel_ordered(ctx, MR_CEL_OP_GREATER_EQUAL, args[0], args[1]);
    case MR_CEL_FN_IN:
        return mr_cel_in(ctx, args[0], args[1]);
    case MR_CEL_FN_INDEX:
        return mr_cel_index(ctx, args[0], args[1]);
    case MR_CEL_FN_OPTIONAL_INDEX:
        return mr_cel_optional_index(ctx, args[0], args[1]);
    default: {
        mr_cel_fn *fn = mr_cel_impl(node->function);
        return fn ? fn(ctx, args, node->count)
                  : mr_cel_error(MR_CEL_E_NO_SUCH_FUNCTION, node->text);
    }
    }
}

static bool fold_call(struct mr_cel_compiler *c, struct mr_cel_node *node, struct mr_cel_val *out)
{
    const struct mr_cel_val *args = fold_children(c, node);
    if (!args || node->function == MR_CEL_FN_NONE || node->function >= MR_CEL_FN_DECLARED ||
        !mr_cel_call_is_possible(node))
        return false;
    *out = apply(c, node, args);
    return c->ctx.fatal == 0;
}

static bool fold_select(struct mr_cel_compiler *c, struct mr_cel_node *node, struct mr_cel_val *out)
{
    struct mr_cel_val operand;
    if (!mr_cel_fold(c, node->first, &operand))
        return false;
    if (node->flags & MR_CEL_FLAG_TEST_ONLY)
        *out = mr_cel_has(&c->ctx, operand, node->text);
    else if (node->flags & MR_CEL_FLAG_OPTIONAL)
        *out = mr_cel_optional_select(&c->ctx, operand, node->text);
    else
        *out = mr_cel_select(&c->ctx, operand, node->text);
    if (worth_keeping(*out))
        return true;
    make_constant(c, node->first, operand);
    return false;
}

static bool fold_map(struct mr_cel_compiler *c, struct mr_cel_node *node, struct mr_cel_val *out)
{
    const struct mr_cel_val *values = fold_children(c, node);
    struct mr_cel_map_new map;
    if (!values || !mr_cel_map_begin(&map, &c->ctx, node->count / 2))
        return false;
    for (uint32_t i = 0; i + 1 < node->count; i += 2)
        if (mr_cel_map_put(&map, values[i], values[i + 1]).kind != MR_CEL_NULL)
            return false;
    *out = mr_cel_map_end(&map);
    return true;
}

/* One term that decides is enough, whatever the others are: errors are absorbed. */
static bool fold_logic(struct mr_cel_compiler *c, struct mr_cel_node *node, struct mr_cel_val *out)
{
    bool deciding = node->kind == MR_CEL_NODE_OR, all = true;
    for (struct mr_cel_node *term = node->first; term; term = term->next) {
        struct mr_cel_val value;
        bool constant = mr_cel_fold(c, term, &value);
        if (constant && value.kind == MR_CEL_BOOL && value.boolean == deciding) {
            *out = value;
            return true;
        }
        all = all && constant && value.kind == MR_CEL_BOOL;
        if (constant)
            make_constant(c, term, value);
    }
    *out = mr_cel_bool(!deciding);
    return all;
}

static bool fold_if(struct mr_cel_compiler *c, struct mr_cel_node *node, struct mr_cel_val *out)
{
    struct mr_cel_node *condition = node->first, *yes = condition->next, *no = yes->next;
    struct mr_cel_val value;
    if (!mr_cel_fold(c, condition, &value)) {
        mr_cel_fold_in_place(c, yes);
        mr_cel_fold_in_place(c, no);
        return false;
    }
    if (value.kind != MR_CEL_BOOL) {
        make_constant(c, condition, value);
        return false;
    }
    struct mr_cel_node *next = node->next, *taken = value.boolean ? yes : no;
    bool optional = node->flags & MR_CEL_FLAG_OPTIONAL_ENTRY;
    *node = *taken; /* the branch takes its place */
    node->next = next;
    if (optional)
        node->flags |= MR_CEL_FLAG_OPTIONAL_ENTRY;
    return mr_cel_fold(c, node, out);
}

static bool fold_node(struct mr_cel_compiler *c, struct mr_cel_node *node, struct mr_cel_val *out)
{
    switch (node->kind) {
    case MR_CEL_NODE_LITERAL:
        *out = mr_cel_literal_value(node);
        return true;
    case MR_CEL_NODE_CONSTANT:
        *out = ((struct mr_cel_val *)c->constants.items)[node->index];
        return true;
    case MR_CEL_NODE_IDENT:
        if (node->sub != MR_CEL_REF_TYPE)
            return false;
        *out = mr_cel_type_value(node->text);
        return true;
    case MR_CEL_NODE_SELECT:
        return fold_select(c, node, out);
    case MR_CEL_NODE_CALL:
        return fold_call(c, node, out);
    case MR_CEL_NODE_LIST: {
        const struct mr_cel_val *values = fold_children(c, node);
        if (values)
            *out = mr_cel_list(values, node->count);
        return values != NULL;
    }
    case MR_CEL_NODE_MAP:
        return fold_map(c, node, out);
    case MR_CEL_NODE_AND:
    case MR_CEL_NODE_OR:
        return fold_logic(c, node, out);
    case MR_CEL_NODE_IF:
        return fold_if(c, node, out);
    default: /* macros: their parts */
        for (struct mr_cel_node *child = node->first; child; child = child->next)
            if (child->kind != MR_CEL_NODE_IDENT)
                mr_cel_fold_in_place(c, child);
        return false;
    }
}

/* What folds badly still has its children made constant: the callers of fold_node did so, or there
 * are none. */
bool mr_cel_fold(struct mr_cel_compiler *c, struct mr_cel_node *node, struct mr_cel_val *out)
{
    if (c->failed || c->plain || c->ctx.fatal != 0)
        return false;
    return fold_node(c, node, out) && !c->failed && worth_keeping(*out);
}
