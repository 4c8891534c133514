#include "tools/cel_value.h"

#include <math.h>

#include "cel/lib.h"
#include "cel/number.h"
#include "cel/timestamp.h"

static struct mr_str str_of(const struct mr_bson_value *value)
{
    return value->type == MR_BSON_STRING ? mr_bson_string(value) : (struct mr_str){NULL, 0};
}

static enum mr_rc wrong(struct mr_err *err, const char *kind)
{
    return mr_reject(err, MR_USAGE, "\"%s\" has no such value", kind);
}

static bool read_hex(struct mr_cel_ctx *ctx, struct mr_str text, struct mr_cel_val *out)
{
    char *bytes = mr_cel_alloc(ctx, text.len / 2 + 1);
    if (!bytes || text.len % 2 != 0)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i], lower = (char)(c | 0x20);
        int digit = c >= '0' && c <= '9'           ? c - '0'
                    : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10
                                                   : -1;
        if (digit < 0)
            return false;
        bytes[i / 2] = (char)(i % 2 == 0 ? digit << 4 : bytes[i / 2] | digit);
    }
    *out = mr_cel_bytes((struct mr_str){bytes, text.len / 2});
    return true;
}

static bool whole_of(const struct mr_bson_value *value, int64_t *out)
{
    if (value->type == MR_BSON_INT32)
        *out = mr_bson_int32(value);
    else if (value->type == MR_BSON_INT64)
        *out = mr_bson_int64(value);
    else
        return mr_cel_int_parse(str_of(value), out);
    return true;
}

/* {"s":"1","ns":2} */
static bool read_seconds(const struct mr_bson_value *json, bool is_duration, struct mr_cel_val *out)
{
    struct mr_bson_value s, ns;
    int64_t seconds, nanos, total;
    if (json->type != MR_BSON_DOCUMENT || !mr_bson_find(json->data, json->len, MR_STR("s"), &s) ||
        !mr_bson_find(json->data, json->len, MR_STR("ns"), &ns) || !whole_of(&s, &seconds) ||
        !whole_of(&ns, &nanos))
        return false;
    if (is_duration) {
        *out = mr_cel_duration(0);
        bool fits = !__builtin_mul_overflow(seconds, INT64_C(1000000000), &total) &&
                    !__builtin_add_overflow(total, nanos, &out->integer);
        return fits;
    }
    if (nanos < 0 || nanos > 999999999 || !mr_cel_time_in_range(seconds))
        return false;
    *out = mr_cel_timestamp(seconds, (uint32_t)nanos);
    return true;
}

static bool read_scalar(struct mr_cel_ctx *ctx, struct mr_str kind,
                        const struct mr_bson_value *json, struct mr_cel_val *out)
{
    int64_t integer;
    uint64_t natural;
    double number;
    struct mr_str text = str_of(json);
    bool is_text = json->type == MR_BSON_STRING;
    if (mr_str_equal(kind, MR_STR("null")))
        *out = mr_cel_null();
    else if (mr_str_equal(kind, MR_STR("bool")) && json->type == MR_BSON_BOOL)
        *out = mr_cel_bool(mr_bson_bool(json));
    else if (mr_str_equal(kind, MR_STR("int64")) && mr_cel_int_parse(text, &integer))
        *out = mr_cel_int(integer);
    else if (mr_str_equal(kind, MR_STR("uint64")) && mr_cel_uint_parse(text, &natural))
        *out = mr_cel_uint(natural);
    else if (mr_str_equal(kind, MR_STR("double")) && mr_cel_double_parse(text, &number))
        *out = mr_cel_double(number);
    else if (mr_str_equal(kind, MR_STR("string")) && is_text)
        *out = mr_cel_string(text);
    else if (mr_str_equal(kind, MR_STR("type")) && is_text)
        *out = mr_cel_type_value(text);
    else if (mr_str_equal(kind, MR_STR("bytes")) && is_text)
        return read_hex(ctx, text, out);
    else if (mr_str_equal(kind, MR_STR("timestamp")))
        return read_seconds(json, false, out);
    else if (mr_str_equal(kind, MR_STR("duration")))
        return read_seconds(json, true, out);
    else
        return false;
    return true;
}

