#include "shm/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHM_DIR        "/dev/shm"
#define SEGMENT_PREFIX "millrace."
#define BOARD_SUFFIX   ".board"

void mr_segment_name(char out[MR_SEGMENT_NAME_MAX], const char *instance, const char *part)
{
    int len = snprintf(out, MR_SEGMENT_NAME_MAX, SEGMENT_PREFIX "%s.%s", instance, part);
    MR_ASSERT(len > 0 && (uint32_t)len < MR_SEGMENT_NAME_MAX);
}

enum mr_rc mr_segment_check_instance(const char *instance, struct mr_err *err)
{
    size_t len = strlen(instance);
    if (len == 0 || len >= MR_INSTANCE_MAX)
        return mr_reject(err, MR_USAGE, "instance name \"%.64s\": expected 1 to %u characters",
                         instance, MR_INSTANCE_MAX - 1);
    if (strspn(instance, "abcdefghijklmnopqrstuvwxyz0123456789_-") != len)
        return mr_reject(err, MR_USAGE, "instance name \"%s\": expected only a-z, 0-9, _ and -",
                         instance);
    return MR_OK;
}

/* shm_open wants a slash in front; our names are those under /dev/shm. */
static void posix_name(char out[MR_SEGMENT_NAME_MAX + 1], const char *name)
{
    out[0] = '/';
    memcpy(out + 1, name, strlen(name) + 1);
}

/* Map the file once, or with its data part a second time right behind. The whole range is reserved
 * first, so that the two fixed mappings can hit nothing else. populate: take the first mapping's
 * pages now, and not with a fault each in the first round of a ring. */
static void *map_file(int fd, size_t size, int protection, enum mr_segment_map map, bool populate,
                      size_t *map_bytes)
{
    if (map == MR_MAP_ONCE) {
        *map_bytes = size;
        return mmap(NULL, size, protection, MAP_SHARED, fd, 0);
    }
    size_t data_bytes = size - MR_SEGMENT_DATA;
    size_t total = size + data_bytes;
    uint8_t *base =
        mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return MAP_FAILED;
    int first = MAP_SHARED | MAP_FIXED | (populate ? MAP_POPULATE : 0);
    if (mmap(base, size, protection, first, fd, 0) == MAP_FAILED ||
        (data_bytes > 0 && mmap(base + size, data_bytes, protection, MAP_SHARED | MAP_FIXED, fd,
                                MR_SEGMENT_DATA) == MAP_FAILED)) {
        int saved = errno;
        munmap(base, total);
        errno = saved;
        return MAP_FAILED;
    }
    *map_bytes = total;
    return base;
}

/* Give the file its mode, size and pages. Pages are taken now, because a write to a full /dev/shm
 * later would be a SIGBUS; a journal alone is sparse and takes its pages as it grows. */
static enum mr_rc size_file(int fd, const char *name, enum mr_segment_kind kind, uint64_t size,
                            struct mr_err *err)
{
    if (fchmod(fd, 0600) != 0) /* whatever the umask says */
        return mr_fail(err, MR_FATAL, "set mode of segment %s", name);
    if (ftruncate(fd, (off_t)size) != 0)
        return mr_fail(err, MR_FATAL, "size segment %s to %" PRIu64 " bytes", name, size);
    if (kind == MR_SEGMENT_JOURNAL)
        return MR_OK;
    errno = posix_fallocate(fd, 0, (off_t)size);
    if (errno != 0)
        return mr_fail(err, MR_FATAL, "reserve %" PRIu64 " bytes in /dev/shm for segment %s", size,
                       name);
    return MR_OK;
}

