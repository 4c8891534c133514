/* rpc/pem_file.h: files of certificates and keys, which whoever serves TLS reads at start and again
 * when they have changed. Any thread. */
#ifndef MR_RPC_PEM_FILE_H
#define MR_RPC_PEM_FILE_H
#include <stdbool.h>
#include <sys/stat.h>

#include "common/err.h"

/* The whole file, NUL-terminated, which the caller frees; at most 256 KiB of it. NULL: err, which
 * begins with the option, says why. */
char *mr_pem_read(const char *option, const char *path, struct mr_err *err);
/* Is it another file, or another content, than was seen? */
bool mr_pem_changed(const struct stat *now, const struct stat *seen);
#endif
