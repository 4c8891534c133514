/* cel/check_call.c: which signatures of a function fit the arguments, and what comes out. */
#include <stdio.h>

#include "cel/checker.h"

/* One signature, of the table or declared. */
struct signature {
    const char *result, *arguments;
    uint8_t style;
    uint16_t overload; /* of the table; else NONE */
};

/* All signatures of a function, one after the other. */
struct signatures {
    unsigned at, end; /* of the table */
    const struct mr_cel_declared *declared;
};

static struct signatures signatures_of(enum mr_cel_function function,
                                       const struct mr_cel_declared *declared)
{
    struct signatures all = {.declared = declared};
    if (function == MR_CEL_FN_NONE || function == MR_CEL_FN_DECLARED)
        return all;
    const struct mr_cel_function_row *row = mr_cel_function_row(function);
    all.at = row[0].overload_first;
    all.end = row[1].overload_first;
    return all;
}

static bool next_signature(struct signatures *all, struct signature *out)
{
    if (all->at < all->end) {
        const struct mr_cel_overload_row *row = mr_cel_overload_row((enum mr_cel_overload)all->at);
        *out = (struct signature){row->result, row->arguments, row->style, (uint16_t)all->at};
        all->at++;
        return true;
    }
    if (!all->declared)
        return false;
    const struct mr_cel_declared *declared = all->declared;
    *out =
        (struct signature){declared->result, declared->arguments, declared->style, MR_CEL_OV_NONE};
    all->declared = declared->next;
    return true;
}

/* The types of a call's arguments: those of its children, or one type in the place of all. */
struct arguments {
    const struct mr_cel_node *first;
    const struct mr_cel_type *instead;
};

static const struct mr_cel_type *next_argument(const struct mr_cel_checker *c,
                                               struct arguments *arguments)
{
    const struct mr_cel_type *type = arguments->instead;
    arguments->instead = NULL;
    if (!type && arguments->first) {
        type = arguments->first->type;
        arguments->first = arguments->first->next;
    }
    return type ? mr_cel_infer_resolve(c, type) : NULL;
}

static void skip_code(const char **code)
{
    if (mr_cel_code_is_param(**code)) {
        ++*code;
        return;
    }
    uint32_t count, opaque;
    (void)mr_cel_code_read(code, &count, &opaque);
    while (count-- > 0)
        skip_code(code);
}

enum match { MATCH, MATCH_NOT, MATCH_UNSURE };

/* Signatures without type parameters, and arguments that are simple or dyn, are decided without
 * making a type. */
static enum match match_simply(const struct mr_cel_checker *c, const struct signature *signature,
                               struct arguments arguments)
{
    const char *code = signature->arguments;
    for (;;) {
        const struct mr_cel_type *type = next_argument(c, &arguments);
        if (!type || !*code)
            return type || *code ? MATCH_NOT : MATCH;
        if (mr_cel_code_is_param(*code) || type->kind == MR_CEL_TYPE_VARIABLE)
            return MATCH_UNSURE;
        if (type->kind == MR_CEL_TYPE_DYN) {
            skip_code(&code);
            continue;
        }
        uint32_t count, opaque;
        enum mr_cel_type_kind kind = mr_cel_code_read(&code, &count, &opaque);
        if (kind == MR_CEL_TYPE_DYN)
            continue;
        if (type->kind == MR_CEL_TYPE_NULL || count > 0 || kind == MR_CEL_TYPE_OPAQUE) {
            if (type->kind != kind && type->kind != MR_CEL_TYPE_NULL)
                return MATCH_NOT;
            return MATCH_UNSURE;
        }
        if (type->kind != kind)
            return MATCH_NOT;
    }
}

static bool has_params(const char *code)
{
    for (; *code; code++) {
        if (mr_cel_code_is_param(*code))
            return true;
        if (*code == MR_CEL_CODE_OPAQUE)
            code += 2;
    }
    return false;
}

/* The result's type if the signature fits, else NULL; keeps what it bound then. */
static const struct mr_cel_type *match_fully(struct mr_cel_checker *c,
                                             const struct signature *signature,
                                             struct arguments arguments)
{
    const struct mr_cel_type *params[MR_CEL_CODE_PARAMS_MAX] = {NULL};
    const char *code = signature->arguments, *result = signature->result;
    uint32_t mark = c->undo_count;
    for (;;) {
        const struct mr_cel_type *type = next_argument(c, &arguments);
        if (!type && !*code)
            break;
        const struct mr_cel_type *wanted =
            type && *code ? mr_cel_infer_instantiate(c, &code, params) : NULL;
        if (!wanted || !mr_cel_infer_assign(c, type, wanted)) {
            mr_cel_infer_undo(c, mark);
            return NULL;
        }
    }
    const struct mr_cel_type *type = mr_cel_infer_instantiate(c, &result, params);
    return type ? mr_cel_infer_substitute(c, type, false) : NULL;
}

