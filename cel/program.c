/* Reading programs: everything that a matcher does with bytes that another process wrote. */
#include "cel/program.h"

#include <math.h>

#include "cel/program_shm.h"
#include "cel/value.h"

/* What load knows so far: where the next list and the next text must be. */
struct scan {
    const uint8_t *bytes;
    size_t item, item_end, text, len;
};

static struct mr_program_head read_head(const uint8_t *bytes)
{
    struct mr_program_head head;
    memcpy(&head, bytes, sizeof head);
    return head;
}

static struct mr_program_leaf read_leaf(const uint8_t *bytes, uint32_t index)
{
    struct mr_program_leaf leaf;
    memcpy(&leaf, bytes + sizeof(struct mr_program_head) + index * sizeof leaf, sizeof leaf);
    return leaf;
}

static struct mr_const const_from(const uint8_t *bytes, const struct mr_program_const *stored)
{
    struct mr_const out = {.kind = (enum mr_const_kind)stored->kind};
    switch (out.kind) {
    case MR_CONST_BOOL:
        out.boolean = stored->bits != 0;
        break;
    case MR_CONST_INT:
    case MR_CONST_DATE:
        out.integer = (int64_t)stored->bits;
        break;
    case MR_CONST_DOUBLE:
        memcpy(&out.number, &stored->bits, sizeof out.number);
        break;
    case MR_CONST_STRING:
        out.string = (struct mr_str){(const char *)bytes + stored->bits, stored->len};
        break;
    case MR_CONST_LIST:
        out.list.items = NULL;
        out.list.count = stored->len;
        break;
    case MR_CONST_NULL:
        break;
    }
    return out;
}

static bool take_text(struct scan *scan, uint64_t offset, uint32_t len)
{
    if (offset != scan->text || len > scan->len - scan->text)
        return false;
    scan->text += len;
    return true;
}

/* Zeros up to a multiple of 16. */
static bool take_padding(struct scan *scan)
{
    size_t end = mr_program_align(scan->text);
    if (end > scan->len)
        return false;
    for (; scan->text < end; scan->text++)
        if (scan->bytes[scan->text] != 0)
            return false;
    return true;
}

/* A constant that is no list: of a known kind, in its one canonical form, its text where it must
 * be. */
static bool take_scalar(struct scan *scan, const struct mr_program_const *stored)
{
    double number;
    switch (stored->kind) {
    case MR_CONST_NULL:
        return stored->len == 0 && stored->bits == 0;
    case MR_CONST_BOOL:
        return stored->len == 0 && stored->bits <= 1;
    case MR_CONST_INT:
    case MR_CONST_DATE:
        return stored->len == 0;
    case MR_CONST_DOUBLE:
        memcpy(&number, &stored->bits, sizeof number);
        if (stored->len != 0 || isnan(number))
            return false;
        return number < -0x1p63 || number >= 0x1p63 || number != (double)(int64_t)number;
    case MR_CONST_STRING:
        return take_text(scan, stored->bits, stored->len);
    default:
        return false;
    }
}

static struct mr_program_const read_item(const uint8_t *bytes, uint64_t list, uint32_t index)
{
    struct mr_program_const item;
    memcpy(&item, bytes + list + (size_t)index * sizeof item, sizeof item);
    return item;
}

static bool take_list(struct scan *scan, const struct mr_predicate *p,
                      const struct mr_program_const *value)
{
    bool set = p->op == MR_PRED_IN || p->op == MR_PRED_NOT_IN;
    if (value->bits != scan->item ||
        value->len > (scan->item_end - scan->item) / sizeof(struct mr_program_const))
        return false;
    if (set && value->len == 1) /* build makes "==" or "!=" of it */
        return false;
    struct mr_const previous = {.kind = MR_CONST_NULL};
    for (uint32_t i = 0; i < value->len; i++) {
        struct mr_program_const stored = read_item(scan->bytes, value->bits, i);
        if (!take_scalar(scan, &stored))
            return false;
        struct mr_const item = const_from(scan->bytes, &stored);
        if (mr_program_check_item(p, &item))
            return false;
        if (set && i > 0 && mr_program_order_const(&previous, &item) >= 0)
            return false;
        previous = item;
    }
    scan->item += (size_t)value->len * sizeof(struct mr_program_const);
    return true;
}

