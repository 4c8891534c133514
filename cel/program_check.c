/* What a program's leaves may be: the same rules for who builds and for who loads. */
#include <math.h>

#include "cel/program_shm.h"

static const char *const op_names[MR_PRED_COUNT] = {
    [MR_PRED_EQ] = "==",
    [MR_PRED_NE] = "!=",
    [MR_PRED_LT] = "<",
    [MR_PRED_LE] = "<=",
    [MR_PRED_GT] = ">",
    [MR_PRED_GE] = ">=",
    [MR_PRED_IN] = "in",
    [MR_PRED_CONTAINS] = "contains",
    [MR_PRED_NOT_IN] = "not in",
    [MR_PRED_NOT_CONTAINS] = "does not contain",
    [MR_PRED_PREFIX] = "starts with",
    [MR_PRED_NOT_PREFIX] = "does not start with",
    [MR_PRED_EXISTS] = "is there",
    [MR_PRED_MISSING] = "is missing",
    [MR_PRED_IS_DOCUMENT] = "is a document",
    [MR_PRED_IS_NAN] = "is NaN",
    [MR_PRED_CODE] = "code",
};

const char *mr_predicate_op_name(enum mr_predicate_op op)
{
    return op >= MR_PRED_EQ && op < MR_PRED_COUNT ? op_names[op] : "?";
}

bool mr_predicate_op_parse(struct mr_str text, enum mr_predicate_op *out)
{
    for (enum mr_predicate_op op = MR_PRED_EQ; op < MR_PRED_STATED_END; op++) {
        if (mr_str_equal(text, mr_str_from(op_names[op]))) {
            *out = op;
            return true;
        }
    }
    return false;
}

const char *mr_program_check_path(struct mr_str path)
{
    uint32_t parts = 1;
    size_t part_len = 0;
    for (size_t i = 0; i < path.len; i++) {
        if (path.data[i] == 0)
            return "a NUL byte, which no field name has";
        if (path.data[i] != '.') {
            part_len++;
            continue;
        }
        if (part_len == 0)
            return "an empty part";
        part_len = 0;
        parts++;
    }
    if (part_len == 0)
        return path.len ? "an empty part" : "empty";
    return parts > MR_PROGRAM_PATH_PARTS_MAX ? "more than 32 parts" : NULL;
}

static bool is_order(enum mr_predicate_op op)
{
    return op == MR_PRED_LT || op == MR_PRED_LE || op == MR_PRED_GT || op == MR_PRED_GE;
}

static bool is_id(const struct mr_predicate *p)
{
    return !p->cel && mr_str_equal(p->path, MR_STR("_id"));
}

const char *mr_program_check_item(const struct mr_predicate *p, const struct mr_const *item)
{
    if (item->kind == MR_CONST_LIST)
        return "a list inside a list";
    if (item->kind < MR_CONST_NULL || item->kind > MR_CONST_DATE)
        return "a value of no known kind";
    if (item->kind == MR_CONST_DATE && !p->cel)
        return "a date, which filters state as a number";
    if (item->kind == MR_CONST_DOUBLE && isnan(item->number))
        return "NaN, which equals nothing";
    if (is_id(p) && item->kind != MR_CONST_STRING)
        return "no string, but a document id is one";
    return NULL;
}

/* Of those that structured filters do not have. */
static const char *check_cel_only(const struct mr_predicate *p)
{
    enum mr_const_kind kind = p->value.kind;
    if (!p->cel)
        return "used with an operator that filters do not have";
    switch (p->op) {
    case MR_PRED_NOT_IN:
        return kind == MR_CONST_LIST ? NULL : "no list, but \"in\" needs one";
    case MR_PRED_NOT_CONTAINS:
        return kind == MR_CONST_LIST ? NULL : mr_program_check_item(p, &p->value);
    case MR_PRED_PREFIX:
    case MR_PRED_NOT_PREFIX:
    case MR_PRED_CODE:
        return kind == MR_CONST_STRING ? NULL : "no string";
    default:
        return kind == MR_CONST_NULL ? NULL : "used with an operator that takes none";
    }
}

const char *mr_program_check_value(const struct mr_predicate *p)
{
    if (p->op < MR_PRED_EQ || p->op >= MR_PRED_COUNT)
        return "used with no known operator";
    if (p->op >= MR_PRED_STATED_END)
        return check_cel_only(p);
    if (p->op == MR_PRED_CONTAINS && is_id(p))
        return "used with contains, but a document id contains nothing";
    if (p->op == MR_PRED_IN)
        return p->value.kind == MR_CONST_LIST ? NULL : "no list, but \"in\" needs one";
    if (p->value.kind == MR_CONST_LIST) {
        if (is_order(p->op))
            return "a list, but order needs a number, a string or a bool";
        return is_id(p) ? "no string, but a document id is one" : NULL;
    }
    if (is_order(p->op) && p->value.kind == MR_CONST_NULL)
        return "null, but order needs a number, a string or a bool";
    return mr_program_check_item(p, &p->value);
}

static int order_bytes(struct mr_str a, struct mr_str b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len ? memcmp(a.data, b.data, len) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

int mr_program_order_const(const struct mr_const *a, const struct mr_const *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    switch (a->kind) {
    case MR_CONST_BOOL:
        return (int)a->boolean - (int)b->boolean;
    case MR_CONST_INT:
    case MR_CONST_DATE:
        return (a->integer > b->integer) - (a->integer < b->integer);
    case MR_CONST_DOUBLE:
        return (a->number > b->number) - (a->number < b->number);
    case MR_CONST_STRING:
        return order_bytes(a->string, b->string);
    case MR_CONST_NULL:
    case MR_CONST_LIST:
        break;
    }
    return 0;
}

int mr_program_order_leaf(const struct mr_predicate *a, const struct mr_predicate *b)
{
    int order = (a->op == MR_PRED_CODE) - (b->op == MR_PRED_CODE);
    if (order == 0)
        order = order_bytes(a->path, b->path);
    if (order == 0)
        order = (int)a->cel - (int)b->cel;
    if (order == 0)
        order = (a->op > b->op) - (a->op < b->op);
    return order ? order : mr_program_order_const(&a->value, &b->value);
}