static const struct mr_cel_type *match(struct mr_cel_checker *c, const struct signature *signature,
                                       struct arguments arguments)
{
    enum match simply = match_simply(c, signature, arguments);
    if (simply == MATCH_NOT)
        return NULL;
    if (simply == MATCH_UNSURE || has_params(signature->result))
        return match_fully(c, signature, arguments);
    const struct mr_cel_type *params[MR_CEL_CODE_PARAMS_MAX] = {NULL};
    const char *result = signature->result;
    return mr_cel_infer_instantiate(c, &result, params);
}

/* The type of what is the one or the other: what is not known in it yet can be anything. */
static const struct mr_cel_type *either(struct mr_cel_checker *c, const struct mr_cel_type *a,
                                        const struct mr_cel_type *b)
{
    if (a->kind == MR_CEL_TYPE_DYN || mr_cel_infer_same(c, a, b))
        return a;
    const struct mr_cel_type *known_a = mr_cel_infer_substitute(c, a, true);
    const struct mr_cel_type *known_b = mr_cel_infer_substitute(c, b, true);
    if (known_a && known_b && mr_cel_infer_same(c, known_a, known_b))
        return known_a;
    return mr_cel_type_simple(MR_CEL_TYPE_DYN);
}

/* The type of all signatures that fit: dyn if they differ. NULL: none fits. */
static const struct mr_cel_type *match_all(struct mr_cel_checker *c, struct mr_cel_node *call,
                                           struct signatures all, struct arguments arguments)
{
    uint8_t style = call->flags & MR_CEL_FLAG_MEMBER ? MR_CEL_CALL_MEMBER : MR_CEL_CALL_GLOBAL;
    const struct mr_cel_type *type = NULL;
    unsigned count = 0;
    struct signature signature;
    while (next_signature(&all, &signature)) {
        if (signature.style != style)
            continue;
        const struct mr_cel_type *result = match(c, &signature, arguments);
        if (!result)
            continue;
        call->overload = count++ == 0 ? signature.overload : MR_CEL_OV_NONE;
        type = type ? either(c, type, result) : result;
    }
    return type;
}

/* A text that grows up to its buffer's size. */
struct text {
    char bytes[260];
    size_t len;
};

static void add(struct text *text, const char *bytes, size_t len)
{
    size_t room = sizeof text->bytes - 1 - text->len;
    if (len > room)
        len = room;
    memcpy(text->bytes + text->len, bytes, len);
    text->len += len;
    text->bytes[text->len] = 0;
}

static void add_code(struct mr_cel_checker *c, struct text *text, const char **code)
{
    if (mr_cel_code_is_param(**code)) {
        add(text, *code, 1);
        ++*code;
        return;
    }
    uint32_t count, opaque;
    enum mr_cel_type_kind kind = mr_cel_code_read(code, &count, &opaque);
    struct mr_str name = kind == MR_CEL_TYPE_TIMESTAMP  ? MR_STR("timestamp")
                         : kind == MR_CEL_TYPE_DURATION ? MR_STR("duration")
                         : kind == MR_CEL_TYPE_OPTIONAL ? MR_STR("optional")
                         : kind == MR_CEL_TYPE_OPAQUE   ? mr_cel_env_opaque(c->front->env, opaque)
                                                        : mr_cel_type_kind_name(kind);
    add(text, name.data, name.len);
    for (uint32_t i = 0; i < count; i++) {
        add(text, i == 0 ? "(" : ", ", i == 0 ? 1 : 2);
        add_code(c, text, code);
    }
    if (count > 0)
        add(text, ")", 1);
}

/* "int.f(string)", "f(int, string)" or "int + string". */
static void add_signature(struct mr_cel_checker *c, struct text *text, struct mr_str name,
                          const struct signature *signature)
{
    const char *code = signature->arguments;
    bool member = signature->style == MR_CEL_CALL_MEMBER;
    if (member) {
        add_code(c, text, &code);
        add(text, ".", 1);
    }
    add(text, name.data, name.len);
    add(text, "(", 1);
    for (bool first = true; *code; first = false) {
        if (!first)
            add(text, ", ", 2);
        add_code(c, text, &code);
    }
    add(text, ")", 1);
}

