#include "supervisor/checkpoint.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"

#define MAGIC UINT64_C(0x3130504b4345524d) /* "MRECKP01", little-endian as everything in it */

/* The file. */
struct checkpoint_disk {
    uint64_t magic;
    uint32_t version; /* 1 */
    uint32_t size;    /* of this struct */
    char instance[32];
    uint64_t log_id;
    uint64_t sequence;
    int64_t wall_us;
    uint64_t checksum; /* FNV-1a of all bytes before */
};
static_assert(sizeof(struct checkpoint_disk) == 80, "the checkpoint file is a format");

enum { PATH_BYTES = 1200 };

static uint64_t checksum(const struct checkpoint_disk *disk)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    const unsigned char *bytes = (const unsigned char *)disk;
    for (size_t i = 0; i < offsetof(struct checkpoint_disk, checksum); i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static enum mr_rc decode(const char *path, const struct checkpoint_disk *disk, ssize_t len,
                         struct mr_checkpoint *out, struct mr_err *err)
{
    if (len != (ssize_t)sizeof *disk)
        return mr_reject(err, MR_CORRUPT, "checkpoint %s: expected %zu bytes, got %zd", path,
                         sizeof *disk, len);
    if (disk->magic != MAGIC)
        return mr_reject(err, MR_CORRUPT, "checkpoint %s: does not begin as a checkpoint", path);
    if (disk->version != 1 || disk->size != sizeof *disk)
        return mr_reject(err, MR_CORRUPT, "checkpoint %s: version %u, this program writes 1", path,
                         disk->version);
    if (disk->checksum != checksum(disk))
        return mr_reject(err, MR_CORRUPT, "checkpoint %s: wrong checksum", path);
    if (!memchr(disk->instance, '\0', sizeof disk->instance))
        return mr_reject(err, MR_CORRUPT, "checkpoint %s: instance's name has no end", path);
    *out = (struct mr_checkpoint){
        .log_id = disk->log_id, .sequence = disk->sequence, .wall_us = disk->wall_us};
    memcpy(out->instance, disk->instance, sizeof out->instance);
    return MR_OK;
}

enum mr_rc mr_checkpoint_read(const char *directory, struct mr_checkpoint *out, struct mr_err *err)
{
    char path[PATH_BYTES], bytes[sizeof(struct checkpoint_disk) + 1];
    struct checkpoint_disk disk;
    snprintf(path, sizeof path, "%s/checkpoint", directory);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return MR_AGAIN;
    if (fd < 0)
        return mr_fail(err, MR_FATAL, "open checkpoint %s", path);
    ssize_t len = read(fd, bytes, sizeof bytes);
    if (len < 0)
        mr_fail(err, MR_FATAL, "read checkpoint %s", path);
    close(fd);
    if (len < 0)
        return MR_FATAL;
    memcpy(&disk, bytes, sizeof disk);
    return decode(path, &disk, len, out, err);
}

static enum mr_rc write_new(const char *path, const struct checkpoint_disk *disk,
                            struct mr_err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return mr_fail(err, MR_RETRY, "create %s", path);
    enum mr_rc rc = MR_OK;
    ssize_t len = write(fd, disk, sizeof *disk);
    if (len < 0)
        rc = mr_fail(err, MR_RETRY, "write %s", path);
    else if (len != (ssize_t)sizeof *disk)
        rc = mr_reject(err, MR_RETRY, "write %s: disk full", path);
    else if (fdatasync(fd) != 0)
        rc = mr_fail(err, MR_RETRY, "sync %s", path);
    close(fd);
    return rc;
}

static enum mr_rc sync_directory(const char *directory, struct mr_err *err)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (!ok)
        mr_fail(err, MR_RETRY, "sync directory %s", directory);
    if (fd >= 0)
        close(fd);
    return ok ? MR_OK : MR_RETRY;
}

enum mr_rc mr_checkpoint_write(const char *directory, const struct mr_checkpoint *checkpoint,
                               struct mr_err *err)
{
    char path[PATH_BYTES], path_new[PATH_BYTES];
    struct checkpoint_disk disk = {.magic = MAGIC,
                                   .version = 1,
                                   .size = sizeof disk,
                                   .log_id = checkpoint->log_id,
                                   .sequence = checkpoint->sequence,
                                   .wall_us = checkpoint->wall_us};
    memcpy(disk.instance, checkpoint->instance, sizeof disk.instance);
    disk.checksum = checksum(&disk);
    snprintf(path, sizeof path, "%s/checkpoint", directory);
    snprintf(path_new, sizeof path_new, "%s/checkpoint.new", directory);
    enum mr_rc rc = write_new(path_new, &disk, err);
    if (rc == MR_OK && rename(path_new, path) != 0)
        rc = mr_fail(err, MR_RETRY, "rename %s to %s", path_new, path);
    if (rc == MR_OK)
        rc = sync_directory(directory, err);
    return rc;
}

enum mr_rc mr_checkpoint_set_aside(const char *directory, struct mr_err *err)
{
    char path[PATH_BYTES], aside[PATH_BYTES];
    snprintf(path, sizeof path, "%s/checkpoint", directory);
    snprintf(aside, sizeof aside, "%s/checkpoint.broken", directory);
    if (rename(path, aside) != 0)
        return mr_fail(err, MR_FATAL, "rename %s to %s", path, aside);
    return sync_directory(directory, err);
}
