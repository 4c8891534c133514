#include "proto/event.h"

#include <string.h>

enum { BSON_LEN_MIN = 5 }; /* of a document without elements */

static size_t align8(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

const char *mr_operation_name(enum mr_operation op)
{
    static const char *const names[MR_OP_COUNT] = {"unknown", "insert",   "update", "replace",
                                                   "delete",  "truncate", "gap"};
    return (unsigned)op < MR_OP_COUNT ? names[op] : names[0];
}

size_t mr_event_size(const struct mr_event *event)
{
    if (event->database.len > MR_EVENT_NAME_MAX || event->collection.len > MR_EVENT_NAME_MAX ||
        event->document_id.len > MR_EVENT_NAME_MAX || event->event_id.len >= MR_EVENT_ID_MAX)
        return 0;
    /* Each checked alone first, so that the sum cannot wrap. */
    if (event->document.len > MR_EVENT_BYTES_MAX || event->update.len > MR_EVENT_BYTES_MAX ||
        event->before.len > MR_EVENT_BYTES_MAX)
        return 0;
    size_t size = align8(sizeof event->head + event->database.len + event->collection.len +
                         event->document_id.len + event->event_id.len);
    size += align8(event->document.len) + align8(event->update.len) + align8(event->before.len);
    return size <= MR_EVENT_BYTES_MAX ? size : 0;
}

static char *put(char *at, struct mr_str part)
{
    if (part.len > 0)
        memcpy(at, part.data, part.len);
    return at + part.len;
}

static char *pad(char *at, const char *start)
{
    while ((size_t)(at - start) & 7)
        *at++ = 0;
    return at;
}

void mr_event_encode(const struct mr_event *event, void *out)
{
    char *start = out;
    struct mr_event_head head = event->head;
    head.database_len = (uint16_t)event->database.len;
    head.collection_len = (uint16_t)event->collection.len;
    head.document_id_len = (uint16_t)event->document_id.len;
    head.event_id_len = (uint16_t)event->event_id.len;
    head.document_len = (uint32_t)event->document.len;
    head.update_len = (uint32_t)event->update.len;
    head.before_len = (uint32_t)event->before.len;
    memset(head.reserved, 0, sizeof head.reserved);
    memcpy(start, &head, sizeof head);
    char *at = start + sizeof head;
    at = put(at, event->database);
    at = put(at, event->collection);
    at = put(at, event->document_id);
    at = pad(put(at, event->event_id), start);
    at = pad(put(at, event->document), start);
    at = pad(put(at, event->update), start);
    at = pad(put(at, event->before), start);
    MR_ASSERT_SLOW((size_t)(at - start) == mr_event_size(event));
}

/* A BSON document states its own length in front and ends in a zero byte. */
static bool document_fits(struct mr_str document)
{
    if (document.len == 0)
        return true;
    if (document.len < BSON_LEN_MIN)
        return false;
    uint32_t stated;
    memcpy(&stated, document.data, sizeof stated);
    return stated == document.len && document.data[document.len - 1] == 0;
}

enum mr_rc mr_event_decode(const void *data, size_t len, struct mr_event *out)
{
    if (len < sizeof out->head || len > MR_EVENT_BYTES_MAX)
        return MR_CORRUPT;
    memcpy(&out->head, data, sizeof out->head);
    const struct mr_event_head *head = &out->head;
    const char *at = (const char *)data + sizeof *head;
    out->database = (struct mr_str){at, head->database_len};
    out->collection = (struct mr_str){at + head->database_len, head->collection_len};
    size_t ids = (size_t)head->database_len + head->collection_len;
    out->document_id = (struct mr_str){at + ids, head->document_id_len};
    out->event_id = (struct mr_str){at + ids + head->document_id_len, head->event_id_len};
    size_t names = sizeof *head + ids + head->document_id_len + head->event_id_len;
    size_t document = align8(names);
    size_t update = document + align8(head->document_len);
    size_t before = update + align8(head->update_len);
    /* The lengths are 32 bits and the sum 64: nothing wraps. The pointers are looked at only when
     * the parts make up exactly what is there. */
    if (before + align8(head->before_len) != len)
        return MR_CORRUPT;
    if (head->database_len > MR_EVENT_NAME_MAX || head->collection_len > MR_EVENT_NAME_MAX ||
        head->document_id_len > MR_EVENT_NAME_MAX || head->event_id_len >= MR_EVENT_ID_MAX)
        return MR_CORRUPT;
    if (head->op < MR_OP_INSERT || head->op >= MR_OP_COUNT)
        return MR_CORRUPT;
    const char *base = data;
    out->document = (struct mr_str){base + document, head->document_len};
    out->update = (struct mr_str){base + update, head->update_len};
    out->before = (struct mr_str){base + before, head->before_len};
    if (!document_fits(out->document) || !document_fits(out->update) || !document_fits(out->before))
        return MR_CORRUPT;
    return MR_OK;
}
