/* bench/log_rocksdb.h: the write-ahead log of RocksDB under the same records as bench/log_bench.c.
 */
#ifndef MR_BENCH_LOG_ROCKSDB_H
#define MR_BENCH_LOG_ROCKSDB_H
#include <stdint.h>

/* Append total_bytes of records (keys: eight bytes that rise) in write batches of batch_bytes, the
 * WAL synced at most every interval_ns, into a new database at dir; no memtable is flushed. Returns
 * MB of records a second until all is on disk; 0: this build has no RocksDB; below 0: it failed. */
double mr_bench_rocksdb(const char *dir, const uint8_t *pattern, uint32_t record_bytes,
                        uint64_t total_bytes, uint64_t interval_ns);
#endif
