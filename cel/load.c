/* cel/load.c: check the bytes of a program once, so that the evaluator need not: see bytecode.h and
 * opcodes.def. */
#include <stdlib.h>

#include "cel/cel.h"
#include "cel/compile.h"
#include "cel/find.h"
#include "cel/regex.h"

enum { CELL_DEPTH_MAX = 128, PATTERNS_MAX = 256 };

struct loader {
    const uint8_t *bytes;
    uint32_t len;
    const struct mr_cel_head *head;
    uint32_t cells_left; /* every cell is looked at once: what has more is no tree */
    const char *why;     /* what is wrong; NULL: nothing so far */
};

static bool refuse(struct loader *l, const char *why)
{
    if (!l->why)
        l->why = why;
    return false;
}

static bool inside(const struct loader *l, uint64_t offset, uint64_t count, uint64_t size)
{
    return offset <= l->len && count <= (l->len - offset) / size;
}

static bool section_is_sound(struct loader *l, struct mr_cel_section section, size_t size,
                             uint32_t align)
{
    return (section.offset % align == 0 && inside(l, section.offset, section.count, size)) ||
           refuse(l, "a section lies outside");
}

static bool sections_are_sound(struct loader *l)
{
    const struct mr_cel_head *h = l->head;
    return section_is_sound(l, h->instructions, sizeof(struct mr_cel_ins), 8) &&
           section_is_sound(l, h->cells, sizeof(struct mr_cel_val), 8) &&
           section_is_sound(l, h->paths, sizeof(struct mr_cel_path), 8) &&
           section_is_sound(l, h->sets, sizeof(struct mr_cel_set), 8) &&
           section_is_sound(l, h->patterns, sizeof(struct mr_cel_text_at), 8) &&
           section_is_sound(l, h->variables, sizeof(struct mr_cel_text_at), 8) &&
           section_is_sound(l, h->places, sizeof(struct mr_cel_place), 8) &&
           section_is_sound(l, h->source, 1, 1);
}

static bool cell_is_sound(struct loader *l, uint64_t at, uint32_t depth);

static bool cells_are_sound(struct loader *l, uint64_t at, uint64_t count, uint32_t depth)
{
    if (depth > CELL_DEPTH_MAX || at % 8 != 0 || !inside(l, at, count, sizeof(struct mr_cel_val)) ||
        count > l->cells_left)
        return refuse(l, "a constant lies outside");
    l->cells_left -= (uint32_t)count;
    for (uint64_t i = 0; i < count; i++)
        if (!cell_is_sound(l, at + i * sizeof(struct mr_cel_val), depth))
            return false;
    return true;
}

static bool slots_are_sound(struct loader *l, uint64_t at, uint32_t mask, uint32_t count)
{
    if (mask == 0)
        return true;
    if ((mask & (mask + 1)) != 0 || at % 4 != 0 || !inside(l, at, (uint64_t)mask + 1, 4))
        return refuse(l, "a table of constants lies outside");
    const uint32_t *slots = (const void *)(l->bytes + at);
    for (uint64_t i = 0; i <= mask; i++)
        if (slots[i] > count)
            return refuse(l, "a table of constants points outside");
    return true;
}

static bool map_is_sound(struct loader *l, uint64_t at, uint32_t depth)
{
    if (at % 8 != 0 || !inside(l, at, 1, sizeof(struct mr_cel_map)))
        return refuse(l, "a constant map lies outside");
    struct mr_cel_map map;
    memcpy(&map, l->bytes + at, sizeof map);
    uint64_t entries = at + (uint64_t)map.entries_offset, slots = at + (uint64_t)map.slots_offset;
    return slots_are_sound(l, slots, map.slot_mask, map.count) &&
           cells_are_sound(l, entries, 2 * (uint64_t)map.count, depth + 1);
}

