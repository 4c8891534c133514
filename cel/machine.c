/* cel/machine.c: instructions that run.c leaves its loop for; see machine.h. */
#include "cel/machine.h"

#include "cel/regex.h"

struct mr_cel_val mr_cel_run_in_set(struct mr_cel_machine *m, struct mr_cel_val v, uint32_t index)
{
    const struct mr_cel_head *head = mr_cel_head_of(m->program);
    const struct mr_cel_set *set =
        (const struct mr_cel_set *)(const void *)(m->program->bytes + head->sets.offset) + index;
    const struct mr_cel_val *cells =
        (const struct mr_cel_val *)(const void *)(m->program->bytes + head->cells.offset) +
        set->first;
    if (set->slot_mask == 0 && v.kind == MR_CEL_INT) {
        for (uint32_t i = 0; i < set->count; i++)
            if (cells[i].kind == MR_CEL_INT ? cells[i].integer == v.integer
                                            : mr_cel_equal(&m->ctx, v, mr_cel_cell_load(&cells[i])))
                return mr_cel_bool(true);
        return mr_cel_bool(false);
    }
    if (set->slot_mask == 0) {
        for (uint32_t i = 0; i < set->count; i++)
            if (mr_cel_equal(&m->ctx, v, mr_cel_cell_load(&cells[i])))
                return mr_cel_bool(true);
        return mr_cel_bool(false);
    }
    if (v.kind != MR_CEL_STRING && v.kind != MR_CEL_BOOL && !mr_cel_is_number(v))
        return mr_cel_bool(false);
    const uint32_t *slots = (const void *)(m->program->bytes + set->slots);
    uint32_t at = (uint32_t)mr_cel_key_hash(v) & set->slot_mask;
    for (uint32_t tries = 0; tries <= set->slot_mask && slots[at] != 0; tries++) {
        if (mr_cel_equal(&m->ctx, v, mr_cel_cell_load(&cells[slots[at] - 1])))
            return mr_cel_bool(true);
        at = (at + 1) & set->slot_mask;
    }
    return mr_cel_bool(false);
}

struct mr_cel_val mr_cel_run_call(struct mr_cel_machine *m, const struct mr_cel_ins *ins)
{
    const struct mr_cel_val *args = &m->registers[ins->a];
    struct mr_cel_val v;
    if (mr_cel_strange_of(args, ins->b, &v))
        return v;
    if (!mr_cel_charge(&m->ctx, 1))
        return mr_cel_stopped(&m->ctx);
    v = mr_cel_impl(ins->c)(&m->ctx, args, ins->b);
    if (mr_cel_is_fatal(v))
        m->ctx.fatal = v.aux;
    return v;
}

struct mr_cel_val mr_cel_run_list(struct mr_cel_machine *m, const struct mr_cel_ins *ins)
{
    const struct mr_cel_val *from = &m->registers[ins->a];
    struct mr_cel_val *items = mr_cel_list_new(&m->ctx, ins->b), v;
    uint32_t count = 0;
    bool strange = false;
    if (!items)
        return mr_cel_stopped(&m->ctx);
    for (uint32_t i = 0; i < ins->b; i++) {
        if (from[i].kind == MR_CEL_ABSENT)
            continue;
        strange = strange || mr_cel_is_strange(from[i]);
        items[count++] = from[i];
    }
    return strange && mr_cel_strange_of(items, count, &v) ? v : mr_cel_list(items, count);
}

struct mr_cel_val mr_cel_run_map(struct mr_cel_machine *m, const struct mr_cel_ins *ins)
{
    const struct mr_cel_val *from = &m->registers[ins->a];
    struct mr_cel_map_new map;
    if (!mr_cel_map_begin(&map, &m->ctx, ins->b / 2))
        return mr_cel_stopped(&m->ctx);
    for (uint32_t i = 0; i + 1 < ins->b; i += 2) {
        if (from[i + 1].kind == MR_CEL_ABSENT && !mr_cel_is_strange(from[i]))
            continue;
        struct mr_cel_val v;
        if (!mr_cel_strange_of(&from[i], 2, &v))
            v = mr_cel_map_put(&map, from[i], from[i + 1]);
        if (v.kind != MR_CEL_NULL)
            return v;
    }
    return mr_cel_map_end(&map);
}

