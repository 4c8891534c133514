/* cel/show.c: values and programs as text; see cel.h. */
#include <inttypes.h>
#include <stdio.h>

#include "cel/cel.h"
#include "cel/compile.h"
#include "cel/number.h"
#include "cel/utf8.h"
#include "cel/writer.h"

enum { SHOWN_BYTES_MAX = 4096 };

static void put(struct mr_cel_writer *out, const char *text)
{
    mr_cel_writer_put(out, mr_str_from(text));
}

static void MR_PRINTF(2, 3) put_format(struct mr_cel_writer *out, const char *format, ...)
{
    char text[96];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put(out, text);
}

static void put_string(struct mr_cel_writer *out, struct mr_str text)
{
    mr_cel_writer_put_char(out, '"');
    for (size_t at = 0; at < text.len && out->len < SHOWN_BYTES_MAX;) {
        uint32_t code = mr_cel_utf8_next(text, &at);
        if (code == '"' || code == '\\')
            put_format(out, "\\%c", (int)code);
        else if (code == '\n')
            put(out, "\\n");
        else if (code < 0x20 || code == 0x7f)
            put_format(out, "\\x%02x", (unsigned)code);
        else
            mr_cel_writer_put_point(out, code);
    }
    mr_cel_writer_put_char(out, '"');
}

