#include "puller/sources/pg_json.h"

#include <stdlib.h>

#include "common/utf8.h"
#include "proto/json_number.h"
#include "puller/sources/pg_scalar.h"

struct json {
    const char *at, *end;
    struct mr_bson_writer *w;
    /* Unescaped member names and strings: never longer than the text, so reserved once at its
     * start. Names are in use while their value is read, so each takes the next piece. */
    char *room;
};

static void skip_blanks(struct json *in)
{
    while (in->at < in->end &&
           (*in->at == ' ' || *in->at == '\n' || *in->at == '\t' || *in->at == '\r'))
        in->at++;
}

static bool take_char(struct json *in, char wanted)
{
    skip_blanks(in);
    if (in->at == in->end || *in->at != wanted)
        return false;
    in->at++;
    return true;
}

static bool read_hex4(struct json *in, uint32_t *out)
{
    *out = 0;
    if (in->end - in->at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char c = *in->at++;
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            digit = (uint32_t)((c | 32) - 'a') + 10;
        else
            return false;
        *out = *out << 4 | digit;
    }
    return true;
}

static char *put_utf8(char *out, uint32_t code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xC0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *out++ = (char)(0xE0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    } else {
        *out++ = (char)(0xF0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3F));
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    return out;
}

/* Behind "\u": one code point; two escapes when they are a surrogate pair. */
static bool read_unicode(struct json *in, uint32_t *code)
{
    if (!read_hex4(in, code))
        return false;
    if (*code < 0xD800 || *code > 0xDFFF)
        return true;
    if (*code < 0xDC00 && in->end - in->at >= 6 && in->at[0] == '\\' && in->at[1] == 'u') {
        const char *before = in->at;
        uint32_t low;
        in->at += 2;
        if (!read_hex4(in, &low))
            return false;
        if (low >= 0xDC00 && low <= 0xDFFF) {
            *code = 0x10000 + ((*code - 0xD800) << 10) + (low - 0xDC00);
            return true;
        }
        in->at = before;
    }
    *code = 0xFFFD;
    return true;
}

/* Behind a backslash. */
static bool read_escape(struct json *in, char **out)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (in->at == in->end)
        return false;
    char c = *in->at++;
    if (c == 'u') {
        uint32_t code;
        if (!read_unicode(in, &code))
            return false;
        *out = put_utf8(*out, code);
        return true;
    }
    const char *found = c == '\0' ? NULL : strchr(names, c);
    if (!found)
        return false;
    *(*out)++ = values[found - names];
    return true;
}

/* Bytes of a string that stand for themselves: to the next quote, backslash or control character.
 * Eight at a time; a byte's top bit says that it is one of those (Mycroft's zero-byte test). */
static const char *plain_end(const char *at, const char *end)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
    while (end - at >= 8) {
        uint64_t eight;
        memcpy(&eight, at, sizeof eight);
        uint64_t quote = eight ^ ones * '"', slash = eight ^ ones * '\\';
        if ((((quote - ones) & ~quote) | ((slash - ones) & ~slash) |
             ((eight - ones * 32) & ~eight)) &
            tops)
            break;
        at += 8;
    }
    while (at < end && *at != '"' && *at != '\\' && (unsigned char)*at >= 32)
        at++;
    return at;
}

/* Behind the opening quote. Without escapes the bytes are used in place. */
static bool read_string(struct json *in, struct mr_str *out)
{
    const char *start = in->at;
    in->at = plain_end(in->at, in->end);
    if (in->at < in->end && *in->at == '"') {
        *out = (struct mr_str){start, (size_t)(in->at++ - start)};
        return mr_utf8_valid(out->data, out->len);
    }
    char *room = in->room, *to = room;
    in->at = start;
    while (in->at < in->end) {
        const char *from = in->at;
        in->at = plain_end(from, in->end);
        memcpy(to, from, (size_t)(in->at - from));
        to += in->at - from;
        if (in->at == in->end || (unsigned char)*in->at < 32)
            return false;
        if (*in->at++ == '"') {
            *out = (struct mr_str){room, (size_t)(to - room)};
            in->room = to;
            return mr_utf8_valid(out->data, out->len);
        }
        if (!read_escape(in, &to))
            return false;
    }
    return false;
}

static const char *skip_digits(const char *at, const char *end)
{
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at;
}

/* The end of the number that starts at at; NULL: not one that JSON has. */
static const char *number_end(const char *at, const char *end, bool *whole)
{
    const char *digits = at < end && *at == '-' ? at + 1 : at;
    at = skip_digits(digits, end);
    if (at == digits || (*digits == '0' && at > digits + 1))
        return NULL;
    *whole = true;
    if (at < end && *at == '.') {
        digits = at + 1;
        at = skip_digits(digits, end);
        *whole = false;
        if (at == digits)
            return NULL;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        digits = at + 1;
        if (digits < end && (*digits == '+' || *digits == '-'))
            digits++;
        at = skip_digits(digits, end);
        *whole = false;
        if (at == digits)
            return NULL;
    }
    return at;
}

