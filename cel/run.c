/* cel/run.c: the evaluator: a loop over instructions with registers in the arena; see eval.h and
 * bytecode.h. It trusts what mr_cel_program_load has checked (operands name registers, constants,
 * instructions that exist) and nothing else: every kind of every value is looked at. */
#include "cel/arena.h"
#include "cel/walk.h"

/* What an error or a value that is no bool does to the result of a chain of && or ||. */
static struct mr_cel_val merge(struct mr_cel_val so_far, struct mr_cel_val v, bool first)
{
    if (v.kind != MR_CEL_UNKNOWN && v.kind != MR_CEL_ERROR)
        v = mr_cel_code_error(MR_CEL_E_NOT_BOOL);
    if (first || !mr_cel_is_strange(so_far))
        return v;
    if (v.kind == MR_CEL_UNKNOWN) {
        if (so_far.kind == MR_CEL_UNKNOWN)
            v.bits |= so_far.bits;
        return v;
    }
    return so_far;
}

/* Texts are short: no call for eight bytes and less, or sixteen. */
static inline bool same_bytes(const char *a, const char *b, uint32_t len)
{
    uint64_t x, y, u, v;
    uint32_t p, q, r, s;
    if (len >= 8 && len <= 16) {
        memcpy(&x, a, 8), memcpy(&y, b, 8);
        memcpy(&u, a + len - 8, 8), memcpy(&v, b + len - 8, 8);
        return ((x ^ y) | (u ^ v)) == 0;
    }
    if (len >= 4 && len < 8) {
        memcpy(&p, a, 4), memcpy(&q, b, 4);
        memcpy(&r, a + len - 4, 4), memcpy(&s, b + len - 4, 4);
        return ((p ^ q) | (r ^ s)) == 0;
    }
    if (len < 4) {
        for (p = 0; p < len; p++)
            if (a[p] != b[p])
                return false;
        return true;
    }
    return memcmp(a, b, len) == 0;
}

#define IS_CONSTANT(operand) __builtin_expect((operand)&MR_CEL_CONSTANT, 0)
#define CELL(operand)        (&cells[(operand) & ~(unsigned)MR_CEL_CONSTANT])
#define FETCH(operand) \
    (IS_CONSTANT(operand) ? mr_cel_cell_load(CELL(operand)) : mr_cel_get(&registers[operand]))
/* Where an operand is. A constant's text is named by an offset: TEXT. */
#define AT(operand)       (IS_CONSTANT(operand) ? CELL(operand) : &registers[operand])
#define TEXT(operand, at) (IS_CONSTANT(operand) ? (const char *)(at) + (at)->offset : (at)->text)
#define DISPATCH()        goto *labels[(++ins)->op]
#define GO_TO(target)     goto *labels[(ins = &code[target])->op]
#define ON(name)          on_##name:
#define PLACE()           ((uint32_t)(ins - code) + 1)
#define PLACED(v)         ((v).kind == MR_CEL_ERROR ? mr_cel_error_placed((v), PLACE()) : (v))
#define ORDER(name, sign)                          \
    ON(name)                                       \
    left = AT(ins->a);                             \
    right = AT(ins->b);                            \
    if (left->kind != right->kind)                 \
        goto slow_bool;                            \
    else if (left->kind == MR_CEL_INT)             \
        truth = left->integer sign right->integer; \
    else if (left->kind == MR_CEL_DOUBLE)          \
        truth = left->number sign right->number;   \
    else                                           \
        goto slow_bool;                            \
    goto finish_truth;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic" /* addresses of labels */
