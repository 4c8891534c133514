/* cel/infer.c: what types fit each other, with type variables for what is not known yet.
 *
 * The rules are those of the specification's type checker: dyn fits everything; null fits
 * timestamps, durations and opaque types; a variable fits what it stands for already, and takes the
 * more general type of the two. Types share their parts and can be much larger than their memory,
 * so every step counts against a limit. */
#include "cel/checker.h"

static bool step(struct mr_cel_checker *c)
{
    if (c->failed)
        return false;
    if (++c->steps <= c->front->limits->check_steps_max)
        return true;
    c->failed = MR_CEL_LIMIT_CHECK_STEPS;
    return false;
}

static const struct mr_cel_type *allocated(struct mr_cel_checker *c, const struct mr_cel_type *type)
{
    if (!type && !c->failed)
        c->failed = MR_CEL_LIMIT_COMPILE_BYTES;
    return type;
}

/* Room for one more item of an array in the arena. */
static bool room(struct mr_cel_checker *c, void **items, uint32_t count, uint32_t *size,
                 size_t item_size)
{
    if (count < *size)
        return true;
    uint32_t larger = *size ? *size * 2 : 16;
    void *moved = mr_cel_arena_alloc(c->front->arena, larger * item_size);
    if (!moved) {
        c->failed = MR_CEL_LIMIT_COMPILE_BYTES;
        return false;
    }
    if (count > 0)
        memcpy(moved, *items, count * item_size);
    *items = moved;
    *size = larger;
    return true;
}

const struct mr_cel_type *mr_cel_infer_fresh(struct mr_cel_checker *c)
{
    if (c->failed || !room(c, (void **)&c->bound, c->variable_count, &c->variable_size,
                           sizeof(const struct mr_cel_type *)))
        return NULL;
    struct mr_cel_type *type = mr_cel_arena_alloc(c->front->arena, sizeof *type);
    if (!type)
        return allocated(c, NULL);
    *type = (struct mr_cel_type){.kind = MR_CEL_TYPE_VARIABLE, .variable = c->variable_count};
    c->bound[c->variable_count++] = NULL;
    return type;
}

static bool bind(struct mr_cel_checker *c, uint32_t variable, const struct mr_cel_type *type)
{
    if (!room(c, (void **)&c->undo, c->undo_count, &c->undo_size, sizeof(struct mr_cel_undo)))
        return false;
    c->undo[c->undo_count++] = (struct mr_cel_undo){variable, c->bound[variable]};
    c->bound[variable] = type;
    return true;
}

void mr_cel_infer_undo(struct mr_cel_checker *c, uint32_t mark)
{
    while (c->undo_count > mark) {
        c->undo_count--;
        c->bound[c->undo[c->undo_count].variable] = c->undo[c->undo_count].before;
    }
}

const struct mr_cel_type *mr_cel_infer_resolve(const struct mr_cel_checker *c,
                                               const struct mr_cel_type *type)
{
    while (type->kind == MR_CEL_TYPE_VARIABLE && c->bound[type->variable])
        type = c->bound[type->variable];
    return type;
}

bool mr_cel_infer_same(struct mr_cel_checker *c, const struct mr_cel_type *a,
                       const struct mr_cel_type *b)
{
    if (a == b)
        return true;
    if (!step(c) || a->kind != b->kind || a->param_count != b->param_count ||
        a->variable != b->variable || !mr_str_equal(a->name, b->name))
        return false;
    for (uint32_t i = 0; i < a->param_count; i++)
        if (!mr_cel_infer_same(c, a->params[i], b->params[i]))
            return false;
    return true;
}

/* Whether a variable is a part of a type: then it cannot stand for it. */
static bool occurs(struct mr_cel_checker *c, uint32_t variable, const struct mr_cel_type *type)
{
    if (!step(c))
        return true;
    if (type->kind == MR_CEL_TYPE_VARIABLE) {
        if (type->variable == variable)
            return true;
        const struct mr_cel_type *bound = c->bound[type->variable];
        return bound && occurs(c, variable, bound);
    }
    for (uint32_t i = 0; i < type->param_count; i++)
        if (occurs(c, variable, type->params[i]))
            return true;
    return false;
}