static bool cell_is_sound(struct loader *l, uint64_t at, uint32_t depth)
{
    struct mr_cel_val cell;
    memcpy(&cell, l->bytes + at, sizeof cell);
    uint64_t target = at + (uint64_t)cell.offset;
    switch (cell.kind) {
    case MR_CEL_NULL:
    case MR_CEL_INT:
    case MR_CEL_UINT:
    case MR_CEL_DOUBLE:
    case MR_CEL_DURATION:
        return true;
    case MR_CEL_BOOL:
        return cell.bits <= 1 || refuse(l, "a constant is no bool");
    case MR_CEL_TIMESTAMP:
        return (mr_cel_timestamp_in_range(cell.integer) && cell.len < 1000000000) ||
               refuse(l, "a constant is no timestamp");
    case MR_CEL_OPTIONAL:
        return cell.bits == 0 || refuse(l, "a constant optional has a value");
    case MR_CEL_IP:
    case MR_CEL_CIDR:
        if ((cell.len != 4 && cell.len != 16) || cell.aux > cell.len * 8)
            return refuse(l, "a constant is no address");
        break;
    case MR_CEL_ERROR:
        if (cell.aux == MR_CEL_E_NONE || cell.aux > MR_CEL_E_LAST_ABSORBED ||
            mr_cel_error_place(cell) != 0)
            return refuse(l, "a constant is no error");
        break;
    case MR_CEL_STRING:
    case MR_CEL_BYTES:
    case MR_CEL_TYPE:
        break;
    case MR_CEL_LIST:
        return (cell.form == MR_CEL_FORM_CONST || refuse(l, "a constant list is elsewhere")) &&
               cells_are_sound(l, target, cell.len, depth + 1);
    case MR_CEL_MAP:
        return (cell.form == MR_CEL_FORM_CONST || refuse(l, "a constant map is elsewhere")) &&
               map_is_sound(l, target, depth);
    default:
        return refuse(l, "a constant is of no kind");
    }
    return inside(l, target, cell.len, 1) || refuse(l, "a constant's text lies outside");
}

static bool path_is_sound(struct loader *l, uint32_t index)
{
    struct mr_cel_path path;
    memcpy(&path, l->bytes + l->head->paths.offset + index * sizeof path, sizeof path);
    if ((path.variable != UINT32_MAX && path.variable >= l->head->variables.count) ||
        path.count == 0 || path.keys % 8 != 0 ||
        (path.cache != UINT32_MAX && path.cache >= l->head->registers) ||
        !inside(l, path.keys, path.count, sizeof(struct mr_cel_path_key)))
        return refuse(l, "a path lies outside");
    for (uint32_t i = 0; i < path.count; i++) {
        struct mr_cel_path_key key;
        memcpy(&key, l->bytes + path.keys + i * sizeof key, sizeof key);
        if (key.len == MR_CEL_PATH_INDEX)
            continue;
        if (!inside(l, key.offset, (uint64_t)key.len + 1, 1) ||
            (key.len > 0 && memchr(l->bytes + key.offset, 0, key.len)))
            return refuse(l, "a path's key lies outside");
        struct mr_cel_path_key made =
            mr_cel_path_key((struct mr_str){(const char *)l->bytes + key.offset, key.len});
        if (made.head != key.head || made.mask != key.mask)
            return refuse(l, "a path's key does not fit its text");
    }
    return true;
}

static bool set_is_sound(struct loader *l, uint32_t index)
{
    struct mr_cel_set set;
    memcpy(&set, l->bytes + l->head->sets.offset + index * sizeof set, sizeof set);
    if (set.first > l->head->cells.count || set.count > l->head->cells.count - set.first)
        return refuse(l, "a set lies outside");
    return slots_are_sound(l, set.slots, set.slot_mask, set.count);
}

static bool text_is_sound(struct loader *l, uint32_t offset, uint32_t index)
{
    struct mr_cel_text_at text;
    memcpy(&text, l->bytes + offset + index * sizeof text, sizeof text);
    return inside(l, text.offset, text.len, 1) || refuse(l, "a text lies outside");
}

static bool tables_are_sound(struct loader *l)
{
    const struct mr_cel_head *h = l->head;
    if (!cells_are_sound(l, h->cells.offset, h->cells.count, 0))
        return false;
    for (uint32_t i = 0; i < h->paths.count; i++)
        if (!path_is_sound(l, i))
            return false;
    for (uint32_t i = 0; i < h->sets.count; i++)
        if (!set_is_sound(l, i))
            return false;
    for (uint32_t i = 0; i < h->patterns.count; i++)
        if (!text_is_sound(l, h->patterns.offset, i))
            return false;
    for (uint32_t i = 0; i < h->variables.count; i++)
        if (!text_is_sound(l, h->variables.offset, i))
            return false;
    if (h->places.count != 0 && h->places.count != h->instructions.count)
        return refuse(l, "there are not as many places as instructions");
    for (uint32_t i = 0; i < h->places.count; i++) {
        struct mr_cel_place place;
        memcpy(&place, l->bytes + h->places.offset + i * sizeof place, sizeof place);
        if (place.start > place.end || place.end > h->source.count)
            return refuse(l, "a place lies outside of the source");
    }
    return true;
}

