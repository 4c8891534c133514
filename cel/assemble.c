/* cel/assemble.c: the parts of a program into one run of bytes; see bytecode.h for the layout. */
#include <stdlib.h>

#include "cel/compile.h"
#include "cel/find.h"

struct image {
    struct mr_cel_compiler *c;
    uint8_t *bytes; /* in the arena while it grows */
    size_t len, capacity;
};

uint32_t mr_cel_program_version(void)
{
    return (uint32_t)MR_CEL_PROGRAM_VERSION << 24 | (uint32_t)MR_CEL_OP_COUNT << 16 |
           (uint32_t)MR_CEL_FN_COUNT;
}

/* Room for size bytes at the image's end, zeroed, aligned to 8: its offset. */
static size_t take(struct image *image, size_t size)
{
    size_t at = (image->len + 7) & ~(size_t)7;
    if (at + size > image->capacity) {
        size_t capacity = 2 * (at + size);
        uint8_t *bytes = capacity < UINT32_MAX && !image->c->failed
                             ? mr_cel_arena_alloc(image->c->front->arena, capacity)
                             : NULL;
        if (!bytes) {
            mr_cel_compile_out_of_memory(image->c);
            return 0;
        }
        if (image->len > 0)
            memcpy(bytes, image->bytes, image->len);
        image->bytes = bytes;
        image->capacity = capacity;
    }
    memset(image->bytes + image->len, 0, at + size - image->len);
    image->len = at + size;
    return at;
}

static uint32_t put_text(struct image *image, struct mr_str text)
{
    size_t at = take(image, text.len + 1);
    if (!image->c->failed && text.len > 0)
        memcpy(image->bytes + at, text.data, text.len);
    return (uint32_t)at;
}

static void put_cell(struct image *image, size_t at, struct mr_cel_val value);

static size_t put_cells(struct image *image, const struct mr_cel_val *values, uint32_t count)
{
    size_t at = take(image, (size_t)count * sizeof *values);
    for (uint32_t i = 0; i < count && !image->c->failed; i++)
        put_cell(image, at + i * sizeof *values, values[i]);
    return at;
}

static size_t put_map(struct image *image, const struct mr_cel_map *map)
{
    size_t at = take(image, sizeof *map);
    size_t slots_size = map->slot_mask != 0 ? ((size_t)map->slot_mask + 1) * 4 : 0;
    size_t slots = take(image, slots_size);
    size_t entries = put_cells(image, map->entries, 2 * map->count);
    if (image->c->failed)
        return 0;
    struct mr_cel_map made = {.count = map->count, .slot_mask = map->slot_mask};
    made.entries_offset = (int64_t)entries - (int64_t)at;
    made.slots_offset = (int64_t)slots - (int64_t)at;
    memcpy(image->bytes + at, &made, sizeof made);
    if (slots_size > 0)
        memcpy(image->bytes + slots, map->slots, slots_size);
    return at;
}

/* Values are nested no deeper than the expression that they come from. */
static void put_cell(struct image *image, size_t at, struct mr_cel_val value)
{
    struct mr_cel_val cell = value;
    size_t target = 0;
    switch (value.kind) {
    case MR_CEL_STRING:
    case MR_CEL_BYTES:
    case MR_CEL_TYPE:
    case MR_CEL_IP:
    case MR_CEL_CIDR:
    case MR_CEL_ERROR:
        target = put_text(image, (struct mr_str){value.text, value.kind == MR_CEL_ERROR
                                                                 ? mr_cel_error_detail(value).len
                                                                 : value.len});
        break;
    case MR_CEL_LIST:
        cell.form = MR_CEL_FORM_CONST;
        target = put_cells(image, value.items, value.len);
        break;
    case MR_CEL_MAP:
        cell.form = MR_CEL_FORM_CONST;
        target = put_map(image, value.map);
        break;
    default:
        break;
    }
    if (target != 0)
        cell.offset = (int64_t)target - (int64_t)at;
    if (!image->c->failed)
        memcpy(image->bytes + at, &cell, sizeof cell);
}

static struct mr_cel_section put_section(struct image *image, const void *items, uint32_t count,
                                         size_t item_size)
{
    size_t at = take(image, count * item_size);
    if (!image->c->failed && count > 0 && items)
        memcpy(image->bytes + at, items, count * item_size);
    return (struct mr_cel_section){(uint32_t)at, count};
}

static void put_texts(struct image *image, struct mr_cel_section section,
                      const struct mr_cel_text *texts)
{
    for (uint32_t i = 0; i < section.count && !image->c->failed; i++) {
        struct mr_cel_text_at at = {put_text(image, texts[i].text), (uint32_t)texts[i].text.len};
        if (!image->c->failed)
            memcpy(image->bytes + section.offset + i * sizeof at, &at, sizeof at);
    }
}

static void put_paths(struct image *image, struct mr_cel_section section)
{
    const struct mr_cel_path_plan *plans = image->c->paths.items;
    const struct mr_cel_text *texts = image->c->keys.items;
    for (uint32_t i = 0; i < section.count && !image->c->failed; i++) {
        size_t keys = take(image, plans[i].count * sizeof(struct mr_cel_path_key));
        for (uint32_t k = 0; k < plans[i].count && !image->c->failed; k++) {
            struct mr_str text = texts[plans[i].first + k].text;
            struct mr_cel_path_key key = {.len = MR_CEL_PATH_INDEX, .offset = (uint32_t)text.len};
            if (text.data) {
                key = mr_cel_path_key(text);
                key.offset = put_text(image, text);
            }
            if (!image->c->failed)
                memcpy(image->bytes + keys + k * sizeof key, &key, sizeof key);
        }
        uint32_t cache =
            plans[i].cache == UINT32_MAX ? UINT32_MAX : image->c->registers_max + plans[i].cache;
        struct mr_cel_path path = {plans[i].variable, plans[i].count, (uint32_t)keys, cache};
        if (!image->c->failed)
            memcpy(image->bytes + section.offset + i * sizeof path, &path, sizeof path);
    }
}