enum mr_rc mr_segment_create(struct mr_segment *segment, const char *instance, const char *part,
                             enum mr_segment_kind kind, uint64_t size, uint64_t epoch,
                             enum mr_segment_map map, struct mr_err *err)
{
    MR_ASSERT(size >= MR_SEGMENT_DATA && size % 4096 == 0 && size <= INT64_MAX / 2);
    enum mr_rc rc = mr_segment_check_instance(instance, err);
    if (rc != MR_OK)
        return rc;
    *segment = (struct mr_segment){.head = NULL};
    mr_segment_name(segment->name, instance, part);
    char path[MR_SEGMENT_NAME_MAX + 1];
    posix_name(path, segment->name);
    if (shm_unlink(path) != 0 && errno != ENOENT)
        return mr_fail(err, MR_FATAL, "replace segment %s", segment->name);
    int fd = shm_open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return mr_fail(err, MR_FATAL, "create segment %s", segment->name);
    rc = size_file(fd, segment->name, kind, size, err);
    if (rc != MR_OK)
        goto out;
    void *base = map_file(fd, size, PROT_READ | PROT_WRITE, map, false, &segment->map_bytes);
    if (base == MAP_FAILED) {
        rc = mr_fail(err, MR_FATAL, "map segment %s", segment->name);
        goto out;
    }
    segment->head = base; /* all zero: the file is new */
    segment->head->magic = MR_SEGMENT_MAGIC;
    segment->head->kind = kind;
    segment->head->creator_pid = (uint32_t)getpid();
    segment->head->size = size;
    segment->head->epoch = epoch;
    memcpy(segment->head->instance, instance, strlen(instance) + 1);
out:
    close(fd);
    if (rc != MR_OK)
        shm_unlink(path);
    return rc;
}

void mr_segment_seal(struct mr_segment *segment)
{
    MR_ASSERT(segment->head->magic == MR_SEGMENT_MAGIC);
    /* Everything the creator has written first; the acquire is in check_head. */
    atomic_store_explicit(&segment->head->version, MR_LAYOUT_VERSION, memory_order_release);
}

static const char *kind_name(uint32_t kind)
{
    switch (kind) {
    case MR_SEGMENT_BOARD:
        return "board";
    case MR_SEGMENT_RING:
        return "ring";
    case MR_SEGMENT_JOURNAL:
        return "journal";
    default:
        return "unknown kind";
    }
}

static enum mr_rc check_head(const struct mr_segment_shm *head, const char *name,
                             enum mr_segment_kind kind, uint64_t file_size, struct mr_err *err)
{
    uint32_t version = atomic_load_explicit(&head->version, memory_order_acquire);
    if (version == 0)
        return mr_reject(err, MR_AGAIN, "attach segment %s: its creator has not finished it", name);
    if (head->magic != MR_SEGMENT_MAGIC)
        return mr_reject(err, MR_CORRUPT,
                         "attach segment %s: no millrace segment: magic %08x, expected %08x", name,
                         head->magic, MR_SEGMENT_MAGIC);
    if (version != MR_LAYOUT_VERSION)
        return mr_reject(err, MR_CORRUPT,
                         "attach segment %s: its layout is version %u, this program's version %u",
                         name, version, MR_LAYOUT_VERSION);
    if (head->kind != kind)
        return mr_reject(err, MR_CORRUPT, "attach segment %s: it is a %s (%u), expected a %s (%u)",
                         name, kind_name(head->kind), head->kind, kind_name(kind), kind);
    if (head->size != file_size)
        return mr_reject(err, MR_CORRUPT,
                         "attach segment %s: it says %" PRIu64 " bytes, its file has %" PRIu64,
                         name, head->size, file_size);
    if (!memchr(head->instance, 0, sizeof head->instance))
        return mr_reject(err, MR_CORRUPT, "attach segment %s: its instance name has no end", name);
    return MR_OK;
}