bool mr_cel_run_iterate(struct mr_cel_machine *m, struct mr_cel_loop *loop,
                        struct mr_cel_val *range)
{
    loop->count = loop->capacity = 0;
    loop->items = NULL;
    loop->map = (struct mr_cel_map_new){.ctx = &m->ctx};
    loop->it.count = 0;
    loop->it.failed = mr_cel_null();
    if (range->kind != MR_CEL_LIST && range->kind != MR_CEL_MAP) {
        if (!mr_cel_is_strange(*range))
            *range = mr_cel_code_error(MR_CEL_E_NOT_ITERABLE);
        return false;
    }
    mr_cel_iter_init(&loop->it, &m->ctx, *range);
    return true;
}

/* kind NULL: done; else what went wrong. */
struct mr_cel_val mr_cel_run_append(struct mr_cel_machine *m, struct mr_cel_loop *loop,
                                    struct mr_cel_val v)
{
    if (mr_cel_is_strange(v))
        return v;
    if (loop->count == loop->capacity) {
        uint32_t capacity = loop->capacity < 8 ? 8 : loop->capacity * 2;
        struct mr_cel_val *items =
            capacity > loop->capacity ? mr_cel_list_new(&m->ctx, capacity) : NULL;
        if (!items)
            return mr_cel_stopped(&m->ctx);
        if (loop->count > 0)
            memcpy(items, loop->items, loop->count * sizeof *items);
        loop->items = items;
        loop->capacity = capacity;
    }
    loop->items[loop->count++] = v;
    return mr_cel_null();
}

struct mr_cel_val mr_cel_run_put(struct mr_cel_machine *m, struct mr_cel_loop *loop,
                                 const struct mr_cel_val entry[2])
{
    struct mr_cel_val v;
    loop->map.ctx = &m->ctx;
    return mr_cel_strange_of(entry, 2, &v) ? v : mr_cel_map_put(&loop->map, entry[0], entry[1]);
}

struct mr_cel_val mr_cel_run_put_all(struct mr_cel_machine *m, struct mr_cel_loop *loop,
                                     struct mr_cel_val map)
{
    if (map.kind != MR_CEL_MAP)
        return mr_cel_is_strange(map) ? map : mr_cel_no_overload();
    struct mr_cel_iter it;
    for (mr_cel_iter_init(&it, &m->ctx, map); mr_cel_iter_next(&it);) {
        struct mr_cel_val v = mr_cel_run_put(m, loop, (struct mr_cel_val[2]){it.key, it.value});
        if (v.kind != MR_CEL_NULL)
            return v;
    }
    return it.failed;
}

struct mr_cel_val mr_cel_run_end_map(struct mr_cel_machine *m, struct mr_cel_loop *loop)
{
    loop->map.ctx = &m->ctx;
    struct mr_cel_val v =
        loop->it.failed.kind == MR_CEL_ERROR ? loop->it.failed : mr_cel_map_end(&loop->map);
    loop->map = (struct mr_cel_map_new){.ctx = &m->ctx};
    return v;
}

struct mr_cel_val mr_cel_run_end_list(struct mr_cel_loop *loop)
{
    struct mr_cel_val v = loop->it.failed.kind == MR_CEL_ERROR
                              ? loop->it.failed
                              : mr_cel_list(loop->items, loop->count);
    loop->items = NULL;
    loop->count = loop->capacity = 0;
    return v;
}

/* An optional's value, or MR_CEL_ABSENT. */
struct mr_cel_val mr_cel_run_optional_entry(struct mr_cel_val v)
{
    if (v.kind != MR_CEL_OPTIONAL)
        return mr_cel_is_strange(v) ? v : mr_cel_no_overload();
    return v.some ? *v.some : (struct mr_cel_val){.kind = MR_CEL_ABSENT};
}