static uint32_t count_elements(const struct mr_bson_value *array)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    uint32_t count = 0;
    if (mr_bson_iter_init(&iter, array->data, array->len) == MR_OK)
        while (mr_bson_iter_next(&iter, &element) == MR_OK)
            count++;
    return count;
}

static enum mr_rc read_list(struct mr_cel_ctx *ctx, const struct mr_bson_value *json,
                            struct mr_cel_val *out, struct mr_err *err)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    uint32_t count = count_elements(json), i = 0;
    struct mr_cel_val *items = mr_cel_list_new(ctx, count);
    enum mr_rc rc = mr_bson_iter_init(&iter, json->data, json->len);
    if (!items)
        return mr_reject(err, MR_FULL, "a list is too large");
    while (rc == MR_OK && i < count && mr_bson_iter_next(&iter, &element) == MR_OK)
        rc = mr_cel_value_read(ctx, &element.value, &items[i++], err);
    *out = mr_cel_list(items, count);
    return rc;
}

static enum mr_rc read_map(struct mr_cel_ctx *ctx, const struct mr_bson_value *json,
                           struct mr_cel_val *out, struct mr_err *err)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    struct mr_cel_map_new map;
    if (!mr_cel_map_begin(&map, ctx, count_elements(json)))
        return mr_reject(err, MR_FULL, "a map is too large");
    enum mr_rc rc = mr_bson_iter_init(&iter, json->data, json->len);
    while (rc == MR_OK && mr_bson_iter_next(&iter, &element) == MR_OK) {
        struct mr_bson_value key, value;
        struct mr_cel_val pair[2];
        if (element.value.type != MR_BSON_ARRAY ||
            !mr_bson_find(element.value.data, element.value.len, MR_STR("0"), &key) ||
            !mr_bson_find(element.value.data, element.value.len, MR_STR("1"), &value))
            return wrong(err, "map");
        rc = mr_cel_value_read(ctx, &key, &pair[0], err);
        if (rc == MR_OK)
            rc = mr_cel_value_read(ctx, &value, &pair[1], err);
        if (rc == MR_OK && mr_cel_map_put(&map, pair[0], pair[1]).kind != MR_CEL_NULL)
            rc = mr_reject(err, MR_USAGE, "a map's key is none, or there twice");
    }
    *out = mr_cel_map_end(&map);
    return rc;
}

enum mr_rc mr_cel_value_read(struct mr_cel_ctx *ctx, const struct mr_bson_value *json,
                             struct mr_cel_val *out, struct mr_err *err)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    if (json->type != MR_BSON_DOCUMENT ||
        mr_bson_iter_init(&iter, json->data, json->len) != MR_OK ||
        mr_bson_iter_next(&iter, &element) != MR_OK)
        return mr_reject(err, MR_USAGE, "expected a value like {\"int64\":\"5\"}");
    if (mr_str_equal(element.key, MR_STR("list")) && element.value.type == MR_BSON_ARRAY)
        return read_list(ctx, &element.value, out, err);
    if (mr_str_equal(element.key, MR_STR("map")) && element.value.type == MR_BSON_ARRAY)
        return read_map(ctx, &element.value, out, err);
    if (mr_str_equal(element.key, MR_STR("optional"))) {
        *out = mr_cel_optional_none();
        struct mr_cel_val inner;
        if (element.value.type == MR_BSON_NULL)
            return MR_OK;
        enum mr_rc rc = mr_cel_value_read(ctx, &element.value, &inner, err);
        if (rc == MR_OK)
            *out = mr_cel_optional_some(ctx, inner);
        return rc;
    }
    if (read_scalar(ctx, element.key, &element.value, out))
        return MR_OK;
    return mr_reject(err, MR_USAGE, "no value of type \"%.*s\"", (int)element.key.len,
                     element.key.data);
}

/* Where and how a value is being written. */
struct writer {
    struct mr_json *out;
    struct mr_cel_ctx *ctx;
    bool typed;
    uint32_t depth;
    size_t len_max; /* of out */
};

