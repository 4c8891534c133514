/* cel/check_macro.c: macros: what their variables are, and what comes out. */
#include "cel/checker.h"

static const struct mr_cel_type *allocated(struct mr_cel_checker *c, const struct mr_cel_node *node,
                                           const struct mr_cel_type *type)
{
    return type ? type : mr_cel_checker_over(c, node, MR_CEL_LIMIT_COMPILE_BYTES);
}

/* The variable `node` comes into scope, in the next free slot. local: on the caller's stack. */
static void enter(struct mr_cel_checker *c, struct mr_cel_local *local, struct mr_cel_node *node,
                  const struct mr_cel_type *type)
{
    *local = (struct mr_cel_local){c->locals, node->text, type, c->local_count++};
    c->locals = local;
    node->sub = MR_CEL_REF_LOCAL;
    node->index = local->slot;
    node->type = type;
    if (c->local_count > c->ast->local_count)
        c->ast->local_count = c->local_count;
}

static void leave(struct mr_cel_checker *c, const struct mr_cel_local *local)
{
    c->locals = local->outer;
    c->local_count = local->slot;
}

/* What a loop runs over. */
struct range {
    const struct mr_cel_type *key, *value; /* key: index of a list, key of a map */
    bool is_map;
};

static bool range_of(struct mr_cel_checker *c, const struct mr_cel_node *node, struct range *out)
{
    const struct mr_cel_type *dyn = mr_cel_type_simple(MR_CEL_TYPE_DYN);
    const struct mr_cel_type *type = mr_cel_infer_resolve(c, node->type);
    char text[MR_CEL_TYPE_TEXT];
    *out = (struct range){dyn, dyn, false};
    switch ((enum mr_cel_type_kind)type->kind) {
    case MR_CEL_TYPE_LIST:
        out->key = mr_cel_type_simple(MR_CEL_TYPE_INT);
        out->value = mr_cel_infer_resolve(c, type->params[0]);
        return true;
    case MR_CEL_TYPE_MAP:
        out->is_map = true;
        out->key = mr_cel_infer_resolve(c, type->params[0]);
        out->value = mr_cel_infer_resolve(c, type->params[1]);
        return true;
    case MR_CEL_TYPE_VARIABLE:
        return mr_cel_infer_assign(c, type, dyn);
    case MR_CEL_TYPE_DYN:
        return true;
    default:
        break;
    }
    struct mr_cel_node whole = *node;
    whole.at = node->start;
    return mr_cel_checker_mismatch(c, &whole, "expected a list or a map to go through, got %s",
                                   mr_cel_checker_text(c, type, text)) != NULL;
}

static const struct mr_cel_type *entry_result(struct mr_cel_checker *c,
                                              const struct mr_cel_node *entry)
{
    char text[MR_CEL_TYPE_TEXT];
    const struct mr_cel_type *type = mr_cel_infer_resolve(c, entry->type);
    if (type->kind == MR_CEL_TYPE_MAP)
        return type;
    if (type->kind == MR_CEL_TYPE_DYN || type->kind == MR_CEL_TYPE_VARIABLE)
        return mr_cel_type_simple(MR_CEL_TYPE_MAP);
    return mr_cel_checker_mismatch(c, entry, "expected a map of one entry, as in {k: v}, got %s",
                                   mr_cel_checker_text(c, type, text));
}

static bool can_be_sorted(const struct mr_cel_type *type)
{
    return (type->kind >= MR_CEL_TYPE_BOOL && type->kind <= MR_CEL_TYPE_DURATION) ||
           type->kind == MR_CEL_TYPE_DYN || type->kind == MR_CEL_TYPE_VARIABLE;
}