static struct mr_cel_val run(struct mr_cel_machine *m, bool traced)
{
    static const void *const plain_labels[MR_CEL_OP_COUNT] = {
#define MR_CEL_OP(name, text, dst, a, b, c, target, result) &&on_##name,
#include "cel/opcodes.def"
#undef MR_CEL_OP
    };
    static const void *const traced_labels[MR_CEL_OP_COUNT] = {
#define MR_CEL_OP(name, text, dst, a, b, c, target, result) &&on_trace,
#include "cel/opcodes.def"
#undef MR_CEL_OP
    };
    const void *const *const labels = traced ? traced_labels : plain_labels;
    const struct mr_cel_head *head = mr_cel_head_of(m->program);
    const struct mr_cel_ins *code = (const void *)(m->program->bytes + head->instructions.offset);
    const struct mr_cel_val *cells = (const void *)(m->program->bytes + head->cells.offset);
    struct mr_cel_val *const registers = m->registers;
    const struct mr_cel_ins *ins = code, *before = NULL;
    const struct mr_cel_val *left, *right;
    struct mr_cel_val a, b, v, *out;
    struct mr_cel_loop *loop;
    bool truth;
    goto *labels[ins->op];

on_trace: /* what the instruction before has left */
    if (before && before->op != MR_CEL_OP_JUMP && before->dst < head->registers)
        m->run->trace(m->run->trace_context, (uint32_t)(before - code), registers[before->dst]);
    before = ins;
    goto *plain_labels[ins->op];

finish_truth:
    switch (ins->mode) {
    case MR_CEL_MODE_VALUE:
        mr_cel_put(&registers[ins->dst], MR_CEL_BOOL, truth);
        DISPATCH();
    case MR_CEL_MODE_AND_FIRST:
    case MR_CEL_MODE_AND_NEXT:
        if (!truth) {
            mr_cel_put(&registers[ins->dst], MR_CEL_BOOL, false);
            GO_TO(ins->target);
        }
        if (ins->mode == MR_CEL_MODE_AND_FIRST)
            mr_cel_put(&registers[ins->dst], MR_CEL_BOOL, true);
        DISPATCH();
    default:
        if (truth) {
            mr_cel_put(&registers[ins->dst], MR_CEL_BOOL, true);
            GO_TO(ins->target);
        }
        if (ins->mode == MR_CEL_MODE_OR_FIRST)
            mr_cel_put(&registers[ins->dst], MR_CEL_BOOL, false);
        DISPATCH();
    }

slow_bool:
    v = mr_cel_run_binary(m, (enum mr_cel_op)ins->op, FETCH(ins->a), FETCH(ins->b));
finish: /* v, by mode */
    if (ins->mode == MR_CEL_MODE_VALUE)
        goto store;
    if (v.kind == MR_CEL_BOOL) {
        truth = v.boolean;
        goto finish_truth;
    }
    v = merge(registers[ins->dst], v,
              ins->mode == MR_CEL_MODE_AND_FIRST || ins->mode == MR_CEL_MODE_OR_FIRST);
store:
    mr_cel_set(&registers[ins->dst], PLACED(v));
    DISPATCH();

slow_value:
    v = mr_cel_run_binary(m, (enum mr_cel_op)ins->op, FETCH(ins->a), FETCH(ins->b));
    goto store;