struct shape {
    char dst, a, b, c, target, result;
};
static const struct shape shapes[MR_CEL_OP_COUNT] = {
#define MR_CEL_OP(name, text, dst, a, b, c, target, result) \
    [MR_CEL_OP_##name] = {#dst[0], #a[0], #b[0], #c[0], #target[0], #result[0]},
#include "cel/opcodes.def"
#undef MR_CEL_OP
};

static struct mr_cel_path path_at(const struct loader *l, uint32_t path)
{
    struct mr_cel_path at;
    memcpy(&at, l->bytes + l->head->paths.offset + path * sizeof at, sizeof at);
    return at;
}

/* has() and .? name a field at the path's end. */
static bool ends_in_field(const struct loader *l, uint32_t index)
{
    struct mr_cel_path path = path_at(l, index);
    struct mr_cel_path_key key;
    memcpy(&key, l->bytes + path.keys + (path.count - 1) * sizeof key, sizeof key);
    return key.len != MR_CEL_PATH_INDEX;
}

/* before: the operand in front of this one, for "number of registers". */
static bool operand_is_sound(const struct loader *l, char kind, uint32_t value, uint32_t before,
                             uint32_t index)
{
    const struct mr_cel_head *h = l->head;
    switch (kind) {
    case 'R':
    case 'E':
        return value < h->registers;
    case 'W':
        return value + 1 < h->registers;
    case 'O':
        return value < h->registers || value == MR_CEL_NO_REGISTER;
    case 'V':
        return value & MR_CEL_CONSTANT ? (value & ~(uint32_t)MR_CEL_CONSTANT) < h->cells.count
                                       : value < h->registers;
    case 'N':
        return before + value <= h->registers;
    case 'K':
        return value < h->iterators;
    case 'X':
        return value < h->variables.count;
    case 'P':
        return value < h->paths.count && path_at(l, value).variable != UINT32_MAX;
    case 'S':
        return value < h->paths.count;
    case 'G':
        return value < h->patterns.count;
    case 'H':
        return value < h->sets.count;
    case 'T':
        return value > index && value < h->instructions.count;
    case 'C':
        return value <= 1;
    case 'F':
        return mr_cel_impl(value) != NULL;
    default:
        return value == 0;
    }
}

static bool instruction_is_sound(struct loader *l, const struct mr_cel_ins *ins, uint32_t index)
{
    if (ins->op >= MR_CEL_OP_COUNT)
        return refuse(l, "no such instruction");
    const struct shape *shape = &shapes[ins->op];
    if (ins->mode >= (shape->result == 'B' ? MR_CEL_MODE_COUNT : MR_CEL_MODE_VALUE + 1))
        return refuse(l, "no such mode");
    if (!operand_is_sound(l, shape->dst, ins->dst, 0, index) ||
        !operand_is_sound(l, shape->a, ins->a, 0, index) ||
        !operand_is_sound(l, shape->b, ins->b, ins->a, index) ||
        !operand_is_sound(l, shape->c, ins->c, 0, index))
        return refuse(l, "an operand of an instruction lies outside");
    if ((ins->op == MR_CEL_OP_HAS || ins->op == MR_CEL_OP_HAS_PATH ||
         ins->op == MR_CEL_OP_OPTIONAL_SELECT) &&
        !ends_in_field(l, ins->c))
        return refuse(l, "a path ends without a field");
    if (ins->op == MR_CEL_OP_OPTIONAL_SELECT && path_at(l, ins->c).count != 1)
        return refuse(l, "an optional selection has more than one step");
    if (ins->op == MR_CEL_OP_CALL && !mr_cel_arity_is_possible(ins->c, ins->b))
        return refuse(l, "a call has a wrong number of arguments");
    bool jumps = shape->result == 'B' ? ins->mode != MR_CEL_MODE_VALUE : shape->target != '-';
    if (jumps && shape->target == 'L' ? ins->target > index
        : jumps ? ins->target <= index || ins->target >= l->head->instructions.count
                : ins->target != 0)
        return refuse(l, "a jump leads outside");
    return true;
}

static bool instructions_are_sound(struct loader *l)
{
    const struct mr_cel_head *h = l->head;
    const struct mr_cel_ins *code = (const void *)(l->bytes + h->instructions.offset);
    uint32_t count = h->instructions.count;
    if (count == 0 || count > MR_CEL_INSTRUCTIONS_MAX || code[count - 1].op != MR_CEL_OP_RETURN)
        return refuse(l, "the instructions do not end");
    for (uint32_t i = 0; i < count; i++)
        if (!instruction_is_sound(l, &code[i], i))
            return false;
    return true;
}

static bool is_sound(struct loader *l, size_t len)
{
    const struct mr_cel_head *h = l->head;
    if (len < sizeof *h || (uintptr_t)l->bytes % 8 != 0 || h->magic != MR_CEL_PROGRAM_MAGIC)
        return refuse(l, "these are not the bytes of a program");
    if (h->version != mr_cel_program_version())
        return refuse(l, "it is of another version");
    if (h->len != len || len % 16 != 0)
        return refuse(l, "its length is not the one that it states");
    if (h->registers == 0 || h->registers > MR_CEL_REGISTERS_MAX ||
        h->iterators > MR_CEL_ITERATORS_MAX || h->patterns.count > PATTERNS_MAX)
        return refuse(l, "it asks for too much");
    return sections_are_sound(l) && tables_are_sound(l) && instructions_are_sound(l);
}

static enum mr_rc load_patterns(struct mr_cel_program *program, struct mr_err *err)
{
    const struct mr_cel_head *head = (const void *)program->bytes;
    if (head->patterns.count == 0)
        return MR_OK;
    program->patterns = calloc(head->patterns.count, sizeof *program->patterns);
    if (!program->patterns)
        return mr_fail(err, MR_FATAL, "load program: %u patterns", head->patterns.count);
    program->pattern_count = head->patterns.count;
    for (uint32_t i = 0; i < head->patterns.count; i++) {
        struct mr_cel_text_at text;
        memcpy(&text, program->bytes + head->patterns.offset + i * sizeof text, sizeof text);
        struct mr_cel_regex_limits limits = MR_CEL_REGEX_LIMITS_DEFAULT;
        char why[128] = "";
        enum mr_cel_regex_rc rc =
            mr_cel_regex_create((const char *)program->bytes + text.offset, text.len, &limits,
                                &program->patterns[i], why);
        if (rc != MR_CEL_REGEX_OK)
            return mr_reject(err, rc == MR_CEL_REGEX_NO_MEMORY ? MR_FATAL : MR_CORRUPT,
                             "load program: pattern %u: %s", i, why);
    }
    return MR_OK;
}

enum mr_rc mr_cel_load(const void *bytes, size_t len, struct mr_cel_program *out,
                       struct mr_err *err)
{
    struct loader l = {
        .bytes = bytes, .len = (uint32_t)len, .head = bytes, .cells_left = (uint32_t)(len / 16)};
    *out = (struct mr_cel_program){.bytes = bytes, .len = (uint32_t)len};
    if (!bytes || len > UINT32_MAX)
        return mr_reject(err, MR_CORRUPT, "load program: these are not the bytes of a program");
    if (!is_sound(&l, len))
        return mr_reject(err, MR_CORRUPT, "load program: %s", l.why);
    enum mr_rc rc = load_patterns(out, err);
    if (rc != MR_OK)
        mr_cel_unload(out);
    return rc;
}

void mr_cel_unload(struct mr_cel_program *program)
{
    for (uint32_t i = 0; i < program->pattern_count; i++)
        mr_cel_regex_destroy(&program->patterns[i]);
    free(program->patterns);
    *program = (struct mr_cel_program){0};
}

uint32_t mr_cel_program_variable_count(const struct mr_cel_program *program)
{
    return ((const struct mr_cel_head *)(const void *)program->bytes)->variables.count;
}

struct mr_str mr_cel_program_variable_name(const struct mr_cel_program *program, uint32_t index)
{
    const struct mr_cel_head *head = (const void *)program->bytes;
    MR_ASSERT(index < head->variables.count);
    struct mr_cel_text_at name;
    memcpy(&name, program->bytes + head->variables.offset + index * sizeof name, sizeof name);
    return (struct mr_str){(const char *)program->bytes + name.offset, name.len};
}

bool mr_cel_program_place(const struct mr_cel_program *program, struct mr_cel_val error,
                          uint32_t *line, uint32_t *column)
{
    const struct mr_cel_head *head = (const void *)program->bytes;
    uint32_t index = mr_cel_error_place(error);
    if (index == 0 || index > head->places.count)
        return false;
    struct mr_cel_place place;
    memcpy(&place, program->bytes + head->places.offset + (index - 1) * sizeof place, sizeof place);
    const uint8_t *source = program->bytes + head->source.offset;
    *line = *column = 1;
    for (uint32_t i = 0; i < place.start; i++) {
        if (source[i] == '\n') {
            ++*line;
            *column = 1;
        } else if ((source[i] & 0xc0) != 0x80) {
            ++*column;
        }
    }
    return true;
}
