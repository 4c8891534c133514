#include "publisher/rest/tls.h"

#include <assert.h>
#include <fcntl.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"

enum { CHAIN_MAX = 16, FILE_BYTES_MAX = 256 * 1024 };

/* One generation of certificates. A handshake takes what is current; generations are kept until the
 * end, because a handshake under way may still use its own. They are as few as renewals. */
struct generation {
    gnutls_pcert_st chain[CHAIN_MAX];
    unsigned chain_len;
    gnutls_privkey_t key;
    struct generation *older;
};

struct mr_rest_tls {
    const struct mr_config *config;
    char *trust;          /* NUL-terminated */
    pthread_mutex_t lock; /* of what follows */
    struct generation *current;
    struct stat certificate, key; /* as last read */
};

static struct mr_rest_tls *the_tls;

static enum mr_rc read_file(const char *option, const char *path, gnutls_datum_t *out,
                            struct mr_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    unsigned char *bytes = fd >= 0 ? malloc(FILE_BYTES_MAX + 1) : NULL;
    ssize_t len = bytes ? read(fd, bytes, FILE_BYTES_MAX) : -1;
    enum mr_rc rc = MR_OK;
    if (len <= 0)
        rc = mr_fail(err, MR_USAGE, "%s: read %s", option, path);
    if (fd >= 0)
        close(fd);
    if (rc != MR_OK) {
        free(bytes);
        return rc;
    }
    bytes[len] = 0;
    *out = (gnutls_datum_t){bytes, (unsigned)len};
    return MR_OK;
}

static void destroy(struct generation *g)
{
    for (unsigned i = 0; i < g->chain_len; i++)
        gnutls_pcert_deinit(&g->chain[i]);
    if (g->key)
        gnutls_privkey_deinit(g->key);
    free(g);
}

static enum mr_rc import(struct generation *g, const gnutls_datum_t *chain,
                         const gnutls_datum_t *key, const char *path, struct mr_err *err)
{
    unsigned count = CHAIN_MAX;
    int status = gnutls_pcert_list_import_x509_raw(g->chain, &count, chain, GNUTLS_X509_FMT_PEM, 0);
    if (status < 0)
        return mr_reject(err, MR_USAGE, "tls.certificate %s: %s", path, gnutls_strerror(status));
    g->chain_len = count;
    status = gnutls_privkey_init(&g->key);
    if (status == 0)
        status = gnutls_privkey_import_x509_raw(g->key, key, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (status < 0)
        return mr_reject(err, MR_USAGE, "tls.key: %s", gnutls_strerror(status));
    return MR_OK;
}

static enum mr_rc load(const struct mr_config *config, struct generation **out, struct mr_err *err)
{
    const char *path = config->tls_certificate.text;
    gnutls_datum_t chain = {0}, key = {0};
    struct generation *g = calloc(1, sizeof *g);
    if (!g)
        return mr_fail(err, MR_FATAL, "read certificates");
    enum mr_rc rc = read_file("tls.certificate", path, &chain, err);
    if (rc == MR_OK)
        rc = read_file("tls.key", config->tls_key.text, &key, err);
    if (rc == MR_OK)
        rc = import(g, &chain, &key, path, err);
    if (key.data)
        gnutls_memset(key.data, 0, key.size);
    free(chain.data);
    free(key.data);
    if (rc == MR_OK)
        *out = g;
    else
        destroy(g);
    return rc;
}

static int retrieve(gnutls_session_t session, const gnutls_datum_t *names, int name_count,
                    const gnutls_pk_algorithm_t *algorithms, int algorithm_count,
                    gnutls_pcert_st **chain, unsigned *chain_len, gnutls_privkey_t *key)
{
    (void)session;
    (void)names;
    (void)name_count;
    (void)algorithms;
    (void)algorithm_count;
    pthread_mutex_lock(&the_tls->lock);
    struct generation *g = the_tls->current;
    pthread_mutex_unlock(&the_tls->lock);
    *chain = g->chain;
    *chain_len = g->chain_len;
    *key = g->key;
    return 0;
}

void *mr_rest_tls_callback(void)
{
    gnutls_certificate_retrieve_function2 *callback = retrieve;
    void *out;
    static_assert(sizeof out == sizeof callback, "POSIX: functions have addresses");
    memcpy(&out, &callback, sizeof out);
    return out;
}

static bool changed(const struct stat *a, const struct stat *b)
{
    return a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec ||
           a->st_ino != b->st_ino || a->st_size != b->st_size;
}

void mr_rest_tls_refresh(struct mr_rest_tls *tls)
{
    struct stat certificate, key;
    struct generation *g;
    struct mr_err err = {0};
    if (stat(tls->config->tls_certificate.text, &certificate) != 0 ||
        stat(tls->config->tls_key.text, &key) != 0 ||
        (!changed(&certificate, &tls->certificate) && !changed(&key, &tls->key)))
        return;
    if (load(tls->config, &g, &err) != MR_OK) { /* half written, or wrong: looked at again */
        mr_log_warn("rest", "certificate_not_taken", "why=\"%s\"", err.text);
        return;
    }
    tls->certificate = certificate;
    tls->key = key;
    pthread_mutex_lock(&tls->lock);
    g->older = tls->current;
    tls->current = g;
    pthread_mutex_unlock(&tls->lock);
    mr_log_info("rest", "certificate_taken", "file=%s", tls->config->tls_certificate.text);
}

enum mr_rc mr_rest_tls_open(struct mr_rest_tls **out, const struct mr_config *config,
                            struct mr_err *err)
{
    gnutls_datum_t trust = {0};
    *out = NULL;
    if (!*config->tls_certificate.text)
        return MR_OK;
    struct mr_rest_tls *tls = calloc(1, sizeof *tls);
    if (!tls)
        return mr_fail(err, MR_FATAL, "read certificates");
    tls->config = config;
    pthread_mutex_init(&tls->lock, NULL);
    (void)stat(config->tls_certificate.text, &tls->certificate);
    (void)stat(config->tls_key.text, &tls->key);
    enum mr_rc rc = load(config, &tls->current, err);
    if (rc == MR_OK && *config->tls_client_ca.text)
        rc = read_file("tls.client_ca", config->tls_client_ca.text, &trust, err);
    tls->trust = (char *)trust.data;
    the_tls = tls;
    *out = tls;
    if (rc != MR_OK)
        mr_rest_tls_close(out);
    return rc;
}

void mr_rest_tls_close(struct mr_rest_tls **out)
{
    struct mr_rest_tls *tls = *out;
    if (!tls)
        return;
    while (tls->current) {
        struct generation *older = tls->current->older;
        destroy(tls->current);
        tls->current = older;
    }
    pthread_mutex_destroy(&tls->lock);
    free(tls->trust);
    free(tls);
    the_tls = NULL;
    *out = NULL;
}

const char *mr_rest_tls_trust(const struct mr_rest_tls *tls)
{
    return tls->trust;
}

bool mr_rest_tls_verified(const struct mr_rest_tls *tls, struct MHD_Connection *connection)
{
    unsigned status = 1;
    if (!tls || !tls->trust)
        return true;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    return info && gnutls_certificate_verify_peers2(info->tls_session, &status) == 0 && status == 0;
}