    ON(RETURN)
    v = FETCH(ins->a);
    if (m->ctx.fatal != 0)
        v = mr_cel_error_placed(mr_cel_stopped(&m->ctx), PLACE());
    if (traced) {
        mr_cel_set(&registers[ins->dst], v);
        m->run->trace(m->run->trace_context, PLACE() - 1, v);
    }
    return v;
    ON(LOAD)
    v = FETCH(ins->a);
    goto finish;
    ON(VARIABLE)
    v = mr_cel_get(mr_cel_walk_variable(m, ins->c, &a));
    goto finish;
    ON(PATH)
    left = NULL;
    goto path;
    ON(SELECT)
    a = FETCH(ins->a);
    left = &a;
path : /* to its register at once where nothing else is done with it */
{
    const struct mr_cel_path *path = mr_cel_path_at(m, ins->c);
    out = ins->mode == MR_CEL_MODE_VALUE ? &registers[ins->dst] : &b;
    right = mr_cel_walk(m, left, path, path->count, out);
    if (right == out && ins->mode == MR_CEL_MODE_VALUE && out->kind != MR_CEL_ERROR)
        DISPATCH();
    v = mr_cel_get(right);
    goto finish;
}
    ON(HAS_PATH)
    v = mr_cel_walk_has(m, NULL, mr_cel_path_at(m, ins->c));
    goto finish;
    ON(HAS)
    a = FETCH(ins->a);
    v = mr_cel_walk_has(m, &a, mr_cel_path_at(m, ins->c));
    goto finish;
    ON(INDEX)
    v = mr_cel_run_binary(m, MR_CEL_OP_INDEX, FETCH(ins->a), FETCH(ins->b));
    goto finish;
    ON(ADD)
    left = AT(ins->a);
    right = AT(ins->b);
    if (left->kind == MR_CEL_INT && right->kind == MR_CEL_INT) {
        int64_t sum;
        if (!__builtin_add_overflow(left->integer, right->integer, &sum)) {
            mr_cel_put(&registers[ins->dst], MR_CEL_INT, (uint64_t)sum);
            DISPATCH();
        }
    }
    goto slow_value;
    ON(SUBTRACT)
    ON(MULTIPLY)
    ON(DIVIDE)
    ON(MODULO)
    ON(OPTIONAL_INDEX)
    ON(SORT_BY)
    goto slow_value;
    ON(NEGATE)
    ON(SIZE)
    ON(OPTIONAL_OF)
    ON(OPTIONAL_CHECK)
    ON(OPTIONAL_SELECT)
    v = mr_cel_run_unary(m, ins, FETCH(ins->a));
    goto store;
    ON(NOT)
    v = mr_cel_run_unary(m, ins, FETCH(ins->a));
    goto finish;
    ON(EQUAL)
    ON(NOT_EQUAL)
    left = AT(ins->a);
    right = AT(ins->b);
    if (left->kind != right->kind)
        goto slow_bool;
    if (left->kind == MR_CEL_STRING && left->len <= 64)
        truth = left->len == right->len &&
                same_bytes(TEXT(ins->a, left), TEXT(ins->b, right), left->len);
    else if (left->kind == MR_CEL_INT)
        truth = left->integer == right->integer;
    else
        goto slow_bool;
    truth = truth == (ins->op == MR_CEL_OP_EQUAL);
    goto finish_truth;
    ORDER(LESS, <)
    ORDER(LESS_EQUAL, <=)
    ORDER(GREATER, >)
    ORDER(GREATER_EQUAL, >=)
    ON(STARTS_WITH)
    left = AT(ins->a);
    right = AT(ins->b);
    if (left->kind != MR_CEL_STRING || right->kind != MR_CEL_STRING || right->len > 64)
        goto slow_bool;
    truth =
        right->len <= left->len && same_bytes(TEXT(ins->a, left), TEXT(ins->b, right), right->len);
    goto finish_truth;
    ON(IN)
    ON(ENDS_WITH)
    ON(CONTAINS)
    goto slow_bool;
    ON(IN_SET)
    v = FETCH(ins->a);
    if (!mr_cel_is_strange(v))
        v = mr_cel_run_in_set(m, v, ins->c);
    goto finish;
    ON(MATCHES)
    v = mr_cel_run_search(m, FETCH(ins->a), ins->c);
    goto finish;
    ON(CALL)
    v = mr_cel_run_call(m, ins);
    goto finish;
    ON(LIST)
    v = mr_cel_run_list(m, ins);
    goto store;
    ON(MAP)
    v = mr_cel_run_map(m, ins);
    goto store;
    ON(JUMP)
    GO_TO(ins->target);
    ON(CONDITION)
    v = FETCH(ins->a);
    if (v.kind == MR_CEL_BOOL) {
        if (!v.boolean)
            GO_TO(ins->target);
        DISPATCH();
    }
    v = merge(v, v, true);
    mr_cel_set(&registers[ins->dst], PLACED(v));
    GO_TO(ins->c);
    ON(ITERATE)
    v = FETCH(ins->a);
    if (!mr_cel_run_iterate(m, &m->loops[ins->b], &v)) {
        mr_cel_set(&registers[ins->dst], PLACED(v));
        GO_TO(ins->target);
    }
    DISPATCH();
    ON(NEXT)
    loop = &m->loops[ins->b];
    if (ins->a == MR_CEL_NO_REGISTER && mr_cel_walk_array(&loop->it, &registers[ins->dst])) {
        m->ctx.budget -= ins + 1 - &code[ins->target];
        GO_TO(ins->target);
    }
    if (mr_cel_iter_next(&loop->it)) {
        m->ctx.budget -=
            ins + 1 -
            &code[ins->target]; /* at least what the turn costs; next charges when it is used up */
        mr_cel_set(&registers[ins->dst],
                   mr_cel_get(ins->a == MR_CEL_NO_REGISTER && loop->it.kind == MR_CEL_MAP
                                  ? &loop->it.key
                                  : &loop->it.value));
        if (ins->a != MR_CEL_NO_REGISTER)
            mr_cel_set(&registers[ins->a], mr_cel_get(&loop->it.key));
        GO_TO(ins->target);
    } else if (loop->it.failed.kind == MR_CEL_ERROR) {
        mr_cel_set(&registers[ins->c], PLACED(loop->it.failed));
        if (m->ctx.fatal != 0)
            return mr_cel_error_placed(mr_cel_stopped(&m->ctx), PLACE());
    }
    DISPATCH();
    ON(INCREMENT)
    mr_cel_set(&registers[ins->dst], mr_cel_int((int64_t)(registers[ins->dst].bits + 1)));
    DISPATCH();
    ON(APPEND)
    v = mr_cel_run_append(m, &m->loops[ins->b], FETCH(ins->a));
    goto unless_null;
    ON(PUT)
    v = mr_cel_run_put(m, &m->loops[ins->b], &registers[ins->a]);
    goto unless_null;
    ON(PUT_ALL)
    v = mr_cel_run_put_all(m, &m->loops[ins->b], FETCH(ins->a));
unless_null:
    if (v.kind != MR_CEL_NULL) {
        mr_cel_set(&registers[ins->dst], PLACED(v));
        GO_TO(ins->target);
    }
    DISPATCH();
    ON(END_LIST)
    v = mr_cel_run_end_list(&m->loops[ins->b]);
    goto store;
    ON(END_MAP)
    v = mr_cel_run_end_map(m, &m->loops[ins->b]);
    goto store;
    ON(OPTIONAL_ENTRY)
    v = mr_cel_run_optional_entry(FETCH(ins->a));
    goto store;
    ON(UNWRAP)
    v = FETCH(ins->a);
    if (mr_cel_run_unwrap(&v))
        goto store;
    mr_cel_set(&registers[ins->b], PLACED(v));
    GO_TO(ins->target);
    ON(OR_ELSE)
    a = v = FETCH(ins->a);
    truth = mr_cel_run_unwrap(&v);
    if (truth || v.kind != MR_CEL_OPTIONAL) { /* a value, or an error */
        v = truth && ins->c == 0 ? a : v;
        mr_cel_set(&registers[ins->dst], PLACED(v));
        GO_TO(ins->target);
    }
    DISPATCH();
}

