#include "proto/json.h"

#include <math.h>
#include <stdlib.h>

#include "common/bson.h"
#include "proto/json_number.h"

/* Make sure of room for n more bytes; false when there is none to be had. */
static bool grow(struct mr_json *json, size_t n)
{
    if (json->failed)
        return false;
    size_t capacity = json->capacity ? json->capacity : 512;
    while (capacity - json->len < n) {
        if (capacity > SIZE_MAX / 2) {
            json->failed = true;
            return false;
        }
        capacity *= 2;
    }
    char *data = realloc(json->data, capacity);
    if (!data) {
        json->failed = true;
        return false;
    }
    json->data = data;
    json->capacity = capacity;
    return true;
}

static inline bool room(struct mr_json *json, size_t n)
{
    return __builtin_expect(json->capacity - json->len >= n, 1) || grow(json, n);
}

static inline void put_char(struct mr_json *json, char c)
{
    if (room(json, 1))
        json->data[json->len++] = c;
}

#define PUT_LITERAL(json, text) mr_json_put_raw((json), MR_STR(text))

void mr_json_fini(struct mr_json *json)
{
    free(json->data);
    *json = (struct mr_json){0};
}

void mr_json_put_raw(struct mr_json *json, struct mr_str text)
{
    if (text.len == 0 || !room(json, text.len))
        return;
    memcpy(json->data + json->len, text.data, text.len);
    json->len += text.len;
}

void mr_json_put_int(struct mr_json *json, int64_t value)
{
    if (room(json, MR_TEXT_INT_MAX))
        json->len += mr_text_int(json->data + json->len, value);
}

void mr_json_put_double(struct mr_json *json, double value)
{
    if (!isfinite(value))
        PUT_LITERAL(json, "null");
    else if (room(json, MR_TEXT_DOUBLE_MAX))
        json->len += mr_text_double(json->data + json->len, value);
}

/* A set of bytes: those copied as they are. The others are escaped, or start a sequence that has to
 * be looked at. */
#define BIT(c) (UINT64_C(1) << ((c)&63))
static const uint64_t plain_bytes[4] = {
    ~(BIT(' ') - 1) & ~(BIT('"') | BIT('&') | BIT('<') | BIT('>')),
    ~BIT('\\'),
};
#undef BIT

static inline bool is_plain(uint8_t c)
{
    return plain_bytes[c >> 6] >> (c & 63) & 1;
}

/* Length of the UTF-8 sequence at "at"; 0 when it is none: overlong, a surrogate, cut off. */
static size_t utf8_len(const uint8_t *at, size_t left)
{
    uint8_t c = at[0];
    size_t len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c < 0xc2 || c > 0xf4 || left < len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    bool wrong = (c == 0xe0 && at[1] < 0xa0) || (c == 0xed && at[1] > 0x9f) ||
                 (c == 0xf0 && at[1] < 0x90) || (c == 0xf4 && at[1] > 0x8f);
    return wrong ? 0 : len;
}