struct mr_cel_val mr_cel_run_search(struct mr_cel_machine *m, struct mr_cel_val v, uint32_t pattern)
{
    if (v.kind != MR_CEL_STRING)
        return mr_cel_is_strange(v) ? v : mr_cel_no_overload();
    if (!mr_cel_charge(&m->ctx, 4 + v.len / 4))
        return mr_cel_stopped(&m->ctx);
    return mr_cel_bool(mr_cel_regex_search(m->program->patterns[pattern], v.text, v.len));
}

/* Both operands are checked for errors here, so that quick cases need not. */
struct mr_cel_val mr_cel_run_binary(struct mr_cel_machine *m, enum mr_cel_op op,
                                    struct mr_cel_val a, struct mr_cel_val b)
{
    struct mr_cel_val v;
    if (mr_cel_strange_of((struct mr_cel_val[2]){a, b}, 2, &v))
        return v;
    switch (op) {
    case MR_CEL_OP_EQUAL:
        return mr_cel_bool(mr_cel_equal(&m->ctx, a, b));
    case MR_CEL_OP_NOT_EQUAL:
        return mr_cel_bool(!mr_cel_equal(&m->ctx, a, b));
    case MR_CEL_OP_LESS:
    case MR_CEL_OP_LESS_EQUAL:
    case MR_CEL_OP_GREATER:
    case MR_CEL_OP_GREATER_EQUAL:
        return mr_cel_ordered(&m->ctx, op, a, b);
    case MR_CEL_OP_IN:
        return mr_cel_in(&m->ctx, a, b);
    case MR_CEL_OP_INDEX:
        return mr_cel_index(&m->ctx, a, b);
    case MR_CEL_OP_OPTIONAL_INDEX:
        return mr_cel_optional_index(&m->ctx, a, b);
    case MR_CEL_OP_STARTS_WITH:
    case MR_CEL_OP_ENDS_WITH:
    case MR_CEL_OP_CONTAINS:
        return mr_cel_text_test(&m->ctx, op, a, b);
    case MR_CEL_OP_SORT_BY:
        return mr_cel_sort_by(&m->ctx, a, b);
    default:
        return mr_cel_arithmetic(&m->ctx, op, a, b);
    }
}

struct mr_cel_val mr_cel_run_unary(struct mr_cel_machine *m, const struct mr_cel_ins *ins,
                                   struct mr_cel_val a)
{
    if (mr_cel_is_strange(a))
        return a;
    switch (ins->op) {
    case MR_CEL_OP_NEGATE:
        return mr_cel_negate(a);
    case MR_CEL_OP_NOT:
        return a.kind == MR_CEL_BOOL ? mr_cel_bool(!a.boolean) : mr_cel_no_overload();
    case MR_CEL_OP_SIZE:
        return mr_cel_size(&m->ctx, a);
    case MR_CEL_OP_OPTIONAL_OF:
        return mr_cel_optional_some(&m->ctx, a);
    case MR_CEL_OP_OPTIONAL_CHECK:
        return a.kind == MR_CEL_OPTIONAL ? a : mr_cel_no_overload();
    default: /* OPTIONAL_SELECT */
        return mr_cel_optional_select(
            &m->ctx, a, mr_cel_key_text(m, mr_cel_path_keys(m, mr_cel_path_at(m, ins->c))));
    }
}

/* True: there is a value; v is it. Else v is what the expression comes to: none or an error. */
bool mr_cel_run_unwrap(struct mr_cel_val *v)
{
    if (v->kind == MR_CEL_OPTIONAL && v->some) {
        *v = *v->some;
        return true;
    }
    if (v->kind != MR_CEL_OPTIONAL && !mr_cel_is_strange(*v))
        *v = mr_cel_no_overload();
    return false;
}
