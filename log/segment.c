#include "log/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/crc32c.h"

#define NAME_SUFFIX ".mrlog"

void mr_log_segment_name(char out[MR_LOG_NAME_MAX], uint64_t first_sequence)
{
    snprintf(out, MR_LOG_NAME_MAX, "%020" PRIu64 NAME_SUFFIX, first_sequence);
}

uint64_t mr_log_segment_parse(const char *name)
{
    if (strlen(name) != MR_LOG_NAME_DIGITS + sizeof NAME_SUFFIX - 1 ||
        strcmp(name + MR_LOG_NAME_DIGITS, NAME_SUFFIX) != 0)
        return 0;
    uint64_t value = 0;
    for (int i = 0; i < MR_LOG_NAME_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9')
            return 0;
        uint64_t digit = (uint64_t)(name[i] - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return 0;
        value = value * 10 + digit;
    }
    return value;
}

static int compare_sequences(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

enum mr_rc mr_log_segment_list(int dir_fd, const char *dir, uint64_t **out, size_t *count,
                               struct mr_err *err)
{
    /* A descriptor of its own: the position of a directory stream is shared by duplicates. */
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (!stream) {
        if (fd >= 0)
            close(fd);
        return mr_fail(err, MR_FATAL, "list log directory %s", dir);
    }
    uint64_t *list = NULL;
    size_t used = 0, room = 0;
    const struct dirent *entry;
    while (errno = 0, (entry = readdir(stream)) != NULL) {
        uint64_t first = mr_log_segment_parse(entry->d_name);
        if (first == 0)
            continue;
        if (used == room) {
            size_t wanted = room ? room * 2 : 64;
            uint64_t *larger = realloc(list, wanted * sizeof *list);
            if (!larger)
                break; /* errno is ENOMEM */
            list = larger;
            room = wanted;
        }
        list[used++] = first;
    }
    int failed = errno;
    closedir(stream);
    if (failed) {
        free(list);
        errno = failed;
        return mr_fail(err, MR_FATAL, "list log directory %s", dir);
    }
    if (used > 0)
        qsort(list, used, sizeof *list, compare_sequences);
    *out = list;
    *count = used;
    return MR_OK;
}

enum mr_rc mr_log_pread(int fd, void *out, size_t len, uint64_t offset, size_t *got)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(fd, (char *)out + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return MR_FATAL;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    *got = done;
    return MR_OK;
}

enum mr_rc mr_log_pwrite(int fd, const void *data, size_t len, uint64_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pwrite(fd, (const char *)data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return MR_FATAL;
        if (n == 0) {
            errno = ENOSPC;
            return MR_FATAL;
        }
        done += (size_t)n;
    }
    return MR_OK;
}

static uint32_t head_crc(const struct mr_log_segment_head *head)
{
    struct mr_log_segment_head copy = *head;
    copy.crc = 0;
    return mr_crc32c(0, &copy, sizeof copy);
}

void mr_log_head_seal(struct mr_log_segment_head *head)
{
    head->crc = head_crc(head);
}

/* What is wrong with a head; NULL: nothing. */
static const char *head_fault(const struct mr_log_segment_head *head, const struct mr_log_open *how)
{
    if (head->magic != MR_LOG_SEGMENT_MAGIC)
        return "no log segment (magic)";
    if (head->version != MR_LOG_VERSION)
        return "a format version that this program does not know";
    if (head->crc != head_crc(head))
        return "a damaged head (checksum)";
    if (head->first_sequence == how->first_sequence)
        return NULL;
    if (head->first_sequence == 0 && how->allow_unbegun)
        return NULL;
    return "a head that disagrees with the file's name";
}

enum mr_rc mr_log_segment_open(struct mr_log_segment *out, const struct mr_log_open *how,
                               struct mr_err *err)
{
    char name[MR_LOG_NAME_MAX];
    mr_log_segment_name(name, how->first_sequence);
    out->fd = -1;
    out->first_sequence = how->first_sequence;
    int fd = openat(how->dir_fd, name,
                    (how->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? MR_AGAIN
                               : mr_fail(err, MR_FATAL, "open segment %s/%s", how->dir, name);
    struct stat info;
    size_t got = 0;
    enum mr_rc rc;
    if (fstat(fd, &info) != 0)
        rc = mr_fail(err, MR_FATAL, "stat segment %s/%s", how->dir, name);
    else if (!S_ISREG(info.st_mode))
        rc = mr_reject(err, MR_CORRUPT, "segment %s/%s: not a regular file", how->dir, name);
    else if (mr_log_pread(fd, &out->head, sizeof out->head, 0, &got) != MR_OK)
        rc = mr_fail(err, MR_FATAL, "read segment %s/%s at offset 0", how->dir, name);
    else if (got < sizeof out->head)
        rc = mr_reject(err, MR_CORRUPT, "segment %s/%s: ends within its head, at offset %zu",
                       how->dir, name, got);
    else if (head_fault(&out->head, how))
        rc = mr_reject(err, MR_CORRUPT, "segment %s/%s at offset 0: %s", how->dir, name,
                       head_fault(&out->head, how));
    else {
        out->size = (uint64_t)info.st_size;
        out->fd = fd;
        return MR_OK;
    }
    close(fd);
    return rc;
}

void mr_log_segment_close(struct mr_log_segment *segment)
{
    if (segment->fd >= 0)
        close(segment->fd);
    segment->fd = -1;
}

static uint32_t mark_crc(const struct mr_log_mark *mark, uint64_t salt)
{
    uint64_t words[3] = {salt, mark->offset, mark->sequence};
    return mr_crc32c(0, words, sizeof words);
}

void mr_log_mark_seal(struct mr_log_mark *mark, uint64_t salt)
{
    mark->crc = mark_crc(mark, salt);
    mark->reserved = 0;
}

enum mr_rc mr_log_mark_read(const struct mr_log_segment *segment, const char *dir,
                            struct mr_log_mark *out, struct mr_err *err)
{
    static const struct mr_log_mark none;
    char name[MR_LOG_NAME_MAX];
    mr_log_segment_name(name, segment->first_sequence);
    /* A live writer may be changing it under us; damage stays damaged. */
    for (int attempt = 0; attempt < 100; attempt++) {
        size_t got;
        if (mr_log_pread(segment->fd, out, sizeof *out, MR_LOG_MARK_OFFSET, &got) != MR_OK)
            return mr_fail(err, MR_FATAL, "read segment %s/%s at offset %d", dir, name,
                           MR_LOG_MARK_OFFSET);
        if (got < sizeof *out)
            break;
        if (memcmp(out, &none, sizeof none) == 0)
            return MR_OK;
        if (out->crc == mark_crc(out, segment->head.salt) && out->reserved == 0)
            return MR_OK;
    }
    return mr_reject(err, MR_CORRUPT, "segment %s/%s at offset %d: damaged durable mark", dir, name,
                     MR_LOG_MARK_OFFSET);
}

bool mr_log_batch_head_ok(const struct mr_log_batch_head *head, uint64_t next_sequence)
{
    uint64_t least = sizeof *head + (uint64_t)head->count * sizeof(struct mr_log_frame) +
                     mr_log_pad8(head->position_len);
    return head->magic == MR_LOG_BATCH_MAGIC && head->first_sequence == next_sequence &&
           head->length % 8 == 0 && head->length <= MR_LOG_BATCH_BYTES_MAX &&
           head->position_len <= MR_LOG_POSITION_MAX && head->length >= least &&
           head->count <= UINT64_MAX - next_sequence;
}

uint32_t mr_log_batch_crc(const struct mr_log_batch_head *batch, uint64_t salt, uint64_t offset)
{
    uint64_t place[2] = {salt, offset};
    uint32_t crc = mr_crc32c(0, place, sizeof place);
    return mr_crc32c(crc, (const uint8_t *)batch + MR_LOG_BATCH_CRC_FROM,
                     batch->length - MR_LOG_BATCH_CRC_FROM);
}

bool mr_log_batch_ok(const struct mr_log_batch_head *batch, uint64_t salt, uint64_t offset)
{
    if (batch->crc != mr_log_batch_crc(batch, salt, offset))
        return false;
    /* The checksum holds; the frames still have to, should a writer have been wrong. */
    const uint8_t *at = (const uint8_t *)(batch + 1), *end = mr_log_batch_position(batch);
    for (uint32_t i = 0; i < batch->count; i++) {
        struct mr_log_frame frame;
        if ((size_t)(end - at) < sizeof frame)
            return false;
        memcpy(&frame, at, sizeof frame);
        at += sizeof frame;
        if (mr_log_pad8(frame.len) > (uint64_t)(end - at))
            return false;
        at += mr_log_pad8(frame.len);
    }
    return at == end;
}

void mr_log_batch_at(const struct mr_log_batch_head *batch, uint32_t index,
                     struct mr_log_record *out)
{
    MR_ASSERT(index < batch->count);
    const uint8_t *at = (const uint8_t *)(batch + 1);
    struct mr_log_frame frame;
    for (uint32_t i = 0;; i++) {
        memcpy(&frame, at, sizeof frame);
        at += sizeof frame;
        if (i == index)
            break;
        at += mr_log_pad8(frame.len);
    }
    *out = (struct mr_log_record){
        .data = at, .len = frame.len, .sequence = batch->first_sequence + index};
}
