/* cel/compile.c: from a tree to instructions; see compile.h. Every node leaves its value in a
 * register that its parent names, or, in a chain of && or ||, does to the chain's register what its
 * mode says (bytecode.h). */
#include "cel/compile.h"

#include "cel/cel.h"
#include "cel/regex.h"

static void set_mode(struct mr_cel_compiler *c, struct mr_cel_ins *ins, enum mr_cel_mode mode,
                     struct mr_cel_label *label)
{
    ins->mode = (uint8_t)mode;
    if (mode != MR_CEL_MODE_VALUE)
        mr_cel_emit_jump(c, ins, label);
}

static bool is_local(const struct mr_cel_node *node)
{
    return node->kind == MR_CEL_NODE_IDENT && node->sub == MR_CEL_REF_LOCAL;
}

struct mr_cel_val mr_cel_literal_value(const struct mr_cel_node *node)
{
    switch ((enum mr_cel_literal)node->sub) {
    case MR_CEL_LITERAL_BOOL:
        return mr_cel_bool(node->boolean);
    case MR_CEL_LITERAL_INT:
        return mr_cel_int(node->integer);
    case MR_CEL_LITERAL_UINT:
        return mr_cel_uint(node->natural);
    case MR_CEL_LITERAL_DOUBLE:
        return mr_cel_double(node->number);
    case MR_CEL_LITERAL_STRING:
        return mr_cel_string(node->text);
    case MR_CEL_LITERAL_BYTES:
        return mr_cel_bytes(node->text);
    default:
        return mr_cel_null();
    }
}

uint16_t mr_cel_emit_operand(struct mr_cel_compiler *c, const struct mr_cel_node *node)
{
    if (node->kind == MR_CEL_NODE_CONSTANT)
        return mr_cel_emit_constant_at(c, node->index);
    if (is_local(node))
        return (uint16_t)node->index;
    if (node->kind == MR_CEL_NODE_LITERAL && !c->plain)
        return mr_cel_emit_constant(c, mr_cel_literal_value(node));
    uint16_t reg = mr_cel_emit_register(c);
    mr_cel_emit(c, node, reg, MR_CEL_MODE_VALUE, NULL);
    return reg;
}

/* A value that is no instruction's own: an operand, loaded with a mode. */
static void emit_load(struct mr_cel_compiler *c, uint16_t operand, uint16_t dst,
                      enum mr_cel_mode mode, struct mr_cel_label *label)
{
    set_mode(c, mr_cel_emit_ins(c, MR_CEL_OP_LOAD, dst, operand, 0), mode, label);
}

static void emit_error(struct mr_cel_compiler *c, enum mr_cel_code code, struct mr_str detail,
                       uint16_t dst)
{
    emit_load(c, mr_cel_emit_constant(c, mr_cel_error(code, detail)), dst, MR_CEL_MODE_VALUE, NULL);
}

/* Is node one more step of a path, a.field, a["field"] or a[0]? step: as in struct mr_cel_text. */
static bool is_step(const struct mr_cel_compiler *c, const struct mr_cel_node *node,
                    struct mr_str *step)
{
    if (node->kind == MR_CEL_NODE_SELECT) {
        *step = node->text;
        return !(node->flags & (MR_CEL_FLAG_TEST_ONLY | MR_CEL_FLAG_OPTIONAL));
    }
    if (node->kind != MR_CEL_NODE_CALL || node->function != MR_CEL_FN_INDEX || node->count != 2)
        return false;
    const struct mr_cel_node *key = node->first->next;
    if (key->kind != MR_CEL_NODE_CONSTANT)
        return false;
    struct mr_cel_val value = ((const struct mr_cel_val *)c->constants.items)[key->index];
    *step = (struct mr_str){NULL, (size_t)value.bits};
    if (value.kind == MR_CEL_INT)
        return value.integer >= 0 && value.integer < INT32_MAX;
    *step = value.len > 0 ? mr_cel_str(value) : MR_STR("");
    return value.kind == MR_CEL_STRING && !memchr(step->data, 0, step->len);
}

