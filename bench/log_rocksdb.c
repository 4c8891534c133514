#include "bench/log_rocksdb.h"

#include <rocksdb/c.h>
#include <stdio.h>

#include "common/clock.h"

enum { BATCH_BYTES = 256 * 1024 };

static rocksdb_t *open_database(const char *dir, uint64_t total_bytes, char **problem)
{
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_write_buffer_size(options, 4 * total_bytes);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_t *db = rocksdb_open(options, dir, problem);
    rocksdb_options_destroy(options);
    return db;
}

static void append(rocksdb_t *db, const uint8_t *pattern, uint32_t record_bytes,
                   uint64_t total_bytes, uint64_t interval_ns, char **problem)
{
    rocksdb_writeoptions_t *how = rocksdb_writeoptions_create();
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    uint64_t records = total_bytes / record_bytes, in_batch = 0, synced_ns = mr_clock_ns();
    for (uint64_t i = 0; i < records && !*problem; i++) {
        uint64_t key = __builtin_bswap64(i);
        rocksdb_writebatch_put(batch, (const char *)&key, sizeof key, (const char *)pattern,
                               record_bytes);
        in_batch += record_bytes;
        if (in_batch < BATCH_BYTES && i + 1 < records)
            continue;
        rocksdb_write(db, how, batch, problem);
        rocksdb_writebatch_clear(batch);
        in_batch = 0;
        if (!*problem && mr_clock_ns() - synced_ns >= interval_ns) {
            rocksdb_flush_wal(db, 1, problem);
            synced_ns = mr_clock_ns();
        }
    }
    if (!*problem)
        rocksdb_flush_wal(db, 1, problem);
    rocksdb_writebatch_destroy(batch);
    rocksdb_writeoptions_destroy(how);
}

double mr_bench_rocksdb(const char *dir, const uint8_t *pattern, uint32_t record_bytes,
                        uint64_t total_bytes, uint64_t interval_ns)
{
    char *problem = NULL;
    rocksdb_t *db = open_database(dir, total_bytes, &problem);
    uint64_t start_ns = mr_clock_ns();
    if (!problem)
        append(db, pattern, record_bytes, total_bytes, interval_ns, &problem);
    double seconds = (double)(mr_clock_ns() - start_ns) / 1e9;
    if (problem)
        fprintf(stderr, "bench-log: rocksdb: %s\n", problem);
    if (db)
        rocksdb_close(db);
    return problem ? -1 : (double)(total_bytes / record_bytes * record_bytes) / 1e6 / seconds;
}
