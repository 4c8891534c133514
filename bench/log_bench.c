/* bench/log_bench.c: what the log costs over the floor: the same bytes by plain pwrite + fdatasync,
 * memcpy + CRC32C, and the write-ahead log of RocksDB. One run, one directory, one disk.
 *
 *   bench-log [--dir DIR] [--mib N] [--record BYTES] [--thread]      JSON on standard output */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/log_rocksdb.h"
#include "common/clock.h"
#include "log/crc32c.h"
#include "log/log.h"

enum { LATENCY_SAMPLES = 1000, BATCH_BYTES = 256 * 1024, ROUNDS = 3 };

struct bench {
    const char *parent;
    char dir[256];
    uint64_t total_bytes;
    uint32_t record_bytes;
    bool thread;
    uint8_t *pattern; /* one batch of bytes to write */
};

static _Noreturn void die(const char *what, const struct mr_err *err)
{
    fprintf(stderr, "bench-log: %s: %s\n", what, err ? err->text : strerror(errno));
    exit(1);
}

static void check(enum mr_rc rc, const char *what, const struct mr_err *err)
{
    if (rc != MR_OK)
        die(what, err);
}

static double seconds_since(uint64_t start_ns)
{
    return (double)(mr_clock_ns() - start_ns) / 1e9;
}

static struct mr_log_options options_of(const struct bench *bench)
{
    return (struct mr_log_options){.dir = bench->dir,
                                   .segment_bytes = 64 << 20,
                                   .batch_bytes = BATCH_BYTES,
                                   .retention_bytes = UINT64_MAX,
                                   .retention_age_ns = UINT64_MAX,
                                   .commit_interval_ns = 5 * MR_NS_PER_MS,
                                   .no_uring = bench->thread};
}

/* Append flat out. The clock stops when all is in the file, and again when all is on disk; returns
 * the MB a second of the latter. */
static double bench_append(const struct bench *bench)
{
    struct mr_log_options options = options_of(bench);
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_state log;
    check(mr_log_writer_open(&w, &options, &err), "open", &err);
    uint64_t records = bench->total_bytes / bench->record_bytes, done = 0, full = 0;
    uint64_t start_ns = mr_clock_ns();
    while (done < records) {
        void *room;
        enum mr_rc rc = mr_log_claim(w, bench->record_bytes, &room);
        if (rc == MR_OK) {
            memcpy(room, bench->pattern, bench->record_bytes);
            (void)mr_log_commit(w, bench->record_bytes);
            done++;
            continue;
        }
        uint64_t now_ns = mr_clock_ns();
        mr_log_writer_state(w, &log);
        if (log.written < log.last)
            check(mr_log_seal(w, &done, sizeof done, now_ns, &err), "seal", &err);
        else {
            full++;
            struct pollfd ready = {.fd = mr_log_fd(w), .events = POLLIN};
            poll(&ready, 1, 1);
        }
        check(mr_log_poll(w, 0, now_ns, &err), "poll", &err);
    }
    check(mr_log_seal(w, &done, sizeof done, mr_clock_ns(), &err), "seal", &err);
    double written_s = seconds_since(start_ns);
    check(mr_log_sync(w, &err), "sync", &err);
    double durable_s = seconds_since(start_ns);
    mr_log_writer_state(w, &log);
    double mb = (double)done * bench->record_bytes / 1e6;
    printf("  \"append\": {\"written_mb_s\": %.1f, \"durable_mb_s\": %.1f, \"records_s\": %.0f, "
           "\"syncs\": %" PRIu64 ", \"segments\": %" PRIu32 ", \"waits_for_disk\": %" PRIu64 "},\n",
           mb / written_s, mb / durable_s, (double)done / durable_s, log.syncs, log.segments, full);
    check(mr_log_writer_close(&w, &err), "close", &err);
    return mb / durable_s;
}

static void bench_read(const struct bench *bench)
{
    struct mr_err err;
    struct mr_log_reader *r;
    struct mr_log_record record;
    uint64_t bytes = 0, records = 0;
    check(mr_log_reader_open(&r, bench->dir, &err), "open reader", &err);
    uint64_t start_ns = mr_clock_ns();
    enum mr_rc rc;
    while ((rc = mr_log_next(r, &record, &err)) == MR_OK) {
        bytes += record.len;
        records++;
    }
    double read_s = seconds_since(start_ns);
    if (rc != MR_AGAIN)
        die("read", &err);
    uint64_t floor, seeks = 1000;
    start_ns = mr_clock_ns();
    for (uint64_t i = 0; i < seeks; i++) {
        check(mr_log_seek(r, i * 7919 * 31 % records, &floor, &err), "seek", &err);
        check(mr_log_next(r, &record, &err), "read", &err);
    }
    double seek_us = seconds_since(start_ns) * 1e6 / (double)seeks;
    printf("  \"read\": {\"mb_s\": %.1f, \"records_s\": %.0f, \"seek_us\": %.1f},\n",
           (double)bytes / read_s / 1e6, (double)records / read_s, seek_us);
    mr_log_reader_close(&r);
}

