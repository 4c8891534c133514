#include "publisher/backlog.h"

#include <stdlib.h>
#include <string.h>

struct head {
    uint64_t sequence;
    uint32_t id_count, event_len;
};

static size_t padded(size_t len)
{
    return (len + 7) & ~(size_t)7;
}

static size_t entry_bytes(uint32_t id_count, uint32_t event_len)
{
    return sizeof(struct head) + (size_t)id_count * sizeof(uint64_t) + padded(event_len);
}

void mr_backlog_init(struct mr_backlog *backlog, size_t bytes_max)
{
    *backlog = (struct mr_backlog){.bytes_max = bytes_max};
}

void mr_backlog_fini(struct mr_backlog *backlog)
{
    free(backlog->bytes);
    mr_backlog_init(backlog, backlog->bytes_max);
}

void mr_backlog_clear(struct mr_backlog *backlog)
{
    backlog->read = 0;
    backlog->len = 0;
    backlog->count = 0;
}

/* Move what is unread to the front when that makes enough room at a fair price; else grow. */
static bool make_room(struct mr_backlog *backlog, size_t need)
{
    if (backlog->capacity - backlog->len >= need)
        return true;
    size_t unread = backlog->len - backlog->read;
    if (backlog->read >= unread && backlog->capacity - unread >= need) {
        memmove(backlog->bytes, backlog->bytes + backlog->read, unread);
        backlog->read = 0;
        backlog->len = unread;
        return true;
    }
    size_t capacity = backlog->capacity ? backlog->capacity : 4096;
    while (capacity - backlog->len < need)
        capacity *= 2;
    uint8_t *bytes = realloc(backlog->bytes, capacity);
    if (!bytes)
        return false;
    backlog->bytes = bytes;
    backlog->capacity = capacity;
    return true;
}

enum mr_rc mr_backlog_push(struct mr_backlog *backlog, const struct mr_backlog_entry *entry)
{
    size_t need = entry_bytes(entry->id_count, entry->event_len);
    size_t unread = backlog->len - backlog->read;
    if (unread > 0 && unread + need > backlog->bytes_max)
        return MR_FULL;
    if (!make_room(backlog, need))
        return MR_FULL;
    struct head head = {entry->sequence, entry->id_count, entry->event_len};
    uint8_t *out = backlog->bytes + backlog->len;
    memcpy(out, &head, sizeof head);
    out += sizeof head;
    memcpy(out, entry->ids, entry->id_count * sizeof(uint64_t));
    memcpy(out + entry->id_count * sizeof(uint64_t), entry->event, entry->event_len);
    backlog->len += need;
    backlog->count++;
    return MR_OK;
}

bool mr_backlog_peek(const struct mr_backlog *backlog, struct mr_backlog_entry *out)
{
    if (backlog->count == 0)
        return false;
    const uint8_t *at = backlog->bytes + backlog->read;
    struct head head;
    memcpy(&head, at, sizeof head);
    at += sizeof head;
    *out = (struct mr_backlog_entry){.sequence = head.sequence,
                                     .id_count = head.id_count,
                                     .event_len = head.event_len,
                                     .ids = (const void *)at,
                                     .event = at + head.id_count * sizeof(uint64_t)};
    return true;
}

void mr_backlog_pop(struct mr_backlog *backlog)
{
    MR_ASSERT(backlog->count > 0);
    struct head head;
    memcpy(&head, backlog->bytes + backlog->read, sizeof head);
    backlog->read += entry_bytes(head.id_count, head.event_len);
    backlog->count--;
    if (backlog->count == 0)
        mr_backlog_clear(backlog);
}