static void add_types(struct mr_cel_checker *c, struct text *text, struct arguments arguments,
                      const char *between)
{
    char type_text[MR_CEL_TYPE_TEXT];
    const struct mr_cel_type *type;
    for (bool first = true; (type = next_argument(c, &arguments)); first = false) {
        if (!first)
            add(text, between, strlen(between));
        mr_cel_checker_text(c, type, type_text);
        const char *shown = type->kind == MR_CEL_TYPE_TIMESTAMP  ? "timestamp"
                            : type->kind == MR_CEL_TYPE_DURATION ? "duration"
                                                                 : type_text;
        add(text, shown, strlen(shown));
    }
}

static bool is_number(const struct mr_cel_type *type)
{
    return type->kind == MR_CEL_TYPE_INT || type->kind == MR_CEL_TYPE_UINT ||
           type->kind == MR_CEL_TYPE_DOUBLE;
}

/* The sign of an operator, as it is written. */
static const char *sign_of(unsigned function)
{
    switch (function) {
    case MR_CEL_FN_NOT:
        return "!";
    case MR_CEL_FN_NEGATE:
    case MR_CEL_FN_SUBTRACT:
        return "-";
    case MR_CEL_FN_ADD:
        return "+";
    case MR_CEL_FN_MULTIPLY:
        return "*";
    case MR_CEL_FN_DIVIDE:
        return "/";
    case MR_CEL_FN_MODULO:
        return "%";
    case MR_CEL_FN_EQUAL:
        return "==";
    case MR_CEL_FN_NOT_EQUAL:
        return "!=";
    case MR_CEL_FN_LESS:
        return "<";
    case MR_CEL_FN_LESS_EQUAL:
        return "<=";
    case MR_CEL_FN_GREATER:
        return ">";
    case MR_CEL_FN_GREATER_EQUAL:
        return ">=";
    case MR_CEL_FN_IN:
        return "in";
    default:
        return NULL;
    }
}

static const struct mr_cel_type *no_operator(struct mr_cel_checker *c, struct mr_cel_node *call,
                                             const char *sign)
{
    struct text got = {.len = 0};
    add_types(c, &got, (struct arguments){call->first, NULL}, " and ");
    const struct mr_cel_type *left = mr_cel_infer_resolve(c, call->first->type);
    const struct mr_cel_type *right =
        call->first->next ? mr_cel_infer_resolve(c, call->first->next->type) : left;
    const char *hint = "";
    if (call->function == MR_CEL_FN_NOT)
        hint = "; expected a bool";
    else if (call->function == MR_CEL_FN_NEGATE)
        hint = "; expected an int or a double";
    else if (call->function == MR_CEL_FN_IN)
        hint = "; expected a list of such values or a map with such keys behind in";
    else if ((left->kind == MR_CEL_TYPE_STRING) != (right->kind == MR_CEL_TYPE_STRING) &&
             (left->kind == MR_CEL_TYPE_TIMESTAMP || right->kind == MR_CEL_TYPE_TIMESTAMP))
        hint = "; a timestamp is written timestamp(\"2024-01-31T00:00:00Z\")";
    else if ((left->kind == MR_CEL_TYPE_STRING) != (right->kind == MR_CEL_TYPE_STRING) &&
             (left->kind == MR_CEL_TYPE_DURATION || right->kind == MR_CEL_TYPE_DURATION))
        hint = "; a duration is written duration(\"1h30m\")";
    else if (call->function == MR_CEL_FN_MODULO && is_number(left) && left == right)
        hint = "; % is for int and uint";
    else if (mr_cel_hint_minus(c, call->first->next))
        hint = mr_cel_hint_minus(c, call->first->next);
    else if (left != right && is_number(left) && is_number(right))
        hint = "; numbers are converted by int(), uint() or double(), and written 2, 2u or 2.0";
    else if (call->function == MR_CEL_FN_EQUAL || call->function == MR_CEL_FN_NOT_EQUAL)
        hint = "; expected one type on both sides; dyn(...) makes any two fit";
    else if (left->kind == MR_CEL_TYPE_STRING || right->kind == MR_CEL_TYPE_STRING)
        hint = "; string(...) makes a string of a value";
    return mr_cel_checker_mismatch(c, call, "there is no %s for %s%s", sign, got.bytes, hint);
}