static void put(const struct writer *w, const char *text)
{
    mr_json_put_raw(w->out, mr_str_from(text));
}

static void put_hex(const struct writer *w, struct mr_str bytes, const char *prefix)
{
    for (size_t i = 0; i < bytes.len; i++) {
        uint8_t byte = (uint8_t)bytes.data[i];
        char digits[2] = {"0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]};
        put(w, prefix);
        mr_json_put_raw(w->out, (struct mr_str){digits, sizeof digits});
    }
}

/* Text of a scalar with few characters. */
static struct mr_str scalar_text(char room[MR_CEL_ADDRESS_TEXT_MAX], struct mr_cel_val value)
{
    struct mr_cel_time time = {value.integer, (int32_t)value.len};
    struct mr_str text = {room, 0};
    switch (value.kind) {
    case MR_CEL_INT:
        text.len = mr_cel_int_format(room, value.integer);
        break;
    case MR_CEL_UINT:
        text.len = mr_cel_uint_format(room, value.bits);
        break;
    case MR_CEL_DOUBLE:
        text.len = mr_cel_double_format(room, value.number);
        if (isinf(value.number))
            text = value.number > 0 ? MR_STR("Infinity") : MR_STR("-Infinity");
        else if (value.number == 0)
            text = signbit(value.number) ? MR_STR("-0.0") : MR_STR("0.0");
        else if (isfinite(value.number) && !memchr(room, '.', text.len) &&
                 !memchr(room, 'e', text.len)) {
            memcpy(room + text.len, ".0", 2);
            text.len += 2;
        }
        break;
    case MR_CEL_TIMESTAMP:
        text.len = mr_cel_time_format(room, time);
        break;
    case MR_CEL_DURATION:
        text.len = mr_cel_duration_format(room, value.integer);
        break;
    case MR_CEL_IP:
    case MR_CEL_CIDR:
        text.len = mr_cel_address_format(room, value);
        break;
    default:
        text = value.boolean ? MR_STR("true") : MR_STR("false");
    }
    return text;
}

static void put_seconds(const struct writer *w, int64_t seconds, int64_t nanos)
{
    put(w, "{\"s\":\"");
    mr_json_put_int(w->out, seconds);
    put(w, "\",\"ns\":");
    mr_json_put_int(w->out, nanos);
    put(w, "}");
}

static void put_typed_scalar(const struct writer *w, struct mr_cel_val value)
{
    static const char *const names[MR_CEL_KIND_COUNT] = {
        [MR_CEL_NULL] = "{\"null\":",
        [MR_CEL_BOOL] = "{\"bool\":",
        [MR_CEL_INT] = "{\"int64\":",
        [MR_CEL_UINT] = "{\"uint64\":",
        [MR_CEL_DOUBLE] = "{\"double\":",
        [MR_CEL_STRING] = "{\"string\":",
        [MR_CEL_BYTES] = "{\"bytes\":",
        [MR_CEL_TYPE] = "{\"type\":",
        [MR_CEL_TIMESTAMP] = "{\"timestamp\":",
        [MR_CEL_DURATION] = "{\"duration\":",
        [MR_CEL_IP] = "{\"ip\":",
        [MR_CEL_CIDR] = "{\"cidr\":",
        [MR_CEL_UNKNOWN] = "{\"unknown\":",
    };
    char room[MR_CEL_ADDRESS_TEXT_MAX];
    put(w, names[value.kind] ? names[value.kind] : "{\"other\":");
    switch (value.kind) {
    case MR_CEL_STRING:
    case MR_CEL_TYPE:
        mr_json_put_string(w->out, mr_cel_str(value));
        break;
    case MR_CEL_BYTES:
        put(w, "\"");
        put_hex(w, mr_cel_str(value), "");
        put(w, "\"");
        break;
    case MR_CEL_TIMESTAMP:
        put_seconds(w, value.integer, value.len);
        break;
    case MR_CEL_DURATION:
        put_seconds(w, value.integer / 1000000000, value.integer % 1000000000);
        break;
    case MR_CEL_NULL:
    case MR_CEL_UNKNOWN:
        put(w, "null");
        break;
    case MR_CEL_BOOL:
        mr_json_put_raw(w->out, scalar_text(room, value));
        break;
    default:
        mr_json_put_string(w->out, scalar_text(room, value));
    }
    put(w, "}");
}

static void put_plain_scalar(const struct writer *w, struct mr_cel_val value)
{
    static const char *const calls[MR_CEL_KIND_COUNT] = {
        [MR_CEL_TIMESTAMP] = "timestamp(",
        [MR_CEL_DURATION] = "duration(",
        [MR_CEL_IP] = "ip(",
        [MR_CEL_CIDR] = "cidr(",
    };
    char room[MR_CEL_ADDRESS_TEXT_MAX];
    switch (value.kind) {
    case MR_CEL_NULL:
    case MR_CEL_UNKNOWN:
        put(w, value.kind == MR_CEL_NULL ? "null" : "unknown");
        break;
    case MR_CEL_STRING:
        mr_json_put_string(w->out, mr_cel_str(value));
        break;
    case MR_CEL_TYPE:
        mr_json_put_raw(w->out, mr_cel_str(value));
        break;
    case MR_CEL_BYTES:
        put(w, "b\"");
        put_hex(w, mr_cel_str(value), "\\x");
        put(w, "\"");
        break;
    default:
        if (calls[value.kind]) {
            put(w, calls[value.kind]);
            mr_json_put_string(w->out, scalar_text(room, value));
            put(w, ")");
            break;
        }
        mr_json_put_raw(w->out, scalar_text(room, value));
        put(w, value.kind == MR_CEL_UINT ? "u" : "");
    }
}

static void put_value(struct writer *w, struct mr_cel_val value);

static void put_container(struct writer *w, struct mr_cel_val value)
{
    struct mr_cel_iter it;
    bool is_map = value.kind == MR_CEL_MAP;
    const char *separator = "";
    put(w, w->typed ? (is_map ? "{\"map\":[" : "{\"list\":[") : is_map ? "{" : "[");
    for (mr_cel_iter_init(&it, w->ctx, value);
         w->out->len <= w->len_max && mr_cel_iter_next(&it);) {
        put(w, separator);
        separator = w->typed ? "," : ", ";
        if (is_map) {
            put(w, w->typed ? "[" : "");
            put_value(w, it.key);
            put(w, w->typed ? "," : ": ");
        }
        put_value(w, it.value);
        put(w, is_map && w->typed ? "]" : "");
    }
    if (it.failed.kind != MR_CEL_NULL)
        put(w, w->typed ? "" : "damaged");
    put(w, w->typed ? "]}" : is_map ? "}" : "]");
}

static void put_optional(struct writer *w, struct mr_cel_val value)
{
    if (!value.some) {
        put(w, w->typed ? "{\"optional\":null}" : "optional.none()");
        return;
    }
    put(w, w->typed ? "{\"optional\":" : "optional.of(");
    put_value(w, *value.some);
    put(w, w->typed ? "}" : ")");
}

static void put_value(struct writer *w, struct mr_cel_val value)
{
    if (w->out->len > w->len_max)
        return;
    if (w->depth > 2 * MR_BSON_DEPTH_MAX) {
        put(w, w->typed ? "{\"null\":null}" : "...");
        return;
    }
    w->depth++;
    if (value.kind == MR_CEL_LIST || value.kind == MR_CEL_MAP)
        put_container(w, value);
    else if (value.kind == MR_CEL_OPTIONAL)
        put_optional(w, value);
    else if (w->typed)
        put_typed_scalar(w, value);
    else
        put_plain_scalar(w, value);
    w->depth--;
}

bool mr_cel_value_write(struct mr_json *out, struct mr_cel_ctx *ctx, struct mr_cel_val value,
                        enum mr_cel_value_style style, size_t bytes_max)
{
    struct writer w = {.out = out,
                       .ctx = ctx,
                       .typed = style == MR_CEL_VALUE_TYPED,
                       .len_max = out->len + bytes_max};
    put_value(&w, value);
    return out->len <= w.len_max;
}