static const struct mr_cel_type *sorted(struct mr_cel_checker *c, const struct mr_cel_node *macro,
                                        const struct mr_cel_node *key)
{
    char text[MR_CEL_TYPE_TEXT];
    if (!can_be_sorted(mr_cel_infer_resolve(c, key->type)))
        return mr_cel_checker_mismatch(c, key, "expected a key that has an order, got %s",
                                       mr_cel_checker_text(c, key->type, text));
    const struct mr_cel_type *range = mr_cel_infer_resolve(c, macro->first->type);
    return range->kind == MR_CEL_TYPE_LIST ? range : mr_cel_type_simple(MR_CEL_TYPE_LIST);
}

/* The type of a loop whose parts are checked; body: its last child. */
static const struct mr_cel_type *loop_result(struct mr_cel_checker *c, struct mr_cel_node *macro,
                                             const struct range *range,
                                             const struct mr_cel_node *body)
{
    struct mr_cel_arena *arena = c->front->arena;
    switch ((enum mr_cel_macro)macro->sub) {
    case MR_CEL_MACRO_FILTER:
        return mr_cel_check_bool(c, body, "the condition of filter")
                   ? allocated(c, macro,
                               mr_cel_type_list(arena, range->is_map ? range->key : range->value))
                   : NULL;
    case MR_CEL_MACRO_MAP_LIST:
    case MR_CEL_MACRO_TRANSFORM_LIST:
        return allocated(c, macro, mr_cel_type_list(arena, body->type));
    case MR_CEL_MACRO_TRANSFORM_MAP:
        return allocated(c, macro, mr_cel_type_map(arena, range->key, body->type));
    case MR_CEL_MACRO_TRANSFORM_MAP_ENTRY:
        return entry_result(c, body);
    case MR_CEL_MACRO_SORT_BY:
        return sorted(c, macro, body);
    default: /* all, exists, exists_one */
        return mr_cel_check_bool(c, body, "the condition of the macro")
                   ? mr_cel_type_simple(MR_CEL_TYPE_BOOL)
                   : NULL;
    }
}

static const struct mr_cel_type *check_loop(struct mr_cel_checker *c, struct mr_cel_node *macro)
{
    struct range range;
    struct mr_cel_node *node = macro->first;
    if (!mr_cel_check_node(c, node) || !range_of(c, node, &range))
        return NULL;
    if (c->loop_depth >= c->front->limits->loop_depth_max)
        return mr_cel_checker_over(c, macro, MR_CEL_LIMIT_LOOP_DEPTH);
    struct mr_cel_local locals[2];
    node = node->next;
    if (macro->flags & MR_CEL_FLAG_TWO_VARIABLES) {
        enter(c, &locals[0], node, range.key);
        node = node->next;
        enter(c, &locals[1], node, range.value);
    } else {
        enter(c, &locals[0], node, range.is_map ? range.key : range.value);
    }
    node = node->next;
    c->loop_depth++;
    bool well = true;
    if (macro->flags & MR_CEL_FLAG_FILTERED) {
        well = mr_cel_check_node(c, node) && mr_cel_check_bool(c, node, "the macro's filter");
        node = node->next;
    }
    well = well && mr_cel_check_node(c, node);
    c->loop_depth--;
    leave(c, &locals[0]);
    return well ? loop_result(c, macro, &range, node) : NULL;
}

