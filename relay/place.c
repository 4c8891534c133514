#include "relay/place.h"

#include <stdint.h>
#include <stdio.h>

#include "common/json_read.h"

enum { TEXT_MAX = 4096, JSON_MAX = TEXT_MAX / 4 * 3 + 3 };

static int digit_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '-')
        return 62;
    return c == '_' ? 63 : -1;
}

/* -1: not base64url without padding. */
static int decode(struct mr_str text, char out[JSON_MAX])
{
    uint32_t bits = 0, bit_count = 0;
    int len = 0;
    if (text.len > TEXT_MAX || text.len % 4 == 1)
        return -1;
    for (size_t i = 0; i < text.len; i++) {
        int value = digit_value(text.data[i]);
        if (value < 0)
            return -1;
        bits = (bits << 6 | (uint32_t)value) & 0xffffff;
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            out[len++] = (char)(bits >> bit_count);
        }
    }
    return len;
}

/* The members of {"p":{...}}, with texts as values: those of ours need no escapes, and a text that
 * has some is not one of ours. False: it is something else. *found: ours. */
static bool find_position(struct mr_json_reader *json, struct mr_str backend, struct mr_str *found)
{
    struct mr_str name, value;
    *found = (struct mr_str){NULL, 0};
    if (!mr_json_take(json, '{'))
        return false;
    if (mr_json_take(json, '}'))
        return json->at == json->end;
    if (!mr_json_take_text(json, &name) || !mr_str_equal(name, MR_STR("p")) ||
        !mr_json_take(json, ':') || !mr_json_take(json, '{'))
        return false;
    if (!mr_json_take(json, '}')) {
        do {
            if (!mr_json_take_text(json, &name) || !mr_json_take(json, ':') ||
                !mr_json_take_text(json, &value))
                return false;
            if (mr_str_equal(name, backend))
                *found = value;
        } while (mr_json_take(json, ','));
        if (!mr_json_take(json, '}'))
            return false;
    }
    return mr_json_take(json, '}') && json->at == json->end;
}

static bool take_number(const char **at, const char *end, uint64_t *out)
{
    const char *begin = *at;
    *out = 0;
    while (*at < end && **at >= '0' && **at <= '9') {
        *out = *out * 10 + (uint64_t)(**at - '0');
        (*at)++;
        if (*out > UINT32_MAX)
            return false;
    }
    return *at > begin && *at < end && *(*at)++ == '-';
}

enum mr_rc mr_place_parse(struct mr_str text, struct mr_str backend, struct mr_place *out,
                          struct mr_err *err)
{
    char json_text[JSON_MAX];
    *out = (struct mr_place){.kind = MR_PLACE_NOW};
    if (text.len == 0)
        return MR_OK;
    if (mr_marker_parse(text, &out->marker, NULL) == MR_OK) {
        out->kind = MR_PLACE_MARKER;
        return MR_OK;
    }
    int len = decode(text, json_text);
    if (len < 0)
        return mr_reject(err, MR_USAGE,
                         "invalid 'after' progress marker: expected base64url, got \"%.*s\"",
                         text.len < 64 ? (int)text.len : 64, text.data);
    struct mr_json_reader json = {json_text, json_text + len};
    struct mr_str position;
    if (!find_position(&json, backend, &position))
        return mr_reject(err, MR_USAGE,
                         "invalid 'after' progress marker: expected one of ours or {\"p\":{}}");
    out->kind = MR_PLACE_OLDEST;
    if (position.len == 0)
        return MR_OK;
    const char *at = position.data, *end = position.data + position.len;
    uint64_t high, low;
    if (position.len >= MR_EVENT_ID_MAX || !take_number(&at, end, &high) ||
        !take_number(&at, end, &low) || at == end)
        return mr_reject(err, MR_USAGE,
                         "invalid 'after' progress marker: \"%.*s\" is no event id "
                         "(number-number-text)",
                         position.len < 80 ? (int)position.len : 80, position.data);
    out->kind = MR_PLACE_EVENT;
    out->source_order = high << 32 | low;
    snprintf(out->event_id, sizeof out->event_id, "%.*s", (int)position.len, position.data);
    return MR_OK;
}
