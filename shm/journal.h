/* shm/journal.h: append-only journal in shared memory: one writer, any number of readers, each with
 * its own position. Carries the subscriptions from the publisher to the matchers: a matcher that
 * starts reads it from the beginning at memory speed, one that runs reads what is new.
 *
 * A journal is begun again under a higher generation when it has grown too far behind what is alive
 * (compaction) or when its writer lost its state (restart). Two segments, "subs0" and "subs1", are
 * used in turn: generation g lives in subs(g & 1), so readers of the last one are not disturbed. */
#ifndef MR_SHM_JOURNAL_H
#define MR_SHM_JOURNAL_H
#include "shm/segment.h"

struct mr_journal_shm {
    struct mr_segment_shm head;
    uint64_t capacity;                        /* creator; bytes; the file is sparse */
    alignas(128) _Atomic uint64_t generation; /* writer only; 0 never begun */
    _Atomic uint64_t tail;                    /* writer only, release; bytes appended */
    _Atomic uint64_t count;                   /* writer only; records appended */
};
static_assert(sizeof(struct mr_journal_shm) == 384, "the journal's head is an ABI");

/* In front of each record. Records start at multiples of 8. */
struct mr_journal_record_shm {
    uint32_t len; /* payload bytes, 1 to MR_JOURNAL_RECORD_MAX */
    uint8_t type; /* the users' own; never 0 */
    uint8_t reserved;
    uint16_t number; /* records of this generation, low 16 bits: one more than the one before */
};
static_assert(sizeof(struct mr_journal_record_shm) == 8, "the record's head is an ABI");

/* Handle, private to one process and one thread. */
struct mr_journal {
    struct mr_journal_shm *shm;
    uint8_t *data;
    uint64_t tail;      /* writer: end of what is appended, visible or not; reader: next to read */
    uint64_t populated; /* writer: through which the pages are known to be there */
    uint64_t dropped;   /* through which this process has let go of the pages */
    uint64_t count;
    uint64_t generation; /* of the last begin or rewind; 0: neither yet */
    struct mr_segment segment;
};

enum { MR_JOURNAL_RECORD_MAX = 1 << 20 };

/*   capacity  bytes, a multiple of 4096; memory is taken only as it is filled */
MR_MUST_USE enum mr_rc mr_journal_create(const char *instance, uint64_t epoch, const char *part,
                                         uint64_t capacity, struct mr_err *err);
/* Behind the last publication of whatever generation is there. */
MR_MUST_USE enum mr_rc mr_journal_attach_writer(struct mr_journal *journal, const char *instance,
                                                const char *part, struct mr_err *err);
MR_MUST_USE enum mr_rc mr_journal_attach_reader(struct mr_journal *journal, const char *instance,
                                                const char *part, struct mr_err *err);
void mr_journal_detach(struct mr_journal *journal);

/* Writer: empty it and begin a generation (greater than the last one). Gives the pages back. Only
 * when no reader is in this segment any more. */
void mr_journal_begin(struct mr_journal *journal, uint64_t generation);
/* Writer: append one record, type not 0; not visible before publish. MR_FULL: no room, in the
 * journal or in /dev/shm, compaction is due; MR_USAGE: len is 0 or over MR_JOURNAL_RECORD_MAX. */
MR_MUST_USE enum mr_rc mr_journal_append(struct mr_journal *journal, uint8_t type, const void *data,
                                         uint32_t len);
void mr_journal_publish(struct mr_journal *journal);

/* Reader: start at the beginning of a generation. MR_AGAIN: the segment holds another generation.
 */
MR_MUST_USE enum mr_rc mr_journal_rewind(struct mr_journal *journal, uint64_t generation);
/* Reader: the next record, in place, 8-byte aligned. MR_AGAIN at the end; MR_CLOSED: the generation
 * was replaced under the reader, rewind to the current one; MR_CORRUPT. */
MR_MUST_USE enum mr_rc mr_journal_next(struct mr_journal *journal, uint8_t *type, const void **data,
                                       uint32_t *len);
#endif
