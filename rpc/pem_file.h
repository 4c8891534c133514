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
/* Do the two files belong together? Their contents, as read above: a certificate, which others may
 * follow, and a private key. MR_USAGE: one of them is none; MR_RETRY: it is the key of another
 * certificate, perhaps because only one of the files has been replaced yet. */
struct mr_pem_pair {
    const char *certificate_path, *certificate, *key_path, *key;
};
MR_MUST_USE enum mr_rc mr_pem_check_pair(const struct mr_pem_pair *pair, struct mr_err *err);
/* Is it another file, or another content, than was seen? */
bool mr_pem_changed(const struct stat *now, const struct stat *seen);
#endif
