#include "puller/sources/pg_array.h"

#include "proto/json_number.h"
#include "puller/sources/pg_scalar.h"

enum { DIMENSIONS_MAX = 6 }; /* the server's own limit */

struct array {
    struct mr_bson_writer *w;
    struct mr_pg_scratch *scratch;
    enum mr_pg_kind kind;
    const char *at, *end;  /* text form */
    struct mr_pg_bytes in; /* binary form */
    uint32_t dims[DIMENSIONS_MAX];
};

struct element_key {
    char text[MR_TEXT_INT_MAX];
};

static struct mr_str key_of(uint32_t index, struct element_key *out)
{
    return (struct mr_str){out->text, mr_text_int(out->text, index)};
}

/* Behind the opening quote, into scratch memory: the array's text is the longest that can come. */
static bool read_quoted(struct array *a, struct mr_pg_value *out)
{
    char *to = a->scratch->data;
    while (a->at < a->end && *a->at != '"') {
        if (*a->at == '\\' && ++a->at == a->end)
            return false;
        *to++ = *a->at++;
    }
    if (a->at == a->end)
        return false;
    a->at++;
    *out = (struct mr_pg_value){(const uint8_t *)a->scratch->data,
                                (uint32_t)(to - a->scratch->data), MR_PG_FORM_TEXT};
    return true;
}

static bool read_bare(struct array *a, struct mr_pg_value *out)
{
    const char *start = a->at;
    while (a->at < a->end && *a->at != ',' && *a->at != '}')
        a->at++;
    struct mr_str text = {start, (size_t)(a->at - start)};
    *out = (struct mr_pg_value){(const uint8_t *)start, (uint32_t)text.len, MR_PG_FORM_TEXT};
    if (mr_str_equal(text, MR_STR("NULL")))
        out->form = MR_PG_FORM_NULL;
    return text.len > 0;
}

static bool read_level(struct array *a, struct mr_str key, unsigned depth);

static bool read_element(struct array *a, struct mr_str key, unsigned depth)
{
    if (a->at < a->end && *a->at == '{')
        return depth + 1 < DIMENSIONS_MAX && read_level(a, key, depth + 1);
    struct mr_pg_value value;
    bool quoted = a->at < a->end && *a->at == '"';
    a->at += quoted;
    if (!(quoted ? read_quoted(a, &value) : read_bare(a, &value)))
        return false;
    return mr_pg_put(a->w, key, (struct mr_pg_type){(uint8_t)a->kind, false}, &value, a->scratch) ==
           MR_OK;
}

/* From the opening brace to behind the closing one. */
static bool read_level(struct array *a, struct mr_str key, unsigned depth)
{
    if (a->at == a->end || *a->at != '{' || a->w->depth >= MR_BSON_DEPTH_MAX)
        return false;
    a->at++;
    mr_bson_begin_array(a->w, key);
    if (a->at < a->end && *a->at == '}') {
        a->at++;
        mr_bson_end(a->w);
        return true;
    }
    for (uint32_t index = 0;; index++) {
        struct element_key name;
        if (!read_element(a, key_of(index, &name), depth) || a->at == a->end || !a->w->ok)
            return false;
        char c = *a->at++;
        if (c == '}')
            break;
        if (c != ',')
            return false;
    }
    mr_bson_end(a->w);
    return true;
}

enum mr_rc mr_pg_array_put_text(struct mr_bson_writer *w, struct mr_str key, struct mr_pg_type type,
                                const struct mr_pg_value *value, struct mr_pg_scratch *scratch)
{
    const char *text = (const char *)value->data;
    struct array a = {
        .w = w, .scratch = scratch, .kind = type.kind, .at = text, .end = text + value->len};
    if (!mr_pg_scratch_reserve(scratch, value->len + (size_t)1))
        return MR_FATAL;
    if (value->len > 0 && text[0] == '[') { /* "[0:2]={...}": lower bounds other than 1 */
        const char *equals = memchr(text, '=', value->len);
        a.at = equals ? equals + 1 : a.end;
    }
    size_t len = w->len;
    uint32_t depth = w->depth;
    if ((read_level(&a, key, 0) && a.at == a.end) || !w->ok)
        return MR_OK; /* not ok: too large for the document, which is not the text's fault */
    w->len = len;     /* take back what was written of it */
    w->depth = depth;
    mr_pg_put_string(w, key, (struct mr_str){text, value->len});
    return MR_OK;
}

static enum mr_rc binary_element(struct array *a, struct mr_str key)
{
    uint32_t len = mr_pg_u32(&a->in);
    struct mr_pg_value value = {NULL, 0, MR_PG_FORM_NULL};
    if (len != UINT32_MAX) {
        value = (struct mr_pg_value){mr_pg_take(&a->in, len), len, MR_PG_FORM_BINARY};
        if (!value.data)
            return MR_CORRUPT;
    }
    if (a->in.bad)
        return MR_CORRUPT;
    return mr_pg_put(a->w, key, (struct mr_pg_type){(uint8_t)a->kind, false}, &value, a->scratch);
}

static enum mr_rc binary_level(struct array *a, struct mr_str key, unsigned level, unsigned levels)
{
    mr_bson_begin_array(a->w, key);
    for (uint32_t i = 0; i < a->dims[level]; i++) {
        struct element_key name;
        struct mr_str element = key_of(i, &name);
        enum mr_rc rc = level + 1 < levels ? binary_level(a, element, level + 1, levels)
                                           : binary_element(a, element);
        if (rc != MR_OK || !a->w->ok)
            return rc;
    }
    mr_bson_end(a->w);
    return MR_OK;
}

enum mr_rc mr_pg_array_put_binary(struct mr_bson_writer *w, struct mr_str key,
                                  struct mr_pg_type type, const struct mr_pg_value *value,
                                  struct mr_pg_scratch *scratch)
{
    struct array a = {.w = w,
                      .scratch = scratch,
                      .kind = type.kind,
                      .in = mr_pg_bytes_of(value->data, value->len)};
    uint32_t levels = mr_pg_u32(&a.in);
    mr_pg_u32(&a.in); /* whether there are NULLs */
    mr_pg_u32(&a.in); /* element type: known from the column */
    if (levels > DIMENSIONS_MAX)
        return MR_CORRUPT;
    uint64_t elements = levels > 0;
    for (uint32_t i = 0; i < levels; i++) {
        a.dims[i] = mr_pg_u32(&a.in);
        mr_pg_u32(&a.in); /* lower bound */
        /* Each element takes four bytes at least, so a forged dimension is found before any work.
         */
        elements *= a.dims[i];
        if (a.dims[i] == 0 || elements > value->len / 4)
            return MR_CORRUPT;
    }
    if (a.in.bad)
        return MR_CORRUPT;
    enum mr_rc rc = MR_OK;
    if (levels == 0) {
        mr_bson_begin_array(w, key);
        mr_bson_end(w);
    } else {
        rc = binary_level(&a, key, 0, levels);
    }
    return rc == MR_OK && w->ok && a.in.at != a.in.end ? MR_CORRUPT : rc;
}