static void put_escape(struct mr_json *json, uint8_t c)
{
    static const char shorts[][2] = {{'"', '"'},  {'\\', '\\'}, {'\n', 'n'}, {'\r', 'r'},
                                     {'\t', 't'}, {'\b', 'b'},  {'\f', 'f'}};
    for (size_t i = 0; i < sizeof shorts / sizeof shorts[0]; i++) {
        if (c == (uint8_t)shorts[i][0]) {
            mr_json_put_raw(json, (struct mr_str){(char[]){'\\', shorts[i][1]}, 2});
            return;
        }
    }
    static const char hex[] = "0123456789abcdef";
    mr_json_put_raw(json,
                    (struct mr_str){(char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6});
}

/* One byte or sequence that is not plain; returns how many bytes it took. */
static size_t put_special(struct mr_json *json, const uint8_t *at, size_t left)
{
    if (at[0] < 0x80) {
        put_escape(json, at[0]);
        return 1;
    }
    size_t len = utf8_len(at, left);
    if (len == 0) {
        PUT_LITERAL(json, "\\ufffd");
        return 1;
    }
    if (len == 3 && at[0] == 0xe2 && at[1] == 0x80 && (at[2] & 0xfe) == 0xa8) {
        mr_json_put_raw(json, at[2] == 0xa8 ? MR_STR("\\u2028") : MR_STR("\\u2029"));
        return len;
    }
    mr_json_put_raw(json, (struct mr_str){(const char *)at, len});
    return len;
}

/* The end of the plain bytes that begin at "at". Long texts are looked at by sixteen bytes, which
 * the compiler makes a handful of instructions. */
static const uint8_t *skip_plain(const uint8_t *at, const uint8_t *end)
{
    typedef uint8_t block __attribute__((vector_size(16)));
    while (end - at >= (ptrdiff_t)sizeof(block)) {
        block b;
        memcpy(&b, at, sizeof b);
        block special = (block)((b < ' ') | (b > 127) | (b == '"') | (b == '&') | (b == '<') |
                                (b == '>') | (b == '\\'));
        uint64_t halves[2];
        memcpy(halves, &special, sizeof halves);
        if (halves[0] | halves[1])
            break;
        at += sizeof b;
    }
    while (at != end && is_plain(*at))
        at++;
    return at;
}

void mr_json_put_string(struct mr_json *json, struct mr_str text)
{
    const uint8_t *at = (const uint8_t *)text.data;
    const uint8_t *end = at ? at + text.len : at;
    put_char(json, '"');
    while (at != end) {
        const uint8_t *run = at;
        at = skip_plain(at, end);
        mr_json_put_raw(json, (struct mr_str){(const char *)run, (size_t)(at - run)});
        if (at != end)
            at += put_special(json, at, (size_t)(end - at));
    }
    put_char(json, '"');
}

static void put_hex(struct mr_json *json, const uint8_t *bytes, size_t count)
{
    if (!room(json, 2 * count + 2))
        return;
    char *out = json->data + json->len;
    *out++ = '"';
    for (size_t i = 0; i < count; i++) {
        *out++ = "0123456789abcdef"[bytes[i] >> 4];
        *out++ = "0123456789abcdef"[bytes[i] & 15];
    }
    *out = '"';
    json->len += 2 * count + 2;
}

static void put_base64(struct mr_json *json, const uint8_t *bytes, size_t count)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (!room(json, (count + 2) / 3 * 4))
        return;
    char *out = json->data + json->len;
    for (; count >= 3; count -= 3, bytes += 3, out += 4) {
        out[0] = digits[bytes[0] >> 2];
        out[1] = digits[(bytes[0] & 3) << 4 | bytes[1] >> 4];
        out[2] = digits[(bytes[1] & 15) << 2 | bytes[2] >> 6];
        out[3] = digits[bytes[2] & 63];
    }
    if (count > 0) {
        uint8_t second = count == 2 ? bytes[1] : 0;
        out[0] = digits[bytes[0] >> 2];
        out[1] = digits[(bytes[0] & 3) << 4 | second >> 4];
        out[2] = count == 2 ? digits[(second & 15) << 2] : '=';
        out[3] = '=';
        out += 4;
    }
    json->len = (size_t)(out - json->data);
}

static uint32_t load_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint64_t load_u64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static void put_binary(struct mr_json *json, const struct mr_bson_value *value)
{
    enum { OLD_BINARY = 2 }; /* repeats its length inside */
    uint8_t subtype = value->data[4];
    const uint8_t *bytes = value->data + 5;
    size_t count = value->len - 5;
    if (subtype == OLD_BINARY && count >= 4 && load_u32(bytes) == count - 4) {
        bytes += 4;
        count -= 4;
    }
    PUT_LITERAL(json, "{\"Subtype\":");
    mr_json_put_int(json, subtype);
    PUT_LITERAL(json, ",\"Data\":\"");
    put_base64(json, bytes, count);
    PUT_LITERAL(json, "\"}");
}

static void put_timestamp(struct mr_json *json, const struct mr_bson_value *value)
{
    PUT_LITERAL(json, "{\"T\":");
    mr_json_put_int(json, load_u32(value->data + 4));
    PUT_LITERAL(json, ",\"I\":");
    mr_json_put_int(json, load_u32(value->data));
    put_char(json, '}');
}

static void put_regex(struct mr_json *json, const struct mr_bson_value *value)
{
    struct mr_str pattern = mr_str_from((const char *)value->data);
    PUT_LITERAL(json, "{\"Pattern\":");
    mr_json_put_string(json, pattern);
    PUT_LITERAL(json, ",\"Options\":");
    mr_json_put_string(json, mr_str_from(pattern.data + pattern.len + 1));
    put_char(json, '}');
}

static void put_dbpointer(struct mr_json *json, const struct mr_bson_value *value)
{
    PUT_LITERAL(json, "{\"DB\":");
    uint32_t len = load_u32(value->data); /* its NUL included */
    mr_json_put_string(json, (struct mr_str){(const char *)value->data + 4, len - 1});
    PUT_LITERAL(json, ",\"Pointer\":");
    put_hex(json, value->data + value->len - 12, 12);
    put_char(json, '}');
}

static void put_decimal128(struct mr_json *json, const struct mr_bson_value *value)
{
    if (!room(json, MR_TEXT_DECIMAL_MAX + 2))
        return;
    char *out = json->data + json->len;
    size_t len = mr_text_decimal128(out + 1, load_u64(value->data), load_u64(value->data + 8));
    out[0] = out[len + 1] = '"';
    json->len += len + 2;
}

static void put_date(struct mr_json *json, int64_t ms)
{
    if (!room(json, MR_TEXT_DATE_MAX + 2))
        return;
    char *out = json->data + json->len;
    size_t len = mr_text_date_ms(out + 1, ms);
    out[0] = out[len + 1] = '"';
    json->len += len + 2;
}