static int compare_samples(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_latency(const char *name, uint64_t *samples)
{
    qsort(samples, LATENCY_SAMPLES, sizeof *samples, compare_samples);
    printf("  \"%s\": {\"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f},\n", name,
           (double)samples[LATENCY_SAMPLES / 2] / 1e3,
           (double)samples[LATENCY_SAMPLES * 99 / 100] / 1e3,
           (double)samples[LATENCY_SAMPLES - 1] / 1e3);
}

/* One batch of 16 records at a time: from the call of seal until it returned, and until durable. */
static void bench_latency(const struct bench *bench, uint64_t interval_ns)
{
    struct mr_log_options options = options_of(bench);
    struct mr_err err;
    struct mr_log_writer *w;
    struct mr_log_state log;
    static uint64_t written[LATENCY_SAMPLES], durable[LATENCY_SAMPLES];
    options.commit_interval_ns = interval_ns;
    check(mr_log_writer_open(&w, &options, &err), "open", &err);
    for (int i = 0; i < LATENCY_SAMPLES; i++) {
        void *room;
        for (int record = 0; record < 16; record++) {
            check(mr_log_claim(w, bench->record_bytes, &room), "claim", NULL);
            memcpy(room, bench->pattern, bench->record_bytes);
            (void)mr_log_commit(w, bench->record_bytes);
        }
        uint64_t start_ns = mr_clock_ns();
        check(mr_log_seal(w, &i, sizeof i, start_ns, &err), "seal", &err);
        written[i] = mr_clock_ns() - start_ns;
        do {
            struct pollfd ready = {.fd = mr_log_fd(w), .events = POLLIN};
            poll(&ready, 1, 1000);
            check(mr_log_poll(w, 0, mr_clock_ns(), &err), "poll", &err);
            mr_log_writer_state(w, &log);
        } while (log.durable < log.last);
        durable[i] = mr_clock_ns() - start_ns;
    }
    char name[64];
    snprintf(name, sizeof name, "seal_to_written_interval_%" PRIu64 "ms",
             interval_ns / MR_NS_PER_MS);
    print_latency(name, written);
    snprintf(name, sizeof name, "seal_to_durable_interval_%" PRIu64 "ms",
             interval_ns / MR_NS_PER_MS);
    print_latency(name, durable);
    check(mr_log_writer_close(&w, &err), "close", &err);
}

/* Small writes, each with its fdatasync. In a file that is only reserved, as a segment is, each one
 * also commits to the file system's journal that these blocks now hold data; in a file that was
 * written before, it does not. */
static void floor_latency(const struct bench *bench, int fd, const char *name)
{
    static uint64_t samples[LATENCY_SAMPLES];
    uint32_t len = 16 * bench->record_bytes;
    for (int i = 0; i < LATENCY_SAMPLES; i++) {
        uint64_t start_ns = mr_clock_ns();
        if (pwrite(fd, bench->pattern, len, (off_t)i * len % (off_t)(bench->total_bytes / 2)) < 0 ||
            fdatasync(fd) != 0)
            die("sync floor file", NULL);
        samples[i] = mr_clock_ns() - start_ns;
    }
    print_latency(name, samples);
}

/* The same bytes in the same pieces into a file with room reserved, fdatasync at most every 5 ms.
 */
static double floor_pwrite(const struct bench *bench)
{
    char path[300];
    snprintf(path, sizeof path, "%s/floor", bench->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, (off_t)bench->total_bytes) != 0)
        die("make floor file", NULL);
    uint64_t start_ns = mr_clock_ns(), synced_ns = start_ns;
    for (uint64_t at = 0; at + BATCH_BYTES <= bench->total_bytes; at += BATCH_BYTES) {
        if (pwrite(fd, bench->pattern, BATCH_BYTES, (off_t)at) != BATCH_BYTES)
            die("write floor file", NULL);
        if (mr_clock_ns() - synced_ns >= 5 * MR_NS_PER_MS) {
            if (fdatasync(fd) != 0)
                die("sync floor file", NULL);
            synced_ns = mr_clock_ns();
        }
    }
    if (fdatasync(fd) != 0)
        die("sync floor file", NULL);
    double mb = (double)(bench->total_bytes / BATCH_BYTES * BATCH_BYTES) / 1e6;
    double mb_s = mb / seconds_since(start_ns);
    printf("  \"floor_pwrite_fdatasync\": {\"mb_s\": %.1f}\n", mb_s);
    close(fd);
    unlink(path);
    return mb_s;
}

