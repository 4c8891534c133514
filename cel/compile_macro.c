/* cel/compile_macro.c: macros as loops; see compile.h. A loop is
 *     iterate    the range; no container: the error is the result
 *     jump next
 *     turn:      what is done with one element
 *     next:      an element to its local, back to turn
 * all and exists build nothing: the predicate does to the result what a term of && or || does. */
#include "cel/compile.h"

struct loop {
    const struct mr_cel_node *predicate, *value; /* NULL: none */
    uint16_t dst, key, element;                  /* registers; key: MR_CEL_NO_REGISTER: none */
    uint16_t iterator, range;
    uint32_t turn; /* instruction */
    struct mr_cel_label next, end;
};

static uint16_t local_of(const struct mr_cel_node *name)
{
    return (uint16_t)name->index;
}

static struct mr_cel_ins *emit(struct mr_cel_compiler *c, enum mr_cel_op op, uint16_t dst,
                               uint16_t a, uint16_t b)
{
    return mr_cel_emit_ins(c, op, dst, a, b);
}

static uint16_t new_iterator(struct mr_cel_compiler *c)
{
    if (c->iterators >= MR_CEL_ITERATORS_MAX) {
        mr_cel_compile_too_large(c);
        return 0;
    }
    uint16_t iterator = (uint16_t)c->iterators++;
    if (c->iterators > c->iterators_max)
        c->iterators_max = c->iterators;
    return iterator;
}

static bool has_two_variables(const struct mr_cel_node *node)
{
    return node->sub == MR_CEL_MACRO_TRANSFORM_LIST || node->sub == MR_CEL_MACRO_TRANSFORM_MAP ||
           node->sub == MR_CEL_MACRO_TRANSFORM_MAP_ENTRY || node->flags & MR_CEL_FLAG_TWO_VARIABLES;
}

/* The parts of a macro over a range, up to the jump to next. */
static struct loop begin(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst)
{
    struct loop loop = {.dst = dst,
                        .key = MR_CEL_NO_REGISTER,
                        .next = mr_cel_emit_label(),
                        .end = mr_cel_emit_label()};
    const struct mr_cel_node *range = node->first, *name = range->next;
    if (has_two_variables(node)) {
        loop.key = local_of(name);
        name = name->next;
    }
    loop.element = local_of(name);
    loop.value = name->next;
    if (loop.value->next) {
        loop.predicate = loop.value;
        loop.value = loop.value->next;
    }
    loop.range = mr_cel_emit_operand(c, range);
    loop.iterator = new_iterator(c);
    c->node = node;
    mr_cel_emit_jump(c, emit(c, MR_CEL_OP_ITERATE, dst, loop.range, loop.iterator), &loop.end);
    mr_cel_emit_jump(c, emit(c, MR_CEL_OP_JUMP, 0, 0, 0), &loop.next);
    loop.turn = c->instructions.count;
    c->loops++;
    return loop;
}

/* An element that the predicate refuses is passed over; an error in it is the result. */
static void emit_filter(struct mr_cel_compiler *c, struct loop *loop,
                        const struct mr_cel_node *predicate, uint16_t error)
{
    uint32_t registers = c->registers;
    uint16_t value = mr_cel_emit_operand(c, predicate);
    struct mr_cel_ins *ins = emit(c, MR_CEL_OP_CONDITION, error, value, 0);
    mr_cel_emit_jump(c, ins, &loop->next);
    mr_cel_emit_choice(c, ins, &loop->end);
    c->registers = registers;
}

/* error: register for a damaged document. */
static void emit_next(struct mr_cel_compiler *c, struct loop *loop, uint16_t error)
{
    mr_cel_emit_bind(c, &loop->next);
    struct mr_cel_ins *ins = emit(c, MR_CEL_OP_NEXT, loop->element, loop->key, loop->iterator);
    ins->c = error;
    ins->target = loop->turn;
    c->iterators = loop->iterator;
    c->loops--;
}

static void emit_bool(struct mr_cel_compiler *c, uint16_t dst, bool value)
{
    emit(c, MR_CEL_OP_LOAD, dst, mr_cel_emit_constant(c, mr_cel_bool(value)), 0);
}

static void emit_all(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst)
{
    bool all = node->sub == MR_CEL_MACRO_ALL;
    emit_bool(c, dst, all);
    struct loop loop = begin(c, node, dst);
    mr_cel_emit(c, loop.value, dst, all ? MR_CEL_MODE_AND_NEXT : MR_CEL_MODE_OR_NEXT, &loop.end);
    emit_next(c, &loop, dst);
    mr_cel_emit_bind(c, &loop.end);
}

static void emit_one(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst)
{
    uint16_t count = mr_cel_emit_register(c);
    emit(c, MR_CEL_OP_LOAD, count, mr_cel_emit_constant(c, mr_cel_int(0)), 0);
    struct loop loop =
        begin(c, node, count); /* an error in place of the number is passed on by "equal" */
    emit_filter(c, &loop, loop.value, count);
    emit(c, MR_CEL_OP_INCREMENT, count, 0, 0);
    emit_next(c, &loop, count);
    mr_cel_emit_bind(c, &loop.end);
    emit(c, MR_CEL_OP_EQUAL, dst, count, mr_cel_emit_constant(c, mr_cel_int(1)));
}