static void add_key(struct mr_cel_compiler *c, struct mr_str field)
{
    struct mr_cel_text *key = mr_cel_buffer_add(c, &c->keys, sizeof *key);
    if (key)
        key->text = field;
}

/* The steps from the innermost on; returns what they start from. */
static const struct mr_cel_node *add_steps(struct mr_cel_compiler *c,
                                           const struct mr_cel_node *node)
{
    const struct mr_cel_node *chain[256];
    struct mr_str field = {NULL, 0};
    uint32_t count = 0;
    while (count < 256 && is_step(c, node, &field)) {
        chain[count++] = node;
        node = node->first;
        if (c->plain)
            break;
    }
    while (count > 0) {
        (void)is_step(c, chain[--count], &field);
        add_key(c, field);
    }
    return node;
}

/* The first step of a path that is taken often (in a loop, or by more than one path) is taken once.
 */
static void share_first_step(struct mr_cel_compiler *c, struct mr_cel_path_plan *plan)
{
    const struct mr_cel_text *keys = c->keys.items;
    struct mr_cel_path_plan *plans = c->paths.items, *other = NULL;
    struct mr_str first = keys[plan->first].text;
    for (uint32_t i = 0; i + 1 < c->paths.count && i < 64 && !other; i++)
        if (plans[i].variable == plan->variable && first.data && keys[plans[i].first].text.data &&
            mr_str_equal(keys[plans[i].first].text, first))
            other = &plans[i];
    if (!other && c->loops == 0)
        return;
    if (c->registers_max + c->caches >= MR_CEL_REGISTERS_MAX / 2)
        return;
    plan->cache = other && other->cache != UINT32_MAX ? other->cache : c->caches++;
    if (other)
        other->cache = plan->cache;
}

/* A path that starts at first of c->keys: number of its plan. */
static uint32_t add_path(struct mr_cel_compiler *c, uint32_t variable, uint32_t first)
{
    struct mr_cel_path_plan *plan = mr_cel_buffer_add(c, &c->paths, sizeof *plan);
    if (!plan || c->keys.count == first)
        return 0;
    *plan = (struct mr_cel_path_plan){variable, first, c->keys.count - first, UINT32_MAX};
    if (variable != UINT32_MAX && plan->count > 0)
        share_first_step(c, plan);
    return c->paths.count - 1;
}

static bool is_variable(const struct mr_cel_node *node)
{
    return node->kind == MR_CEL_NODE_IDENT && node->sub == MR_CEL_REF_VARIABLE;
}

/* a.b.c, and has(a.b.c): the steps before the test belong to the same path. */
static void emit_path(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst,
                      enum mr_cel_mode mode, struct mr_cel_label *label)
{
    uint32_t first = c->keys.count;
    bool test = node->kind == MR_CEL_NODE_SELECT && node->flags & MR_CEL_FLAG_TEST_ONLY;
    const struct mr_cel_node *start;
    if (test) {
        start = c->plain ? node->first : add_steps(c, node->first);
        add_key(c, node->text);
    } else {
        start = add_steps(c, node);
    }
    if (is_variable(start) && !c->plain) {
        uint32_t path = add_path(c, start->index, first);
        struct mr_cel_ins *ins =
            mr_cel_emit_ins(c, test ? MR_CEL_OP_HAS_PATH : MR_CEL_OP_PATH, dst, 0, 0);
        ins->c = path;
        set_mode(c, ins, mode, label);
        return;
    }
    uint32_t path = add_path(c, UINT32_MAX, first);
    uint16_t from = mr_cel_emit_operand(c, start);
    struct mr_cel_ins *ins =
        mr_cel_emit_ins(c, test ? MR_CEL_OP_HAS : MR_CEL_OP_SELECT, dst, from, 0);
    ins->c = path;
    set_mode(c, ins, mode, label);
}

static void emit_optional_select(struct mr_cel_compiler *c, const struct mr_cel_node *node,
                                 uint16_t dst)
{
    uint16_t from = mr_cel_emit_operand(c, node->first);
    uint32_t first = c->keys.count;
    add_key(c, node->text);
    uint32_t path = add_path(c, UINT32_MAX, first);
    mr_cel_emit_ins(c, MR_CEL_OP_OPTIONAL_SELECT, dst, from, 0)->c = path;
}

