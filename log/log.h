/* log/log.h: the durable event log: append-only segments of checksummed batches, read from any
 * sequence while it is written. Format and crash behaviour: docs/log.md
 *
 * One writer process (the puller), any number of readers in any process: a reader sees a batch as
 * soon as it is in the file, on disk or not. Records are opaque bytes with a sequence of their own,
 * one more each; each batch also carries the position in the source behind its last record, so that
 * events and position become durable together. */
#ifndef MR_LOG_LOG_H
#define MR_LOG_LOG_H
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

enum {
    MR_LOG_POSITION_MAX = 2048,              /* bytes of a source position */
    MR_LOG_RECORD_MAX = 64 * 1024 * 1024,    /* bytes of one record */
    MR_LOG_BATCH_SIZE_MAX = 16 * 1024 * 1024 /* of options.batch_bytes */
};

struct mr_log_options {
    const char *dir; /* made, mode 0700, when missing */
    uint64_t segment_bytes;
    uint64_t batch_bytes; /* a batch holds more only when one record alone is larger */
    uint64_t retention_bytes;
    uint64_t retention_age_ns;
    uint64_t commit_interval_ns; /* from one fsync to the next; 0: as fast as the disk goes. The
                                  * first write after a pause of this length is synced at once */
    bool no_uring;               /* use the helper thread even where io_uring is permitted */
};

struct mr_log_writer;

/* Open for writing: take the lock, check the last segment, cut a torn tail (which is counted),
 * refuse corruption anywhere before it (MR_CORRUPT, names file and offset). On an empty directory a
 * new log with a random id begins at sequence 1. MR_RETRY: another process has it open. */
MR_MUST_USE enum mr_rc mr_log_writer_open(struct mr_log_writer **out,
                                          const struct mr_log_options *options, struct mr_err *err);
/* Sync what was sealed, then close. A batch that was not sealed is dropped: nobody has said where
 * the source stands behind it, so the source will give it again. */
MR_MUST_USE enum mr_rc mr_log_writer_close(struct mr_log_writer **writer, struct mr_err *err);

/* State after open and as it runs. Sequences are of the last record; 0: none. */
struct mr_log_state {
    uint64_t log_id;
    uint64_t last;                 /* appended */
    uint64_t written;              /* in the file: any process can read it, survives kill -9 */
    uint64_t durable;              /* on disk: survives power loss */
    uint64_t floor;                /* oldest record kept; last + 1 when there is none */
    uint64_t seals, durable_seals; /* since open: batches sealed, and how many of them are on disk.
                                    * What no sequence tells of a batch that is a position alone */
    uint64_t size_bytes, written_bytes, syncs, torn_bytes;
    uint32_t segments;
    uint32_t position_len; /* of the last batch: where the source goes on */
    uint8_t position[MR_LOG_POSITION_MAX];
};
void mr_log_writer_state(const struct mr_log_writer *writer, struct mr_log_state *out);

/* Room for one record in the batch being built, to be filled in place. MR_FULL: seal the batch
 * first (the record does not fit, or too much is on its way to the disk: poll). MR_USAGE: len is
 * over MR_LOG_RECORD_MAX. MR_FATAL: the log has failed. 8-byte aligned; a claim that was not
 * committed is forgotten by the next one. */
MR_MUST_USE enum mr_rc mr_log_claim(struct mr_log_writer *writer, uint32_t len, void **out);
/* Returns the sequence that the record has got (the caller may write it into the record before). */
uint64_t mr_log_commit(struct mr_log_writer *writer, uint32_t len);
uint64_t mr_log_next_sequence(const struct mr_log_writer *writer);

/* End the batch being built and write it: when this returns MR_OK it is in the page cache. A batch
 * without records records the position alone. The records stay readable in memory through
 * mr_log_batch_record until the next claim. */
MR_MUST_USE enum mr_rc mr_log_seal(struct mr_log_writer *writer, const void *position,
                                   uint32_t position_len, uint64_t now_ns, struct mr_err *err);

/* Collect finished writes, start an fsync when one is due, begin segments, retire old ones that lie
 * wholly at or before releasable. Never blocks. A failed write or fsync is MR_FATAL and final:
 * after a failed fsync nobody knows what the disk holds. */
MR_MUST_USE enum mr_rc mr_log_poll(struct mr_log_writer *writer, uint64_t releasable,
                                   uint64_t now_ns, struct mr_err *err);
/* Readable when mr_log_poll has something to collect. */
int mr_log_fd(const struct mr_log_writer *writer);
/* Start the fsync that is needed whatever the commit interval says; mr_log_poll collects it. */
void mr_log_hurry(struct mr_log_writer *writer, uint64_t now_ns);
/* Block until everything sealed is durable. */
MR_MUST_USE enum mr_rc mr_log_sync(struct mr_log_writer *writer, struct mr_err *err);

/* One record, borrowed until the reader's next call. */
struct mr_log_record {
    const void *data; /* 8-byte aligned */
    uint32_t len;
    uint64_t sequence;
};
/* One record of the batch sealed last, in memory. MR_AGAIN: the sequence is not in it. */
MR_MUST_USE enum mr_rc mr_log_batch_record(const struct mr_log_writer *writer, uint64_t sequence,
                                           struct mr_log_record *out);

struct mr_log_reader;
/* Open for reading; works while a writer appends and after it died. MR_AGAIN: there is no log yet.
 */
MR_MUST_USE enum mr_rc mr_log_reader_open(struct mr_log_reader **out, const char *dir,
                                          struct mr_err *err);
void mr_log_reader_close(struct mr_log_reader **reader);
uint64_t mr_log_reader_id(const struct mr_log_reader *reader);
/* The next record read will be the one behind sequence. MR_USAGE: the log no longer reaches back so
 * far; *floor says what it has. A sequence beyond the end is fine: next waits for it. */
MR_MUST_USE enum mr_rc mr_log_seek(struct mr_log_reader *reader, uint64_t after, uint64_t *floor,
                                   struct mr_err *err);
/* MR_OK; MR_AGAIN at the end, ask again later; MR_USAGE: retention overtook this reader;
 * MR_CORRUPT: names file and offset. */
MR_MUST_USE enum mr_rc mr_log_next(struct mr_log_reader *reader, struct mr_log_record *out,
                                   struct mr_err *err);
/* The source position behind the batch that holds sequence (of records already read or sought). */
MR_MUST_USE enum mr_rc mr_log_position_at(struct mr_log_reader *reader, uint64_t sequence,
                                          uint8_t out[MR_LOG_POSITION_MAX], uint32_t *len,
                                          struct mr_err *err);

/* Check every byte of a log; calls report once per good segment. MR_CORRUPT: names file and offset
 * of the first damage. MR_AGAIN: there is no log yet. torn_bytes: behind the last good batch, not
 * known to be on disk: a crash's torn tail, which the next writer cuts, or a batch being written
 * this moment. */
struct mr_log_segment_report {
    const char *path;
    uint64_t first, last; /* last is first - 1 when it holds no record */
    uint64_t batches, bytes, torn_bytes;
};
typedef void mr_log_report(const struct mr_log_segment_report *report, void *context);
MR_MUST_USE enum mr_rc mr_log_verify(const char *dir, mr_log_report *report, void *context,
                                     struct mr_err *err);
#endif