static void emit_list(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst)
{
    struct loop loop = begin(c, node, dst);
    uint16_t item = loop.element;
    if (node->sub == MR_CEL_MACRO_FILTER) {
        emit_filter(c, &loop, loop.value, dst);
    } else {
        if (loop.predicate)
            emit_filter(c, &loop, loop.predicate, dst);
        item = mr_cel_emit_operand(c, loop.value);
    }
    if (node->sub == MR_CEL_MACRO_FILTER && loop.key != MR_CEL_NO_REGISTER)
        item = loop.element;
    mr_cel_emit_jump(c, emit(c, MR_CEL_OP_APPEND, dst, item, loop.iterator), &loop.end);
    emit_next(c, &loop, dst);
    emit(c, MR_CEL_OP_END_LIST, dst, 0, loop.iterator);
    mr_cel_emit_bind(c, &loop.end);
}

static void emit_map(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst)
{
    struct loop loop = begin(c, node, dst);
    if (loop.predicate)
        emit_filter(c, &loop, loop.predicate, dst);
    struct mr_cel_ins *ins;
    if (node->sub == MR_CEL_MACRO_TRANSFORM_MAP) {
        uint16_t key = mr_cel_emit_register(c), value = mr_cel_emit_register(c);
        emit(c, MR_CEL_OP_LOAD, key, loop.key, 0);
        mr_cel_emit(c, loop.value, value, MR_CEL_MODE_VALUE, NULL);
        ins = emit(c, MR_CEL_OP_PUT, dst, key, loop.iterator);
    } else {
        uint16_t entry = mr_cel_emit_operand(c, loop.value);
        ins = emit(c, MR_CEL_OP_PUT_ALL, dst, entry, loop.iterator);
    }
    mr_cel_emit_jump(c, ins, &loop.end);
    emit_next(c, &loop, dst);
    emit(c, MR_CEL_OP_END_MAP, dst, 0, loop.iterator);
    mr_cel_emit_bind(c, &loop.end);
}

static void emit_sort(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst)
{
    struct loop loop = begin(c, node, dst);
    uint16_t keys = mr_cel_emit_register(c);
    uint16_t key = mr_cel_emit_operand(c, loop.value);
    mr_cel_emit_jump(c, emit(c, MR_CEL_OP_APPEND, dst, key, loop.iterator), &loop.end);
    emit_next(c, &loop, dst);
    emit(c, MR_CEL_OP_END_LIST, keys, 0, loop.iterator);
    emit(c, MR_CEL_OP_SORT_BY, dst, loop.range, keys);
    mr_cel_emit_bind(c, &loop.end);
}

static void emit_optional(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst)
{
    struct mr_cel_label end = mr_cel_emit_label();
    const struct mr_cel_node *name = node->first->next;
    uint16_t optional = mr_cel_emit_operand(c, node->first);
    c->node = node;
    mr_cel_emit_jump(c, emit(c, MR_CEL_OP_UNWRAP, local_of(name), optional, dst), &end);
    uint16_t value = mr_cel_emit_operand(c, name->next);
    emit(c, node->sub == MR_CEL_MACRO_OPT_MAP ? MR_CEL_OP_OPTIONAL_OF : MR_CEL_OP_OPTIONAL_CHECK,
         dst, value, 0);
    mr_cel_emit_bind(c, &end);
}

/* A local gets its value at the end: until then macros within the value may use its register. */
static void emit_local(struct mr_cel_compiler *c, const struct mr_cel_node *value, uint32_t slot)
{
    const struct mr_cel_node *outer = c->node;
    uint32_t registers = c->registers;
    uint16_t from = mr_cel_emit_operand(c, value);
    c->node = outer;
    emit(c, MR_CEL_OP_LOAD, (uint16_t)slot, from, 0);
    c->registers = registers;
}

/* The values' locals come first, one after the other; what is behind the last value is the body. */
static void emit_block(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst)
{
    uint32_t slot = node->index;
    const struct mr_cel_node *child = node->first;
    for (; child->next; child = child->next)
        emit_local(c, child, slot++);
    mr_cel_emit(c, child, dst, MR_CEL_MODE_VALUE, NULL);
}

void mr_cel_emit_macro(struct mr_cel_compiler *c, const struct mr_cel_node *node, uint16_t dst)
{
    switch ((enum mr_cel_macro)node->sub) {
    case MR_CEL_MACRO_ALL:
    case MR_CEL_MACRO_EXISTS:
        emit_all(c, node, dst);
        return;
    case MR_CEL_MACRO_EXISTS_ONE:
        emit_one(c, node, dst);
        return;
    case MR_CEL_MACRO_MAP_LIST:
    case MR_CEL_MACRO_FILTER:
    case MR_CEL_MACRO_TRANSFORM_LIST:
        emit_list(c, node, dst);
        return;
    case MR_CEL_MACRO_TRANSFORM_MAP:
    case MR_CEL_MACRO_TRANSFORM_MAP_ENTRY:
        emit_map(c, node, dst);
        return;
    case MR_CEL_MACRO_SORT_BY:
        emit_sort(c, node, dst);
        return;
    case MR_CEL_MACRO_OPT_MAP:
    case MR_CEL_MACRO_OPT_FLAT_MAP:
        emit_optional(c, node, dst);
        return;
    case MR_CEL_MACRO_BIND:
        emit_local(c, node->first->next, local_of(node->first));
        mr_cel_emit(c, node->first->next->next, dst, MR_CEL_MODE_VALUE, NULL);
        return;
    default:
        emit_block(c, node, dst);
    }
}