static bool is_open(const struct mr_cel_type *type)
{
    return type->kind == MR_CEL_TYPE_DYN || type->kind == MR_CEL_TYPE_VARIABLE;
}

static bool equal_or_less_specific(struct mr_cel_checker *c, const struct mr_cel_type *a,
                                   const struct mr_cel_type *b)
{
    if (!step(c))
        return false;
    if (is_open(a))
        return true;
    if (is_open(b) || a->kind != b->kind || a->param_count != b->param_count)
        return false;
    if (!mr_str_equal(a->name, b->name))
        return false;
    for (uint32_t i = 0; i < a->param_count; i++)
        if (!equal_or_less_specific(c, a->params[i], b->params[i]))
            return false;
    return true;
}

static const struct mr_cel_type *more_general(struct mr_cel_checker *c, const struct mr_cel_type *a,
                                              const struct mr_cel_type *b)
{
    if (a->kind == MR_CEL_TYPE_NULL || b->kind == MR_CEL_TYPE_NULL)
        return a->kind == MR_CEL_TYPE_NULL ? b : a; /* what fits null is nullable */
    return equal_or_less_specific(c, a, b) ? a : b;
}

enum fit { FITS, FITS_NOT, UNBOUND };

/* Whether the variable can stand for the type, too. UNBOUND: it stands for nothing, and cannot
 * stand for this. */
static enum fit stand_for(struct mr_cel_checker *c, const struct mr_cel_type *variable,
                          const struct mr_cel_type *type)
{
    if (variable == type ||
        (type->kind == MR_CEL_TYPE_VARIABLE && type->variable == variable->variable))
        return FITS;
    const struct mr_cel_type *bound = c->bound[variable->variable];
    if (!bound) {
        if (occurs(c, variable->variable, type))
            return UNBOUND;
        return bind(c, variable->variable, type) ? FITS : UNBOUND;
    }
    if (mr_cel_infer_same(c, type, bound))
        return FITS;
    if (!mr_cel_infer_assign(c, type, bound))
        return FITS_NOT;
    const struct mr_cel_type *general = more_general(c, type, bound);
    if (general != bound && !occurs(c, variable->variable, general) &&
        !bind(c, variable->variable, general))
        return FITS_NOT;
    return FITS;
}

static bool takes_null(const struct mr_cel_type *type)
{
    return type->kind == MR_CEL_TYPE_NULL || type->kind == MR_CEL_TYPE_TIMESTAMP ||
           type->kind == MR_CEL_TYPE_DURATION || type->kind == MR_CEL_TYPE_OPTIONAL ||
           type->kind == MR_CEL_TYPE_OPAQUE || type->kind == MR_CEL_TYPE_IP ||
           type->kind == MR_CEL_TYPE_CIDR;
}

bool mr_cel_infer_assign(struct mr_cel_checker *c, const struct mr_cel_type *value,
                         const struct mr_cel_type *target)
{
    if (!step(c))
        return false;
    if (target->kind == MR_CEL_TYPE_VARIABLE) {
        enum fit fit = stand_for(c, target, value);
        if (fit != UNBOUND)
            return fit == FITS;
    }
    if (value->kind == MR_CEL_TYPE_VARIABLE)
        return stand_for(c, value, target) == FITS;
    if (value->kind == MR_CEL_TYPE_DYN || target->kind == MR_CEL_TYPE_DYN)
        return true;
    if (value->kind == MR_CEL_TYPE_NULL)
        return takes_null(target);
    if (target->kind == MR_CEL_TYPE_NULL)
        return takes_null(value);
    if (value->kind != target->kind)
        return false;
    if (value->kind == MR_CEL_TYPE_TYPE)
        return true;
    if (value->param_count != target->param_count || !mr_str_equal(value->name, target->name))
        return false;
    for (uint32_t i = 0; i < value->param_count; i++)
        if (!mr_cel_infer_assign(c, value->params[i], target->params[i]))
            return false;
    return true;
}

const struct mr_cel_type *mr_cel_infer_join(struct mr_cel_checker *c,
                                            const struct mr_cel_type *before,
                                            const struct mr_cel_type *type)
{
    if (!before || before == type)
        return type;
    uint32_t mark = c->undo_count;
    if (mr_cel_infer_assign(c, before, type))
        return more_general(c, before, type);
    mr_cel_infer_undo(c, mark);
    return mr_cel_type_simple(MR_CEL_TYPE_DYN);
}

