/* Building programs: one form for each filter, and its bytes. */
#include <math.h>
#include <stdlib.h>

#include "cel/program_shm.h"

/* What one build works with. Everything is sized by what the term has, before it is filled. */
struct build {
    struct mr_predicate *leaves; /* canonical, sorted and without repeats */
    struct mr_const *items;      /* of their lists */
    struct mr_const *next_item;
    struct span *spans; /* scratch of the sort: a list of children's tokens for each level */
    uint16_t *tokens, *sorted;
    uint32_t leaf_count, token_count;
    size_t leaf_capacity, item_capacity, token_capacity; /* as counted */
    struct mr_err *err;
};
/* Tokens of one child. */
struct span {
    const uint16_t *tokens;
    uint32_t count;
};

/* ---- checks ---- */

static enum mr_rc check_leaf(const struct mr_predicate *p, uint32_t index, struct mr_err *err)
{
    int shown = p->path.len > 100 ? 100 : (int)p->path.len;
    const char *why = p->op == MR_PRED_CODE ? NULL : mr_program_check_path(p->path);
    if (why)
        return mr_reject(err, MR_USAGE, "filters[%u].field \"%.*s\": %s", index, shown,
                         p->path.len ? p->path.data : "", why);
    why = mr_program_check_value(p);
    if (why)
        return mr_reject(err, MR_USAGE, "filters[%u].value of \"%.*s\" %s: %s", index, shown,
                         p->path.data, mr_predicate_op_name(p->op), why);
    if (p->value.kind != MR_CONST_LIST)
        return MR_OK;
    for (uint32_t item = 0; item < p->value.list.count; item++) {
        why = mr_program_check_item(p, &p->value.list.items[item]);
        if (why)
            return mr_reject(err, MR_USAGE, "filters[%u].value[%u] of \"%.*s\" %s: %s", index, item,
                             shown, p->path.data, mr_predicate_op_name(p->op), why);
    }
    return MR_OK;
}

/* Check everything below a term and count what it needs. */
static enum mr_rc measure_term(struct build *b, const struct mr_term *term, uint32_t depth)
{
    b->token_capacity++;
    if (term->kind == MR_TERM_LEAF) {
        enum mr_rc rc = check_leaf(&term->leaf, (uint32_t)b->leaf_capacity, b->err);
        if (rc != MR_OK)
            return rc;
        b->leaf_capacity++;
        if (term->leaf.value.kind == MR_CONST_LIST)
            b->item_capacity += term->leaf.value.list.count;
        if (b->leaf_capacity > MR_PROGRAM_LEAVES_MAX)
            return mr_reject(b->err, MR_USAGE, "filters: more than %d", MR_PROGRAM_LEAVES_MAX);
        if (b->item_capacity > MR_PROGRAM_BYTES_MAX / sizeof(struct mr_program_const))
            return mr_reject(b->err, MR_USAGE, "filters: %zu list items in sum, at most %zu",
                             b->item_capacity,
                             MR_PROGRAM_BYTES_MAX / sizeof(struct mr_program_const));
        return MR_OK;
    }
    if (depth >= MR_PROGRAM_DEPTH_MAX || b->token_capacity + term->count > MR_PROGRAM_TOKENS_MAX)
        return mr_reject(b->err, MR_USAGE,
                         "filters: a combination of more than %d terms or %d levels",
                         MR_PROGRAM_TOKENS_MAX, MR_PROGRAM_DEPTH_MAX);
    for (uint32_t i = 0; i < term->count; i++) {
        enum mr_rc rc = measure_term(b, term->children[i], depth + 1);
        if (rc != MR_OK)
            return rc;
    }
    return MR_OK;
}

/* ---- leaves ---- */

static int order_items(const void *a, const void *b)
{
    return mr_program_order_const(a, b);
}

