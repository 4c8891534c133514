#include "bench/log_rocksdb.h"

double mr_bench_rocksdb(const char *dir, const uint8_t *pattern, uint32_t record_bytes,
                        uint64_t total_bytes, uint64_t interval_ns)
{
    (void)dir, (void)pattern, (void)record_bytes, (void)total_bytes, (void)interval_ns;
    return 0;
}
