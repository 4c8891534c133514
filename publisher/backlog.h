/* publisher/backlog.h: a bounded first-in first-out store of events and the subscriptions that they
 * concern, in one buffer: what a catch-up has read and what is held back meanwhile. One owner. */
#ifndef MR_PUBLISHER_BACKLOG_H
#define MR_PUBLISHER_BACKLOG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct mr_backlog {
    uint8_t *bytes;
    size_t read, len, capacity;
    size_t bytes_max; /* unread; one entry alone may be larger */
    uint64_t count;   /* unread entries */
};

struct mr_backlog_entry {
    uint64_t sequence;
    const uint64_t *ids;
    const void *event; /* 8-byte aligned */
    uint32_t id_count, event_len;
};

void mr_backlog_init(struct mr_backlog *backlog, size_t bytes_max);
void mr_backlog_fini(struct mr_backlog *backlog); /* gives the memory back; may be used again */
void mr_backlog_clear(struct mr_backlog *backlog);

/* Copy an entry. MR_FULL: over bytes_max, or no memory; nothing changed. */
MR_MUST_USE enum mr_rc mr_backlog_push(struct mr_backlog *backlog,
                                       const struct mr_backlog_entry *entry);
/* The oldest entry, borrowed until the next push or pop. False: none. */
bool mr_backlog_peek(const struct mr_backlog *backlog, struct mr_backlog_entry *out);
void mr_backlog_pop(struct mr_backlog *backlog);
#endif
