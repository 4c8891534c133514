/* cel/macro.c: which calls are macros, and what becomes of them. A call with a macro's name but
 * another number of arguments stays a call: the environment may declare such a function. */
#include <stdio.h>

#include "cel/parser.h"

struct macro {
    struct mr_str name;
    uint8_t library; /* enum mr_cel_library that has it */
    uint8_t count;   /* arguments, the target not counted */
    uint8_t vars;    /* of them that name variables, from the first on */
    uint8_t sub;     /* enum mr_cel_macro */
    uint16_t flags;  /* that the node gets */
};
#define MACRO(text, library, count, vars, sub, flags)                                          \
    {                                                                                          \
        {text, sizeof(text) - 1}, MR_CEL_LIB_##library, count, vars, MR_CEL_MACRO_##sub, flags \
    }
#define TWO  MR_CEL_FLAG_TWO_VARIABLES
#define SOME MR_CEL_FLAG_FILTERED
/* target.name(arguments) */
static const struct macro macros[] = {
    MACRO("all", CORE, 2, 1, ALL, 0),
    MACRO("map", CORE, 2, 1, MAP_LIST, 0),
    MACRO("map", CORE, 3, 1, MAP_LIST, SOME),
    MACRO("exists", CORE, 2, 1, EXISTS, 0),
    MACRO("filter", CORE, 2, 1, FILTER, 0),
    MACRO("exists_one", CORE, 2, 1, EXISTS_ONE, 0),
    MACRO("existsOne", CORE, 2, 1, EXISTS_ONE, 0),
    MACRO("all", MACROS2, 3, 2, ALL, TWO),
    MACRO("exists", MACROS2, 3, 2, EXISTS, TWO),
    MACRO("exists_one", MACROS2, 3, 2, EXISTS_ONE, TWO),
    MACRO("existsOne", MACROS2, 3, 2, EXISTS_ONE, TWO),
    MACRO("transformList", MACROS2, 3, 2, TRANSFORM_LIST, TWO),
    MACRO("transformList", MACROS2, 4, 2, TRANSFORM_LIST, TWO | SOME),
    MACRO("transformMap", MACROS2, 3, 2, TRANSFORM_MAP, TWO),
    MACRO("transformMap", MACROS2, 4, 2, TRANSFORM_MAP, TWO | SOME),
    MACRO("transformMapEntry", MACROS2, 3, 2, TRANSFORM_MAP_ENTRY, TWO),
    MACRO("transformMapEntry", MACROS2, 4, 2, TRANSFORM_MAP_ENTRY, TWO | SOME),
    MACRO("optMap", OPTIONALS, 2, 1, OPT_MAP, 0),
    MACRO("optFlatMap", OPTIONALS, 2, 1, OPT_FLAT_MAP, 0),
    MACRO("sortBy", LISTS, 2, 1, SORT_BY, 0),
};
/* cel.name(arguments) */
static const struct macro cel_macros[] = {
    MACRO("bind", BINDINGS, 3, 1, BIND, 0),
    MACRO("block", BLOCK, 2, 0, BLOCK, 0),
};

static const struct macro *find(const struct mr_cel_parser *p, const struct macro *rows,
                                size_t count, const struct mr_cel_node *call)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i].count == call->count - 1 && mr_str_equal(rows[i].name, call->text) &&
            (mr_cel_env_libraries(p->front->env) & (UINT32_C(1) << rows[i].library)))
            return &rows[i];
    return NULL;
}

/* The children behind first that name variables must be simple names, and different ones. */
static bool name_variables(struct mr_cel_parser *p, const struct mr_cel_node *first, unsigned count,
                           struct mr_str macro)
{
    const struct mr_cel_node *before = NULL;
    for (const struct mr_cel_node *node = first; count > 0; node = node->next, count--) {
        if (node->kind != MR_CEL_NODE_IDENT || (node->flags & MR_CEL_FLAG_ABSOLUTE)) {
            (void)mr_cel_parser_fail(
                p, node->start, node->end - node->start,
                "expected a simple name as the variable of %.*s, got %.*s", (int)macro.len,
                macro.data, node->end - node->start < 40 ? (int)(node->end - node->start) : 0,
                p->lex.source.data + node->start);
            return false;
        }
        if (before && mr_str_equal(before->text, node->text)) {
            (void)mr_cel_parser_fail(p, node->start, node->end - node->start,
                                     "expected two different variables, got %.*s twice",
                                     (int)node->text.len, node->text.data);
            return false;
        }
        before = node;
    }
    return true;
}

