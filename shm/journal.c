#include "shm/journal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "common/crash.h"

/* How far ahead of the tail pages are taken, so that a full /dev/shm is MR_FULL and no SIGBUS. */
#define POPULATE_BYTES (UINT64_C(256) << 10)
/* How much may lie behind before it is let go of. */
#define DROP_BYTES (UINT64_C(256) << 10)

enum mr_rc mr_journal_create(const char *instance, uint64_t epoch, const char *part,
                             uint64_t capacity, struct mr_err *err)
{
    MR_ASSERT(capacity >= 4096 && capacity % 4096 == 0);
    struct mr_segment segment;
    enum mr_rc rc = mr_segment_create(&segment, instance, part, MR_SEGMENT_JOURNAL,
                                      MR_SEGMENT_DATA + capacity, epoch, MR_MAP_ONCE, err);
    if (rc != MR_OK)
        return rc;
    ((struct mr_journal_shm *)segment.head)->capacity = capacity;
    mr_segment_seal(&segment);
    mr_segment_detach(&segment);
    return MR_OK;
}

static enum mr_rc attach(struct mr_journal *journal, const char *instance, const char *part,
                         bool read_only, struct mr_err *err)
{
    *journal = (struct mr_journal){.shm = NULL};
    enum mr_rc rc = mr_segment_attach(&journal->segment, instance, part, MR_SEGMENT_JOURNAL,
                                      read_only, MR_MAP_ONCE, err);
    if (rc != MR_OK)
        return rc;
    struct mr_journal_shm *shm = (struct mr_journal_shm *)journal->segment.head;
    uint64_t tail = atomic_load_explicit(&shm->tail, memory_order_acquire);
    if (shm->capacity != journal->segment.head->size - MR_SEGMENT_DATA || tail > shm->capacity ||
        tail % 8 != 0) {
        rc = mr_reject(err, MR_CORRUPT,
                       "attach segment %s: tail %" PRIu64 " in a journal of %" PRIu64 " bytes",
                       journal->segment.name, tail, shm->capacity);
        mr_segment_detach(&journal->segment);
        return rc;
    }
    journal->shm = shm;
    journal->data = (uint8_t *)shm + MR_SEGMENT_DATA;
    return MR_OK;
}

enum mr_rc mr_journal_attach_writer(struct mr_journal *journal, const char *instance,
                                    const char *part, struct mr_err *err)
{
    enum mr_rc rc = attach(journal, instance, part, false, err);
    if (rc != MR_OK)
        return rc;
    struct mr_journal_shm *shm = journal->shm;
    journal->tail = atomic_load_explicit(&shm->tail, memory_order_acquire);
    journal->count = atomic_load_explicit(&shm->count, memory_order_relaxed);
    journal->generation = atomic_load_explicit(&shm->generation, memory_order_relaxed);
    return MR_OK;
}

enum mr_rc mr_journal_attach_reader(struct mr_journal *journal, const char *instance,
                                    const char *part, struct mr_err *err)
{
    return attach(journal, instance, part, true, err);
}

void mr_journal_detach(struct mr_journal *journal)
{
    mr_segment_detach(&journal->segment);
    *journal = (struct mr_journal){.shm = NULL};
}

void mr_journal_begin(struct mr_journal *journal, uint64_t generation)
{
    struct mr_journal_shm *shm = journal->shm;
    MR_ASSERT(generation > atomic_load_explicit(&shm->generation, memory_order_relaxed));
    /* Generation 0 while it is emptied: whoever dies here leaves a journal that nobody reads. */
    atomic_store_explicit(&shm->generation, 0, memory_order_release);
    MR_CRASH("journal.emptying");
    atomic_store_explicit(&shm->tail, 0, memory_order_release);
    atomic_store_explicit(&shm->count, 0, memory_order_relaxed);
    /* Hands the pages back; they read as zero again. */
    int rc = madvise(journal->data, shm->capacity, MADV_REMOVE);
    MR_ASSERT(rc == 0);
    atomic_store_explicit(&shm->generation, generation, memory_order_release);
    MR_CRASH("journal.begun");
    journal->generation = generation;
    journal->tail = 0;
    journal->count = 0;
    journal->populated = journal->dropped = 0;
}

/* Nobody looks at what lies behind him again: unmapped, it stays in the segment and is no longer
 * part of this process' memory. */
