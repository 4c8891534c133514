#include "cel/text.h"

#include "cel/utf8.h"

char *mr_cel_text_room(struct mr_cel_text *text, size_t len)
{
    if (text->failed || len > UINT32_MAX)
        return NULL;
    if (text->capacity - text->len < len) {
        size_t capacity = text->capacity > 0 ? text->capacity * 2 : 64;
        if (capacity < text->len + len)
            capacity = text->len + len;
        char *data = mr_cel_alloc(text->ctx, capacity);
        text->failed = !data;
        if (!data)
            return NULL;
        if (text->len > 0)
            memcpy(data, text->data, text->len);
        text->data = data;
        text->capacity = capacity;
    }
    return text->data + text->len;
}

void mr_cel_text_put(struct mr_cel_text *text, struct mr_str bytes)
{
    char *at = mr_cel_text_room(text, bytes.len);
    if (!at || bytes.len == 0)
        return;
    if (!mr_cel_charge(text->ctx, bytes.len / 16 + 1)) {
        text->failed = true;
        return;
    }
    memcpy(at, bytes.data, bytes.len);
    text->len += bytes.len;
}

void mr_cel_text_put_point(struct mr_cel_text *text, uint32_t code_point)
{
    char bytes[4];
    mr_cel_text_put(text, (struct mr_str){bytes, mr_cel_utf8_put(bytes, code_point)});
}

struct mr_cel_val mr_cel_text_end(const struct mr_cel_text *text)
{
    if (text->failed)
        return mr_cel_stopped(text->ctx);
    return mr_cel_string(text->data ? mr_cel_text_bytes(text) : MR_STR(""));
}
