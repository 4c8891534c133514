#include "jetstream/outbox.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { BYTES_EACH = 128 }; /* at least so many bytes for each message: bounds their number */

static size_t power_of_two(size_t n)
{
    size_t power = 4096;
    while (power < n)
        power *= 2;
    return power;
}

enum mr_rc mr_js_outbox_init(struct mr_js_outbox *outbox, size_t bytes, struct mr_err *err)
{
    *outbox = (struct mr_js_outbox){.capacity = power_of_two(bytes)};
    outbox->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    outbox->entries_max = outbox->capacity / BYTES_EACH;
    outbox->bytes = malloc(outbox->capacity);
    outbox->entries = calloc(outbox->entries_max, sizeof *outbox->entries);
    if (outbox->bytes && outbox->entries && outbox->wake_fd >= 0)
        return MR_OK;
    mr_js_outbox_fini(outbox);
    return mr_fail(err, MR_FATAL, "allocate a queue of %zu bytes", bytes);
}

void mr_js_outbox_fini(struct mr_js_outbox *outbox)
{
    free(outbox->bytes);
    free(outbox->entries);
    if (outbox->wake_fd >= 0)
        close(outbox->wake_fd);
    outbox->bytes = NULL;
    outbox->entries = NULL;
    outbox->wake_fd = -1;
}

/* Where len bytes in one piece begin: what is left at the buffer's end is skipped. */
static bool find_room(struct mr_js_outbox *outbox, size_t len, uint64_t tail, uint64_t *begin)
{
    size_t at = outbox->bytes_tail & (outbox->capacity - 1);
    *begin = at + len <= outbox->capacity ? outbox->bytes_tail
                                          : outbox->bytes_tail + outbox->capacity - at;
    if (*begin + len - outbox->bytes_head_seen <= outbox->capacity &&
        tail - outbox->head_seen < outbox->entries_max)
        return true;
    outbox->head_seen = atomic_load_explicit(&outbox->head, memory_order_acquire);
    outbox->bytes_head_seen = atomic_load_explicit(&outbox->bytes_head, memory_order_relaxed);
    return *begin + len - outbox->bytes_head_seen <= outbox->capacity &&
           tail - outbox->head_seen < outbox->entries_max;
}

static uint8_t *append(uint8_t *at, struct mr_str part)
{
    if (part.len > 0)
        memcpy(at, part.data, part.len);
    return at + part.len;
}

enum mr_rc mr_js_outbox_put(struct mr_js_outbox *outbox, const struct mr_js_message *m)
{
    size_t payload_len = m->payload.len + m->payload_end.len;
    size_t len = m->subject.len + m->id.len + m->headers.len + payload_len;
    uint64_t tail = atomic_load_explicit(&outbox->tail, memory_order_relaxed), begin;
    if (len > outbox->capacity / 2 || m->subject.len > MR_JS_SUBJECT_MAX ||
        m->id.len > MR_JS_ID_MAX || m->headers.len > MR_JS_HEADERS_MAX)
        return MR_USAGE;
    if (!find_room(outbox, len, tail, &begin))
        return MR_FULL;
    struct mr_js_entry *entry = mr_js_outbox_entry(outbox, tail);
    *entry = (struct mr_js_entry){
        .tag = m->tag,
        .queued_ns = m->queued_ns,
        .begin = begin,
        .lane = m->lane,
        .payload_len = (uint32_t)payload_len,
        .subject_len = (uint16_t)m->subject.len,
        .id_len = (uint16_t)m->id.len,
        .headers_len = (uint16_t)m->headers.len,
    };
    uint8_t *at = append(outbox->bytes + (begin & (outbox->capacity - 1)), m->subject);
    at = append(append(at, m->id), m->headers);
    append(append(at, m->payload), m->payload_end);
    outbox->bytes_tail = begin + len;
    atomic_store_explicit(&outbox->last_tag, m->tag, memory_order_relaxed);
    /* Entry and bytes first; acquire is where the sender loads tail. */
    atomic_store_explicit(&outbox->tail, tail + 1, memory_order_release);
    return MR_OK;
}

double mr_js_outbox_fill(const struct mr_js_outbox *outbox)
{
    uint64_t tail = atomic_load_explicit(&outbox->tail, memory_order_relaxed);
    uint64_t count = tail - atomic_load_explicit(&outbox->head, memory_order_relaxed);
    uint64_t bytes =
        outbox->bytes_tail - atomic_load_explicit(&outbox->bytes_head, memory_order_relaxed);
    double by_count = (double)count / (double)outbox->entries_max;
    double by_bytes = (double)bytes / (double)outbox->capacity;
    return by_count > by_bytes ? by_count : by_bytes;
}

void mr_js_outbox_release(struct mr_js_outbox *outbox, uint64_t n)
{
    uint64_t head = atomic_load_explicit(&outbox->head, memory_order_relaxed);
    MR_ASSERT(n >= head && n <= atomic_load_explicit(&outbox->tail, memory_order_relaxed));
    if (n == head)
        return;
    const struct mr_js_entry *last = mr_js_outbox_entry(outbox, n - 1);
    uint64_t end =
        last->begin + last->subject_len + last->id_len + last->headers_len + last->payload_len;
    atomic_store_explicit(&outbox->bytes_head, end, memory_order_relaxed);
    /* Reads of what is released come before; acquire is in find_room. */
    atomic_store_explicit(&outbox->head, n, memory_order_release);
}

void mr_js_outbox_flush(struct mr_js_outbox *outbox)
{
    uint64_t one = 1;
    /* The exchange comes behind the store of tail and before the sender's next look at asleep. */
    if (atomic_exchange_explicit(&outbox->asleep, false, memory_order_seq_cst))
        (void)!write(outbox->wake_fd, &one, sizeof one); /* full only when it is readable anyway */
}

bool mr_js_outbox_may_sleep(struct mr_js_outbox *outbox, uint64_t n)
{
    atomic_store_explicit(&outbox->asleep, true, memory_order_seq_cst);
    if (atomic_load_explicit(&outbox->tail, memory_order_seq_cst) <= n)
        return true;
    atomic_store_explicit(&outbox->asleep, false, memory_order_relaxed);
    return false;
}

void mr_js_outbox_awake(struct mr_js_outbox *outbox)
{
    uint64_t count;
    /* Whoever took the flag away has written, or is about to: an early wake is harmless. */
    if (!atomic_exchange_explicit(&outbox->asleep, false, memory_order_seq_cst))
        (void)!read(outbox->wake_fd, &count, sizeof count);
}

uint64_t mr_js_outbox_pending_tag(const struct mr_js_outbox *outbox)
{
    uint64_t head = atomic_load_explicit(&outbox->head, memory_order_relaxed);
    if (head == atomic_load_explicit(&outbox->tail, memory_order_acquire))
        return UINT64_MAX;
    return mr_js_outbox_entry(outbox, head)->tag;
}