static bool take_leaf(struct scan *scan, uint32_t index)
{
    struct mr_program_leaf leaf = read_leaf(scan->bytes, index);
    if (leaf.cel > 1 || leaf.reserved != 0 || !take_text(scan, leaf.path, leaf.path_len))
        return false;
    struct mr_predicate p = {
        .path = {(const char *)scan->bytes + leaf.path, leaf.path_len},
        .op = (enum mr_predicate_op)leaf.op,
        .cel = leaf.cel,
    };
    if (leaf.op == MR_PRED_CODE) {
        if (leaf.path_len != 0 || !take_padding(scan))
            return false;
    } else if (mr_program_check_path(p.path)) {
        return false;
    }
    if (leaf.value.kind == MR_CONST_LIST) {
        if (!take_list(scan, &p, &leaf.value))
            return false;
    } else if (!take_scalar(scan, &leaf.value)) {
        return false;
    }
    p.value = const_from(scan->bytes, &leaf.value);
    return !mr_program_check_value(&p);
}

/* The canonical order of two neighbours. */
static bool ascends(const struct mr_program *program, uint32_t index)
{
    struct mr_predicate a, b;
    mr_program_predicate(program, index - 1, &a);
    mr_program_predicate(program, index, &b);
    int order = mr_program_order_leaf(&a, &b);
    if (order != 0 || a.value.kind != MR_CONST_LIST)
        return order < 0;
    for (uint32_t i = 0; order == 0 && i < a.value.list.count && i < b.value.list.count; i++) {
        struct mr_const left, right;
        mr_program_list_item(program, index - 1, i, &left);
        mr_program_list_item(program, index, i, &right);
        order = mr_program_order_const(&left, &right);
    }
    return order < 0 || (order == 0 && a.value.list.count < b.value.list.count);
}

/* One term of the combination from *at on, and all below it. */
static bool take_tokens(const struct mr_program *program, uint32_t *at, uint32_t depth, bool *used)
{
    if (*at >= program->token_count || depth > MR_PROGRAM_DEPTH_MAX)
        return false;
    uint16_t token = mr_program_token(program, (*at)++);
    uint32_t count = token & ~(uint32_t)MR_TOKEN_KIND;
    if ((token & MR_TOKEN_KIND) == 0) {
        if (count >= program->leaf_count)
            return false;
        used[count] = true;
        return true;
    }
    if ((token & MR_TOKEN_KIND) == MR_TOKEN_KIND)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!take_tokens(program, at, depth + 1, used))
            return false;
    return true;
}

/* Behind the items of all lists. 0: the counts do not fit into len. */
static size_t items_end(const uint8_t *bytes, size_t len, uint32_t leaf_count)
{
    size_t at =
        sizeof(struct mr_program_head) + (size_t)leaf_count * sizeof(struct mr_program_leaf);
    if (at > len)
        return 0;
    for (uint32_t i = 0; i < leaf_count; i++) {
        struct mr_program_leaf leaf = read_leaf(bytes, i);
        if (leaf.value.kind != MR_CONST_LIST)
            continue;
        if (leaf.value.len > (len - at) / sizeof(struct mr_program_const))
            return 0;
        at += (size_t)leaf.value.len * sizeof(struct mr_program_const);
    }
    return at;
}

static bool take_all(struct scan *scan, const struct mr_program *program)
{
    bool used[MR_PROGRAM_LEAVES_MAX] = {false};
    uint32_t at = 0;
    for (uint32_t i = 0; i < program->leaf_count; i++)
        if (!take_leaf(scan, i) || (i > 0 && !ascends(program, i)))
            return false;
    if (!take_tokens(program, &at, 0, used) || at != program->token_count)
        return false;
    for (uint32_t i = 0; i < program->leaf_count; i++)
        if (!used[i])
            return false;
    return take_padding(scan) && scan->text == scan->len;
}

enum mr_rc mr_program_load(const void *data, size_t len, struct mr_program *out)
{
    const uint8_t *bytes = data;
    if (!bytes || len < sizeof(struct mr_program_head) || len > MR_PROGRAM_BYTES_MAX)
        return MR_CORRUPT;
    struct mr_program_head head = read_head(bytes);
    if (head.magic != MR_PROGRAM_MAGIC || head.len != len ||
        head.leaf_count > MR_PROGRAM_LEAVES_MAX || head.token_count > MR_PROGRAM_TOKENS_MAX ||
        head.database_len > MR_PROGRAM_NAME_MAX || head.collection_len > MR_PROGRAM_NAME_MAX)
        return MR_CORRUPT;
    size_t tokens = items_end(bytes, len, head.leaf_count);
    size_t text = tokens + head.token_count * sizeof(uint16_t);
    if (tokens == 0 || text > len || (size_t)head.database_len + head.collection_len > len - text)
        return MR_CORRUPT;
    *out = (struct mr_program){
        .bytes = bytes,
        .len = head.len,
        .database = {(const char *)bytes + text, head.database_len},
        .collection = {(const char *)bytes + text + head.database_len, head.collection_len},
        .leaf_count = head.leaf_count,
        .token_count = head.token_count,
        .tokens = (uint32_t)tokens};
    struct scan scan = {.bytes = bytes,
                        .item =
                            sizeof head + (size_t)head.leaf_count * sizeof(struct mr_program_leaf),
                        .item_end = tokens,
                        .text = text + head.database_len + head.collection_len,
                        .len = len};
    return take_all(&scan, out) ? MR_OK : MR_CORRUPT;
}