static const bool has_mode[MR_CEL_OP_COUNT] = {
#define RESULT_B                                            true
#define RESULT_V                                            false
#define MR_CEL_OP(name, text, dst, a, b, c, target, result) [MR_CEL_OP_##name] = RESULT_##result,
#include "cel/opcodes.def"
#undef MR_CEL_OP
#undef RESULT_B
#undef RESULT_V
};

/* a in [constants] */
static bool emit_set(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst,
                     enum mr_cel_mode mode, struct mr_cel_label *label)
{
    const struct mr_cel_node *item = node->first, *list = item->next;
    if (list->kind != MR_CEL_NODE_CONSTANT)
        return false;
    struct mr_cel_val value = ((struct mr_cel_val *)c->constants.items)[list->index];
    if (value.kind != MR_CEL_LIST || value.form != MR_CEL_FORM_ARENA)
        return false;
    struct mr_cel_set *set = mr_cel_buffer_add(c, &c->sets, sizeof *set);
    if (!set)
        return true;
    *set = (struct mr_cel_set){.first = c->constants.count, .count = value.len};
    ((struct mr_cel_val *)c->constants.items)[list->index] = mr_cel_null(); /* in the set instead */
    for (uint32_t i = 0; i < value.len; i++)
        (void)mr_cel_emit_constant(c, value.items[i]);
    uint32_t index = c->sets.count - 1;
    uint16_t a = mr_cel_emit_operand(c, item);
    struct mr_cel_ins *ins = mr_cel_emit_ins(c, MR_CEL_OP_IN_SET, dst, a, 0);
    ins->c = index;
    set_mode(c, ins, mode, label);
    return true;
}

/* A pattern that RE2 refuses is the author's mistake, and is told now. */
static void check_pattern(struct mr_cel_compiler *c, const struct mr_cel_node *node,
                          struct mr_str pattern)
{
    struct mr_cel_regex_limits limits = MR_CEL_REGEX_LIMITS_DEFAULT;
    struct mr_cel_regex *regex = NULL;
    char why[128] = "";
    enum mr_cel_regex_rc rc = mr_cel_regex_create(pattern.data, pattern.len, &limits, &regex, why);
    mr_cel_regex_destroy(&regex);
    if (rc == MR_CEL_REGEX_OK || c->failed)
        return;
    c->failed = true;
    bool limit = rc != MR_CEL_REGEX_SYNTAX;
    (void)mr_cel_diag_set(c->front->diag, c->ast->source, node->start, node->end - node->start,
                          limit ? MR_CEL_STAGE_LIMIT : MR_CEL_STAGE_CHECK, "regular expression: %s",
                          why);
}

/* a.matches("constant") */
static bool emit_matches(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst,
                         enum mr_cel_mode mode, struct mr_cel_label *label)
{
    const struct mr_cel_node *pattern = node->first->next;
    struct mr_cel_val value = mr_cel_null();
    if (pattern->kind == MR_CEL_NODE_LITERAL)
        value = mr_cel_literal_value(pattern);
    else if (pattern->kind == MR_CEL_NODE_CONSTANT)
        value = ((struct mr_cel_val *)c->constants.items)[pattern->index];
    if (value.kind != MR_CEL_STRING)
        return false;
    struct mr_cel_text *slot = mr_cel_buffer_add(c, &c->patterns, sizeof *slot);
    if (!slot)
        return true;
    slot->text = mr_cel_str(value);
    if (pattern->kind == MR_CEL_NODE_CONSTANT) /* among the patterns instead */
        ((struct mr_cel_val *)c->constants.items)[pattern->index] = mr_cel_null();
    uint32_t index = c->patterns.count - 1;
    check_pattern(c, pattern, slot->text);
    uint16_t a = mr_cel_emit_operand(c, node->first);
    struct mr_cel_ins *ins = mr_cel_emit_ins(c, MR_CEL_OP_MATCHES, dst, a, 0);
    ins->c = index;
    set_mode(c, ins, mode, label);
    return true;
}

