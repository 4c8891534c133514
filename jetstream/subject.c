#include "jetstream/subject.h"

#include "common/fnv.h"

static bool is_plain(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

bool mr_js_text_append(char *out, size_t size, size_t *len, struct mr_str text)
{
    if (text.len >= size - *len)
        return false;
    if (text.len > 0)
        memcpy(out + *len, text.data, text.len);
    *len += text.len;
    out[*len] = '\0';
    return true;
}

enum { HASH_LEN = 18 }; /* of a cut token's end */
static const char hex[] = "0123456789ABCDEF";

uint64_t mr_js_hash(struct mr_str name)
{
    return mr_fnv_add(MR_FNV_BEGIN, name.data, name.len);
}

struct form {
    size_t max; /* bytes, HASH_LEN to MR_JS_TOKEN_MAX */
    char escape;
};

static size_t token(char out[MR_JS_TOKEN_MAX], struct form form, struct mr_str name)
{
    size_t at = 0, cut = 0;
    for (size_t i = 0; i < name.len; i++) {
        unsigned char byte = (unsigned char)name.data[i];
        size_t need = is_plain(name.data[i]) ? 1 : 3;
        if (at + need > form.max) {
            uint64_t h = mr_js_hash(name);
            out[cut++] = form.escape;
            out[cut++] = form.escape;
            for (int shift = 60; shift >= 0; shift -= 4)
                out[cut++] = hex[h >> shift & 15];
            return cut;
        }
        out[at] = need == 1 ? (char)byte : form.escape;
        if (need == 3) {
            out[at + 1] = hex[byte >> 4];
            out[at + 2] = hex[byte & 15];
        }
        at += need;
        if (at <= form.max - HASH_LEN)
            cut = at;
    }
    return at;
}

static bool append(char *out, size_t size, size_t *len, struct mr_str name, struct form form)
{
    char bytes[MR_JS_TOKEN_MAX];
    if (name.len == 0)
        return mr_js_text_append(out, size, len, (struct mr_str){&form.escape, 1});
    return mr_js_text_append(out, size, len, (struct mr_str){bytes, token(bytes, form, name)});
}

bool mr_js_token_append(char *out, size_t size, size_t *len, struct mr_str name)
{
    return append(out, size, len, name, (struct form){MR_JS_TOKEN_MAX, '%'});
}

bool mr_js_stream_append(char *out, size_t size, size_t *len, struct mr_str name)
{
    size_t room = size - *len - 1;
    if (room < HASH_LEN)
        return false;
    room = room < MR_JS_TOKEN_MAX ? room : MR_JS_TOKEN_MAX;
    return append(out, size, len, name, (struct form){room, '='});
}
