#include <math.h>
#include <stdlib.h>

#include "cel/program_shm.h"

enum { NAME_BYTES_MAX = 1024 }; /* no event has a longer database or collection */

static const char *const op_names[MR_PRED_COUNT] = {
    [MR_PRED_EQ] = "==", [MR_PRED_NE] = "!=", [MR_PRED_LT] = "<",  [MR_PRED_LE] = "<=",
    [MR_PRED_GT] = ">",  [MR_PRED_GE] = ">=", [MR_PRED_IN] = "in", [MR_PRED_CONTAINS] = "contains",
};

const char *mr_predicate_op_name(enum mr_predicate_op op)
{
    return op >= MR_PRED_EQ && op < MR_PRED_COUNT ? op_names[op] : "?";
}

bool mr_predicate_op_parse(struct mr_str text, enum mr_predicate_op *out)
{
    for (enum mr_predicate_op op = MR_PRED_EQ; op < MR_PRED_COUNT; op++) {
        if (mr_str_equal(text, mr_str_from(op_names[op]))) {
            *out = op;
            return true;
        }
    }
    return false;
}

const char *mr_program_check_path(struct mr_str path)
{
    uint32_t parts = 1;
    size_t part_len = 0;
    for (size_t i = 0; i < path.len; i++) {
        if (path.data[i] == 0)
            return "a NUL byte, which no field name has";
        if (path.data[i] != '.') {
            part_len++;
            continue;
        }
        if (part_len == 0)
            return "an empty part";
        part_len = 0;
        parts++;
    }
    if (part_len == 0)
        return path.len ? "an empty part" : "empty";
    return parts > MR_PROGRAM_PATH_PARTS_MAX ? "more than 32 parts" : NULL;
}

static bool is_order(enum mr_predicate_op op)
{
    return op == MR_PRED_LT || op == MR_PRED_LE || op == MR_PRED_GT || op == MR_PRED_GE;
}

const char *mr_program_check_item(struct mr_str path, const struct mr_const *item)
{
    if (item->kind == MR_CONST_LIST)
        return "a list inside a list";
    if (item->kind < MR_CONST_NULL || item->kind > MR_CONST_LIST)
        return "a value of no known kind";
    if (item->kind == MR_CONST_DOUBLE && isnan(item->number))
        return "NaN, which equals nothing";
    if (mr_str_equal(path, MR_STR("_id")) && item->kind != MR_CONST_STRING)
        return "no string, but a document id is one";
    return NULL;
}

const char *mr_program_check_value(struct mr_str path, enum mr_predicate_op op,
                                   const struct mr_const *value)
{
    if (op < MR_PRED_EQ || op >= MR_PRED_COUNT)
        return "used with no known operator";
    if (op == MR_PRED_CONTAINS && mr_str_equal(path, MR_STR("_id")))
        return "used with contains, but a document id contains nothing";
    if (op == MR_PRED_IN)
        return value->kind == MR_CONST_LIST ? NULL : "no list, but \"in\" needs one";
    if (value->kind == MR_CONST_LIST) {
        if (is_order(op))
            return "a list, but order needs a number, a string or a bool";
        return mr_str_equal(path, MR_STR("_id")) ? "no string, but a document id is one" : NULL;
    }
    if (is_order(op) && value->kind == MR_CONST_NULL)
        return "null, but order needs a number, a string or a bool";
    return mr_program_check_item(path, value);
}