/* a.or(b), a.orValue(b): b is computed only when a has no value. */
static void emit_or_else(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst)
{
    struct mr_cel_label end = mr_cel_emit_label();
    bool value = node->function == MR_CEL_FN_OR_VALUE;
    uint16_t a = mr_cel_emit_operand(c, node->first);
    struct mr_cel_ins *ins = mr_cel_emit_ins(c, MR_CEL_OP_OR_ELSE, dst, a, 0);
    ins->c = value;
    mr_cel_emit_jump(c, ins, &end);
    mr_cel_emit(c, node->first->next, dst, MR_CEL_MODE_VALUE, NULL);
    c->node = node;
    if (!value)
        mr_cel_emit_ins(c, MR_CEL_OP_OPTIONAL_CHECK, dst, dst, 0);
    mr_cel_emit_bind(c, &end);
}

/* Children into registers side by side, for CALL, LIST and MAP; returns the first. Without
 * children: dst, for the loader wants a register that there is. */
static uint16_t emit_row(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst)
{
    if (node->count == 0)
        return dst;
    uint32_t first = c->registers;
    for (uint32_t i = 0; i < node->count; i++)
        (void)mr_cel_emit_register(c);
    if (c->failed)
        return 0;
    uint16_t reg = (uint16_t)first;
    bool optional = false; /* of a map's entry: said on the key, done to the value */
    for (const struct mr_cel_node *child = node->first; child; child = child->next, reg++) {
        mr_cel_emit(c, child, reg, MR_CEL_MODE_VALUE, NULL);
        bool flagged = child->flags & MR_CEL_FLAG_OPTIONAL_ENTRY;
        c->node = child;
        if (node->kind == MR_CEL_NODE_MAP ? optional : flagged)
            mr_cel_emit_ins(c, MR_CEL_OP_OPTIONAL_ENTRY, reg, reg, 0);
        optional = flagged;
    }
    c->node = node;
    return (uint16_t)first;
}

static void emit_call(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst,
                      enum mr_cel_mode mode, struct mr_cel_label *label)
{
    uint32_t function = node->function;
    if (function == MR_CEL_FN_NONE || function >= MR_CEL_FN_DECLARED) {
        emit_error(c, MR_CEL_E_NO_SUCH_FUNCTION, node->text, dst);
        return;
    }
    if (!mr_cel_call_is_possible(node)) {
        emit_error(c, MR_CEL_E_NO_SUCH_OVERLOAD, node->text, dst);
        return;
    }
    if (function == MR_CEL_FN_OR || function == MR_CEL_FN_OR_VALUE) {
        emit_or_else(c, node, dst);
        return;
    }
    if ((function == MR_CEL_FN_IN && emit_set(c, node, dst, mode, label)) ||
        (function == MR_CEL_FN_MATCHES && emit_matches(c, node, dst, mode, label)))
        return;
    enum mr_cel_op op = mr_cel_op_of(function);
    struct mr_cel_ins *ins;
    if (op != MR_CEL_OP_RETURN) {
        uint16_t a = mr_cel_emit_operand(c, node->first);
        uint16_t b = node->count > 1 ? mr_cel_emit_operand(c, node->first->next) : 0;
        c->node = node;
        ins = mr_cel_emit_ins(c, op, dst, a, b);
    } else if (!mr_cel_impl(function)) {
        emit_error(c, MR_CEL_E_NO_SUCH_FUNCTION, node->text, dst);
        return;
    } else {
        uint16_t first = emit_row(c, node, dst);
        ins = mr_cel_emit_ins(c, MR_CEL_OP_CALL, dst, first, (uint16_t)node->count);
        ins->c = function;
    }
    if (has_mode[ins->op])
        set_mode(c, ins, mode, label);
}

