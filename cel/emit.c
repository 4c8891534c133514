/* cel/emit.c: what writing instructions needs: growing arrays, registers, constants, labels; see
 * compile.h. */
#include "cel/compile.h"

static const uint32_t unbound = UINT32_MAX;

void mr_cel_compile_out_of_memory(struct mr_cel_compiler *c)
{
    if (c->failed)
        return;
    c->failed = true;
    struct mr_cel_diag *diag = c->front->diag;
    (void)mr_cel_diag_set(diag, c->ast->source, 0, (uint32_t)c->ast->source.len, MR_CEL_STAGE_LIMIT,
                          "limit of memory of a compilation: %u bytes",
                          c->front->limits->compile_bytes_max);
    diag->limit = MR_CEL_LIMIT_COMPILE_BYTES;
}

void mr_cel_compile_too_large(struct mr_cel_compiler *c)
{
    if (c->failed)
        return;
    c->failed = true;
    struct mr_cel_diag *diag = c->front->diag;
    (void)mr_cel_diag_set(diag, c->ast->source, 0, (uint32_t)c->ast->source.len, MR_CEL_STAGE_LIMIT,
                          "limit of size of an expression: a program has room for %d registers and "
                          "%d constants",
                          MR_CEL_REGISTERS_MAX, MR_CEL_CONSTANTS_MAX);
    diag->limit = MR_CEL_LIMIT_NODES;
}

void *mr_cel_buffer_add(struct mr_cel_compiler *c, struct mr_cel_buffer *buffer, size_t item_size)
{
    if (buffer->count == buffer->capacity) {
        uint32_t capacity = buffer->capacity == 0 ? 16 : buffer->capacity * 2;
        void *items = capacity > buffer->capacity && !c->failed
                          ? mr_cel_arena_alloc(c->front->arena, capacity * item_size)
                          : NULL;
        if (!items) {
            mr_cel_compile_out_of_memory(c);
            return NULL;
        }
        if (buffer->count > 0)
            memcpy(items, buffer->items, buffer->count * item_size);
        buffer->items = items;
        buffer->capacity = capacity;
    }
    void *item = (uint8_t *)buffer->items + buffer->count++ * item_size;
    memset(item, 0, item_size);
    return item;
}

struct mr_cel_ins *mr_cel_emit_ins(struct mr_cel_compiler *c, enum mr_cel_op op, uint16_t dst,
                                   uint16_t a, uint16_t b)
{
    static struct mr_cel_ins nowhere; /* what is written after a failure is never read */
    struct mr_cel_ins *ins = mr_cel_buffer_add(c, &c->instructions, sizeof *ins);
    struct mr_cel_place *place = mr_cel_buffer_add(c, &c->places, sizeof *place);
    if (!ins || !place)
        return &nowhere;
    *ins = (struct mr_cel_ins){.op = (uint8_t)op, .dst = dst, .a = a, .b = b};
    *place = (struct mr_cel_place){c->node->start, c->node->end};
    return ins;
}

uint16_t mr_cel_emit_register(struct mr_cel_compiler *c)
{
    if (c->registers >= MR_CEL_REGISTERS_MAX - 1) {
        mr_cel_compile_too_large(c);
        return 0;
    }
    uint16_t reg = (uint16_t)c->registers++;
    if (c->registers > c->registers_max)
        c->registers_max = c->registers;
    return reg;
}

uint16_t mr_cel_emit_constant_at(struct mr_cel_compiler *c, uint32_t index)
{
    if (index >= MR_CEL_CONSTANTS_MAX) {
        mr_cel_compile_too_large(c);
        index = 0;
    }
    return (uint16_t)(MR_CEL_CONSTANT | index);
}

uint16_t mr_cel_emit_constant(struct mr_cel_compiler *c, struct mr_cel_val value)
{
    struct mr_cel_val *slot = mr_cel_buffer_add(c, &c->constants, sizeof *slot);
    if (!slot)
        return MR_CEL_CONSTANT;
    *slot = value;
    return mr_cel_emit_constant_at(c, c->constants.count - 1);
}

struct mr_cel_label mr_cel_emit_label(void)
{
    return (struct mr_cel_label){unbound, unbound, unbound};
}

static uint32_t index_of(const struct mr_cel_compiler *c, const struct mr_cel_ins *ins)
{
    return (uint32_t)(ins - (const struct mr_cel_ins *)c->instructions.items);
}

void mr_cel_emit_jump(struct mr_cel_compiler *c, struct mr_cel_ins *ins, struct mr_cel_label *label)
{
    if (c->failed)
        return;
    ins->target = label->at;
    if (label->at == unbound) {
        ins->target = label->targets;
        label->targets = index_of(c, ins);
    }
}

void mr_cel_emit_choice(struct mr_cel_compiler *c, struct mr_cel_ins *ins,
                        struct mr_cel_label *label)
{
    if (c->failed)
        return;
    MR_ASSERT(label->at == unbound);
    ins->c = label->choices;
    label->choices = index_of(c, ins);
}

void mr_cel_emit_bind(struct mr_cel_compiler *c, struct mr_cel_label *label)
{
    if (c->failed)
        return;
    struct mr_cel_ins *all = c->instructions.items;
    label->at = c->instructions.count;
    for (uint32_t at = label->targets, next; at != unbound; at = next) {
        next = all[at].target;
        all[at].target = label->at;
    }
    for (uint32_t at = label->choices, next; at != unbound; at = next) {
        next = all[at].c;
        all[at].c = label->at;
    }
}
