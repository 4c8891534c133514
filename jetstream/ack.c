#include "jetstream/ack.h"

#include "common/json_read.h"

static bool take_number(struct mr_json_reader *r, uint64_t *out)
{
    mr_json_skip_space(r);
    const char *begin = r->at;
    *out = 0;
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
        uint64_t digit = (uint64_t)(*r->at - '0');
        if (*out > (UINT64_MAX - digit) / 10)
            return false;
        *out = *out * 10 + digit;
    }
    return r->at > begin;
}

/* A value that nobody asks for: text, or anything without a brace up to the next comma. */
static bool pass_over(struct mr_json_reader *r)
{
    struct mr_str text;
    mr_json_skip_space(r);
    if (r->at < r->end && *r->at == '"')
        return mr_json_take_text(r, &text);
    const char *begin = r->at;
    while (r->at < r->end && *r->at != ',' && *r->at != '}' && *r->at != '{' && *r->at != '[')
        r->at++;
    return r->at > begin;
}

/* Of the few members that count; everything else is passed over. */
static bool take_error(struct mr_json_reader *r, struct mr_js_ack *out)
{
    uint64_t code = 0, fine = 0;
    if (!mr_json_take(r, '{'))
        return false;
    do {
        struct mr_str name;
        if (!mr_json_take_text(r, &name) || !mr_json_take(r, ':'))
            return false;
        bool ok = mr_str_equal(name, MR_STR("code"))          ? take_number(r, &code)
                  : mr_str_equal(name, MR_STR("err_code"))    ? take_number(r, &fine)
                  : mr_str_equal(name, MR_STR("description")) ? mr_json_take_text(r, &out->error)
                                                              : pass_over(r);
        if (!ok)
            return false;
    } while (mr_json_take(r, ','));
    out->error_code = (uint32_t)(fine != 0 ? fine : code);
    return mr_json_take(r, '}');
}

static bool take_member(struct mr_json_reader *r, struct mr_js_ack *out)
{
    struct mr_str name;
    if (!mr_json_take_text(r, &name) || !mr_json_take(r, ':'))
        return false;
    if (mr_str_equal(name, MR_STR("seq")))
        return take_number(r, &out->stream_sequence);
    if (mr_str_equal(name, MR_STR("error")))
        return take_error(r, out);
    if (mr_str_equal(name, MR_STR("duplicate"))) {
        mr_json_skip_space(r);
        out->duplicate = r->at < r->end && *r->at == 't';
    }
    return pass_over(r);
}

enum mr_rc mr_js_ack_parse(struct mr_str json, struct mr_js_ack *out)
{
    struct mr_json_reader r = {json.data, json.data + json.len};
    *out = (struct mr_js_ack){0};
    if (!mr_json_take(&r, '{'))
        return MR_CORRUPT;
    do {
        if (!take_member(&r, out))
            return MR_CORRUPT;
    } while (mr_json_take(&r, ','));
    if (!mr_json_take(&r, '}'))
        return MR_CORRUPT;
    if (out->error_code != 0)
        out->stream_sequence = 0;
    return out->stream_sequence != 0 || out->error_code != 0 ? MR_OK : MR_CORRUPT;
}
