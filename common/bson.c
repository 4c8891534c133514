#include "common/bson.h"

#include "common/utf8.h"

/* Little endian and unaligned: the host is little endian (meson.build refuses others through the
 * shared layouts), so a copy is the conversion. */
static int32_t load_i32(const uint8_t *at)
{
    int32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Bytes of a value whose size its type alone decides; 0xff: it has a length of its own or is
 * unknown. */
enum { SIZE_OWN = 0xff, TYPE_TABLE = 0x14 };
static const uint8_t fixed_size[TYPE_TABLE] = {
    [0] = SIZE_OWN,
    [MR_BSON_DOUBLE] = 8,
    [MR_BSON_STRING] = SIZE_OWN,
    [MR_BSON_DOCUMENT] = SIZE_OWN,
    [MR_BSON_ARRAY] = SIZE_OWN,
    [MR_BSON_BINARY] = SIZE_OWN,
    [MR_BSON_UNDEFINED] = 0,
    [MR_BSON_OID] = 12,
    [MR_BSON_BOOL] = 1,
    [MR_BSON_DATE] = 8,
    [MR_BSON_NULL] = 0,
    [MR_BSON_REGEX] = SIZE_OWN,
    [MR_BSON_DBPOINTER] = SIZE_OWN,
    [MR_BSON_CODE] = SIZE_OWN,
    [MR_BSON_SYMBOL] = SIZE_OWN,
    [MR_BSON_CODE_SCOPE] = SIZE_OWN,
    [MR_BSON_INT32] = 4,
    [MR_BSON_TIMESTAMP] = 8,
    [MR_BSON_INT64] = 8,
    [MR_BSON_DECIMAL128] = 16,
};

/* Length of a string value (prefix, bytes, NUL) that starts at "at" and must end by "end"; 0:
 * damaged. */
static size_t string_size(const uint8_t *at, const uint8_t *end)
{
    if (end - at < 5)
        return 0;
    int32_t len = load_i32(at);
    if (len < 1 || len > end - at - 4 || at[4 + (size_t)len - 1] != 0)
        return 0;
    return 4 + (size_t)len;
}

static size_t document_size(const uint8_t *at, const uint8_t *end)
{
    if (end - at < 5)
        return 0;
    int32_t len = load_i32(at);
    if (len < 5 || len > end - at || at[(size_t)len - 1] != 0)
        return 0;
    return (size_t)len;
}

static size_t regex_size(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *pattern = memchr(at, 0, (size_t)(end - at));
    if (!pattern)
        return 0;
    const uint8_t *options = memchr(pattern + 1, 0, (size_t)(end - pattern - 1));
    return options ? (size_t)(options + 1 - at) : 0;
}

static size_t code_scope_size(const uint8_t *at, const uint8_t *end)
{
    if (end - at < 14)
        return 0;
    int32_t len = load_i32(at);
    if (len < 14 || len > end - at)
        return 0;
    const uint8_t *inner_end = at + len;
    size_t code = string_size(at + 4, inner_end);
    if (code == 0)
        return 0;
    size_t scope = document_size(at + 4 + code, inner_end);
    return scope != 0 && 4 + code + scope == (size_t)len ? (size_t)len : 0;
}

/* Length of a value with a length of its own; 0: damaged or of no known type. None of these is
 * empty. */
static size_t own_size(uint8_t type, const uint8_t *at, const uint8_t *end)
{
    switch (type) {
    case MR_BSON_STRING:
    case MR_BSON_CODE:
    case MR_BSON_SYMBOL:
        return string_size(at, end);
    case MR_BSON_DOCUMENT:
    case MR_BSON_ARRAY:
        return document_size(at, end);
    case MR_BSON_BINARY: {
        if (end - at < 5)
            return 0;
        int32_t len = load_i32(at);
        return len >= 0 && len <= end - at - 5 ? 5 + (size_t)len : 0;
    }
    case MR_BSON_REGEX:
        return regex_size(at, end);
    case MR_BSON_DBPOINTER: {
        size_t len = string_size(at, end);
        return len != 0 && end - at >= 12 && len <= (size_t)(end - at) - 12 ? len + 12 : 0;
    }
    case MR_BSON_CODE_SCOPE:
        return code_scope_size(at, end);
    default:
        return 0;
    }
}

int64_t mr_bson_value_size(uint8_t type, const uint8_t *at, const uint8_t *end)
{
    if (type < TYPE_TABLE && fixed_size[type] != SIZE_OWN) {
        if (fixed_size[type] > end - at || (type == MR_BSON_BOOL && *at > 1))
            return -1;
        return fixed_size[type];
    }
    if (type == MR_BSON_MINKEY || type == MR_BSON_MAXKEY)
        return 0;
    size_t len = own_size(type, at, end);
    return len != 0 ? (int64_t)len : -1;
}

enum mr_rc mr_bson_iter_init(struct mr_bson_iter *iter, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    if (!bytes || len < 5 || len > INT32_MAX || (size_t)load_i32(bytes) != len ||
        bytes[len - 1] != 0)
        return MR_CORRUPT;
    iter->at = bytes + 4;
    iter->end = bytes + len - 1; /* the document's own NUL */
    return MR_OK;
}

enum mr_rc mr_bson_iter_next(struct mr_bson_iter *iter, struct mr_bson_element *out)
{
    const uint8_t *at = iter->at, *end = iter->end;
    if (at == end)
        return MR_AGAIN;
    uint8_t type = *at++;
    const uint8_t *key_end = memchr(at, 0, (size_t)(end - at));
    if (!key_end)
        return MR_CORRUPT;
    const uint8_t *value = key_end + 1;
    int64_t len = mr_bson_value_size(type, value, end);
    if (len < 0)
        return MR_CORRUPT;
    out->key = (struct mr_str){(const char *)at, (size_t)(key_end - at)};
    out->value = (struct mr_bson_value){.type = type, .data = value, .len = (uint32_t)len};
    iter->at = value + len;
    return MR_OK;
}

/* Check what the iterator does not: UTF-8, and which document is to be entered (NULL: none). */
static enum mr_rc check_element(const struct mr_bson_element *element, const uint8_t **inner,
                                size_t *inner_len)
{
    const struct mr_bson_value *v = &element->value;
    *inner = NULL;
    if (!mr_utf8_valid(element->key.data, element->key.len))
        return MR_CORRUPT;
    size_t text = 0;
    switch (v->type) {
    case MR_BSON_DOCUMENT:
    case MR_BSON_ARRAY:
        *inner = v->data;
        *inner_len = v->len;
        return MR_OK;
    case MR_BSON_STRING:
    case MR_BSON_CODE:
    case MR_BSON_SYMBOL:
    case MR_BSON_DBPOINTER: {
        struct mr_str s = mr_bson_string(v);
        return mr_utf8_valid(s.data, s.len) ? MR_OK : MR_CORRUPT;
    }
    case MR_BSON_CODE_SCOPE:
        text = (size_t)load_i32(v->data + 4);
        *inner = v->data + 8 + text;
        *inner_len = v->len - 8 - text;
        return mr_utf8_valid(v->data + 8, text - 1) ? MR_OK : MR_CORRUPT;
    case MR_BSON_REGEX:
        return mr_utf8_valid(v->data, v->len) ? MR_OK : MR_CORRUPT;
    default:
        return MR_OK;
    }
}

enum mr_rc mr_bson_validate(const void *data, size_t len)
{
    struct mr_bson_iter stack[MR_BSON_DEPTH_MAX];
    uint32_t depth = 1;
    enum mr_rc rc = mr_bson_iter_init(&stack[0], data, len);
    while (rc == MR_OK && depth > 0) {
        struct mr_bson_element element;
        rc = mr_bson_iter_next(&stack[depth - 1], &element);
        if (rc == MR_AGAIN) {
            depth--;
            rc = MR_OK;
            continue;
        }
        const uint8_t *inner = NULL;
        size_t inner_len = 0;
        if (rc == MR_OK)
            rc = check_element(&element, &inner, &inner_len);
        if (rc != MR_OK || !inner)
            continue;
        if (depth == MR_BSON_DEPTH_MAX)
            return MR_CORRUPT;
        rc = mr_bson_iter_init(&stack[depth++], inner, inner_len);
    }
    return rc;
}

bool mr_bson_find(const void *data, size_t len, struct mr_str path, struct mr_bson_value *out)
{
    struct mr_bson_value inside = {.type = MR_BSON_DOCUMENT, .data = data, .len = (uint32_t)len};
    if (len > INT32_MAX)
        return false;
    for (;;) {
        const char *dot = path.len ? memchr(path.data, '.', path.len) : NULL;
        struct mr_str part = {path.data, dot ? (size_t)(dot - path.data) : path.len};
        struct mr_bson_iter iter;
        struct mr_bson_element element;
        if ((inside.type != MR_BSON_DOCUMENT && inside.type != MR_BSON_ARRAY) ||
            mr_bson_iter_init(&iter, inside.data, inside.len) != MR_OK)
            return false;
        do {
            if (mr_bson_iter_next(&iter, &element) != MR_OK)
                return false;
        } while (!mr_str_equal(element.key, part));
        if (!dot) {
            *out = element.value;
            return true;
        }
        inside = element.value;
        path = (struct mr_str){dot + 1, path.len - part.len - 1};
    }
}

double mr_bson_double(const struct mr_bson_value *v)
{
    MR_ASSERT(v->type == MR_BSON_DOUBLE);
    double value;
    memcpy(&value, v->data, sizeof value);
    return value;
}

int32_t mr_bson_int32(const struct mr_bson_value *v)
{
    MR_ASSERT(v->type == MR_BSON_INT32);
    return load_i32(v->data);
}

int64_t mr_bson_int64(const struct mr_bson_value *v)
{
    MR_ASSERT(v->type == MR_BSON_INT64 || v->type == MR_BSON_DATE || v->type == MR_BSON_TIMESTAMP);
    int64_t value;
    memcpy(&value, v->data, sizeof value);
    return value;
}

bool mr_bson_bool(const struct mr_bson_value *v)
{
    MR_ASSERT(v->type == MR_BSON_BOOL);
    return *v->data != 0;
}

struct mr_str mr_bson_string(const struct mr_bson_value *v)
{
    MR_ASSERT(v->type == MR_BSON_STRING || v->type == MR_BSON_SYMBOL || v->type == MR_BSON_CODE ||
              v->type == MR_BSON_DBPOINTER);
    return (struct mr_str){(const char *)v->data + 4, (size_t)load_i32(v->data) - 1};
}