static int order_bytes(struct mr_str a, struct mr_str b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len ? memcmp(a.data, b.data, len) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

int mr_program_order_const(const struct mr_const *a, const struct mr_const *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    switch (a->kind) {
    case MR_CONST_BOOL:
        return (int)a->boolean - (int)b->boolean;
    case MR_CONST_INT:
        return (a->integer > b->integer) - (a->integer < b->integer);
    case MR_CONST_DOUBLE:
        return (a->number > b->number) - (a->number < b->number);
    case MR_CONST_STRING:
        return order_bytes(a->string, b->string);
    case MR_CONST_NULL:
    case MR_CONST_LIST:
        break;
    }
    return 0;
}

static int order_items(const void *a, const void *b)
{
    return mr_program_order_const(a, b);
}

static int order_predicates(const void *left, const void *right)
{
    const struct mr_predicate *a = left, *b = right;
    int order = order_bytes(a->path, b->path);
    if (order == 0)
        order = (a->op > b->op) - (a->op < b->op);
    if (order == 0)
        order = mr_program_order_const(&a->value, &b->value);
    if (order != 0 || a->value.kind != MR_CONST_LIST)
        return order;
    uint32_t count = a->value.list.count, other = b->value.list.count;
    for (uint32_t i = 0; order == 0 && i < count && i < other; i++)
        order = mr_program_order_const(&a->value.list.items[i], &b->value.list.items[i]);
    return order ? order : (count > other) - (count < other);
}

/* One form for each value: a double that is a whole number and fits is that int. */
static struct mr_const canonical(const struct mr_const *value)
{
    if (value->kind == MR_CONST_DOUBLE && value->number >= -0x1p63 && value->number < 0x1p63 &&
        value->number == (double)(int64_t)value->number)
        return (struct mr_const){.kind = MR_CONST_INT, .integer = (int64_t)value->number};
    return *value;
}

/* Copy one predicate in canonical form; its list items go to *items, which moves on. */
static void normalise(struct mr_predicate *out, const struct mr_predicate *in,
                      struct mr_const **items)
{
    *out = *in;
    out->value = canonical(&in->value);
    if (in->value.kind != MR_CONST_LIST)
        return;
    struct mr_const *list = *items;
    uint32_t count = in->value.list.count;
    for (uint32_t i = 0; i < count; i++)
        list[i] = canonical(&in->value.list.items[i]);
    if (in->op == MR_PRED_IN && count > 0) { /* a set: order and repeats mean nothing */
        qsort(list, count, sizeof *list, order_items);
        uint32_t kept = 1;
        for (uint32_t i = 1; i < count; i++)
            if (mr_program_order_const(&list[kept - 1], &list[i]) != 0)
                list[kept++] = list[i];
        count = kept;
    }
    if (in->op == MR_PRED_IN && count == 1) {
        out->op = MR_PRED_EQ;
        out->value = list[0];
        return;
    }
    out->value.list.items = list;
    out->value.list.count = count;
    *items = list + count;
}

static enum mr_rc check(const struct mr_predicate *predicates, uint32_t count, size_t *item_count,
                        struct mr_err *err)
{
    *item_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct mr_predicate *p = &predicates[i];
        int shown = p->path.len > 100 ? 100 : (int)p->path.len;
        const char *why = mr_program_check_path(p->path);
        if (why)
            return mr_reject(err, MR_USAGE, "filters[%u].field \"%.*s\": %s", i, shown,
                             p->path.len ? p->path.data : "", why);
        why = mr_program_check_value(p->path, p->op, &p->value);
        if (why)
            return mr_reject(err, MR_USAGE, "filters[%u].value of \"%.*s\" %s: %s", i, shown,
                             p->path.data, mr_predicate_op_name(p->op), why);
        if (p->value.kind != MR_CONST_LIST)
            continue;
        for (uint32_t item = 0; item < p->value.list.count; item++) {
            why = mr_program_check_item(p->path, &p->value.list.items[item]);
            if (why)
                return mr_reject(err, MR_USAGE, "filters[%u].value[%u] of \"%.*s\" %s: %s", i, item,
                                 shown, p->path.data, mr_predicate_op_name(p->op), why);
        }
        *item_count += p->value.list.count;
    }
    return MR_OK;
}

static size_t const_text(const struct mr_const *value)
{
    return value->kind == MR_CONST_STRING ? value->string.len : 0;
}

/* Bytes of the finished program, and in *text where its text begins. */
static size_t measure(const struct mr_predicate *p, uint32_t count, size_t names, size_t *text)
{
    size_t len = names, items = 0;
    for (uint32_t i = 0; i < count; i++) {
        len += p[i].path.len + const_text(&p[i].value);
        if (p[i].value.kind != MR_CONST_LIST)
            continue;
        items += p[i].value.list.count;
        for (uint32_t item = 0; item < p[i].value.list.count; item++)
            len += const_text(&p[i].value.list.items[item]);
    }
    *text = sizeof(struct mr_program_head) + count * sizeof(struct mr_program_conjunct) +
            items * sizeof(struct mr_program_const);
    return (*text + len + 7) & ~(size_t)7;
}

/* Where the next item and the next text go. */
struct cursor {
    uint8_t *bytes;
    size_t item, text;
};

static uint64_t put_text(struct cursor *at, struct mr_str text)
{
    size_t offset = at->text;
    if (text.len)
        memcpy(at->bytes + offset, text.data, text.len);
    at->text += text.len;
    return offset;
}

static struct mr_program_const put_scalar(struct cursor *at, const struct mr_const *value)
{
    struct mr_program_const out = {.kind = (uint32_t)value->kind};
    switch (value->kind) {
    case MR_CONST_BOOL:
        out.bits = value->boolean;
        break;
    case MR_CONST_INT:
        out.bits = (uint64_t)value->integer;
        break;
    case MR_CONST_DOUBLE:
        memcpy(&out.bits, &value->number, sizeof out.bits);
        break;
    case MR_CONST_STRING:
        out.len = (uint32_t)value->string.len;
        out.bits = put_text(at, value->string);
        break;
    case MR_CONST_NULL:
    case MR_CONST_LIST:
        break;
    }
    return out;
}