static void floor_latencies(const struct bench *bench)
{
    char path[300];
    snprintf(path, sizeof path, "%s/floor", bench->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (uint64_t at = 0; fd >= 0 && at < bench->total_bytes / 2; at += BATCH_BYTES)
        if (pwrite(fd, bench->pattern, BATCH_BYTES, (off_t)at) != BATCH_BYTES)
            die("write floor file", NULL);
    if (fd < 0 || fdatasync(fd) != 0)
        die("make floor file", NULL);
    floor_latency(bench, fd, "floor_latency_rewritten_file");
    if (ftruncate(fd, 0) != 0 || posix_fallocate(fd, 0, (off_t)bench->total_bytes) != 0)
        die("make floor file", NULL);
    floor_latency(bench, fd, "floor_latency_reserved_file");
    close(fd);
    unlink(path);
}

/* The peers' figures and ours, as ratios of medians: disks are noisy, so each has its turn thrice.
 */
static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, ascending);
    return values[ROUNDS / 2];
}

static void print_ratios(double *ours, double *floors, double *rocksdb)
{
    double own = median(ours), floor = median(floors), peer = median(rocksdb);
    printf("  \"medians\": {\"append_durable_mb_s\": %.1f, \"floor_mb_s\": %.1f, "
           "\"rocksdb_wal_mb_s\": %.1f, \"of_floor\": %.2f, \"times_rocksdb\": %.2f},\n",
           own, floor, peer, own / floor, peer > 0 ? own / peer : 0.0);
}

static void floor_memory(const struct bench *bench)
{
    uint8_t *copy = malloc(BATCH_BYTES);
    if (!copy)
        die("memory", NULL);
    uint32_t crc = 0;
    uint64_t start_ns = mr_clock_ns();
    for (uint64_t at = 0; at + BATCH_BYTES <= bench->total_bytes; at += BATCH_BYTES) {
        memcpy(copy, bench->pattern, BATCH_BYTES);
        crc ^= mr_crc32c(crc, copy, BATCH_BYTES);
    }
    double seconds = seconds_since(start_ns);
    printf("  \"floor_memcpy_crc32c\": {\"mb_s\": %.1f, \"crc\": %" PRIu32 "}\n",
           (double)bench->total_bytes / seconds / 1e6, crc);
    free(copy);
}

static void remove_dir(const struct bench *bench)
{
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", bench->dir);
    if (system(command) != 0)
        fprintf(stderr, "bench-log: %s is left behind\n", bench->dir);
}

static void new_dir(struct bench *bench)
{
    snprintf(bench->dir, sizeof bench->dir, "%s/millrace-bench-log-XXXXXX", bench->parent);
    if (!mkdtemp(bench->dir))
        die("make directory", NULL);
}

int main(int argc, char **argv)
{
    struct bench bench = {
        .parent = "/var/tmp", .total_bytes = UINT64_C(512) << 20, .record_bytes = 600};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "0";
        if (strcmp(argv[i], "--dir") == 0 && ++i)
            bench.parent = value;
        else if (strcmp(argv[i], "--mib") == 0 && ++i)
            bench.total_bytes = strtoull(value, NULL, 10) << 20;
        else if (strcmp(argv[i], "--record") == 0 && ++i)
            bench.record_bytes = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--thread") == 0)
            bench.thread = true;
    }
    if (bench.total_bytes < 1 << 20 || bench.record_bytes < 1 ||
        bench.record_bytes > BATCH_BYTES / 16) {
        fprintf(stderr, "usage: bench-log [--dir DIR] [--mib N] [--record 1..%d] [--thread]\n",
                BATCH_BYTES / 16);
        return 2;
    }
    bench.pattern = malloc(BATCH_BYTES);
    if (!bench.pattern)
        die("memory", NULL);
    for (uint32_t i = 0; i < BATCH_BYTES; i++)
        bench.pattern[i] = (uint8_t)(i * 2654435761u >> 13);
    printf("{\n  \"record_bytes\": %" PRIu32 ", \"mib\": %" PRIu64 ", \"background\": \"%s\",\n",
           bench.record_bytes, bench.total_bytes >> 20, bench.thread ? "thread" : "io_uring");
    double ours[ROUNDS], floors[ROUNDS], rocksdb[ROUNDS];
    printf("  \"rounds\": [\n");
    for (int i = 0; i < ROUNDS; i++) {
        char path[300];
        puts("  {");
        new_dir(&bench);
        ours[i] = bench_append(&bench);
        bench_read(&bench);
        remove_dir(&bench);
        new_dir(&bench);
        floors[i] = floor_pwrite(&bench);
        snprintf(path, sizeof path, "%s/rocksdb", bench.dir);
        rocksdb[i] = mr_bench_rocksdb(path, bench.pattern, bench.record_bytes, bench.total_bytes,
                                      5 * MR_NS_PER_MS);
        remove_dir(&bench);
        puts(i + 1 < ROUNDS ? "  }," : "  }],");
    }
    print_ratios(ours, floors, rocksdb);
    new_dir(&bench);
    bench_latency(&bench, 0);
    bench_latency(&bench, 5 * MR_NS_PER_MS);
    floor_latencies(&bench);
    floor_memory(&bench);
    remove_dir(&bench);
    printf("}\n");
    free(bench.pattern);
    return 0;
}
