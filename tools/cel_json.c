#include "tools/cel_json.h"

#include <bson/bson.h>
#include <stdlib.h>

#include "common/bson.h"

struct mr_cel_json {
    bson_t *parsed; /* the last object; NULL before the first */
    char *widened;  /* room for a text with numbers made doubles */
    size_t widened_size;
};

enum mr_rc mr_cel_json_create(struct mr_cel_json **out, struct mr_err *err)
{
    *out = calloc(1, sizeof **out);
    return *out ? MR_OK : mr_fail(err, MR_FATAL, "allocate a JSON reader");
}

void mr_cel_json_destroy(struct mr_cel_json **json)
{
    if (*json) {
        if ((*json)->parsed)
            bson_destroy((*json)->parsed);
        free((*json)->widened);
    }
    free(*json);
    *json = NULL;
}

/* Bytes of the number's characters at "at". */
static size_t number_len(struct mr_str text, size_t at)
{
    size_t start = at;
    while (at < text.len && (strchr("+-.eE", text.data[at]) != NULL ||
                             (text.data[at] >= '0' && text.data[at] <= '9')))
        at += text.data[at] != '\0' ? 1 : text.len;
    return at > text.len ? 0 : at - start;
}

/* Whole, and beyond 64 bits? Then libbson would refuse it. */
static bool is_wide(struct mr_str number)
{
    size_t sign = number.len > 0 && number.data[0] == '-';
    uint64_t value = 0;
    if (number.len < 19)
        return false;
    for (size_t i = sign; i < number.len; i++) {
        uint64_t digit = (uint64_t)(number.data[i] - '0');
        if (digit > 9)
            return false;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, digit, &value))
            value = UINT64_MAX;
    }
    return value > (uint64_t)INT64_MAX + sign;
}

/* The end of a string that starts at "at", behind its closing quote. */
static size_t skip_string(struct mr_str text, size_t at)
{
    for (at++; at < text.len && text.data[at] != '"'; at++)
        at += text.data[at] == '\\';
    return at < text.len ? at + 1 : text.len;
}

/* text with ".0" behind each whole number that does not fit 64 bits; room for it is at widened. */
static size_t widen(struct mr_str text, char *widened)
{
    size_t len = 0;
    for (size_t at = 0; at < text.len;) {
        size_t end = at + 1;
        bool wide = false;
        if (text.data[at] == '"') {
            end = skip_string(text, at);
        } else if (text.data[at] == '-' || (text.data[at] >= '0' && text.data[at] <= '9')) {
            size_t digits = number_len(text, at);
            end = at + (digits > 0 ? digits : 1);
            wide = is_wide((struct mr_str){text.data + at, end - at});
        }
        memcpy(widened + len, text.data + at, end - at);
        len += end - at;
        if (wide) {
            memcpy(widened + len, ".0", 2);
            len += 2;
        }
        at = end;
    }
    return len;
}

/* Parse once more, with room for numbers that libbson's integers do not take. */
static enum mr_rc parse_widened(struct mr_cel_json *json, struct mr_str text, struct mr_err *err)
{
    size_t size = text.len + text.len / 8 + 2;
    bson_error_t error = {0};
    if (size > json->widened_size) {
        char *room = realloc(json->widened, size);
        if (!room)
            return mr_fail(err, MR_FATAL, "allocate %zu bytes for JSON", size);
        json->widened = room;
        json->widened_size = size;
    }
    size_t len = widen(text, json->widened);
    json->parsed = bson_new_from_json((const uint8_t *)json->widened, (ssize_t)len, &error);
    return json->parsed ? MR_OK : mr_reject(err, MR_USAGE, "%s", error.message);
}

enum mr_rc mr_cel_json_parse(struct mr_cel_json *json, struct mr_str text, struct mr_str *bson,
                             struct mr_err *err)
{
    bson_error_t error = {0};
    if (json->parsed)
        bson_destroy(json->parsed);
    if (text.len == 0 || text.len > INT32_MAX / 2) {
        json->parsed = NULL;
        return mr_reject(err, MR_USAGE, "no JSON object");
    }
    json->parsed = bson_new_from_json((const uint8_t *)text.data, (ssize_t)text.len, &error);
    if (!json->parsed) {
        enum mr_rc rc = parse_widened(json, text, err);
        if (rc != MR_OK)
            return rc;
    }
    *bson = (struct mr_str){(const char *)bson_get_data(json->parsed), json->parsed->len};
    if (mr_bson_validate(bson->data, bson->len) != MR_OK)
        return mr_reject(err, MR_USAGE, "no UTF-8, or nested deeper than %d", MR_BSON_DEPTH_MAX);
    return MR_OK;
}