static const struct mr_cel_type *no_index(struct mr_cel_checker *c, struct mr_cel_node *call)
{
    char text[MR_CEL_TYPE_TEXT], key[MR_CEL_TYPE_TEXT];
    const struct mr_cel_type *of = mr_cel_infer_resolve(c, call->first->type);
    const struct mr_cel_type *by = call->first->next->type;
    mr_cel_checker_text(c, of, text);
    mr_cel_checker_text(c, by, key);
    if (of->kind == MR_CEL_TYPE_LIST)
        return mr_cel_checker_mismatch(c, call, "expected an int as the index of %s, got %s", text,
                                       key);
    if (of->kind == MR_CEL_TYPE_MAP) {
        char wanted[MR_CEL_TYPE_TEXT];
        return mr_cel_checker_mismatch(c, call, "expected %s as the key of %s, got %s",
                                       mr_cel_checker_text(c, of->params[0], wanted), text, key);
    }
    if (of->kind == MR_CEL_TYPE_STRING)
        return mr_cel_checker_mismatch(
            c, call, "%s has no index; substring(1, 2) and charAt(1) take parts of it", text);
    return mr_cel_checker_mismatch(c, call, "%s has no index; expected a list or a map", text);
}

static const struct mr_cel_type *no_match(struct mr_cel_checker *c, struct mr_cel_node *call,
                                          const struct mr_cel_declared *declared)
{
    const char *sign = sign_of(call->function);
    if (sign)
        return no_operator(c, call, sign);
    if (call->function == MR_CEL_FN_INDEX || call->function == MR_CEL_FN_OPTIONAL_INDEX)
        return no_index(c, call);
    bool member = call->flags & MR_CEL_FLAG_MEMBER;
    struct signatures all = signatures_of((enum mr_cel_function)call->function, declared);
    struct signature signature;
    struct text wanted = {.len = 0}, got = {.len = 0};
    bool same_style = false;
    while (next_signature(&all, &signature))
        same_style |= (signature.style == MR_CEL_CALL_MEMBER) == member;
    all = signatures_of((enum mr_cel_function)call->function, declared);
    while (next_signature(&all, &signature)) {
        if (same_style && (signature.style == MR_CEL_CALL_MEMBER) != member)
            continue;
        if (wanted.len > 0)
            add(&wanted, ", ", 2);
        if (wanted.len > 130) {
            add(&wanted, "...", 3);
            break;
        }
        add_signature(c, &wanted, call->text, &signature);
    }
    struct arguments arguments = {call->first, NULL};
    if (member) {
        struct arguments receiver = {NULL, next_argument(c, &arguments)};
        add_types(c, &got, receiver, "");
        add(&got, ".", 1);
    }
    add(&got, call->text.data, call->text.len);
    add(&got, "(", 1);
    add_types(c, &got, arguments, ", ");
    add(&got, ")", 1);
    return mr_cel_checker_mismatch(c, call, "expected %s, got %.120s", wanted.bytes, got.bytes);
}

static bool is_dyn(const struct mr_cel_type *type)
{
    return type->kind == MR_CEL_TYPE_DYN;
}

static bool is_ordered(const struct mr_cel_type *type)
{
    return type->kind >= MR_CEL_TYPE_BOOL && type->kind <= MR_CEL_TYPE_DURATION;
}

/* Whether the two fit each other without a look inside. */
static bool fit_plainly(const struct mr_cel_type *a, const struct mr_cel_type *b)
{
    if (a->kind == MR_CEL_TYPE_VARIABLE || b->kind == MR_CEL_TYPE_VARIABLE)
        return false;
    return is_dyn(a) || is_dyn(b) || (a->kind == b->kind && a->kind < MR_CEL_TYPE_LIST);
}

static const struct mr_cel_type *plain_in(const struct mr_cel_checker *c, struct mr_cel_node *call,
                                          const struct mr_cel_type *a, const struct mr_cel_type *b)
{
    if (is_dyn(b))
        return mr_cel_type_simple(MR_CEL_TYPE_BOOL);
    if ((b->kind != MR_CEL_TYPE_LIST && b->kind != MR_CEL_TYPE_MAP) ||
        !fit_plainly(a, mr_cel_infer_resolve(c, b->params[0])))
        return NULL;
    call->overload = b->kind == MR_CEL_TYPE_LIST ? MR_CEL_OV_in_list : MR_CEL_OV_in_map;
    return mr_cel_type_simple(MR_CEL_TYPE_BOOL);
}

static const struct mr_cel_type *plain_index(const struct mr_cel_checker *c,
                                             struct mr_cel_node *call, const struct mr_cel_type *a,
                                             const struct mr_cel_type *b)
{
    if (is_dyn(a))
        return a;
    if (a->kind == MR_CEL_TYPE_LIST && (b->kind == MR_CEL_TYPE_INT || is_dyn(b))) {
        call->overload = MR_CEL_OV_index_list;
        return mr_cel_infer_resolve(c, a->params[0]);
    }
    if (a->kind == MR_CEL_TYPE_MAP && fit_plainly(mr_cel_infer_resolve(c, a->params[0]), b)) {
        call->overload = MR_CEL_OV_index_map;
        return mr_cel_infer_resolve(c, a->params[1]);
    }
    return NULL;
}