static int order_leaves(const void *left, const void *right)
{
    const struct mr_predicate *a = left, *b = right;
    int order = mr_program_order_leaf(a, b);
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

/* A leaf in canonical form; its list items are copied. */
static struct mr_predicate normalise(struct build *b, const struct mr_predicate *in)
{
    struct mr_predicate out = *in;
    bool set = in->op == MR_PRED_IN || in->op == MR_PRED_NOT_IN;
    out.value = canonical(&in->value);
    if (in->value.kind != MR_CONST_LIST)
        return out;
    struct mr_const *list = b->next_item;
    uint32_t count = in->value.list.count;
    for (uint32_t i = 0; i < count; i++)
        list[i] = canonical(&in->value.list.items[i]);
    if (set && count > 0) { /* order and repeats mean nothing */
        qsort(list, count, sizeof *list, order_items);
        uint32_t kept = 1;
        for (uint32_t i = 1; i < count; i++)
            if (mr_program_order_const(&list[kept - 1], &list[i]) != 0)
                list[kept++] = list[i];
        count = kept;
    }
    if (set && count == 1) {
        out.op = in->op == MR_PRED_IN ? MR_PRED_EQ : MR_PRED_NE;
        out.value = list[0];
        return out;
    }
    out.value.list.items = list;
    out.value.list.count = count;
    b->next_item = list + count;
    return out;
}

static void collect_leaves(struct build *b, const struct mr_term *term)
{
    if (term->kind == MR_TERM_LEAF)
        b->leaves[b->leaf_count++] = normalise(b, &term->leaf);
    for (uint32_t i = 0; term->kind != MR_TERM_LEAF && i < term->count; i++)
        collect_leaves(b, term->children[i]);
}

static void sort_leaves(struct build *b)
{
    uint32_t kept = 0;
    qsort(b->leaves, b->leaf_count, sizeof *b->leaves, order_leaves);
    for (uint32_t i = 0; i < b->leaf_count; i++)
        if (kept == 0 || order_leaves(&b->leaves[kept - 1], &b->leaves[i]) != 0)
            b->leaves[kept++] = b->leaves[i];
    b->leaf_count = kept;
}

/* ---- the combination ---- */

static int order_spans(const void *left, const void *right)
{
    const struct span *a = left, *b = right;
    for (uint32_t i = 0; i < a->count && i < b->count; i++)
        if (a->tokens[i] != b->tokens[i])
            return a->tokens[i] < b->tokens[i] ? -1 : 1;
    return (a->count > b->count) - (a->count < b->count);
}

static uint32_t token_kind(uint16_t token)
{
    return token & MR_TOKEN_KIND;
}

static uint32_t term_len(const uint16_t *tokens)
{
    uint32_t len = 1, open = token_kind(tokens[0]) ? tokens[0] & ~(uint32_t)MR_TOKEN_KIND : 0;
    for (; open > 0; open--)
        len += term_len(tokens + len);
    return len;
}

static void put_leaf(struct build *b, const struct mr_term *term)
{
    struct mr_const *rewind = b->next_item;
    struct mr_predicate leaf = normalise(b, &term->leaf);
    const struct mr_predicate *found =
        bsearch(&leaf, b->leaves, b->leaf_count, sizeof leaf, order_leaves);
    MR_ASSERT(found);
    b->next_item = rewind;
    b->tokens[b->token_count++] = (uint16_t)(found - b->leaves);
}

/* The children of an AND or OR whose tokens are behind start, ones of the same kind dissolved, in
 * order and without repeats, in place of what was there. */
static void settle(struct build *b, uint32_t start, uint16_t kind)
{
    uint32_t count = 0, kept = 0, at = start + 1;
    while (at < b->token_count) {
        bool same = token_kind(b->tokens[at]) == kind;
        uint32_t end = at + term_len(b->tokens + at);
        at += same;
        while (at < end) {
            uint32_t len = same ? term_len(b->tokens + at) : end - at;
            b->spans[count++] = (struct span){b->tokens + at, len};
            at += len;
        }
    }
    qsort(b->spans, count, sizeof *b->spans, order_spans);
    uint32_t len = 0;
    uint16_t never = kind == MR_TOKEN_AND ? MR_TOKEN_OR : MR_TOKEN_AND; /* the empty other */
    bool decided = false;
    for (uint32_t i = 0; i < count; i++) {
        decided |= b->spans[i].count == 1 && b->spans[i].tokens[0] == never;
        if (i > 0 && order_spans(&b->spans[i - 1], &b->spans[i]) == 0)
            continue;
        memcpy(b->sorted + len, b->spans[i].tokens, b->spans[i].count * sizeof *b->sorted);
        len += b->spans[i].count;
        kept++;
    }
    if (decided) { /* an AND with a false term, an OR with a true one */
        b->sorted[0] = never;
        len = kept = 1;
    }
    b->tokens[start] = (uint16_t)(kind | kept);
    uint32_t behind = kept == 1 ? start : start + 1; /* one child stands for itself */
    memcpy(b->tokens + behind, b->sorted, len * sizeof *b->sorted);
    b->token_count = behind + len;
}

static void put_term(struct build *b, const struct mr_term *term)
{
    if (term->kind == MR_TERM_LEAF) {
        put_leaf(b, term);
        return;
    }
    uint32_t start = b->token_count++;
    uint16_t kind = term->kind == MR_TERM_AND ? MR_TOKEN_AND : MR_TOKEN_OR;
    b->tokens[start] = kind;
    for (uint32_t i = 0; i < term->count; i++)
        put_term(b, term->children[i]);
    settle(b, start, kind);
}

/* Leaves that simplifying left without a use go; the others are numbered anew. */
static void drop_unused(struct build *b)
{
    uint16_t number[MR_PROGRAM_LEAVES_MAX];
    bool used[MR_PROGRAM_LEAVES_MAX] = {false};
    uint32_t kept = 0;
    for (uint32_t i = 0; i < b->token_count; i++)
        if (token_kind(b->tokens[i]) == 0)
            used[b->tokens[i]] = true;
    for (uint32_t i = 0; i < b->leaf_count; i++) {
        number[i] = (uint16_t)kept;
        if (used[i])
            b->leaves[kept++] = b->leaves[i];
    }
    for (uint32_t i = 0; i < b->token_count; i++)
        if (token_kind(b->tokens[i]) == 0)
            b->tokens[i] = number[b->tokens[i]];
    b->leaf_count = kept;
}

/* ---- bytes ---- */

static size_t const_text(const struct mr_const *value)
{
    return value->kind == MR_CONST_STRING ? value->string.len : 0;
}

/* Bytes of the finished program; *tokens, *text: where these begin. */
static size_t measure_bytes(const struct build *b, size_t names, size_t *tokens, size_t *text)
{
    size_t items = 0;
    for (uint32_t i = 0; i < b->leaf_count; i++)
        if (b->leaves[i].value.kind == MR_CONST_LIST)
            items += b->leaves[i].value.list.count;
    *tokens = sizeof(struct mr_program_head) + b->leaf_count * sizeof(struct mr_program_leaf) +
              items * sizeof(struct mr_program_const);
    *text = *tokens + b->token_count * sizeof(uint16_t);
    size_t len = *text + names;
    for (uint32_t i = 0; i < b->leaf_count; i++) {
        const struct mr_predicate *p = &b->leaves[i];
        if (p->op == MR_PRED_CODE)
            len = mr_program_align(len);
        len += p->path.len + const_text(&p->value);
        for (uint32_t item = 0; p->value.kind == MR_CONST_LIST && item < p->value.list.count;
             item++)
            len += const_text(&p->value.list.items[item]);
    }
    return mr_program_align(len);
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
    case MR_CONST_DATE:
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

static struct mr_program_leaf encode_leaf(struct cursor *at, const struct mr_predicate *p)
{
    struct mr_program_leaf out = {
        .op = (uint8_t)p->op, .cel = p->cel, .path_len = (uint32_t)p->path.len};
    out.path = put_text(at, p->path);
    if (p->op == MR_PRED_CODE)
        at->text = mr_program_align(at->text);
    if (p->value.kind != MR_CONST_LIST) {
        out.value = put_scalar(at, &p->value);
        return out;
    }
    out.value = (struct mr_program_const){
        .kind = MR_CONST_LIST, .len = p->value.list.count, .bits = at->item};
    for (uint32_t i = 0; i < p->value.list.count; i++) {
        struct mr_program_const item = put_scalar(at, &p->value.list.items[i]);
        memcpy(at->bytes + at->item, &item, sizeof item);
        at->item += sizeof item;
    }
    return out;
}

static enum mr_rc encode(const struct build *b, const struct mr_str names[2], void **out,
                         uint32_t *out_len)
{
    size_t tokens, text;
    size_t len = measure_bytes(b, names[0].len + names[1].len, &tokens, &text);
    if (len > MR_PROGRAM_BYTES_MAX)
        return mr_reject(b->err, MR_USAGE, "filters: %zu bytes in sum, at most %d", len,
                         MR_PROGRAM_BYTES_MAX);
    uint8_t *bytes = calloc(1, len);
    if (!bytes)
        return mr_fail(b->err, MR_FATAL, "build a filter program of %zu bytes", len);
    struct mr_program_head head = {.magic = MR_PROGRAM_MAGIC,
                                   .len = (uint32_t)len,
                                   .leaf_count = b->leaf_count,
                                   .token_count = b->token_count,
                                   .database_len = (uint32_t)names[0].len,
                                   .collection_len = (uint32_t)names[1].len};
    memcpy(bytes, &head, sizeof head);
    struct cursor at = {.bytes = bytes,
                        .item = sizeof head + b->leaf_count * sizeof(struct mr_program_leaf),
                        .text = text};
    put_text(&at, names[0]);
    put_text(&at, names[1]);
    for (uint32_t i = 0; i < b->leaf_count; i++) {
        struct mr_program_leaf leaf = encode_leaf(&at, &b->leaves[i]);
        memcpy(bytes + sizeof head + i * sizeof leaf, &leaf, sizeof leaf);
    }
    memcpy(bytes + tokens, b->tokens, b->token_count * sizeof *b->tokens);
    MR_ASSERT(at.item == tokens && mr_program_align(at.text) == len);
    *out = bytes;
    *out_len = head.len;
    return MR_OK;
}

/* ---- the whole ---- */

static enum mr_rc build_measured(struct build *b, const struct mr_term *term,
                                 const struct mr_str names[2], void **out, uint32_t *len)
{
    /* Items twice: put_leaf makes each leaf's list once more, to find it. */
    size_t leaves = b->leaf_capacity * sizeof *b->leaves;
    size_t items = 2 * b->item_capacity * sizeof *b->items;
    size_t spans = b->token_capacity * sizeof *b->spans;
    uint8_t *memory =
        malloc(leaves + items + spans + 2 * b->token_capacity * sizeof *b->tokens + 1);
    if (!memory)
        return mr_fail(b->err, MR_FATAL, "build a filter program of %zu filters", b->leaf_capacity);
    b->leaves = (struct mr_predicate *)memory;
    b->items = b->next_item = (struct mr_const *)(memory + leaves);
    b->spans = (struct span *)(memory + leaves + items);
    b->tokens = (uint16_t *)(memory + leaves + items + spans);
    b->sorted = b->tokens + b->token_capacity;
    collect_leaves(b, term);
    sort_leaves(b);
    put_term(b, term);
    drop_unused(b);
    enum mr_rc rc = encode(b, names, out, len);
    free(memory);
    return rc;
}

enum mr_rc mr_program_build_term(struct mr_str database, struct mr_str collection,
                                 const struct mr_term *term, void **out, uint32_t *len,
                                 struct mr_err *err)
{
    const struct mr_str names[2] = {database, collection};
    struct build b = {.err = err};
    for (int i = 0; i < 2; i++)
        if (names[i].len > MR_PROGRAM_NAME_MAX)
            return mr_reject(err, MR_USAGE, "%s: %zu bytes, at most %d",
                             i == 0 ? "database" : "collection", names[i].len, MR_PROGRAM_NAME_MAX);
    enum mr_rc rc = measure_term(&b, term, 0);
    return rc == MR_OK ? build_measured(&b, term, names, out, len) : rc;
}

enum mr_rc mr_program_build(struct mr_str database, struct mr_str collection,
                            const struct mr_predicate *predicates, uint32_t count, void **out,
                            uint32_t *len, struct mr_err *err)
{
    if (count > MR_PROGRAM_LEAVES_MAX)
        return mr_reject(err, MR_USAGE, "filters: %u, at most %d", count, MR_PROGRAM_LEAVES_MAX);
    struct mr_term *terms = malloc((count + 1) * (sizeof *terms + sizeof(struct mr_term *)));
    if (!terms)
        return mr_fail(err, MR_FATAL, "build a filter program of %u filters", count);
    const struct mr_term **children = (const struct mr_term **)(terms + count + 1);
    for (uint32_t i = 0; i < count; i++) {
        terms[i] = (struct mr_term){.kind = MR_TERM_LEAF, .leaf = predicates[i]};
        children[i] = &terms[i];
    }
    terms[count] = (struct mr_term){.kind = MR_TERM_AND, .count = count, .children = children};
    enum mr_rc rc = mr_program_build_term(database, collection, &terms[count], out, len, err);
    free(terms);
    return rc;
}
