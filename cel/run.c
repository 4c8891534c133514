/* cel/run.c: the evaluator: a loop over instructions with registers in the arena; see eval.h and
 * bytecode.h. It trusts what mr_cel_program_load has checked (operands name registers, constants,
 * instructions that exist) and nothing else: every kind of every value is looked at. */
#include "cel/arena.h"
#include "cel/find.h"
#include "cel/machine.h"

static inline struct mr_cel_val from_bson(struct mr_cel_ctx *ctx, const struct mr_bson_value *v)
{
    struct mr_cel_val out = {.kind = MR_CEL_NULL};
    int32_t half;
    switch (v->type) {
    case MR_BSON_STRING:
        memcpy(&half, v->data, sizeof half); /* find has seen that it is 1 at least, and fits */
        out.kind = MR_CEL_STRING;
        out.len = (uint32_t)half - 1;
        out.text = (const char *)v->data + 4;
        return out;
    case MR_BSON_INT32:
        memcpy(&half, v->data, sizeof half);
        out.kind = MR_CEL_INT;
        out.integer = half;
        return out;
    case MR_BSON_INT64:
    case MR_BSON_DOUBLE:
        out.kind = v->type == MR_BSON_DOUBLE ? MR_CEL_DOUBLE : MR_CEL_INT;
        memcpy(&out.bits, v->data, sizeof out.bits);
        return out;
    default:
        return mr_cel_from_bson(ctx, v);
    }
}

static struct mr_cel_val rare_step(struct mr_cel_machine *m, struct mr_cel_val v,
                                   const struct mr_cel_path_key *key)
{
    struct mr_cel_val item;
    if (key->len != MR_CEL_PATH_INDEX)
        return mr_cel_select(&m->ctx, v, mr_cel_key_text(m, key));
    if (v.kind == MR_CEL_LIST && mr_cel_list_at(&m->ctx, v, key->offset, &item))
        return item;
    return mr_cel_is_strange(v) ? v : mr_cel_index(&m->ctx, v, mr_cel_int(key->offset));
}

/* One step of a path. */
static inline struct mr_cel_val step(struct mr_cel_machine *m, struct mr_cel_val v,
                                     const struct mr_cel_path_key *key)
{
    if (__builtin_expect(
            v.kind != MR_CEL_MAP || v.form != MR_CEL_FORM_BSON || key->len == MR_CEL_PATH_INDEX, 0))
        return rare_step(m, v, key);
    struct mr_bson_value value;
    enum mr_cel_found found =
        mr_cel_find(v.bson, v.len, key, (const char *)m->program->bytes + key->offset, &value);
    if (__builtin_expect(found != MR_CEL_FOUND, 0)) {
        m->ctx.budget -= v.len / 128;
        return found == MR_CEL_MISSING ? mr_cel_error(MR_CEL_E_NO_SUCH_KEY, mr_cel_key_text(m, key))
                                       : mr_cel_code_error(MR_CEL_E_BAD_DOCUMENT);
    }
    m->ctx.budget -= (value.data - v.bson) / 128;
    return from_bson(&m->ctx, &value);
}

static struct mr_cel_val variable(const struct mr_cel_machine *m, uint32_t index)
{
    if (__builtin_expect(index < m->run->variable_count, 1))
        return mr_cel_get(&m->run->variables[index]);
    const struct mr_cel_text_at *name =
        (const struct mr_cel_text_at *)(const void *)(m->program->bytes + mr_cel_head_of(m->program)
                                                                              ->variables.offset) +
        index;
    return mr_cel_error(MR_CEL_E_NO_SUCH_ATTRIBUTE,
                        (struct mr_str){(const char *)m->program->bytes + name->offset, name->len});
}

/* Steps from "from" to before "to" of a path. */
static inline struct mr_cel_val walk(struct mr_cel_machine *m, struct mr_cel_val v,
                                     const struct mr_cel_path *path, uint32_t from, uint32_t to)
{
    const struct mr_cel_path_key *keys = mr_cel_path_keys(m, path);
    for (uint32_t i = from; i < to && !mr_cel_is_strange(v); i++)
        v = step(m, v, &keys[i]);
    return v;
}

/* The same for a path from its variable, whose first step may have been taken before. */
static inline struct mr_cel_val walk_variable(struct mr_cel_machine *m,
                                              const struct mr_cel_path *path, uint32_t to)
{
    if (path->cache == UINT32_MAX || to == 0)
        return walk(m, variable(m, path->variable), path, 0, to);
    struct mr_cel_val v = mr_cel_get(&m->registers[path->cache]);
    if (v.kind == MR_CEL_NULL) {
        v = walk(m, variable(m, path->variable), path, 0, 1);
        mr_cel_set(&m->registers[path->cache], v);
    }
    return walk(m, v, path, 1, to);
}