static bool put_double(struct json *in, struct mr_str key, const char *end)
{
    size_t len = (size_t)(end - in->at);
    char fixed[64], *copy = fixed;
    if (len >= sizeof fixed) /* numbers of jsonb can have thousands of digits */
        copy = malloc(len + 1);
    if (!copy)
        return false;
    memcpy(copy, in->at, len);
    copy[len] = '\0';
    mr_bson_put_double(in->w, key, strtod(copy, NULL));
    if (copy != fixed)
        free(copy);
    return true;
}

static bool read_number(struct json *in, struct mr_str key)
{
    bool whole, negative = *in->at == '-';
    const char *end = number_end(in->at, in->end, &whole);
    if (!end)
        return false;
    uint64_t value = 0;
    for (const char *at = in->at + negative; whole && at < end; at++)
        whole = !__builtin_mul_overflow(value, 10, &value) &&
                !__builtin_add_overflow(value, (uint64_t)(*at - '0'), &value);
    if (!whole || value > (uint64_t)INT64_MAX + negative) {
        if (!put_double(in, key, end))
            return false;
    } else {
        int64_t integer = negative ? (int64_t)(0 - value) : (int64_t)value;
        if (integer >= INT32_MIN && integer <= INT32_MAX)
            mr_bson_put_int32(in->w, key, (int32_t)integer);
        else
            mr_bson_put_int64(in->w, key, integer);
    }
    in->at = end;
    return true;
}

static bool read_word(struct json *in, struct mr_str word)
{
    if ((size_t)(in->end - in->at) < word.len || memcmp(in->at, word.data, word.len) != 0)
        return false;
    in->at += word.len;
    return true;
}

static bool read_value(struct json *in, struct mr_str key);

static bool read_object(struct json *in, struct mr_str key)
{
    mr_bson_begin_document(in->w, key);
    if (!take_char(in, '}')) {
        do {
            struct mr_str name;
            char *room = in->room;
            if (!take_char(in, '"') || !read_string(in, &name) || memchr(name.data, 0, name.len) ||
                !take_char(in, ':') || !read_value(in, name) || !in->w->ok)
                return false;
            in->room = room; /* the name has been written */
        } while (take_char(in, ','));
        if (!take_char(in, '}'))
            return false;
    }
    mr_bson_end(in->w);
    return in->w->ok;
}

static bool read_array(struct json *in, struct mr_str key)
{
    mr_bson_begin_array(in->w, key);
    if (!take_char(in, ']')) {
        uint32_t index = 0;
        do {
            char name[MR_TEXT_INT_MAX];
            size_t len = mr_text_int(name, index++);
            if (!read_value(in, (struct mr_str){name, len}) || !in->w->ok)
                return false;
        } while (take_char(in, ','));
        if (!take_char(in, ']'))
            return false;
    }
    mr_bson_end(in->w);
    return in->w->ok;
}

/* Recursion ends at the writer's MR_BSON_DEPTH_MAX: one level here is one level there. */
static bool read_value(struct json *in, struct mr_str key)
{
    skip_blanks(in);
    if (in->at == in->end)
        return false;
    struct mr_str text;
    char *room = in->room;
    switch (*in->at) {
    case '{':
    case '[':
        if (in->w->depth >= MR_BSON_DEPTH_MAX)
            return false;
        return *in->at++ == '{' ? read_object(in, key) : read_array(in, key);
    case '"':
        in->at++;
        if (!read_string(in, &text))
            return false;
        in->room = room;
        mr_bson_put_string(in->w, key, text);
        return true;
    case 't':
        mr_bson_put_bool(in->w, key, true);
        return read_word(in, MR_STR("true"));
    case 'f':
        mr_bson_put_bool(in->w, key, false);
        return read_word(in, MR_STR("false"));
    case 'n':
        mr_bson_put_null(in->w, key);
        return read_word(in, MR_STR("null"));
    default:
        return read_number(in, key);
    }
}

enum mr_rc mr_pg_json_put(struct mr_bson_writer *w, struct mr_str key, struct mr_str json,
                          struct mr_pg_scratch *scratch)
{
    struct json in = {json.data, json.data + json.len, w, NULL};
    /* The text may itself lie in scratch memory (an array's element), which must not move or be
     * overwritten: take the room behind it then. */
    bool inside = scratch->data && json.data >= scratch->data &&
                  json.data < scratch->data + scratch->capacity;
    size_t offset = inside ? (size_t)(json.data - scratch->data) : 0;
    size_t used = inside ? offset + json.len : 0;
    if (!mr_pg_scratch_reserve(scratch, used + json.len + 1))
        return MR_FATAL;
    if (inside) {
        json.data = in.at = scratch->data + offset;
        in.end = in.at + json.len;
    }
    in.room = scratch->data + used;
    size_t len = w->len;
    uint32_t depth = w->depth;
    if (read_value(&in, key)) {
        skip_blanks(&in);
        if (in.at == in.end)
            return MR_OK;
    }
    if (!w->ok) /* too large for the document, which is not the text's fault */
        return MR_OK;
    w->len = len; /* take back what was written of it */
    w->depth = depth;
    mr_pg_put_string(w, key, json);
    return MR_OK;
}