/* Whether emit gives the instruction of this node its mode; else the value is loaded with it. */
static bool takes_mode(const struct mr_cel_compiler *c, const struct mr_cel_node *node)
{
    struct mr_str field;
    if (c->plain)
        return false;
    switch (node->kind) {
    case MR_CEL_NODE_CONSTANT:
    case MR_CEL_NODE_LITERAL:
    case MR_CEL_NODE_IDENT:
        return true;
    case MR_CEL_NODE_SELECT:
        return !(node->flags & MR_CEL_FLAG_OPTIONAL);
    case MR_CEL_NODE_CALL:
        if (node->function == MR_CEL_FN_NONE || node->function >= MR_CEL_FN_DECLARED ||
            node->function == MR_CEL_FN_OR || node->function == MR_CEL_FN_OR_VALUE ||
            !mr_cel_call_is_possible(node))
            return false;
        if (is_step(c, node, &field))
            return true;
        if (mr_cel_op_of(node->function) == MR_CEL_OP_RETURN)
            return mr_cel_impl(node->function) != NULL;
        return has_mode[mr_cel_op_of(node->function)];
    default:
        return false;
    }
}

static void emit_chain(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst,
                       enum mr_cel_mode first, struct mr_cel_label *label)
{
    bool is_and = node->kind == MR_CEL_NODE_AND;
    enum mr_cel_mode mode = first;
    for (const struct mr_cel_node *term = node->first; term; term = term->next) {
        mr_cel_emit(c, term, dst, mode, label);
        mode = is_and ? MR_CEL_MODE_AND_NEXT : MR_CEL_MODE_OR_NEXT;
    }
}

/* A chain inside of a chain of the same kind is a part of it. */
static bool joins(const struct mr_cel_compiler *c, const struct mr_cel_node *node,
                  enum mr_cel_mode mode)
{
    if (c->plain)
        return false;
    return node->kind == MR_CEL_NODE_AND
               ? mode == MR_CEL_MODE_AND_FIRST || mode == MR_CEL_MODE_AND_NEXT
               : node->kind == MR_CEL_NODE_OR &&
                     (mode == MR_CEL_MODE_OR_FIRST || mode == MR_CEL_MODE_OR_NEXT);
}

static void emit_if(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst)
{
    struct mr_cel_label otherwise = mr_cel_emit_label(), end = mr_cel_emit_label();
    const struct mr_cel_node *condition = node->first, *yes = condition->next;
    uint16_t a = mr_cel_emit_operand(c, condition);
    c->node = node;
    struct mr_cel_ins *ins = mr_cel_emit_ins(c, MR_CEL_OP_CONDITION, dst, a, 0);
    mr_cel_emit_jump(c, ins, &otherwise);
    mr_cel_emit_choice(c, ins, &end);
    mr_cel_emit(c, yes, dst, MR_CEL_MODE_VALUE, NULL);
    mr_cel_emit_jump(c, mr_cel_emit_ins(c, MR_CEL_OP_JUMP, 0, 0, 0), &end);
    mr_cel_emit_bind(c, &otherwise);
    mr_cel_emit(c, yes->next, dst, MR_CEL_MODE_VALUE, NULL);
    mr_cel_emit_bind(c, &end);
}

static void emit_name(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst,
                      enum mr_cel_mode mode, struct mr_cel_label *label)
{
    switch ((enum mr_cel_ref)node->sub) {
    case MR_CEL_REF_VARIABLE: {
        struct mr_cel_ins *ins = mr_cel_emit_ins(c, MR_CEL_OP_VARIABLE, dst, 0, 0);
        ins->c = node->index;
        set_mode(c, ins, mode, label);
        return;
    }
    case MR_CEL_REF_LOCAL:
        emit_load(c, (uint16_t)node->index, dst, mode, label);
        return;
    case MR_CEL_REF_TYPE:
        emit_load(c, mr_cel_emit_constant(c, mr_cel_type_value(node->text)), dst, mode, label);
        return;
    default:
        emit_load(c, mr_cel_emit_constant(c, mr_cel_error(MR_CEL_E_UNDECLARED, node->text)), dst,
                  mode, label);
    }
}