void mr_program_predicate(const struct mr_program *program, uint32_t index,
                          struct mr_predicate *out)
{
    MR_ASSERT(index < program->leaf_count);
    struct mr_program_leaf leaf = read_leaf(program->bytes, index);
    out->path = (struct mr_str){(const char *)program->bytes + leaf.path, leaf.path_len};
    out->op = (enum mr_predicate_op)leaf.op;
    out->cel = leaf.cel;
    out->value = const_from(program->bytes, &leaf.value);
}

void mr_program_list_item(const struct mr_program *program, uint32_t index, uint32_t item,
                          struct mr_const *out)
{
    MR_ASSERT(index < program->leaf_count);
    struct mr_program_leaf leaf = read_leaf(program->bytes, index);
    MR_ASSERT(leaf.value.kind == MR_CONST_LIST && item < leaf.value.len);
    struct mr_program_const stored = read_item(program->bytes, leaf.value.bits, item);
    *out = const_from(program->bytes, &stored);
}

/* ---- evaluation: plain and slow, the reference for everything faster ---- */

struct subject {
    const struct mr_program *program;
    const void *document;
    size_t document_len;
    struct mr_str document_id;
    struct mr_program_code *code;
};

static void list_item(const struct mr_list *list, uint32_t item, struct mr_const *out)
{
    mr_program_list_item(list->program, list->index, item, out);
}

/* As CEL selects fields: through documents only. */
static bool find_field(const struct subject *s, struct mr_str path, struct mr_bson_value *out)
{
    *out = (struct mr_bson_value){
        .type = MR_BSON_DOCUMENT, .data = s->document, .len = (uint32_t)s->document_len};
    while (path.len > 0) {
        struct mr_bson_iter iter;
        struct mr_bson_element element;
        const char *dot = memchr(path.data, '.', path.len);
        struct mr_str part = {path.data, dot ? (size_t)(dot - path.data) : path.len};
        if (out->type != MR_BSON_DOCUMENT || mr_bson_iter_init(&iter, out->data, out->len) != MR_OK)
            return false;
        do
            if (mr_bson_iter_next(&iter, &element) != MR_OK)
                return false;
        while (!mr_str_equal(element.key, part));
        *out = element.value;
        size_t step = dot ? part.len + 1 : part.len;
        path = (struct mr_str){path.data + step, path.len - step};
    }
    return true;
}

static bool leaf_holds(const struct subject *s, uint32_t index)
{
    struct mr_predicate p;
    struct mr_bson_value found;
    struct mr_value value = {.kind = MR_VALUE_MISSING};
    struct mr_list list = {.item = list_item, .program = s->program, .index = index};
    mr_program_predicate(s->program, index, &p);
    if (p.op == MR_PRED_CODE)
        return s->code &&
               mr_program_code_holds(s->code, p.value.string, s->document, s->document_len);
    if (!p.cel && mr_str_equal(p.path, MR_STR("_id")))
        value = mr_value_from_id(s->document_id);
    else if (p.cel ? find_field(s, p.path, &found)
                   : mr_bson_find(s->document, s->document_len, p.path, &found))
        value = mr_value_from_bson(&found, p.cel);
    return mr_value_holds(&value, p.op, &p.value, &list);
}

static bool term_holds(const struct subject *s, uint32_t *at)
{
    uint16_t token = mr_program_token(s->program, (*at)++);
    uint32_t count = token & ~(uint32_t)MR_TOKEN_KIND;
    if ((token & MR_TOKEN_KIND) == 0)
        return leaf_holds(s, count);
    bool is_and = (token & MR_TOKEN_KIND) == MR_TOKEN_AND, result = is_and;
    for (uint32_t i = 0; i < count; i++) {
        bool holds = term_holds(s, at);
        result = is_and ? result && holds : result || holds;
    }
    return result;
}

bool mr_program_leaf_holds(const struct mr_program *program, uint32_t index, const void *document,
                           size_t document_len, struct mr_str document_id,
                           struct mr_program_code *code)
{
    const struct subject subject = {program, document, document_len, document_id, code};
    return leaf_holds(&subject, index);
}

bool mr_program_matches(const struct mr_program *program, const void *document, size_t document_len,
                        struct mr_str document_id, struct mr_program_code *code)
{
    const struct subject subject = {program, document, document_len, document_id, code};
    uint32_t at = 0;
    return term_holds(&subject, &at);
}
