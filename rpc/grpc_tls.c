#include "rpc/grpc_tls.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "rpc/pem_file.h"

enum { FILE_COUNT = 3 };

struct mr_grpc_tls {
    const char *paths[FILE_COUNT]; /* certificate, key, authority; the last one may be empty */
    struct stat seen[FILE_COUNT];  /* as last taken over */
    bool taken;                    /* gRPC has had a configuration */
};

static const char *const options[FILE_COUNT] = {"tls.certificate", "tls.key", "tls.client_ca"};

static enum mr_rc load(const struct mr_grpc_tls *tls, grpc_ssl_server_certificate_config **out,
                       struct mr_err *err)
{
    char *texts[FILE_COUNT] = {NULL};
    enum mr_rc rc = MR_OK;
    for (int i = 0; i < FILE_COUNT && rc == MR_OK; i++)
        if (*tls->paths[i] && !(texts[i] = mr_pem_read(options[i], tls->paths[i], err)))
            rc = MR_USAGE;
    if (rc == MR_OK)
        rc = mr_pem_check_pair(
            &(struct mr_pem_pair){tls->paths[0], texts[0], tls->paths[1], texts[1]}, err);
    if (rc == MR_OK) {
        grpc_ssl_pem_key_cert_pair pair = {.private_key = texts[1], .cert_chain = texts[0]};
        /* gRPC wants an authority even when it asks no client for a certificate. */
        *out = grpc_ssl_server_certificate_config_create(texts[2] ? texts[2] : texts[0], &pair, 1);
    }
    if (texts[1])
        explicit_bzero(texts[1], strlen(texts[1]));
    for (int i = 0; i < FILE_COUNT; i++)
        free(texts[i]);
    return rc;
}

/* gRPC asks before each handshake, from the one thread that runs its queue. */
static grpc_ssl_certificate_config_reload_status fetch(void *context,
                                                       grpc_ssl_server_certificate_config **out)
{
    struct mr_grpc_tls *tls = context;
    struct stat now[FILE_COUNT] = {0};
    struct mr_err err = {0};
    bool differs = !tls->taken;
    for (int i = 0; i < FILE_COUNT; i++) {
        if (*tls->paths[i] && stat(tls->paths[i], &now[i]) != 0)
            return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
        differs = differs || mr_pem_changed(&now[i], &tls->seen[i]);
    }
    if (!differs)
        return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    if (load(tls, out, &err) != MR_OK) { /* half written, or wrong: looked at again */
        mr_log_warn("grpc", "certificate_not_taken", "why=\"%s\"", err.text);
        return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL;
    }
    mr_log_info("grpc", "certificate_taken", "file=%s", tls->paths[0]);
    memcpy(tls->seen, now, sizeof now);
    tls->taken = true;
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

enum mr_rc mr_grpc_tls_open(struct mr_grpc_tls **out, const struct mr_config *config,
                            struct mr_err *err)
{
    *out = NULL;
    if (!*config->tls_certificate.text)
        return MR_OK;
    struct mr_grpc_tls *tls = calloc(1, sizeof *tls);
    grpc_ssl_server_certificate_config *probe = NULL;
    if (!tls)
        return mr_fail(err, MR_FATAL, "read certificates");
    tls->paths[0] = config->tls_certificate.text;
    tls->paths[1] = config->tls_key.text;
    tls->paths[2] = config->tls_client_ca.text;
    enum mr_rc rc = load(tls, &probe, err);
    if (rc == MR_OK) {
        grpc_ssl_server_certificate_config_destroy(probe);
        *out = tls;
    } else {
        free(tls);
    }
    return rc;
}

void mr_grpc_tls_close(struct mr_grpc_tls **tls)
{
    free(*tls);
    *tls = NULL;
}

grpc_server_credentials *mr_grpc_tls_credentials(struct mr_grpc_tls *tls)
{
    if (!tls)
        return grpc_insecure_server_credentials_create();
    grpc_ssl_client_certificate_request_type request =
        *tls->paths[2] ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                       : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    return grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(request, fetch, tls));
}