#pragma GCC diagnostic pop

struct mr_cel_val mr_cel_eval(const struct mr_cel_program *program, struct mr_cel_run *options)
{
    const struct mr_cel_head *head = mr_cel_head_of(program);
    uint64_t steps = options->steps_max != 0 ? options->steps_max : MR_CEL_STEPS_DEFAULT;
    struct mr_cel_machine m = {.program = program, .run = options};
    m.ctx.arena = options->arena;
    m.ctx.regex = options->regex;
    m.ctx.time_ns_max = options->time_ns_max != 0 ? options->time_ns_max : MR_CEL_TIME_NS_DEFAULT;
    mr_cel_ctx_start(&m.ctx, steps);
    size_t size = head->registers * sizeof *m.registers, loops = head->iterators * sizeof *m.loops;
    uint8_t *frame = mr_cel_arena_alloc(options->arena, size + loops);
    if (!frame)
        return mr_cel_code_error(MR_CEL_E_LIMIT_MEMORY);
    for (uint32_t i = 0; i < head->registers; i++)
        ((struct mr_cel_val *)(void *)frame)[i] = (struct mr_cel_val){.kind = MR_CEL_NULL};
    if (loops > 0)
        memset(frame + size, 0, loops);
    m.registers = (void *)frame;
    m.loops = (void *)(frame + size);
    struct mr_cel_val v = run(&m, options->trace != NULL);
    if (v.kind == MR_CEL_ABSENT)
        v = mr_cel_code_error(MR_CEL_E_PROGRAM);
    options->steps_used = mr_cel_ctx_used(&m.ctx, steps);
    return v;
}
