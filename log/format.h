/* log/format.h: the bytes of a segment on disk. Byte tables and recovery rules: docs/log.md
 *
 *   0     struct mr_log_segment_head   written and synced before the file gets its name
 *   512   struct mr_log_mark           through where the file is known to be on disk
 *   4096  batches, each a multiple of 8 bytes: struct mr_log_batch_head, records, position
 *   ...   zeros: room that is allocated and not written yet
 *
 * A record is struct mr_log_frame, its bytes, zeros up to a multiple of 8. Little endian. All of it
 * is input to whoever reads it: checked, never asserted. */
#ifndef MR_LOG_FORMAT_H
#define MR_LOG_FORMAT_H
#include <assert.h>
#include <stdint.h>

#define MR_LOG_SEGMENT_MAGIC UINT64_C(0x31474553474f4c4d) /* "MLOGSEG1" */
#define MR_LOG_BATCH_MAGIC   UINT32_C(0x4842524d)         /* "MRBH" */

enum {
    MR_LOG_VERSION = 1,
    MR_LOG_MARK_OFFSET = 512,
    MR_LOG_DATA_OFFSET = 4096,
    MR_LOG_BATCH_BYTES_MAX = 80 * 1024 * 1024, /* no batch is longer, whoever says so */
    MR_LOG_NAME_DIGITS = 20,
};

/* first_sequence is 0 while the file is prepared in advance and has no name yet. After that the
 * head is rewritten once, within one disk sector: whatever a power loss leaves is one of the two.
 */
struct mr_log_segment_head {
    uint64_t magic;
    uint32_t version;
    uint32_t crc; /* CRC32C of the whole head with this field 0 */
    uint64_t log_id;
    uint64_t salt; /* random, part of every checksum in the file: bytes that a client made up, or
                    * that were copied from another file, are no batch here */
    uint64_t first_sequence;
    int64_t created_us; /* wall clock */
    uint64_t reserved[2];
};
static_assert(sizeof(struct mr_log_segment_head) == 64, "the file layout is an ABI");

/* Written after each fsync that succeeded: damage before offset is corruption, damage behind it is
 * the tail that a crash tore. A mark that is older than the truth only makes the tail longer. */
struct mr_log_mark {
    uint64_t offset;   /* bytes from the start of the file that are on disk */
    uint64_t sequence; /* of the last record before offset */
    uint32_t crc;      /* CRC32C of salt, offset, sequence */
    uint32_t reserved;
};
static_assert(sizeof(struct mr_log_mark) == 24, "the file layout is an ABI");

struct mr_log_batch_head {
    uint32_t magic;
    uint32_t
        crc; /* CRC32C of salt, offset of the batch in the file, and the bytes from length on */
    uint32_t length; /* bytes with head and position: a multiple of 8 */
    uint32_t count;  /* records; 0: the batch records a position alone */
    uint64_t first_sequence;
    int64_t wall_us;
    uint32_t position_len; /* bytes, at the very end, padded with zeros to a multiple of 8 */
    uint32_t reserved;
};
static_assert(sizeof(struct mr_log_batch_head) == 40, "the file layout is an ABI");
enum { MR_LOG_BATCH_CRC_FROM = 8 }; /* offset of length: what comes before is not checksummed */

struct mr_log_frame {
    uint32_t len;
    uint32_t reserved;
};
static_assert(sizeof(struct mr_log_frame) == 8, "the file layout is an ABI");

static inline uint64_t mr_log_pad8(uint64_t n)
{
    return (n + 7) & ~UINT64_C(7);
}
#endif