/* v: what the path before its last step led to. */
static struct mr_cel_val has(struct mr_cel_machine *m, struct mr_cel_val v,
                             const struct mr_cel_path *path)
{
    const struct mr_cel_path_key *key = &mr_cel_path_keys(m, path)[path->count - 1];
    if (v.kind != MR_CEL_MAP || v.form != MR_CEL_FORM_BSON)
        return mr_cel_is_strange(v) ? v : mr_cel_has(&m->ctx, v, mr_cel_key_text(m, key));
    struct mr_bson_value value;
    m->ctx.budget -= v.len / 128;
    enum mr_cel_found found =
        mr_cel_find(v.bson, v.len, key, (const char *)m->program->bytes + key->offset, &value);
    return found == MR_CEL_DAMAGED ? mr_cel_code_error(MR_CEL_E_BAD_DOCUMENT)
                                   : mr_cel_bool(found == MR_CEL_FOUND);
}

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

#define FETCH(operand)                                                      \
    (__builtin_expect((operand)&MR_CEL_CONSTANT, 0)                         \
         ? mr_cel_cell_load(&cells[(operand) & ~(unsigned)MR_CEL_CONSTANT]) \
         : mr_cel_get(&registers[operand]))
#define DISPATCH() goto *labels[(ins = &code[pc++])->op]
#define ON(name)   on_##name:
#define PLACED(v)  ((v).kind == MR_CEL_ERROR ? mr_cel_error_placed((v), pc) : (v))
#define ORDER(name, sign)                                 \
    ON(name)                                              \
    a = FETCH(ins->a);                                    \
    b = FETCH(ins->b);                                    \
    if (a.kind == b.kind && a.kind == MR_CEL_INT)         \
        truth = a.integer sign b.integer;                 \
    else if (a.kind == b.kind && a.kind == MR_CEL_DOUBLE) \
        truth = a.number sign b.number;                   \
    else                                                  \
        goto slow_bool;                                   \
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
    const struct mr_cel_ins *ins, *before = NULL;
    struct mr_cel_val a, b, v;
    struct mr_cel_loop *loop;
    uint32_t pc = 0;
    bool truth;
    DISPATCH();

on_trace: /* what the instruction before has left */
    if (before && before->op != MR_CEL_OP_JUMP && before->dst < head->registers)
        m->run->trace(m->run->trace_context, (uint32_t)(before - code), registers[before->dst]);
    before = ins;
    goto *plain_labels[ins->op];

finish_truth:
    switch (ins->mode) {
    case MR_CEL_MODE_VALUE:
        mr_cel_set(&registers[ins->dst], mr_cel_bool(truth));
        DISPATCH();
    case MR_CEL_MODE_AND_FIRST:
    case MR_CEL_MODE_AND_NEXT:
        if (!truth) {
            mr_cel_set(&registers[ins->dst], mr_cel_bool(false));
            pc = ins->target;
        } else if (ins->mode == MR_CEL_MODE_AND_FIRST) {
            mr_cel_set(&registers[ins->dst], mr_cel_bool(true));
        }
        DISPATCH();
    default:
        if (truth) {
            mr_cel_set(&registers[ins->dst], mr_cel_bool(true));
            pc = ins->target;
        } else if (ins->mode == MR_CEL_MODE_OR_FIRST) {
            mr_cel_set(&registers[ins->dst], mr_cel_bool(false));
        }
        DISPATCH();
    }

slow_bool:
    v = mr_cel_run_binary(m, (enum mr_cel_op)ins->op, a, b);
finish: /* v, by mode */
    if (v.kind == MR_CEL_BOOL) {
        truth = v.boolean;
        goto finish_truth;
    }
    if (ins->mode == MR_CEL_MODE_VALUE)
        goto store;
    v = merge(registers[ins->dst], v,
              ins->mode == MR_CEL_MODE_AND_FIRST || ins->mode == MR_CEL_MODE_OR_FIRST);
store:
    mr_cel_set(&registers[ins->dst], PLACED(v));
    DISPATCH();

