#include "supervisor/checkpoint.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/crash.h"
#include "common/fnv.h"

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
    return mr_fnv_add(MR_FNV_BEGIN, disk, offsetof(struct checkpoint_disk, checksum));
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

/* Write the new file, not yet synced. *fd_out: its descriptor, on MR_OK. */
static enum mr_rc write_new(const char *directory, const struct checkpoint_disk *disk, int *fd_out,
                            struct mr_err *err)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/checkpoint.new", directory);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return mr_fail(err, MR_RETRY, "create %s", path);
    ssize_t len = write(fd, disk, sizeof *disk);
    if (len == (ssize_t)sizeof *disk) {
        MR_CRASH("checkpoint.written");
        *fd_out = fd;
        return MR_OK;
    }
    if (len < 0)
        mr_fail(err, MR_RETRY, "write %s", path);
    else
        mr_reject(err, MR_RETRY, "write %s: disk full", path);
    close(fd);
    return MR_RETRY;
}

/* Put the synced file in the old one's place. *fd_out: the directory, to be synced. */
static enum mr_rc rename_new(const char *directory, int *fd_out, struct mr_err *err)
{
    char path[PATH_BYTES], path_new[PATH_BYTES];
    snprintf(path, sizeof path, "%s/checkpoint", directory);
    snprintf(path_new, sizeof path_new, "%s/checkpoint.new", directory);
    if (rename(path_new, path) != 0)
        return mr_fail(err, MR_RETRY, "rename %s to %s", path_new, path);
    MR_CRASH("checkpoint.renamed");
    *fd_out = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *fd_out >= 0 ? MR_OK : mr_fail(err, MR_RETRY, "open directory %s", directory);
}

enum mr_rc mr_checkpoint_open(struct mr_checkpoint_writer *writer, const char *directory,
                              struct mr_err *err)
{
    *writer = (struct mr_checkpoint_writer){.directory = directory, .fd = -1};
    writer->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (writer->event_fd < 0)
        return mr_fail(err, MR_FATAL, "open an event descriptor");
    aio_context_t context = 0;
    if (syscall(SYS_io_setup, 1, &context) == 0)
        writer->context = context;
    return MR_OK;
}

void mr_checkpoint_close(struct mr_checkpoint_writer *writer)
{
    if (writer->context)
        syscall(SYS_io_destroy, (aio_context_t)writer->context); /* waits for what is under way */
    if (writer->fd >= 0)
        close(writer->fd);
    close(writer->event_fd);
    writer->fd = writer->event_fd = -1;
    writer->context = 0;
}

/* Have the kernel sync writer->fd and say so on event_fd. */
static enum mr_rc sync_later(struct mr_checkpoint_writer *writer, struct mr_err *err)
{
    struct iocb request = {.aio_lio_opcode = IOCB_CMD_FSYNC,
                           .aio_fildes = (uint32_t)writer->fd,
                           .aio_flags = IOCB_FLAG_RESFD,
                           .aio_resfd = (uint32_t)writer->event_fd};
    struct iocb *requests[] = {&request};
    if (writer->context && syscall(SYS_io_submit, (aio_context_t)writer->context, 1, requests) == 1)
        return MR_OK;
    uint64_t one = 1; /* not to be had: wait for it, and be the one who says so */
    if (fsync(writer->fd) != 0)
        return mr_fail(err, MR_RETRY, "sync the checkpoint in %s", writer->directory);
    return write(writer->event_fd, &one, sizeof one) == (ssize_t)sizeof one
               ? MR_OK
               : mr_fail(err, MR_RETRY, "wake the checkpoint's writer");
}

static void become_idle(struct mr_checkpoint_writer *writer)
{
    if (writer->fd >= 0)
        close(writer->fd);
    writer->fd = -1;
    writer->phase = MR_CHECKPOINT_IDLE;
}

enum mr_rc mr_checkpoint_begin(struct mr_checkpoint_writer *writer,
                               const struct mr_checkpoint *checkpoint, struct mr_err *err)
{
    struct checkpoint_disk disk = {.magic = MAGIC,
                                   .version = 1,
                                   .size = sizeof disk,
                                   .log_id = checkpoint->log_id,
                                   .sequence = checkpoint->sequence,
                                   .wall_us = checkpoint->wall_us};
    MR_ASSERT(writer->phase == MR_CHECKPOINT_IDLE);
    memcpy(disk.instance, checkpoint->instance, sizeof disk.instance);
    disk.checksum = checksum(&disk);
    enum mr_rc rc = write_new(writer->directory, &disk, &writer->fd, err);
    if (rc != MR_OK)
        return rc;
    writer->next = *checkpoint;
    writer->phase = MR_CHECKPOINT_FILE;
    rc = sync_later(writer, err);
    if (rc != MR_OK)
        become_idle(writer);
    return rc;
}

/* The result of the sync that is done: 0 or an errno value. Of one that was waited for, 0. */
static int sync_result(const struct mr_checkpoint_writer *writer)
{
    struct io_event event;
    struct timespec now = {0};
    bool any = writer->context &&
               syscall(SYS_io_getevents, (aio_context_t)writer->context, 0, 1, &event, &now) == 1;
    return any ? (int)-event.res : 0;
}

enum mr_rc mr_checkpoint_work(struct mr_checkpoint_writer *writer, struct mr_err *err)
{
    uint64_t count;
    if (writer->phase == MR_CHECKPOINT_IDLE || read(writer->event_fd, &count, sizeof count) < 0)
        return MR_AGAIN;
    errno = sync_result(writer);
    enum mr_rc rc =
        errno == 0 ? MR_OK : mr_fail(err, MR_RETRY, "sync the checkpoint in %s", writer->directory);
    bool was_file = writer->phase == MR_CHECKPOINT_FILE;
    MR_CRASH("checkpoint.synced");
    become_idle(writer);
    if (rc != MR_OK || !was_file)
        return rc;
    rc = rename_new(writer->directory, &writer->fd, err);
    if (rc == MR_OK) {
        writer->phase = MR_CHECKPOINT_DIRECTORY;
        rc = sync_later(writer, err);
    }
    if (rc != MR_OK)
        become_idle(writer);
    return rc == MR_OK ? MR_AGAIN : rc;
}

enum mr_rc mr_checkpoint_set_aside(const char *directory, struct mr_err *err)
{
    char path[PATH_BYTES], aside[PATH_BYTES];
    snprintf(path, sizeof path, "%s/checkpoint", directory);
    snprintf(aside, sizeof aside, "%s/checkpoint.broken", directory);
    return rename(path, aside) == 0 ? MR_OK
                                    : mr_fail(err, MR_FATAL, "rename %s to %s", path, aside);
}
