#include "cel/writer.h"

#include "cel/utf8.h"

char *mr_cel_writer_room(struct mr_cel_writer *text, size_t len)
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

void mr_cel_writer_put(struct mr_cel_writer *text, struct mr_str bytes)
{
    char *at = bytes.len > 0 ? mr_cel_writer_room(text, bytes.len) : NULL;
    if (!at)
        return;
    if (!mr_cel_charge(text->ctx, bytes.len / 16 + 1)) {
        text->failed = true;
        return;
    }
    memcpy(at, bytes.data, bytes.len);
    text->len += bytes.len;
}

void mr_cel_writer_put_point(struct mr_cel_writer *text, uint32_t code_point)
{
    char bytes[4];
    mr_cel_writer_put(text, (struct mr_str){bytes, mr_cel_utf8_put(bytes, code_point)});
}

struct mr_cel_val mr_cel_writer_end(const struct mr_cel_writer *text)
{
    if (text->failed)
        return mr_cel_stopped(text->ctx);
    return mr_cel_string(text->data ? mr_cel_writer_bytes(text) : MR_STR(""));
}