static void put_conjunct(struct cursor *at, const struct mr_predicate *p,
                         struct mr_program_conjunct *out)
{
    *out = (struct mr_program_conjunct){
        .kind = MR_PROGRAM_PREDICATE, .op = (uint8_t)p->op, .path_len = (uint32_t)p->path.len};
    out->path = put_text(at, p->path);
    if (p->value.kind != MR_CONST_LIST) {
        out->value = put_scalar(at, &p->value);
        return;
    }
    out->value = (struct mr_program_const){
        .kind = MR_CONST_LIST, .len = p->value.list.count, .bits = at->item};
    for (uint32_t i = 0; i < p->value.list.count; i++) {
        struct mr_program_const item = put_scalar(at, &p->value.list.items[i]);
        memcpy(at->bytes + at->item, &item, sizeof item);
        at->item += sizeof item;
    }
}

/* predicates are canonical, sorted and without repeats. */
static enum mr_rc encode(struct mr_str names[2], const struct mr_predicate *p, uint32_t count,
                         void **out, uint32_t *out_len, struct mr_err *err)
{
    size_t text;
    size_t len = measure(p, count, names[0].len + names[1].len, &text);
    if (len > MR_PROGRAM_BYTES_MAX)
        return mr_reject(err, MR_USAGE, "filters: %zu bytes in sum, at most %d", len,
                         MR_PROGRAM_BYTES_MAX);
    uint8_t *bytes = calloc(1, len);
    if (!bytes)
        return mr_fail(err, MR_FATAL, "build a filter program of %zu bytes", len);
    struct mr_program_head head = {.magic = MR_PROGRAM_MAGIC,
                                   .len = (uint32_t)len,
                                   .conjunct_count = count,
                                   .database_len = (uint32_t)names[0].len,
                                   .collection_len = (uint32_t)names[1].len};
    memcpy(bytes, &head, sizeof head);
    struct cursor at = {.bytes = bytes,
                        .item = sizeof head + count * sizeof(struct mr_program_conjunct),
                        .text = text};
    put_text(&at, names[0]);
    put_text(&at, names[1]);
    for (uint32_t i = 0; i < count; i++) {
        struct mr_program_conjunct conjunct;
        put_conjunct(&at, &p[i], &conjunct);
        memcpy(bytes + sizeof head + i * sizeof conjunct, &conjunct, sizeof conjunct);
    }
    MR_ASSERT(at.item == text && ((at.text + 7) & ~(size_t)7) == len);
    *out = bytes;
    *out_len = head.len;
    return MR_OK;
}

enum mr_rc mr_program_build(struct mr_str database, struct mr_str collection,
                            const struct mr_predicate *predicates, uint32_t count, void **out,
                            uint32_t *len, struct mr_err *err)
{
    size_t item_count;
    struct mr_str names[2] = {database, collection};
    for (int i = 0; i < 2; i++)
        if (names[i].len > NAME_BYTES_MAX)
            return mr_reject(err, MR_USAGE, "%s: %zu bytes, at most %d",
                             i == 0 ? "database" : "collection", names[i].len, NAME_BYTES_MAX);
    if (count > MR_PROGRAM_CONJUNCTS_MAX)
        return mr_reject(err, MR_USAGE, "filters: %u, at most %d", count, MR_PROGRAM_CONJUNCTS_MAX);
    enum mr_rc rc = check(predicates, count, &item_count, err);
    if (rc != MR_OK)
        return rc;
    if (item_count > MR_PROGRAM_BYTES_MAX / sizeof(struct mr_program_const))
        return mr_reject(err, MR_USAGE, "filters: %zu list items in sum, at most %zu", item_count,
                         MR_PROGRAM_BYTES_MAX / sizeof(struct mr_program_const));
    struct mr_predicate *sorted = calloc(count + 1, sizeof *sorted);
    struct mr_const *items = calloc(item_count + 1, sizeof *items);
    if (sorted && items) {
        struct mr_const *next = items;
        for (uint32_t i = 0; i < count; i++)
            normalise(&sorted[i], &predicates[i], &next);
        qsort(sorted, count, sizeof *sorted, order_predicates);
        uint32_t kept = 0;
        for (uint32_t i = 0; i < count; i++)
            if (kept == 0 || order_predicates(&sorted[kept - 1], &sorted[i]) != 0)
                sorted[kept++] = sorted[i];
        rc = encode(names, sorted, kept, out, len, err);
    } else {
        rc = mr_fail(err, MR_FATAL, "build a filter program of %u filters", count);
    }
    free(items);
    free(sorted);
    return rc;
}
