#include "publisher/rest/tls.h"

#include <assert.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "rpc/pem_file.h"

enum { CHAIN_MAX = 16 };

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
    char *trust;          /* tls.client_ca at start, NUL-terminated: clients are asked */
    pthread_mutex_t lock; /* of what follows */
    struct generation *current;
    gnutls_x509_trust_list_t authorities;    /* tls.client_ca as it is now; NULL: none */
    struct stat certificate, key, client_ca; /* as last read */
};

static struct mr_rest_tls *the_tls;

static bool read_file(const char *option, const char *path, gnutls_datum_t *out, struct mr_err *err)
{
    char *text = mr_pem_read(option, path, err);
    *out = (gnutls_datum_t){(unsigned char *)text, text ? (unsigned)strlen(text) : 0};
    return text;
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
    enum mr_rc rc = MR_USAGE;
    if (read_file("tls.certificate", path, &chain, err) &&
        read_file("tls.key", config->tls_key.text, &key, err))
        rc = import(g, &chain, &key, path, err);
    if (rc == MR_OK)
        rc = mr_pem_check_pair(
            &(struct mr_pem_pair){path, (char *)chain.data, config->tls_key.text, (char *)key.data},
            err);
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

/* The authorities of tls.client_ca, in place of those there were. */
static enum mr_rc load_authorities(struct mr_rest_tls *tls, struct mr_err *err)
{
    const char *path = tls->config->tls_client_ca.text;
    gnutls_datum_t pem = {0};
    gnutls_x509_trust_list_t list = NULL;
    if (!read_file("tls.client_ca", path, &pem, err))
        return MR_USAGE;
    int count = gnutls_x509_trust_list_init(&list, 0);
    if (count == 0)
        count = gnutls_x509_trust_list_add_trust_mem(list, &pem, NULL, GNUTLS_X509_FMT_PEM, 0, 0);
    free(pem.data);
    if (count <= 0) {
        if (list)
            gnutls_x509_trust_list_deinit(list, 1);
        return mr_reject(err, MR_USAGE, "tls.client_ca %s: %s", path,
                         count < 0 ? gnutls_strerror(count) : "no certificate in it");
    }
    pthread_mutex_lock(&tls->lock);
    gnutls_x509_trust_list_t old = tls->authorities;
    tls->authorities = list;
    pthread_mutex_unlock(&tls->lock);
    if (old)
        gnutls_x509_trust_list_deinit(old, 1);
    return MR_OK;
}

static void refresh_authorities(struct mr_rest_tls *tls)
{
    struct stat client_ca;
    struct mr_err err = {0};
    if (!tls->authorities || stat(tls->config->tls_client_ca.text, &client_ca) != 0 ||
        !mr_pem_changed(&client_ca, &tls->client_ca))
        return;
    if (load_authorities(tls, &err) != MR_OK) { /* as a certificate */
        mr_log_warn("rest", "client_ca_not_taken", "why=\"%s\"", err.text);
        return;
    }
    tls->client_ca = client_ca;
    mr_log_info("rest", "client_ca_taken", "file=%s", tls->config->tls_client_ca.text);
}

void mr_rest_tls_refresh(struct mr_rest_tls *tls)
{
    refresh_authorities(tls);
    struct stat certificate, key;
    struct generation *g;
    struct mr_err err = {0};
    if (stat(tls->config->tls_certificate.text, &certificate) != 0 ||
        stat(tls->config->tls_key.text, &key) != 0 ||
        (!mr_pem_changed(&certificate, &tls->certificate) && !mr_pem_changed(&key, &tls->key)))
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
    if (rc == MR_OK && *config->tls_client_ca.text &&
        !read_file("tls.client_ca", config->tls_client_ca.text, &trust, err))
        rc = MR_USAGE;
    if (trust.data) {
        (void)stat(config->tls_client_ca.text, &tls->client_ca);
        rc = load_authorities(tls, err);
    }
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
    if (tls->authorities)
        gnutls_x509_trust_list_deinit(tls->authorities, 1);
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

void mr_rest_tls_begin(const struct mr_rest_tls *tls, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        tls && tls->trust ? MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION)
                          : NULL;
    if (info) /* those of the start may not be those of now */
        gnutls_certificate_send_x509_rdn_sequence(info->tls_session, 1);
}

/* Lock held. */
static bool is_trusted(const struct mr_rest_tls *tls, gnutls_session_t session)
{
    unsigned count = 0, status = 1;
    gnutls_x509_crt_t chain[CHAIN_MAX];
    const gnutls_datum_t *peers = gnutls_certificate_get_peers(session, &count);
    unsigned made = 0;
    if (!peers || count == 0 || count > CHAIN_MAX)
        return false;
    int rc = 0;
    while (rc == 0 && made < count && (rc = gnutls_x509_crt_init(&chain[made])) == 0) {
        rc = gnutls_x509_crt_import(chain[made], &peers[made], GNUTLS_X509_FMT_DER);
        made++;
    }
    if (rc == 0)
        rc = gnutls_x509_trust_list_verify_crt(tls->authorities, chain, count, 0, &status, NULL);
    for (unsigned i = 0; i < made; i++)
        gnutls_x509_crt_deinit(chain[i]);
    return rc == 0 && status == 0;
}

bool mr_rest_tls_verified(struct mr_rest_tls *tls, struct MHD_Connection *connection)
{
    if (!tls || !tls->trust)
        return true;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    if (!info)
        return false;
    pthread_mutex_lock(&tls->lock);
    bool trusted = is_trusted(tls, info->tls_session);
    pthread_mutex_unlock(&tls->lock);
    return trusted;
}
