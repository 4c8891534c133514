#include "rpc/pem_file.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
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

enum mr_rc mr_pem_check_pair(const struct mr_pem_pair *pair, struct mr_err *err)
{
    static char no_password[] = "";
    BIO *bio = BIO_new_mem_buf(pair->certificate, -1);
    X509 *certificate = bio ? PEM_read_bio_X509_AUX(bio, NULL, NULL, no_password) : NULL;
    BIO_free(bio);
    bio = BIO_new_mem_buf(pair->key, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, no_password) : NULL;
    BIO_free(bio);
    enum mr_rc rc = MR_OK;
    if (!certificate)
        rc = mr_reject(err, MR_USAGE, "tls.certificate %s: no certificate can be read from it",
                       pair->certificate_path);
    else if (!key)
        rc = mr_reject(err, MR_USAGE, "tls.key %s: no key can be read from it", pair->key_path);
    else if (X509_check_private_key(certificate, key) != 1)
        rc = mr_reject(err, MR_RETRY, "tls.key %s: it is not the key of tls.certificate %s",
                       pair->key_path, pair->certificate_path);
    X509_free(certificate);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return rc;
}

bool mr_pem_changed(const struct stat *now, const struct stat *seen)
{
    return now->st_mtim.tv_sec != seen->st_mtim.tv_sec ||
           now->st_mtim.tv_nsec != seen->st_mtim.tv_nsec || now->st_ino != seen->st_ino ||
           now->st_size != seen->st_size;
}
