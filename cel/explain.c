/* cel/explain.c: why an expression is true or false: the value of each of its parts; see cel.h. The
 * program is compiled anew so that each part has an instruction of its own, and runs with a trace.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cel/cel.h"
#include "cel/compile.h"
#include "cel/writer.h"

enum { VALUE_WIDTH = 24, VALUE_BYTES_MAX = 60, PART_BYTES_MAX = 160 };

/* What one part of the source came to. */
struct part {
    struct mr_cel_place place;
    struct mr_cel_val value; /* the last one */
    uint32_t times;          /* 0: not evaluated */
};
struct explanation {
    const struct mr_cel_ins *code;
    struct part *parts; /* one an instruction */
};

/* Instructions that steer, or whose register holds something else than their part's value. */
static bool says_nothing(const struct mr_cel_ins *ins)
{
    switch (ins->op) {
    case MR_CEL_OP_RETURN:
    case MR_CEL_OP_JUMP:
    case MR_CEL_OP_CONDITION:
    case MR_CEL_OP_ITERATE:
    case MR_CEL_OP_NEXT:
    case MR_CEL_OP_INCREMENT:
    case MR_CEL_OP_APPEND:
    case MR_CEL_OP_PUT:
    case MR_CEL_OP_PUT_ALL:
    case MR_CEL_OP_UNWRAP:
    case MR_CEL_OP_OR_ELSE:
    case MR_CEL_OP_OPTIONAL_ENTRY:
        return true;
    case MR_CEL_OP_LOAD: /* of a literal, or of a loop's first result */
        return ins->mode != MR_CEL_MODE_VALUE || ins->a & MR_CEL_CONSTANT;
    default:
        return false;
    }
}

/* A variable that holds a document is of no interest beside what is taken out of it. */
static bool is_whole_document(const struct mr_cel_ins *ins, const struct part *part)
{
    return ins->op == MR_CEL_OP_VARIABLE && (part->times == 0 || part->value.kind == MR_CEL_MAP);
}

static void record(void *context, uint32_t instruction, struct mr_cel_val value)
{
    struct explanation *e = context;
    const struct mr_cel_ins *ins = &e->code[instruction];
    if (says_nothing(ins))
        return;
    e->parts[instruction].value = value;
    e->parts[instruction].times++;
}

/* Outer parts before inner ones; of one place, the last one evaluated first. */
static int by_place(const void *a, const void *b)
{
    const struct part *left = a, *right = b;
    if (left->place.start != right->place.start)
        return left->place.start < right->place.start ? -1 : 1;
    if (left->place.end != right->place.end)
        return left->place.end > right->place.end ? -1 : 1;
    return (left->times < right->times) - (left->times > right->times);
}

static void put_part(struct mr_cel_writer *out, const struct part *part, struct mr_str source,
                     uint32_t depth)
{
    char line[64];
    struct mr_str value = MR_STR("(not evaluated)");
    if (part->times > 0)
        value = mr_cel_value_text(part->value, out->ctx->arena);
    bool cut = value.len > VALUE_BYTES_MAX;
    if (cut)
        value.len = VALUE_BYTES_MAX - 3;
    mr_cel_writer_put(out, value);
    mr_cel_writer_put(out, cut ? MR_STR("...") : MR_STR(""));
    for (size_t width = value.len; width < VALUE_WIDTH; width++)
        mr_cel_writer_put_char(out, ' ');
    for (uint32_t i = 0; i <= depth; i++)
        mr_cel_writer_put(out, MR_STR("  "));
    struct mr_str text = {source.data + part->place.start, part->place.end - part->place.start};
    if (text.len > PART_BYTES_MAX)
        text.len = PART_BYTES_MAX;
    for (size_t i = 0; i < text.len; i++) /* on one line */
        mr_cel_writer_put_char(out, (unsigned char)text.data[i] < 0x20 ? ' ' : text.data[i]);
    if (part->times > 1) {
        int len = snprintf(line, sizeof line, "   (%" PRIu32 " times, the last)", part->times);
        mr_cel_writer_put(out, (struct mr_str){line, (size_t)len});
    }
    mr_cel_writer_put_char(out, '\n');
}

static void put_parts(struct mr_cel_writer *out, struct part *parts, uint32_t count,
                      struct mr_str source)
{
    uint32_t ends[128];
    uint32_t depth = 0;
    qsort(parts, count, sizeof *parts, by_place);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0 && parts[i].place.start == parts[i - 1].place.start &&
            parts[i].place.end == parts[i - 1].place.end)
            continue;
        while (depth > 0 && ends[depth - 1] <= parts[i].place.start)
            depth--;
        put_part(out, &parts[i], source, depth);
        if (depth < sizeof ends / sizeof ends[0])
            ends[depth++] = parts[i].place.end;
    }
}

static enum mr_rc explain(const struct mr_cel_program *program, struct mr_cel_run *run,
                          struct mr_str *out)
{
    const struct mr_cel_head *head = (const void *)program->bytes;
    const struct mr_cel_place *places = (const void *)(program->bytes + head->places.offset);
    uint32_t count = head->instructions.count, kept = 0;
    struct mr_cel_run traced = *run;
    struct explanation e = {.code = (const void *)(program->bytes + head->instructions.offset),
                            .parts = mr_cel_arena_alloc(run->arena, count * sizeof *e.parts)};
    if (!e.parts || head->places.count != count)
        return MR_FULL;
    for (uint32_t i = 0; i < count; i++)
        e.parts[i] = (struct part){.place = places[i]};
    traced.trace = record;
    traced.trace_context = &e;
    (void)mr_cel_eval(program, &traced);
    for (uint32_t i = 0; i < count; i++)
        if (!says_nothing(&e.code[i]) && !is_whole_document(&e.code[i], &e.parts[i]))
            e.parts[kept++] = e.parts[i];
    struct mr_cel_ctx ctx = {.arena = run->arena};
    struct mr_cel_writer text = {.ctx = &ctx};
    mr_cel_ctx_start(&ctx, MR_CEL_STEPS_DEFAULT);
    put_parts(
        &text, e.parts, kept,
        (struct mr_str){(const char *)program->bytes + head->source.offset, head->source.count});
    *out = mr_cel_writer_bytes(&text);
    return text.failed ? MR_FULL : MR_OK;
}

enum mr_rc mr_cel_explain(const struct mr_cel_front *front, struct mr_str source,
                          struct mr_cel_run *run, struct mr_str *out)
{
    struct mr_cel_front explained = *front;
    explained.flags = (front->flags | MR_CEL_EXPLAINED) & ~(uint32_t)MR_CEL_STRIPPED;
    struct mr_cel_compiled compiled;
    enum mr_rc rc = mr_cel_compile(&explained, source, &compiled);
    if (rc != MR_OK)
        return rc;
    struct mr_cel_program program;
    rc = mr_cel_load(compiled.bytes, compiled.len, &program, NULL);
    if (rc == MR_OK) {
        rc = explain(&program, run, out);
        mr_cel_unload(&program);
    }
    free(compiled.bytes);
    return rc;
}