/* has(a.b): the selection, which only asks whether the field is there. */
static struct mr_cel_node *has(struct mr_cel_parser *p, struct mr_cel_node *call)
{
    struct mr_cel_node *select = call->first;
    if (select->kind != MR_CEL_NODE_SELECT ||
        (select->flags & (MR_CEL_FLAG_TEST_ONLY | MR_CEL_FLAG_OPTIONAL)))
        return mr_cel_parser_fail(p, select->start, select->end - select->start,
                                  "has() takes the selection of a field, such as has(a.b)");
    select->flags |= MR_CEL_FLAG_TEST_ONLY;
    select->start = call->start;
    select->end = call->end;
    return select;
}

/* cel.block([values...], body): one list of children. */
static struct mr_cel_node *block(struct mr_cel_parser *p, struct mr_cel_node *call)
{
    struct mr_cel_node *list = call->first, *body = list->next;
    if (list->kind != MR_CEL_NODE_LIST)
        return mr_cel_parser_fail(p, list->start, list->end - list->start,
                                  "expected a list as the first argument of cel.block");
    call->first = NULL;
    call->count = 0;
    struct mr_cel_node *last = NULL;
    for (struct mr_cel_node *value = list->first, *next; value; value = next) {
        next = value->next;
        last = mr_cel_node_append(call, last, value);
    }
    mr_cel_node_append(call, last, body);
    return call;
}

/* cel.index(1), cel.iterVar(0, 1), cel.accuVar(0, 1): names that cannot be written otherwise. */
static struct mr_cel_node *block_name(struct mr_cel_parser *p, struct mr_cel_node *call)
{
    const struct mr_cel_node *a = call->first->next, *b = a ? a->next : NULL;
    const char *prefix = NULL;
    if (mr_str_equal(call->text, MR_STR("index")) && a && !b)
        prefix = "@index";
    else if (mr_str_equal(call->text, MR_STR("iterVar")) && b && !b->next)
        prefix = "@it:";
    else if (mr_str_equal(call->text, MR_STR("accuVar")) && b && !b->next)
        prefix = "@ac:";
    if (!prefix)
        return call;
    for (const struct mr_cel_node *n = a; n; n = n->next)
        if (n->kind != MR_CEL_NODE_LITERAL || n->sub != MR_CEL_LITERAL_INT || n->integer < 0 ||
            n->integer > 9999)
            return mr_cel_parser_fail(p, n->start, n->end - n->start,
                                      "expected a number from 0 to 9999");
    enum { NAME_BYTES = 24 };
    char *text = mr_cel_arena_alloc(p->front->arena, NAME_BYTES);
    if (!text)
        return mr_cel_parser_over(p, call->start, MR_CEL_LIMIT_COMPILE_BYTES);
    int len = b ? snprintf(text, NAME_BYTES, "%s%d:%d", prefix, (int)a->integer, (int)b->integer)
                : snprintf(text, NAME_BYTES, "%s%d", prefix, (int)a->integer);
    call->kind = MR_CEL_NODE_IDENT;
    call->flags = 0;
    call->first = NULL;
    call->count = call->height = 0;
    call->text = (struct mr_str){text, (size_t)len};
    return call;
}

static bool is_cel(const struct mr_cel_node *target)
{
    return target->kind == MR_CEL_NODE_IDENT && mr_str_equal(target->text, MR_STR("cel"));
}

static struct mr_cel_node *cel_macro(struct mr_cel_parser *p, struct mr_cel_node *call)
{
    const struct macro *row = find(p, cel_macros, sizeof cel_macros / sizeof cel_macros[0], call);
    if (!row)
        return mr_cel_env_libraries(p->front->env) & MR_CEL_LIBRARY(BLOCK) ? block_name(p, call)
                                                                           : call;
    if (!name_variables(p, call->first->next, row->vars, row->name))
        return NULL;
    call->first = call->first->next;
    call->count--;
    call->kind = MR_CEL_NODE_MACRO;
    call->sub = row->sub;
    call->flags = 0;
    return row->sub == MR_CEL_MACRO_BLOCK ? block(p, call) : call;
}

struct mr_cel_node *mr_cel_parser_macro(struct mr_cel_parser *p, struct mr_cel_node *call)
{
    if (!(call->flags & MR_CEL_FLAG_MEMBER)) {
        if (call->count == 1 && !(call->flags & MR_CEL_FLAG_ABSOLUTE) &&
            mr_str_equal(call->text, MR_STR("has")))
            return has(p, call);
        return call;
    }
    if (is_cel(call->first))
        return cel_macro(p, call);
    if (call->count < 3)
        return call;
    const struct macro *row = find(p, macros, sizeof macros / sizeof macros[0], call);
    if (!row)
        return call;
    if (!name_variables(p, call->first->next, row->vars, row->name))
        return NULL;
    call->kind = MR_CEL_NODE_MACRO;
    call->sub = row->sub;
    call->flags = row->flags;
    return call;
}