static void drop_behind(struct mr_journal *journal)
{
    uint64_t to = journal->tail & ~UINT64_C(4095);
    if (to < journal->dropped + DROP_BYTES)
        return;
    (void)madvise(journal->data + journal->dropped, to - journal->dropped, MADV_DONTNEED);
    journal->dropped = to;
}

/* Take the pages through end. False: /dev/shm has no more. A kernel without MADV_POPULATE_WRITE
 * (before 5.14) takes them at the first touch instead. */
static bool populate(struct mr_journal *journal, uint64_t end)
{
    if (end <= journal->populated)
        return true;
    uint64_t from = journal->tail & ~UINT64_C(4095);
    uint64_t to = (end + POPULATE_BYTES) & ~UINT64_C(4095);
    if (to > journal->shm->capacity)
        to = journal->shm->capacity;
    if (madvise(journal->data + from, to - from, MADV_POPULATE_WRITE) != 0 && errno != EINVAL)
        return false;
    journal->populated = to;
    drop_behind(journal);
    return true;
}

enum mr_rc mr_journal_append(struct mr_journal *journal, uint8_t type, const void *data,
                             uint32_t len)
{
    MR_ASSERT(journal->generation != 0 && type != 0);
    if (len == 0 || len > MR_JOURNAL_RECORD_MAX)
        return MR_USAGE;
    uint64_t need = (sizeof(struct mr_journal_record_shm) + (uint64_t)len + 7) & ~UINT64_C(7);
    if (need > journal->shm->capacity - journal->tail || !populate(journal, journal->tail + need))
        return MR_FULL;
    struct mr_journal_record_shm record = {
        .len = len, .type = type, .number = (uint16_t)(journal->count + 1)};
    uint8_t *at = journal->data + journal->tail;
    memcpy(at, &record, sizeof record);
    memcpy(at + sizeof record, data, len);
    journal->tail += need;
    journal->count++;
    MR_CRASH("journal.appended");
    return MR_OK;
}

void mr_journal_publish(struct mr_journal *journal)
{
    MR_ASSERT(journal->tail <= journal->shm->capacity);
    atomic_store_explicit(&journal->shm->count, journal->count, memory_order_relaxed);
    /* Records first; the acquire is in mr_journal_next. */
    atomic_store_explicit(&journal->shm->tail, journal->tail, memory_order_release);
    MR_CRASH("journal.published");
}

enum mr_rc mr_journal_rewind(struct mr_journal *journal, uint64_t generation)
{
    MR_ASSERT(generation != 0);
    if (atomic_load_explicit(&journal->shm->generation, memory_order_acquire) != generation)
        return MR_AGAIN;
    journal->generation = generation;
    journal->tail = journal->dropped = 0;
    journal->count = 0;
    return MR_OK;
}

/* Acquire: a reader that has seen anything of a later generation sees its number here too. */
static bool replaced(const struct mr_journal *journal)
{
    return atomic_load_explicit(&journal->shm->generation, memory_order_acquire) !=
           journal->generation;
}

enum mr_rc mr_journal_next(struct mr_journal *journal, uint8_t *type, const void **data,
                           uint32_t *len)
{
    MR_ASSERT(journal->generation != 0);
    uint64_t limit = atomic_load_explicit(&journal->shm->tail, memory_order_acquire);
    if (replaced(journal))
        return MR_CLOSED;
    if (limit == journal->tail)
        return MR_AGAIN;
    if (limit < journal->tail || limit > journal->shm->capacity || limit % 8 != 0)
        return replaced(journal) ? MR_CLOSED : MR_CORRUPT;
    const uint8_t *at = journal->data + journal->tail;
    uint64_t word = __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
    struct mr_journal_record_shm record;
    memcpy(&record, &word, sizeof record);
    uint64_t need = (sizeof record + (uint64_t)record.len + 7) & ~UINT64_C(7);
    if (record.type == 0 || record.len == 0 || record.len > MR_JOURNAL_RECORD_MAX ||
        need > limit - journal->tail || record.number != (uint16_t)(journal->count + 1))
        return replaced(journal) ? MR_CLOSED : MR_CORRUPT;
    *type = record.type;
    *len = record.len;
    *data = at + sizeof record;
    drop_behind(journal);
    journal->tail += need;
    journal->count++;
    return MR_OK;
}