static void put_bytes(struct mr_cel_writer *out, struct mr_str bytes)
{
    put(out, "b\"");
    for (size_t i = 0; i < bytes.len && out->len < SHOWN_BYTES_MAX; i++) {
        unsigned char c = (unsigned char)bytes.data[i];
        if (c == '"' || c == '\\')
            put_format(out, "\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            put_format(out, "\\x%02x", c);
        else
            mr_cel_writer_put_char(out, (char)c);
    }
    mr_cel_writer_put_char(out, '"');
}

static void put_double(struct mr_cel_writer *out, double number)
{
    char text[MR_CEL_DOUBLE_TEXT_MAX];
    size_t len = mr_cel_double_format(text, number);
    mr_cel_writer_put(out, (struct mr_str){text, len});
    for (size_t i = 0; i < len; i++)
        if ((text[i] < '0' || text[i] > '9') && text[i] != '-')
            return;
    put(out, ".0"); /* or it would read as an int */
}

/* timestamp("..."), duration("..."), ip("..."), cidr("...") */
static void put_call(struct mr_cel_writer *out, const char *name, struct mr_cel_val v)
{
    struct mr_cel_val text = mr_cel_impl(MR_CEL_FN_STRING)(out->ctx, &v, 1);
    put(out, name);
    put(out, "(");
    put_string(out, text.kind == MR_CEL_STRING ? mr_cel_str(text) : MR_STR("?"));
    put(out, ")");
}

static void put_value(struct mr_cel_writer *out, struct mr_cel_val v, uint32_t depth);

static void put_elements(struct mr_cel_writer *out, struct mr_cel_val v, uint32_t depth)
{
    struct mr_cel_iter it;
    bool map = v.kind == MR_CEL_MAP, first = true;
    put(out, map ? "{" : "[");
    for (mr_cel_iter_init(&it, out->ctx, v); mr_cel_iter_next(&it); first = false) {
        if (!first)
            put(out, ", ");
        if (out->len >= SHOWN_BYTES_MAX || depth >= MR_CEL_VALUE_DEPTH_MAX) {
            put(out, "...");
            break;
        }
        if (map) {
            put_value(out, it.key, depth + 1);
            put(out, ": ");
        }
        put_value(out, it.value, depth + 1);
    }
    put(out, map ? "}" : "]");
}

static void put_error(struct mr_cel_writer *out, struct mr_cel_val v)
{
    struct mr_str detail = mr_cel_error_detail(v);
    put(out, mr_cel_code_text(v.aux < MR_CEL_E_COUNT ? (enum mr_cel_code)v.aux : MR_CEL_E_PROGRAM));
    if (detail.len == 0)
        return;
    put(out, ": ");
    mr_cel_writer_put(out, detail);
}

static void put_value(struct mr_cel_writer *out, struct mr_cel_val v, uint32_t depth)
{
    switch (v.kind) {
    case MR_CEL_NULL:
        put(out, "null");
        return;
    case MR_CEL_BOOL:
        put(out, v.boolean ? "true" : "false");
        return;
    case MR_CEL_INT:
        put_format(out, "%" PRId64, v.integer);
        return;
    case MR_CEL_UINT:
        put_format(out, "%" PRIu64 "u", v.bits);
        return;
    case MR_CEL_DOUBLE:
        put_double(out, v.number);
        return;
    case MR_CEL_STRING:
        put_string(out, mr_cel_str(v));
        return;
    case MR_CEL_BYTES:
        put_bytes(out, mr_cel_str(v));
        return;
    case MR_CEL_LIST:
    case MR_CEL_MAP:
        put_elements(out, v, depth);
        return;
    case MR_CEL_TIMESTAMP:
        put_call(out, "timestamp", v);
        return;
    case MR_CEL_DURATION:
        put_call(out, "duration", v);
        return;
    case MR_CEL_IP:
        put_call(out, "ip", v);
        return;
    case MR_CEL_CIDR:
        put_call(out, "cidr", v);
        return;
    case MR_CEL_TYPE:
        mr_cel_writer_put(out, mr_cel_str(v));
        return;
    case MR_CEL_OPTIONAL:
        put(out, v.some ? "optional.of(" : "optional.none(");
        if (v.some && depth < MR_CEL_VALUE_DEPTH_MAX)
            put_value(out, *v.some, depth + 1);
        put(out, ")");
        return;
    case MR_CEL_UNKNOWN:
        put_format(out, "unknown: variables %#" PRIx64, v.bits);
        return;
    default:
        put_error(out, v);
    }
}

static struct mr_str finish(struct mr_cel_writer *out)
{
    return out->failed ? MR_STR("(no memory for the text)") : mr_cel_writer_bytes(out);
}

struct mr_str mr_cel_value_text(struct mr_cel_val value, struct mr_cel_arena *arena)
{
    struct mr_cel_ctx ctx = {.arena = arena};
    struct mr_cel_writer out = {.ctx = &ctx};
    mr_cel_ctx_start(&ctx, MR_CEL_STEPS_DEFAULT);
    put_value(&out, value, 0);
    return finish(&out);
}

struct shape {
    const char *text;
    char operands[4];
    bool jumps;
};
static const struct shape shapes[MR_CEL_OP_COUNT] = {
#define MR_CEL_OP(name, text, dst, a, b, c, target, result) \
    [MR_CEL_OP_##name] = {text, {#dst[0], #a[0], #b[0], #c[0]}, #target[0] != '-'},
#include "cel/opcodes.def"
#undef MR_CEL_OP
};

static const void *at_offset(const struct mr_cel_program *program, uint64_t offset)
{
    return program->bytes + offset;
}

static void put_text_at(struct mr_cel_writer *out, const struct mr_cel_program *program,
                        struct mr_cel_section section, uint32_t index)
{
    const struct mr_cel_text_at *text = at_offset(program, section.offset);
    mr_cel_writer_put(out,
                      (struct mr_str){at_offset(program, text[index].offset), text[index].len});
}

static void put_path(struct mr_cel_writer *out, const struct mr_cel_program *program,
                     uint32_t index)
{
    const struct mr_cel_head *head = at_offset(program, 0);
    const struct mr_cel_path *path =
        (const struct mr_cel_path *)at_offset(program, head->paths.offset) + index;
    const struct mr_cel_path_key *keys = at_offset(program, path->keys);
    if (path->variable != UINT32_MAX)
        put_text_at(out, program, head->variables, path->variable);
    for (uint32_t i = 0; i < path->count; i++) {
        if (keys[i].len == MR_CEL_PATH_INDEX) {
            put_format(out, "[%u]", keys[i].offset);
            continue;
        }
        put(out, ".");
        mr_cel_writer_put(out, (struct mr_str){at_offset(program, keys[i].offset), keys[i].len});
    }
}

static void put_set(struct mr_cel_writer *out, const struct mr_cel_program *program, uint32_t index)
{
    const struct mr_cel_head *head = at_offset(program, 0);
    const struct mr_cel_set *set =
        (const struct mr_cel_set *)at_offset(program, head->sets.offset) + index;
    const struct mr_cel_val *cells = at_offset(program, head->cells.offset);
    put(out, "[");
    for (uint32_t i = 0; i < set->count && out->len < SHOWN_BYTES_MAX; i++) {
        put(out, i > 0 ? ", " : "");
        put_value(out, mr_cel_cell_load(&cells[set->first + i]), 0);
    }
    put(out, set->slot_mask != 0 ? "] by hash" : "]");
}

static void put_operand(struct mr_cel_writer *out, const struct mr_cel_program *program, char kind,
                        uint32_t value)
{
    const struct mr_cel_head *head = at_offset(program, 0);
    const struct mr_cel_val *cells = at_offset(program, head->cells.offset);
    switch (kind) {
    case 'V':
        if (value & MR_CEL_CONSTANT)
            put_value(out, mr_cel_cell_load(&cells[value & ~(uint32_t)MR_CEL_CONSTANT]), 0);
        else
            put_format(out, "r%u", value);
        return;
    case 'N':
        put_format(out, "%u registers", value);
        return;
    case 'K':
        put_format(out, "iterator %u", value);
        return;
    case 'X':
        put_text_at(out, program, head->variables, value);
        return;
    case 'P':
    case 'S':
        put_path(out, program, value);
        return;
    case 'F':
        mr_cel_writer_put(out, mr_cel_function_row((enum mr_cel_function)value)->name);
        return;
    case 'G':
        put(out, "/");
        put_text_at(out, program, head->patterns, value);
        put(out, "/");
        return;
    case 'H':
        put_set(out, program, value);
        return;
    case 'T':
        put_format(out, "error -> %u", value);
        return;
    case 'E':
        put_format(out, "error to r%u", value);
        return;
    case 'O':
        if (value == MR_CEL_NO_REGISTER) {
            put(out, "no key");
            return;
        }
        break;
    default:
        break;
    }
    put_format(out, kind == 'C' ? "%u" : "r%u", value);
}

static void put_instruction(struct mr_cel_writer *out, const struct mr_cel_program *program,
                            const struct mr_cel_ins *ins)
{
    static const char *const modes[MR_CEL_MODE_COUNT] = {
        "", "and, first; false ->", "and; false ->", "or, first; true ->", "or; true ->"};
    const struct shape *shape = &shapes[ins->op];
    const uint32_t values[4] = {ins->dst, ins->a, ins->b, ins->c};
    put_format(out, "%-18s", shape->text);
    const char *before = "";
    for (int i = 0; i < 4; i++) {
        if (shape->operands[i] == '-')
            continue;
        put(out, before);
        put_operand(out, program, shape->operands[i], values[i]);
        before = i == 0 ? " = " : ", ";
    }
    if (ins->mode != MR_CEL_MODE_VALUE)
        put_format(out, "   %s %u", modes[ins->mode], ins->target);
    else if (shape->jumps && ins->target != 0)
        put_format(out, "   -> %u", ins->target);
    put(out, "\n");
}

struct mr_str mr_cel_disassemble(const struct mr_cel_program *program, struct mr_cel_arena *arena)
{
    struct mr_cel_ctx ctx = {.arena = arena};
    struct mr_cel_writer out = {.ctx = &ctx};
    mr_cel_ctx_start(&ctx, MR_CEL_STEPS_DEFAULT);
    const struct mr_cel_head *head = at_offset(program, 0);
    const struct mr_cel_ins *code = at_offset(program, head->instructions.offset);
    put_format(&out, "%u bytes, %u registers, %u iterators, %u constants\n", program->len,
               head->registers, head->iterators, head->cells.count);
    for (uint32_t i = 0; i < head->instructions.count; i++) {
        put_format(&out, "%4u  ", i);
        put_instruction(&out, program, &code[i]);
    }
    return finish(&out);
}
