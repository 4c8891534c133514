/* cel/walk.c: from a variable or a value along a path, and through an array; see walk.h. */
#include "cel/walk.h"

#include "cel/find.h"

static inline void from_bson(struct mr_cel_ctx *ctx, const struct mr_bson_value *v,
                             struct mr_cel_val *out)
{
    uint32_t half;
    uint64_t word;
    switch (v->type) {
    case MR_BSON_STRING:
        memcpy(&half, v->data, sizeof half); /* find has seen that it is 1 at least, and fits */
        mr_cel_put(out, mr_cel_head_word(MR_CEL_STRING, 0, half - 1),
                   (uint64_t)(uintptr_t)(v->data + 4));
        return;
    case MR_BSON_INT32:
        memcpy(&half, v->data, sizeof half);
        mr_cel_put(out, MR_CEL_INT, (uint64_t)(int64_t)(int32_t)half);
        return;
    case MR_BSON_INT64:
    case MR_BSON_DOUBLE:
        memcpy(&word, v->data, sizeof word);
        mr_cel_put(out, v->type == MR_BSON_DOUBLE ? MR_CEL_DOUBLE : MR_CEL_INT, word);
        return;
    case MR_BSON_DOCUMENT:
    case MR_BSON_ARRAY:
        mr_cel_put(out,
                   mr_cel_head_word(v->type == MR_BSON_ARRAY ? MR_CEL_LIST : MR_CEL_MAP,
                                    MR_CEL_FORM_BSON, v->len),
                   (uint64_t)(uintptr_t)v->data);
        return;
    default:
        mr_cel_set(out, mr_cel_from_bson(ctx, v));
    }
}

/* One step into a document. at: the document, and then what the key leads to. */
static inline enum mr_cel_found step(struct mr_cel_machine *m, struct mr_bson_value *at,
                                     const struct mr_cel_path_key *key)
{
    const uint8_t *from = at->data;
    const char *text = (const char *)m->program->bytes + key->offset;
    enum mr_cel_found found = mr_cel_find(from, at->len, key, text, at);
    m->ctx.budget -= (found == MR_CEL_FOUND ? at->data - from : (int64_t)at->len) / 128;
    return found;
}

static struct mr_cel_val rare_step(struct mr_cel_machine *m, struct mr_cel_val v,
                                   const struct mr_cel_path_key *key)
{
    struct mr_cel_val item;
    if (key->len != MR_CEL_PATH_INDEX)
        return mr_cel_select(&m->ctx, v, mr_cel_key_text(m, key));
    if (v.kind == MR_CEL_LIST && mr_cel_list_at(&m->ctx, v, key->offset, &item))
        return item;
    return mr_cel_is_strange(v) ? v : mr_cel_index(&m->ctx, v, mr_cel_int(key->offset));
}

static inline bool is_bson_map(const struct mr_cel_val *v)
{
    return v->kind == MR_CEL_MAP && v->form == MR_CEL_FORM_BSON;
}

/* Steps of a path, from key to before end: where they lead, out or v itself. */
static inline const struct mr_cel_val *steps(struct mr_cel_machine *m, const struct mr_cel_val *v,
                                             const struct mr_cel_path_key *key,
                                             const struct mr_cel_path_key *end,
                                             struct mr_cel_val *out)
{
    for (; key < end && v->kind < MR_CEL_UNKNOWN; v = out) {
        if (__builtin_expect(!is_bson_map(v) || key->len == MR_CEL_PATH_INDEX, 0)) {
            mr_cel_set(out, rare_step(m, mr_cel_get(v), key++));
            continue;
        }
        struct mr_bson_value at = {.type = MR_BSON_DOCUMENT, .data = v->bson, .len = v->len};
        enum mr_cel_found found;
        do /* documents in documents, as far as they go */
            found = step(m, &at, key);
        while (found == MR_CEL_FOUND && ++key < end && at.type == MR_BSON_DOCUMENT &&
               key->len != MR_CEL_PATH_INDEX);
        if (__builtin_expect(found == MR_CEL_FOUND, 1))
            from_bson(&m->ctx, &at, out);
        else
            mr_cel_set(out, found == MR_CEL_MISSING
                                ? mr_cel_error(MR_CEL_E_NO_SUCH_KEY, mr_cel_key_text(m, key))
                                : mr_cel_code_error(MR_CEL_E_BAD_DOCUMENT));
    }
    return v;
}

const struct mr_cel_val *mr_cel_walk_variable(const struct mr_cel_machine *m, uint32_t index,
                                              struct mr_cel_val *out)
{
    if (__builtin_expect(index < m->run->variable_count, 1))
        return &m->run->variables[index];
    const struct mr_cel_text_at *name =
        (const struct mr_cel_text_at *)(const void *)(m->program->bytes + mr_cel_head_of(m->program)
                                                                              ->variables.offset) +
        index;
    mr_cel_set(out, mr_cel_error(MR_CEL_E_NO_SUCH_ATTRIBUTE,
                                 (struct mr_str){(const char *)m->program->bytes + name->offset,
                                                 name->len}));
    return out;
}

const struct mr_cel_val *mr_cel_walk(struct mr_cel_machine *m, const struct mr_cel_val *from,
                                     const struct mr_cel_path *path, uint32_t count,
                                     struct mr_cel_val *out)
{
    const struct mr_cel_path_key *key = mr_cel_path_keys(m, path), *end = key + count;
    if (!from && path->cache != UINT32_MAX && count > 0) {
        struct mr_cel_val *first = &m->registers[path->cache];
        from = first;
        if (first->kind == MR_CEL_NULL)
            from = steps(m, mr_cel_walk_variable(m, path->variable, first), key, key + 1, first);
        key++;
    }
    return steps(m, from ? from : mr_cel_walk_variable(m, path->variable, out), key, end, out);
}

struct mr_cel_val mr_cel_walk_has(struct mr_cel_machine *m, const struct mr_cel_val *from,
                                  const struct mr_cel_path *path)
{
    struct mr_cel_val out;
    const struct mr_cel_path_key *key = &mr_cel_path_keys(m, path)[path->count - 1];
    const struct mr_cel_val *v = mr_cel_walk(m, from, path, path->count - 1, &out);
    if (!is_bson_map(v))
        return mr_cel_is_strange(*v) ? *v : mr_cel_has(&m->ctx, *v, mr_cel_key_text(m, key));
    struct mr_bson_value at = {.type = MR_BSON_DOCUMENT, .data = v->bson, .len = v->len};
    enum mr_cel_found found = step(m, &at, key);
    return found == MR_CEL_DAMAGED ? mr_cel_code_error(MR_CEL_E_BAD_DOCUMENT)
                                   : mr_cel_bool(found == MR_CEL_FOUND);
}

bool mr_cel_walk_array(struct mr_cel_iter *it, struct mr_cel_val *out)
{
    const uint8_t *at = it->bson.at, *end = it->bson.end;
    if (it->form != MR_CEL_FORM_BSON || it->kind != MR_CEL_LIST || it->index >= it->count ||
        at >= end || it->ctx->budget < 1)
        return false;
    const uint8_t *value = mr_cel_key_skip(at + 1, end), *next = mr_cel_bson_skip(*at, value, end);
    if (!next)
        return false;
    const struct mr_bson_value item = {.type = *at, .data = value, .len = (uint32_t)(next - value)};
    from_bson(it->ctx, &item, out);
    if (out->kind == MR_CEL_ERROR)
        return false;
    it->ctx->budget--;
    it->bson.at = next;
    it->index++;
    return true;
}