const struct mr_cel_type *mr_cel_infer_substitute(struct mr_cel_checker *c,
                                                  const struct mr_cel_type *type, bool to_dyn)
{
    const struct mr_cel_type *params[MR_CEL_TYPE_PARAMS_MAX];
    if (!step(c))
        return NULL;
    type = mr_cel_infer_resolve(c, type);
    if (type->kind == MR_CEL_TYPE_VARIABLE)
        return to_dyn ? mr_cel_type_simple(MR_CEL_TYPE_DYN) : type;
    bool changed = false;
    for (uint32_t i = 0; i < type->param_count; i++) {
        params[i] = mr_cel_infer_substitute(c, type->params[i], to_dyn);
        if (!params[i])
            return NULL;
        changed |= params[i] != type->params[i];
    }
    if (!changed)
        return type;
    return allocated(c, mr_cel_type_of(c->front->arena, (enum mr_cel_type_kind)type->kind,
                                       type->name, params, type->param_count));
}

static enum mr_cel_type_kind kind_of_code(char code)
{
    static const uint8_t kinds[128] = {
        ['*'] = MR_CEL_TYPE_DYN,      ['n'] = MR_CEL_TYPE_NULL,   ['b'] = MR_CEL_TYPE_BOOL,
        ['i'] = MR_CEL_TYPE_INT,      ['u'] = MR_CEL_TYPE_UINT,   ['d'] = MR_CEL_TYPE_DOUBLE,
        ['s'] = MR_CEL_TYPE_STRING,   ['y'] = MR_CEL_TYPE_BYTES,  ['t'] = MR_CEL_TYPE_TIMESTAMP,
        ['p'] = MR_CEL_TYPE_DURATION, ['I'] = MR_CEL_TYPE_IP,     ['c'] = MR_CEL_TYPE_CIDR,
        ['L'] = MR_CEL_TYPE_LIST,     ['M'] = MR_CEL_TYPE_MAP,    ['O'] = MR_CEL_TYPE_OPTIONAL,
        ['T'] = MR_CEL_TYPE_TYPE,     ['Q'] = MR_CEL_TYPE_OPAQUE,
    };
    return (enum mr_cel_type_kind)kinds[code & 0x7f];
}

bool mr_cel_code_is_param(char code)
{
    return code >= 'A' && code < 'A' + MR_CEL_CODE_PARAMS_MAX;
}

enum mr_cel_type_kind mr_cel_code_read(const char **code, uint32_t *params, uint32_t *opaque)
{
    enum mr_cel_type_kind kind = kind_of_code(*(*code)++);
    *params = kind == MR_CEL_TYPE_MAP ? 2 : kind >= MR_CEL_TYPE_LIST;
    if (kind == MR_CEL_TYPE_OPAQUE) {
        *opaque = (uint32_t)(uint8_t) * (*code)++ - 1;
        *params = (uint32_t)(uint8_t) * (*code)++ - 1;
    }
    return kind;
}

const struct mr_cel_type *mr_cel_infer_instantiate(
    struct mr_cel_checker *c, const char **code,
    const struct mr_cel_type *params[MR_CEL_CODE_PARAMS_MAX])
{
    if (mr_cel_code_is_param(**code)) {
        const struct mr_cel_type **param = &params[*(*code)++ - 'A'];
        if (!*param)
            *param = mr_cel_infer_fresh(c);
        return *param;
    }
    const struct mr_cel_type *inner[MR_CEL_TYPE_PARAMS_MAX];
    uint32_t count, opaque;
    enum mr_cel_type_kind kind = mr_cel_code_read(code, &count, &opaque);
    for (uint32_t i = 0; i < count; i++) {
        inner[i] = mr_cel_infer_instantiate(c, code, params);
        if (!inner[i])
            return NULL;
    }
    if (kind == MR_CEL_TYPE_OPAQUE)
        return allocated(c, mr_cel_type_of(c->front->arena, kind,
                                           mr_cel_env_opaque(c->front->env, opaque), inner, count));
    if (count == 0)
        return mr_cel_type_simple(kind);
    return allocated(c,
                     mr_cel_type_of(c->front->arena, kind, (struct mr_str){NULL, 0}, inner, count));
}