enum { SET_WITHOUT_SLOTS = 8 };

/* Numbers beyond 2^53 are equal to others by rounding, which no hash finds; so is a list of other
 * things. */
static bool is_hashable(const struct mr_cel_val *values, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        switch (values[i].kind) {
        case MR_CEL_STRING:
        case MR_CEL_BOOL:
            break;
        case MR_CEL_INT:
            if (values[i].integer > INT64_C(1) << 53 || values[i].integer < -(INT64_C(1) << 53))
                return false;
            break;
        case MR_CEL_UINT:
            if (values[i].bits > UINT64_C(1) << 53)
                return false;
            break;
        case MR_CEL_DOUBLE:
            if (!(values[i].number <= 0x1p53 && values[i].number >= -0x1p53))
                return false;
            break;
        default:
            return false;
        }
    return true;
}

static void put_set(struct image *image, size_t at, struct mr_cel_set set)
{
    const struct mr_cel_val *values =
        (const struct mr_cel_val *)image->c->constants.items + set.first;
    if (set.count > SET_WITHOUT_SLOTS && is_hashable(values, set.count)) {
        uint32_t size = 32;
        while (size < 2 * set.count)
            size *= 2;
        set.slot_mask = size - 1;
        set.slots = (uint32_t)take(image, size * sizeof(uint32_t));
        uint32_t *slots = (void *)(image->bytes + set.slots);
        for (uint32_t i = 0; i < set.count && !image->c->failed; i++) {
            uint32_t slot = (uint32_t)mr_cel_key_hash(values[i]) & set.slot_mask;
            while (slots[slot] != 0)
                slot = (slot + 1) & set.slot_mask;
            slots[slot] = i + 1;
        }
    }
    if (!image->c->failed)
        memcpy(image->bytes + at, &set, sizeof set);
}

static struct mr_cel_section put_variables(struct image *image)
{
    const struct mr_cel_env *env = image->c->front->env;
    uint32_t count = mr_cel_env_variable_count(env);
    struct mr_cel_text *names =
        mr_cel_arena_alloc(image->c->front->arena, (count + 1u) * sizeof *names);
    struct mr_cel_section section = put_section(image, NULL, count, sizeof(struct mr_cel_text_at));
    if (!names) {
        mr_cel_compile_out_of_memory(image->c);
        return section;
    }
    for (uint32_t i = 0; i < count; i++)
        names[i].text = mr_cel_env_variable_name(env, i);
    put_texts(image, section, names);
    return section;
}

static void put_all(struct image *image, struct mr_cel_head *head, bool stripped)
{
    struct mr_cel_compiler *c = image->c;
    (void)take(image, sizeof *head);
    head->instructions =
        put_section(image, c->instructions.items, c->instructions.count, sizeof(struct mr_cel_ins));
    head->cells = put_section(image, NULL, c->constants.count, sizeof(struct mr_cel_val));
    head->paths = put_section(image, NULL, c->paths.count, sizeof(struct mr_cel_path));
    head->sets = put_section(image, NULL, c->sets.count, sizeof(struct mr_cel_set));
    head->patterns = put_section(image, NULL, c->patterns.count, sizeof(struct mr_cel_text_at));
    if (!stripped) {
        head->places =
            put_section(image, c->places.items, c->places.count, sizeof(struct mr_cel_place));
        head->source = put_section(image, c->ast->source.data, (uint32_t)c->ast->source.len, 1);
    }
    head->variables = put_variables(image);
    head->data.offset = (uint32_t)image->len;
    const struct mr_cel_val *constants = c->constants.items;
    for (uint32_t i = 0; i < c->constants.count && !c->failed; i++)
        put_cell(image, head->cells.offset + i * sizeof *constants, constants[i]);
    put_paths(image, head->paths);
    put_texts(image, head->patterns, c->patterns.items);
    const struct mr_cel_set *sets = c->sets.items;
    for (uint32_t i = 0; i < c->sets.count && !c->failed; i++)
        put_set(image, head->sets.offset + i * sizeof *sets, sets[i]);
    (void)take(image, 0);
    head->data.count = (uint32_t)image->len - head->data.offset;
    if (image->len % 16 != 0)
        (void)take(image, 8);
}

enum mr_rc mr_cel_assemble(struct mr_cel_compiler *c, bool stripped, void **out, uint32_t *len)
{
    struct image image = {.c = c};
    struct mr_cel_head head = {.magic = MR_CEL_PROGRAM_MAGIC,
                               .version = mr_cel_program_version(),
                               .registers = (uint16_t)(c->registers_max + c->caches),
                               .iterators = (uint16_t)c->iterators_max};
    put_all(&image, &head, stripped);
    void *bytes = c->failed ? NULL : malloc(image.len);
    if (!bytes) {
        mr_cel_compile_out_of_memory(c);
        return MR_USAGE;
    }
    head.len = (uint32_t)image.len;
    memcpy(bytes, image.bytes, image.len);
    memcpy(bytes, &head, sizeof head);
    *out = bytes;
    *len = head.len;
    return MR_OK;
}