static void emit_node(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst,
                      enum mr_cel_mode mode, struct mr_cel_label *label)
{
    struct mr_str field;
    switch (node->kind) {
    case MR_CEL_NODE_CONSTANT:
        emit_load(c, mr_cel_emit_constant_at(c, node->index), dst, mode, label);
        return;
    case MR_CEL_NODE_LITERAL:
        emit_load(c, mr_cel_emit_constant(c, mr_cel_literal_value(node)), dst, mode, label);
        return;
    case MR_CEL_NODE_IDENT:
        emit_name(c, node, dst, mode, label);
        return;
    case MR_CEL_NODE_SELECT:
        if (node->flags & MR_CEL_FLAG_OPTIONAL)
            emit_optional_select(c, node, dst);
        else
            emit_path(c, node, dst, mode, label);
        return;
    case MR_CEL_NODE_CALL:
        if (is_step(c, node, &field))
            emit_path(c, node, dst, mode, label);
        else
            emit_call(c, node, dst, mode, label);
        return;
    case MR_CEL_NODE_LIST:
    case MR_CEL_NODE_MAP: {
        enum mr_cel_op op = node->kind == MR_CEL_NODE_LIST ? MR_CEL_OP_LIST : MR_CEL_OP_MAP;
        uint16_t first = emit_row(c, node, dst);
        mr_cel_emit_ins(c, op, dst, first, (uint16_t)node->count);
        return;
    }
    case MR_CEL_NODE_AND:
    case MR_CEL_NODE_OR: {
        struct mr_cel_label end = mr_cel_emit_label();
        emit_chain(c, node, dst,
                   node->kind == MR_CEL_NODE_AND ? MR_CEL_MODE_AND_FIRST : MR_CEL_MODE_OR_FIRST,
                   &end);
        mr_cel_emit_bind(c, &end);
        return;
    }
    case MR_CEL_NODE_IF:
        emit_if(c, node, dst);
        return;
    case MR_CEL_NODE_MACRO:
        mr_cel_emit_macro(c, node, dst);
        return;
    default: /* STRUCT: there are no messages */
        emit_error(c, MR_CEL_E_UNDECLARED, node->text, dst);
    }
}

void mr_cel_emit(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst,
                 enum mr_cel_mode mode, struct mr_cel_label *label)
{
    if (c->failed)
        return;
    const struct mr_cel_node *outer = c->node;
    uint32_t registers = c->registers;
    c->node = node;
    if (joins(c, node, mode)) {
        emit_chain(c, node, dst, mode, label);
    } else if (mode != MR_CEL_MODE_VALUE && !takes_mode(c, node)) {
        uint16_t value = mr_cel_emit_register(c);
        mr_cel_emit(c, node, value, MR_CEL_MODE_VALUE, NULL);
        emit_load(c, value, dst, mode, label);
    } else {
        emit_node(c, node, dst, mode, label);
        if (c->plain && mode == MR_CEL_MODE_VALUE && node->kind >= MR_CEL_NODE_CALL)
            emit_load(c, dst, dst, mode, NULL); /* the whole part's value, for the trace */
    }
    c->registers = registers;
    c->node = outer;
}

enum mr_rc mr_cel_compile(const struct mr_cel_front *front, struct mr_str source,
                          struct mr_cel_compiled *out)
{
    struct mr_cel_ast ast;
    enum mr_rc rc = mr_cel_parse(front, source, &ast);
    if (rc == MR_OK)
        rc = mr_cel_check(front, &ast);
    if (rc != MR_OK)
        return rc;
    struct mr_cel_compiler c = {.front = front,
                                .ast = &ast,
                                .plain = front->flags & MR_CEL_EXPLAINED,
                                .node = ast.root,
                                .registers = ast.local_count,
                                .registers_max = ast.local_count};
    c.ctx.arena = front->arena;
    mr_cel_ctx_start(&c.ctx, MR_CEL_STEPS_DEFAULT / 16);
    if (c.registers >= MR_CEL_REGISTERS_MAX)
        mr_cel_compile_too_large(&c);
    out->type = ast.root->type;
    mr_cel_fold_in_place(&c, ast.root);
    c.ctx.fatal = 0;
    uint16_t result = mr_cel_emit_register(&c);
    mr_cel_emit(&c, ast.root, result, MR_CEL_MODE_VALUE, NULL);
    mr_cel_emit_ins(&c, MR_CEL_OP_RETURN, result, result, 0);
    if (c.failed)
        return MR_USAGE;
    return mr_cel_assemble(&c, front->flags & MR_CEL_STRIPPED, &out->bytes, &out->len);
}