slow_value:
    v = mr_cel_run_binary(m, (enum mr_cel_op)ins->op, a, b);
    goto store;

    ON(RETURN)
    v = FETCH(ins->a);
    if (m->ctx.fatal != 0)
        v = mr_cel_error_placed(mr_cel_stopped(&m->ctx), pc);
    if (traced) {
        mr_cel_set(&registers[ins->dst], v);
        m->run->trace(m->run->trace_context, pc - 1, v);
    }
    return v;
    ON(LOAD)
    v = FETCH(ins->a);
    goto finish;
    ON(VARIABLE)
    v = variable(m, ins->c);
    goto finish;
    ON(PATH)
    {
        const struct mr_cel_path *path = mr_cel_path_at(m, ins->c);
        v = walk_variable(m, path, path->count);
        goto finish;
    }
    ON(SELECT)
    {
        const struct mr_cel_path *path = mr_cel_path_at(m, ins->c);
        v = walk(m, FETCH(ins->a), path, 0, path->count);
        goto finish;
    }
    ON(HAS_PATH)
    {
        const struct mr_cel_path *path = mr_cel_path_at(m, ins->c);
        v = has(m, walk_variable(m, path, path->count - 1), path);
        goto finish;
    }
    ON(HAS)
    {
        const struct mr_cel_path *path = mr_cel_path_at(m, ins->c);
        v = has(m, walk(m, FETCH(ins->a), path, 0, path->count - 1), path);
        goto finish;
    }
    ON(INDEX)
    v = mr_cel_run_binary(m, MR_CEL_OP_INDEX, FETCH(ins->a), FETCH(ins->b));
    goto finish;
    ON(ADD)
    a = FETCH(ins->a);
    b = FETCH(ins->b);
    if (a.kind == MR_CEL_INT && b.kind == MR_CEL_INT &&
        !__builtin_add_overflow(a.integer, b.integer, &registers[ins->dst].integer)) {
        registers[ins->dst].kind = MR_CEL_INT;
        DISPATCH();
    }
    goto slow_value;
    ON(SUBTRACT)
    ON(MULTIPLY)
    ON(DIVIDE)
    ON(MODULO)
    ON(OPTIONAL_INDEX)
    ON(SORT_BY)
    a = FETCH(ins->a);
    b = FETCH(ins->b);
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
    a = FETCH(ins->a);
    b = FETCH(ins->b);
    if (a.kind != b.kind)
        goto slow_bool;
    if (a.kind == MR_CEL_STRING)
        truth = a.len == b.len && a.len <= 64 && same_bytes(a.text, b.text, a.len);
    else if (a.kind == MR_CEL_INT)
        truth = a.integer == b.integer;
    else
        goto slow_bool;
    if (a.kind == MR_CEL_STRING && a.len > 64)
        goto slow_bool;
    truth = truth == (ins->op == MR_CEL_OP_EQUAL);
    goto finish_truth;
    ORDER(LESS, <)
    ORDER(LESS_EQUAL, <=)
    ORDER(GREATER, >)
    ORDER(GREATER_EQUAL, >=)
    ON(STARTS_WITH)
    a = FETCH(ins->a);
    b = FETCH(ins->b);
    if (a.kind != MR_CEL_STRING || b.kind != MR_CEL_STRING || b.len > 64)
        goto slow_bool;
    truth = b.len <= a.len && same_bytes(a.text, b.text, b.len);
    goto finish_truth;
    ON(IN)
    ON(ENDS_WITH)
    ON(CONTAINS)
    a = FETCH(ins->a);
    b = FETCH(ins->b);
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
    pc = ins->target;
    DISPATCH();
    ON(CONDITION)
    v = FETCH(ins->a);
    if (v.kind == MR_CEL_BOOL) {
        pc = v.boolean ? pc : ins->target;
        DISPATCH();
    }
    v = merge(v, v, true);
    mr_cel_set(&registers[ins->dst], PLACED(v));
    pc = ins->c;
    DISPATCH();
    ON(ITERATE)
    v = FETCH(ins->a);
    if (!mr_cel_run_iterate(m, &m->loops[ins->b], &v)) {
        mr_cel_set(&registers[ins->dst], PLACED(v));
        pc = ins->target;
    }
    DISPATCH();
    ON(NEXT)
    loop = &m->loops[ins->b];
    if (mr_cel_iter_next(&loop->it)) {
        m->ctx.budget -=
            pc - ins->target; /* at least what the turn costs; next charges when it is used up */
        mr_cel_set(&registers[ins->dst],
                   mr_cel_get(ins->a == MR_CEL_NO_REGISTER && loop->it.kind == MR_CEL_MAP
                                  ? &loop->it.key
                                  : &loop->it.value));
        if (ins->a != MR_CEL_NO_REGISTER)
            mr_cel_set(&registers[ins->a], mr_cel_get(&loop->it.key));
        pc = ins->target;
    } else if (loop->it.failed.kind == MR_CEL_ERROR) {
        mr_cel_set(&registers[ins->c], PLACED(loop->it.failed));
        if (m->ctx.fatal != 0)
            return mr_cel_error_placed(mr_cel_stopped(&m->ctx), pc);
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
        pc = ins->target;
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
    pc = ins->target;
    DISPATCH();
    ON(OR_ELSE)
    a = v = FETCH(ins->a);
    truth = mr_cel_run_unwrap(&v);
    if (truth || v.kind != MR_CEL_OPTIONAL) { /* a value, or an error */
        v = truth && ins->c == 0 ? a : v;
        mr_cel_set(&registers[ins->dst], PLACED(v));
        pc = ins->target;
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