/* a.optMap(v, e): a must be optional; e becomes one. optFlatMap: e is one. */
static const struct mr_cel_type *check_optional(struct mr_cel_checker *c, struct mr_cel_node *macro)
{
    struct mr_cel_node *optional = macro->first, *variable = optional->next,
                       *value = variable->next;
    char text[MR_CEL_TYPE_TEXT];
    const struct mr_cel_type *type = mr_cel_check_node(c, optional);
    if (!type)
        return NULL;
    type = mr_cel_infer_resolve(c, type);
    if (type->kind == MR_CEL_TYPE_OPTIONAL)
        type = mr_cel_infer_resolve(c, type->params[0]);
    else if (type->kind == MR_CEL_TYPE_DYN || type->kind == MR_CEL_TYPE_VARIABLE)
        type = mr_cel_type_simple(MR_CEL_TYPE_DYN);
    else if (!mr_cel_checker_mismatch(c, macro, "%.*s is for optional values, not for %s",
                                      (int)macro->text.len, macro->text.data,
                                      mr_cel_checker_text(c, type, text)))
        return NULL;
    struct mr_cel_local local;
    enter(c, &local, variable, type);
    const struct mr_cel_type *result = mr_cel_check_node(c, value);
    leave(c, &local);
    if (!result)
        return NULL;
    if (macro->sub == MR_CEL_MACRO_OPT_MAP)
        return allocated(c, macro, mr_cel_type_optional(c->front->arena, result));
    result = mr_cel_infer_resolve(c, result);
    if (result->kind == MR_CEL_TYPE_OPTIONAL)
        return result;
    if (result->kind == MR_CEL_TYPE_DYN || result->kind == MR_CEL_TYPE_VARIABLE)
        return mr_cel_type_simple(MR_CEL_TYPE_OPTIONAL);
    return mr_cel_checker_mismatch(c, value, "expected an optional value from optFlatMap, got %s",
                                   mr_cel_checker_text(c, result, text));
}

static const struct mr_cel_type *check_bind(struct mr_cel_checker *c, struct mr_cel_node *macro)
{
    struct mr_cel_node *variable = macro->first, *init = variable->next, *body = init->next;
    const struct mr_cel_type *type = mr_cel_check_node(c, init);
    if (!type)
        return NULL;
    struct mr_cel_local local;
    enter(c, &local, variable, type);
    const struct mr_cel_type *result = mr_cel_check_node(c, body);
    leave(c, &local);
    return result;
}

/* The name of a block's value number index: "@index0". NULL: the arena is full. */
static char *index_name(struct mr_cel_checker *c, uint32_t index, size_t *len)
{
    static const char prefix[] = "@index";
    char digits[10];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + index % 10);
        index /= 10;
    } while (index > 0);
    *len = sizeof prefix - 1 + count;
    char *text = mr_cel_arena_alloc(c->front->arena, *len);
    if (!text)
        return NULL;
    memcpy(text, prefix, sizeof prefix - 1);
    for (size_t i = 0; i < count; i++)
        text[sizeof prefix - 1 + i] = digits[count - 1 - i];
    return text;
}

/* A block's values have consecutive slots, whatever their own macros need comes behind. */
static const struct mr_cel_type *check_block(struct mr_cel_checker *c, struct mr_cel_node *block)
{
    const struct mr_cel_local *outer = c->locals;
    uint32_t first = c->local_count, index = 0;
    block->index = first;
    c->local_count += block->count - 1;
    if (c->local_count > c->ast->local_count)
        c->ast->local_count = c->local_count;
    const struct mr_cel_type *type = NULL;
    for (struct mr_cel_node *value = block->first; value; value = value->next, index++) {
        type = mr_cel_check_node(c, value);
        if (!type || !value->next)
            break;
        /* Types without variables: a chain of values could make them nest without end. */
        type = mr_cel_infer_substitute(c, type, true);
        struct mr_cel_local *local = mr_cel_arena_alloc(c->front->arena, sizeof *local);
        size_t len;
        char *name = index_name(c, index, &len);
        if (!type || !local || !name)
            return mr_cel_checker_over(c, value,
                                       c->failed ? c->failed : MR_CEL_LIMIT_COMPILE_BYTES);
        *local = (struct mr_cel_local){c->locals, {name, len}, type, first + index};
        c->locals = local;
    }
    c->locals = outer;
    c->local_count = first;
    return type;
}

const struct mr_cel_type *mr_cel_check_macro(struct mr_cel_checker *c, struct mr_cel_node *macro)
{
    switch ((enum mr_cel_macro)macro->sub) {
    case MR_CEL_MACRO_OPT_MAP:
    case MR_CEL_MACRO_OPT_FLAT_MAP:
        return check_optional(c, macro);
    case MR_CEL_MACRO_BIND:
        return check_bind(c, macro);
    case MR_CEL_MACRO_BLOCK:
        return check_block(c, macro);
    default:
        return check_loop(c, macro);
    }
}
