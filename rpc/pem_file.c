#include "rpc/pem_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 256 * 1024 };

char *mr_pem_read(const char *option, const char *path, struct mr_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = fd >= 0 ? malloc(FILE_BYTES_MAX + 1) : NULL;
    ssize_t len = text ? read(fd, text, FILE_BYTES_MAX) : -1;
    if (len < 0)
        (void)mr_fail(err, MR_USAGE, "%s: read %s", option, path);
    if (fd >= 0)
        close(fd);
    if (len >= 0) {
        text[len] = 0;
        if (strstr(text, "-----BEGIN"))
            return text;
        (void)mr_reject(err, MR_USAGE, "%s: %s is no PEM file", option, path);
    }
    free(text);
    return NULL;
}

bool mr_pem_changed(const struct stat *now, const struct stat *seen)
{
    return now->st_mtim.tv_sec != seen->st_mtim.tv_sec ||
           now->st_mtim.tv_nsec != seen->st_mtim.tv_nsec || now->st_ino != seen->st_ino ||
           now->st_size != seen->st_size;
}