enum mr_rc mr_segment_attach(struct mr_segment *segment, const char *instance, const char *part,
                             enum mr_segment_kind kind, bool read_only, enum mr_segment_map map,
                             struct mr_err *err)
{
    enum mr_rc rc = mr_segment_check_instance(instance, err);
    if (rc != MR_OK)
        return rc;
    *segment = (struct mr_segment){.head = NULL};
    mr_segment_name(segment->name, instance, part);
    char path[MR_SEGMENT_NAME_MAX + 1];
    posix_name(path, segment->name);
    int fd = shm_open(path, read_only ? O_RDONLY : O_RDWR, 0);
    if (fd < 0)
        return mr_fail(err, errno == ENOENT ? MR_AGAIN : MR_FATAL, "attach segment %s",
                       segment->name);
    struct stat info;
    if (fstat(fd, &info) != 0) {
        rc = mr_fail(err, MR_FATAL, "look at segment %s", segment->name);
    } else if (info.st_size == 0) {
        rc = mr_reject(err, MR_AGAIN, "attach segment %s: its creator has not sized it",
                       segment->name);
    } else if (info.st_size < (off_t)MR_SEGMENT_DATA || info.st_size % 4096 != 0) {
        rc = mr_reject(err, MR_CORRUPT,
                       "attach segment %s: %lld bytes, expected a multiple of 4096 from %u on",
                       segment->name, (long long)info.st_size, MR_SEGMENT_DATA);
    }
    if (rc != MR_OK)
        goto out;
    int protection = read_only ? PROT_READ : PROT_READ | PROT_WRITE;
    void *base =
        map_file(fd, (size_t)info.st_size, protection, map, !read_only, &segment->map_bytes);
    if (base == MAP_FAILED) {
        rc = mr_fail(err, MR_FATAL, "map segment %s", segment->name);
        goto out;
    }
    segment->head = base;
    rc = check_head(segment->head, segment->name, kind, (uint64_t)info.st_size, err);
    if (rc != MR_OK)
        mr_segment_detach(segment);
out:
    close(fd);
    return rc;
}

void mr_segment_detach(struct mr_segment *segment)
{
    if (!segment->head)
        return;
    int rc = munmap(segment->head, segment->map_bytes);
    MR_ASSERT(rc == 0);
    segment->head = NULL;
    segment->map_bytes = 0;
}

void mr_segment_remove(const char *instance, const char *part)
{
    char name[MR_SEGMENT_NAME_MAX];
    char path[MR_SEGMENT_NAME_MAX + 1];
    mr_segment_name(name, instance, part);
    posix_name(path, name);
    shm_unlink(path);
}

uint32_t mr_segment_remove_all(const char *instance)
{
    char prefix[MR_SEGMENT_NAME_MAX];
    mr_segment_name(prefix, instance, ""); /* ends in a dot, and no instance's name holds one */
    DIR *dir = opendir(SHM_DIR);
    if (!dir)
        return 0;
    uint32_t removed = 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 &&
            unlinkat(dirfd(dir), entry->d_name, 0) == 0)
            removed++;
    closedir(dir);
    return removed;
}

static int is_board(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);
    size_t prefix = sizeof SEGMENT_PREFIX - 1;
    size_t suffix = sizeof BOARD_SUFFIX - 1;
    if (len <= prefix + suffix || len - prefix - suffix >= MR_INSTANCE_MAX)
        return 0;
    return strncmp(entry->d_name, SEGMENT_PREFIX, prefix) == 0 &&
           strcmp(entry->d_name + len - suffix, BOARD_SUFFIX) == 0;
}

void mr_segment_each_instance(mr_segment_visit *visit, void *context)
{
    struct dirent **entries;
    int count = scandir(SHM_DIR, &entries, is_board, alphasort);
    if (count < 0)
        return;
    for (int i = 0; i < count; i++) {
        char instance[MR_INSTANCE_MAX];
        size_t prefix = sizeof SEGMENT_PREFIX - 1;
        size_t len = strlen(entries[i]->d_name) - prefix - (sizeof BOARD_SUFFIX - 1);
        memcpy(instance, entries[i]->d_name + prefix, len);
        instance[len] = 0;
        if (mr_segment_check_instance(instance, NULL) == MR_OK)
            visit(instance, context);
        free(entries[i]);
    }
    free(entries);
}
