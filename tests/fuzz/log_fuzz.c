/* A directory image as input to reader, verifier and writer: two segments whose checksums are made
 * right, so that what lies behind them is reached too. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "log/log.h"
#include "log/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64];

static void make_dir(void)
{
    snprintf(dir, sizeof dir, "/dev/shm/millrace-log-fuzz-XXXXXX");
    MR_ASSERT(mkdtemp(dir));
}

/* Make head, mark and batch checksums right as far as the bytes are shaped like them. */
static void repair(uint8_t *image, size_t len, uint64_t first)
{
    struct mr_log_segment_head head = {.magic = MR_LOG_SEGMENT_MAGIC,
                                       .version = MR_LOG_VERSION,
                                       .log_id = 7,
                                       .salt = 9,
                                       .first_sequence = first};
    mr_log_head_seal(&head);
    memcpy(image, &head, sizeof head);
    struct mr_log_mark mark;
    memcpy(&mark, image + MR_LOG_MARK_OFFSET, sizeof mark);
    if (mark.offset != 0) {
        mr_log_mark_seal(&mark, head.salt);
        memcpy(image + MR_LOG_MARK_OFFSET, &mark, sizeof mark);
    }
    uint64_t at = MR_LOG_DATA_OFFSET, next = first;
    while (at + sizeof(struct mr_log_batch_head) <= len) {
        struct mr_log_batch_head *batch = (struct mr_log_batch_head *)(image + at);
        if (!mr_log_batch_head_ok(batch, next) || at + batch->length > len)
            break;
        batch->crc = mr_log_batch_crc(batch, head.salt, at);
        next += batch->count;
        at += batch->length;
    }
}

static void store(uint64_t first, const uint8_t *data, size_t size, bool repaired)
{
    char path[128], name[MR_LOG_NAME_MAX];
    mr_log_segment_name(name, first);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    size_t len = MR_LOG_DATA_OFFSET + size;
    uint8_t *image = calloc(1, len + 8);
    MR_ASSERT(image);
    if (size >= sizeof(struct mr_log_mark))
        memcpy(image + MR_LOG_MARK_OFFSET, data, sizeof(struct mr_log_mark));
    if (size > 0)
        memcpy(image + MR_LOG_DATA_OFFSET, data, size);
    if (repaired)
        repair(image, len, first);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    MR_ASSERT(fd >= 0 && write(fd, image, len) == (ssize_t)len);
    close(fd);
    free(image);
}

static void remove_all(void)
{
    uint64_t *firsts;
    size_t count;
    char name[MR_LOG_NAME_MAX];
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    MR_ASSERT(fd >= 0 && mr_log_segment_list(fd, dir, &firsts, &count, NULL) == MR_OK);
    for (size_t i = 0; i < count; i++) {
        mr_log_segment_name(name, firsts[i]);
        unlinkat(fd, name, 0);
    }
    free(firsts);
    close(fd);
}

static uint64_t read_all(void)
{
    struct mr_err err;
    struct mr_log_reader *reader;
    struct mr_log_record record;
    uint64_t last = 0, sum = 0;
    if (mr_log_reader_open(&reader, dir, &err) != MR_OK)
        return 0;
    while (mr_log_next(reader, &record, &err) == MR_OK) {
        MR_ASSERT(record.sequence == last + 1);
        last = record.sequence;
        for (uint32_t i = 0; i < record.len; i++)
            sum += ((const uint8_t *)record.data)[i];
    }
    uint8_t position[MR_LOG_POSITION_MAX];
    uint32_t len;
    if (last > 0)
        MR_ASSERT(mr_log_position_at(reader, 1 + sum % last, position, &len, &err) == MR_OK);
    mr_log_reader_close(&reader);
    return last;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    if (!dir[0])
        make_dir();
    size_t cut = (size_t)data[1] * 8 < size - 4 ? (size_t)data[1] * 8 : size - 4;
    store(1, data + 4, cut, data[0] & 1);
    if (data[0] & 2)
        store(1u + data[2], data + 4 + cut, size - 4 - cut, data[0] & 4);
    struct mr_err err;
    uint64_t last = read_all();
    enum mr_rc verified = mr_log_verify(dir, NULL, NULL, &err);
    struct mr_log_options options = {.dir = dir,
                                     .segment_bytes = 65536,
                                     .batch_bytes = 4096,
                                     .retention_bytes = UINT64_MAX,
                                     .retention_age_ns = UINT64_MAX};
    struct mr_log_writer *writer;
    struct mr_log_state state;
    if (mr_log_writer_open(&writer, &options, &err) == MR_OK) {
        mr_log_writer_state(writer, &state);
        MR_ASSERT(state.last >= last || verified != MR_OK);
        MR_ASSERT(mr_log_writer_close(&writer, &err) == MR_OK);
        MR_ASSERT(verified != MR_OK || mr_log_verify(dir, NULL, NULL, &err) == MR_OK);
    }
    remove_all();
    return 0;
}