/* The usual cases of binary operators, without a look at their signatures: what comes out is the
 * same. NULL: no such case. */
static const struct mr_cel_type *plain_operator(const struct mr_cel_checker *c,
                                                struct mr_cel_node *call)
{
    const struct mr_cel_type *a = mr_cel_infer_resolve(c, call->first->type);
    const struct mr_cel_type *b = mr_cel_infer_resolve(c, call->first->next->type);
    switch ((enum mr_cel_function)call->function) {
    case MR_CEL_FN_EQUAL:
    case MR_CEL_FN_NOT_EQUAL:
        if (!fit_plainly(a, b))
            return NULL;
        call->overload =
            call->function == MR_CEL_FN_EQUAL ? MR_CEL_OV_equals : MR_CEL_OV_not_equals;
        return mr_cel_type_simple(MR_CEL_TYPE_BOOL);
    case MR_CEL_FN_LESS:
    case MR_CEL_FN_LESS_EQUAL:
    case MR_CEL_FN_GREATER:
    case MR_CEL_FN_GREATER_EQUAL:
        if ((is_dyn(a) && (is_dyn(b) || is_ordered(b))) || (is_dyn(b) && is_ordered(a)))
            return mr_cel_type_simple(MR_CEL_TYPE_BOOL);
        return NULL;
    case MR_CEL_FN_IN:
        return plain_in(c, call, a, b);
    case MR_CEL_FN_INDEX:
        return plain_index(c, call, a, b);
    case MR_CEL_FN_ADD:
    case MR_CEL_FN_SUBTRACT:
    case MR_CEL_FN_MULTIPLY:
    case MR_CEL_FN_DIVIDE:
    case MR_CEL_FN_MODULO:
        return is_dyn(a) && is_dyn(b) ? a : NULL;
    default:
        return NULL;
    }
}

/* math.greatest and math.least of more than two values are checked as one list of them. */
static bool as_list(struct mr_cel_checker *c, const struct mr_cel_node *call,
                    struct arguments *arguments)
{
    if ((call->function != MR_CEL_FN_MATH_GREATEST && call->function != MR_CEL_FN_MATH_LEAST) ||
        call->count <= 2)
        return true;
    const struct mr_cel_type *element = NULL;
    for (const struct mr_cel_node *node = call->first; node; node = node->next)
        element = mr_cel_infer_join(c, element, node->type);
    arguments->instead = element ? mr_cel_type_list(c->front->arena, element) : NULL;
    arguments->first = NULL;
    if (arguments->instead)
        return true;
    (void)mr_cel_checker_over(c, call, c->failed ? c->failed : MR_CEL_LIMIT_COMPILE_BYTES);
    return false;
}

const struct mr_cel_type *mr_cel_check_call(struct mr_cel_checker *c, struct mr_cel_node *call)
{
    const struct mr_cel_name *name = NULL;
    bool is_operator = call->function != MR_CEL_FN_NONE;
    if (!is_operator) {
        name = mr_cel_resolve_function(c, call);
        if (name) {
            call->function = name->function;
            call->index = name->number;
        }
    }
    struct mr_cel_node *argument = call->first;
    if (call->flags & MR_CEL_FLAG_MEMBER) {
        if (!mr_cel_check_node(c, argument))
            return NULL;
        argument = argument->next;
    }
    /* Before the arguments: they may be those of a macro whose name is misspelt. */
    const struct mr_cel_type *unknown = is_operator || name ? NULL : mr_cel_hint_function(c, call);
    if (!is_operator && !name && !unknown)
        return NULL;
    for (; argument; argument = argument->next)
        if (!mr_cel_check_node(c, argument))
            return NULL;
    if (unknown)
        return unknown;
    const struct mr_cel_declared *declared = name ? name->declared : NULL;
    const struct mr_cel_type *type =
        is_operator && call->count == 2 ? plain_operator(c, call) : NULL;
    if (type)
        return type;
    struct arguments arguments = {call->first, NULL};
    if (!as_list(c, call, &arguments))
        return NULL;
    type = match_all(c, call, signatures_of((enum mr_cel_function)call->function, declared),
                     arguments);
    return type && !c->failed ? type : no_match(c, call, declared);
}
