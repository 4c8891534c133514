/* Reading programs: everything that a matcher does with bytes that another process wrote. */
#include "cel/program.h"

#include <math.h>

#include "cel/program_shm.h"
#include "cel/value.h"

enum { NAME_BYTES_MAX = 1024 };

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

static struct mr_program_conjunct read_conjunct(const uint8_t *bytes, uint32_t index)
{
    struct mr_program_conjunct conjunct;
    memcpy(&conjunct, bytes + sizeof(struct mr_program_head) + index * sizeof conjunct,
           sizeof conjunct);
    return conjunct;
}

static struct mr_const const_from(const uint8_t *bytes, const struct mr_program_const *stored)
{
    struct mr_const out = {.kind = (enum mr_const_kind)stored->kind};
    switch (out.kind) {
    case MR_CONST_BOOL:
        out.boolean = stored->bits != 0;
        break;
    case MR_CONST_INT:
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

static bool take_list(struct scan *scan, struct mr_str path,
                      const struct mr_program_conjunct *conjunct)
{
    uint64_t list = conjunct->value.bits;
    uint32_t count = conjunct->value.len;
    if (list != scan->item ||
        count > (scan->item_end - scan->item) / sizeof(struct mr_program_const))
        return false;
    if (conjunct->op == MR_PRED_IN && count == 1) /* build makes "==" of it */
        return false;
    struct mr_const previous = {.kind = MR_CONST_NULL};
    for (uint32_t i = 0; i < count; i++) {
        struct mr_program_const stored = read_item(scan->bytes, list, i);
        if (!take_scalar(scan, &stored))
            return false;
        struct mr_const item = const_from(scan->bytes, &stored);
        if (mr_program_check_item(path, &item))
            return false;
        if (conjunct->op == MR_PRED_IN && i > 0 && mr_program_order_const(&previous, &item) >= 0)
            return false;
        previous = item;
    }
    scan->item += (size_t)count * sizeof(struct mr_program_const);
    return true;
}

static bool take_conjunct(struct scan *scan, uint32_t index)
{
    struct mr_program_conjunct conjunct = read_conjunct(scan->bytes, index);
    if (conjunct.kind != MR_PROGRAM_PREDICATE || conjunct.reserved != 0 ||
        !take_text(scan, conjunct.path, conjunct.path_len))
        return false;
    struct mr_str path = {(const char *)scan->bytes + conjunct.path, conjunct.path_len};
    if (mr_program_check_path(path))
        return false;
    if (conjunct.value.kind == MR_CONST_LIST) {
        if (!take_list(scan, path, &conjunct))
            return false;
    } else if (!take_scalar(scan, &conjunct.value)) {
        return false;
    }
    struct mr_const value = const_from(scan->bytes, &conjunct.value);
    return !mr_program_check_value(path, (enum mr_predicate_op)conjunct.op, &value);
}

/* The canonical order of two neighbours: path, operator, constant; lists item by item. */
static bool ascends(const struct mr_program *program, uint32_t index)
{
    struct mr_predicate a, b;
    mr_program_predicate(program, index - 1, &a);
    mr_program_predicate(program, index, &b);
    size_t len = a.path.len < b.path.len ? a.path.len : b.path.len;
    int order = memcmp(a.path.data, b.path.data, len);
    if (order == 0)
        order = (a.path.len > b.path.len) - (a.path.len < b.path.len);
    if (order == 0)
        order = (a.op > b.op) - (a.op < b.op);
    if (order == 0)
        order = mr_program_order_const(&a.value, &b.value);
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

/* Where the text begins: behind the items of all lists. 0: the counts do not fit into len. */
static size_t text_start(const uint8_t *bytes, size_t len, uint32_t conjunct_count)
{
    size_t at = sizeof(struct mr_program_head) +
                (size_t)conjunct_count * sizeof(struct mr_program_conjunct);
    if (at > len)
        return 0;
    for (uint32_t i = 0; i < conjunct_count; i++) {
        struct mr_program_conjunct conjunct = read_conjunct(bytes, i);
        if (conjunct.value.kind != MR_CONST_LIST)
            continue;
        if (conjunct.value.len > (len - at) / sizeof(struct mr_program_const))
            return 0;
        at += (size_t)conjunct.value.len * sizeof(struct mr_program_const);
    }
    return at;
}

enum mr_rc mr_program_load(const void *data, size_t len, struct mr_program *out)
{
    const uint8_t *bytes = data;
    if (!bytes || len < sizeof(struct mr_program_head) || len > MR_PROGRAM_BYTES_MAX ||
        len % 8 != 0)
        return MR_CORRUPT;
    struct mr_program_head head = read_head(bytes);
    if (head.magic != MR_PROGRAM_MAGIC || head.len != len || head.reserved != 0 ||
        head.conjunct_count > MR_PROGRAM_CONJUNCTS_MAX || head.database_len > NAME_BYTES_MAX ||
        head.collection_len > NAME_BYTES_MAX)
        return MR_CORRUPT;
    size_t text = text_start(bytes, len, head.conjunct_count);
    if (text == 0 || (size_t)head.database_len + head.collection_len > len - text)
        return MR_CORRUPT;
    *out = (struct mr_program){
        .bytes = bytes,
        .len = head.len,
        .database = {(const char *)bytes + text, head.database_len},
        .collection = {(const char *)bytes + text + head.database_len, head.collection_len},
        .conjunct_count = head.conjunct_count};
    struct scan scan = {.bytes = bytes,
                        .item = sizeof head +
                                (size_t)head.conjunct_count * sizeof(struct mr_program_conjunct),
                        .item_end = text,
                        .text = text + head.database_len + head.collection_len,
                        .len = len};
    for (uint32_t i = 0; i < head.conjunct_count; i++)
        if (!take_conjunct(&scan, i) || (i > 0 && !ascends(out, i)))
            return MR_CORRUPT;
    if (len - scan.text >= 8)
        return MR_CORRUPT;
    for (size_t i = scan.text; i < len; i++)
        if (bytes[i] != 0)
            return MR_CORRUPT;
    return MR_OK;
}

void mr_program_predicate(const struct mr_program *program, uint32_t index,
                          struct mr_predicate *out)
{
    MR_ASSERT(index < program->conjunct_count);
    struct mr_program_conjunct conjunct = read_conjunct(program->bytes, index);
    out->path = (struct mr_str){(const char *)program->bytes + conjunct.path, conjunct.path_len};
    out->op = (enum mr_predicate_op)conjunct.op;
    out->value = const_from(program->bytes, &conjunct.value);
}

void mr_program_list_item(const struct mr_program *program, uint32_t index, uint32_t item,
                          struct mr_const *out)
{
    MR_ASSERT(index < program->conjunct_count);
    struct mr_program_conjunct conjunct = read_conjunct(program->bytes, index);
    MR_ASSERT(conjunct.value.kind == MR_CONST_LIST && item < conjunct.value.len);
    struct mr_program_const stored = read_item(program->bytes, conjunct.value.bits, item);
    *out = const_from(program->bytes, &stored);
}

static void list_item(const struct mr_list *list, uint32_t item, struct mr_const *out)
{
    mr_program_list_item(list->program, list->index, item, out);
}

static bool holds(const struct mr_program *program, uint32_t index, const struct mr_value *value)
{
    struct mr_predicate predicate;
    struct mr_list list = {.item = list_item, .program = program, .index = index};
    mr_program_predicate(program, index, &predicate);
    return mr_value_holds(value, predicate.op, &predicate.value, &list);
}

bool mr_predicate_holds(const struct mr_program *program, uint32_t index,
                        const struct mr_bson_value *value)
{
    struct mr_value seen = mr_value_from_bson(value);
    return holds(program, index, &seen);
}

bool mr_program_matches(const struct mr_program *program, const void *document, size_t document_len,
                        struct mr_str document_id)
{
    for (uint32_t i = 0; i < program->conjunct_count; i++) {
        struct mr_predicate predicate;
        struct mr_bson_value found;
        struct mr_value value;
        mr_program_predicate(program, i, &predicate);
        if (mr_str_equal(predicate.path, MR_STR("_id")))
            value = mr_value_from_id(document_id);
        else if (mr_bson_find(document, document_len, predicate.path, &found))
            value = mr_value_from_bson(&found);
        else
            return false;
        if (!holds(program, i, &value))
            return false;
    }
    return true;
}