/* A value that holds no document. */
static void put_scalar(struct mr_json *json, const struct mr_bson_value *value)
{
    switch (value->type) {
    case MR_BSON_DOUBLE:
        mr_json_put_double(json, mr_bson_double(value));
        return;
    case MR_BSON_STRING:
    case MR_BSON_SYMBOL:
    case MR_BSON_CODE:
        mr_json_put_string(json, mr_bson_string(value));
        return;
    case MR_BSON_BINARY:
        put_binary(json, value);
        return;
    case MR_BSON_OID:
        put_hex(json, value->data, 12);
        return;
    case MR_BSON_BOOL:
        mr_json_put_raw(json, mr_bson_bool(value) ? MR_STR("true") : MR_STR("false"));
        return;
    case MR_BSON_DATE:
        put_date(json, mr_bson_int64(value));
        return;
    case MR_BSON_REGEX:
        put_regex(json, value);
        return;
    case MR_BSON_DBPOINTER:
        put_dbpointer(json, value);
        return;
    case MR_BSON_INT32:
        mr_json_put_int(json, mr_bson_int32(value));
        return;
    case MR_BSON_TIMESTAMP:
        put_timestamp(json, value);
        return;
    case MR_BSON_INT64:
        mr_json_put_int(json, mr_bson_int64(value));
        return;
    case MR_BSON_DECIMAL128:
        put_decimal128(json, value);
        return;
    case MR_BSON_MINKEY:
    case MR_BSON_MAXKEY:
        PUT_LITERAL(json, "{}");
        return;
    default:
        PUT_LITERAL(json, "null");
        return;
    }
}

/* The documents that are open, outermost first. */
struct level {
    struct mr_bson_iter iter;
    char close; /* '}' or ']' */
    bool more;  /* a comma is due before the next element */
    bool extra; /* closes with one more brace: the scope inside a code with scope */
};

static enum mr_rc open_level(struct mr_json *json, struct level *level, struct mr_str bson,
                             bool array)
{
    *level = (struct level){.close = array ? ']' : '}'};
    put_char(json, array ? '[' : '{');
    return mr_bson_iter_init(&level->iter, bson.data, bson.len);
}

/* {"Code": text, "Scope": and then its document as a level. */
static enum mr_rc open_code_scope(struct mr_json *json, struct level *level,
                                  const struct mr_bson_value *value)
{
    uint32_t code_len = load_u32(value->data + 4); /* checked by the iterator */
    PUT_LITERAL(json, "{\"Code\":");
    mr_json_put_string(json, (struct mr_str){(const char *)value->data + 8, code_len - 1});
    PUT_LITERAL(json, ",\"Scope\":");
    struct mr_str scope = {(const char *)value->data + 8 + code_len, value->len - 8 - code_len};
    enum mr_rc rc = open_level(json, level, scope, false);
    level->extra = true;
    return rc;
}

static enum mr_rc open_value(struct mr_json *json, struct level *level,
                             const struct mr_bson_value *value)
{
    if (value->type == MR_BSON_CODE_SCOPE)
        return open_code_scope(json, level, value);
    struct mr_str bson = {(const char *)value->data, value->len};
    return open_level(json, level, bson, value->type == MR_BSON_ARRAY);
}

static bool has_levels(const struct mr_bson_value *value)
{
    return value->type == MR_BSON_DOCUMENT || value->type == MR_BSON_ARRAY ||
           value->type == MR_BSON_CODE_SCOPE;
}

static enum mr_rc put_levels(struct mr_json *json, struct mr_str bson)
{
    struct level levels[MR_BSON_DEPTH_MAX], *level = levels;
    enum mr_rc rc = open_level(json, level, bson, false);
    while (rc == MR_OK) {
        struct mr_bson_element element;
        rc = mr_bson_iter_next(&level->iter, &element);
        if (rc == MR_AGAIN) {
            put_char(json, level->close);
            if (level->extra)
                put_char(json, '}');
            if (level-- == levels)
                return MR_OK;
            rc = MR_OK;
            continue;
        }
        if (rc != MR_OK)
            return rc;
        if (level->more)
            put_char(json, ',');
        level->more = true;
        if (level->close == '}') {
            mr_json_put_string(json, element.key);
            put_char(json, ':');
        }
        if (!has_levels(&element.value))
            put_scalar(json, &element.value);
        else if (++level == levels + MR_BSON_DEPTH_MAX)
            return MR_CORRUPT;
        else
            rc = open_value(json, level, &element.value);
    }
    return rc;
}

enum mr_rc mr_json_put_document(struct mr_json *json, struct mr_str bson)
{
    size_t before = json->len;
    enum mr_rc rc = put_levels(json, bson);
    if (rc == MR_OK && json->failed)
        rc = MR_FULL;
    if (rc != MR_OK)
        json->len = before;
    return rc;
}
