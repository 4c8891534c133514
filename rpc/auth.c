#include "rpc/auth.h"

#include <fcntl.h>
#include <jansson.h>
#include <jwt.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"

enum { TOKEN_MAX = 8192, KEY_MAX = 16384, SECRET_MIN = 16 };

struct mr_auth {
    const struct mr_config *config;
    jwt_alg_t algorithm;
    bool has_jwt;
    unsigned char key[KEY_MAX];
    int key_len;
};

static enum mr_rc read_key(struct mr_auth *auth, const char *path, struct mr_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, auth->key, KEY_MAX - 1) : -1;
    if (len < 0)
        (void)mr_fail(err, MR_USAGE, "auth.jwt_key_file: read %s", path);
    else if (len == 0 || len == KEY_MAX - 1)
        (void)mr_reject(err, MR_USAGE, "auth.jwt_key_file %s: expected a PEM public key", path);
    if (fd >= 0)
        close(fd);
    auth->key_len = (int)len;
    return len > 0 && len < KEY_MAX - 1 ? MR_OK : MR_USAGE;
}

static enum mr_rc take_key(struct mr_auth *auth, struct mr_err *err)
{
    const struct mr_config *config = auth->config;
    const char *secret = config->auth_jwt_key.text, *file = config->auth_jwt_key_file.text;
    auth->algorithm = jwt_str_alg(config->auth_jwt_algorithm.text);
    auth->has_jwt = *secret || *file;
    if (*file)
        return read_key(auth, file, err);
    auth->key_len = (int)strlen(secret);
    memcpy(auth->key, secret, (size_t)auth->key_len);
    return MR_OK;
}

enum mr_rc mr_auth_open(struct mr_auth **out, const struct mr_config *config, struct mr_err *err)
{
    struct mr_auth *auth = calloc(1, sizeof *auth);
    if (!auth)
        return mr_fail(err, MR_FATAL, "open authentication");
    auth->config = config;
    json_object_seed(0); /* before there are threads */
    enum mr_rc rc = take_key(auth, err);
    if (rc == MR_OK)
        *out = auth;
    else
        mr_auth_close(&auth);
    return rc;
}

void mr_auth_close(struct mr_auth **auth)
{
    if (*auth)
        OPENSSL_cleanse((*auth)->key, sizeof(*auth)->key);
    free(*auth);
    *auth = NULL;
}

static bool add_name(struct mr_scope_names *names, const json_t *value)
{
    const char *text = json_string_value(value);
    size_t len = json_string_length(value);
    if (!text || len >= MR_SCOPE_NAME_MAX || names->count == MR_SCOPE_NAMES_MAX)
        return false;
    if (strcmp(text, "*") == 0)
        names->all = true;
    memcpy(names->names[names->count++], text, len + 1);
    return true;
}

/* A claim that is a name or a list of names. Absent: everything or nothing. */
static bool get_names(jwt_t *jwt, const char *claim, bool absent_is_all, struct mr_scope_names *out)
{
    char *text = jwt_get_grants_json(jwt, claim);
    if (!text) {
        const char *one = jwt_get_grant(jwt, claim);
        json_t *value = one ? json_string(one) : NULL;
        out->all = !one && absent_is_all;
        bool ok = !one || add_name(out, value);
        json_decref(value);
        return ok;
    }
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    free(text);
    bool ok = json_is_array(value) || json_is_string(value);
    if (json_is_string(value))
        ok = add_name(out, value);
    for (size_t i = 0; ok && i < json_array_size(value); i++)
        ok = add_name(out, json_array_get(value, i));
    json_decref(value);
    return ok;
}

static enum mr_rc check_claims(const struct mr_auth *auth, jwt_t *jwt, struct mr_scope *scope,
                               struct mr_err *err)
{
    const char *issuer = auth->config->auth_jwt_issuer.text;
    const char *audience = auth->config->auth_jwt_audience.text;
    const char *iss = jwt_get_grant(jwt, "iss"), *sub = jwt_get_grant(jwt, "sub");
    struct mr_scope_names audiences = {0};
    int64_t now_s = mr_clock_wall_us() / 1000000;
    int64_t expires_s = jwt_get_grant_int(jwt, "exp"), from_s = jwt_get_grant_int(jwt, "nbf");
    if (expires_s != 0 && now_s >= expires_s)
        return mr_reject(err, MR_USAGE, "the token has expired");
    if (from_s > now_s)
        return mr_reject(err, MR_USAGE, "the token is not valid yet");
    if (*issuer && (!iss || strcmp(iss, issuer) != 0))
        return mr_reject(err, MR_USAGE, "the token has another issuer");
    if (*audience && (!get_names(jwt, "aud", false, &audiences) || audiences.all ||
                      !mr_scope_has(&audiences, mr_str_from(audience))))
        return mr_reject(err, MR_USAGE, "the token is for another audience");
    if (!get_names(jwt, "databases", false, &scope->databases) ||
        !get_names(jwt, "collections", true, &scope->collections) ||
        !get_names(jwt, "gateways", true, &scope->gateways))
        return mr_reject(err, MR_USAGE,
                         "the token's databases, collections and gateways: expected names, at "
                         "most %d each",
                         MR_SCOPE_NAMES_MAX);
    scope->gateways_stated = scope->gateways.count > 0;
    snprintf(scope->subject, sizeof scope->subject, "%s", sub ? sub : "");
    scope->expires_ns = UINT64_MAX;
    if (expires_s != 0)
        scope->expires_ns = mr_clock_ns() + (uint64_t)(expires_s - now_s) * MR_NS_PER_S;
    return MR_OK;
}

/* The algorithm is the configured one, whatever the token says of itself. */
static enum mr_rc check_jwt(const struct mr_auth *auth, const char *token, struct mr_scope *scope,
                            struct mr_err *err)
{
    jwt_t *jwt = NULL;
    if (jwt_decode(&jwt, token, auth->key, auth->key_len) != 0)
        return mr_reject(err, MR_USAGE, "the token is not valid");
    enum mr_rc rc = MR_OK;
    if (jwt_get_alg(jwt) != auth->algorithm)
        rc = mr_reject(err, MR_USAGE, "the token is signed with another algorithm");
    if (rc == MR_OK)
        rc = check_claims(auth, jwt, scope, err);
    jwt_free(jwt);
    return rc;
}

static bool is_master(const struct mr_auth *auth, struct mr_str token)
{
    const char *master = auth->config->auth_token.text;
    size_t len = strlen(master);
    return len > 0 && token.len == len && CRYPTO_memcmp(token.data, master, len) == 0;
}

static bool bearer_of(struct mr_str header, struct mr_str *token)
{
    static const char scheme[] = "bearer ";
    size_t len = sizeof scheme - 1;
    if (header.len <= len || strncasecmp(header.data, scheme, len) != 0)
        return false;
    *token = (struct mr_str){header.data + len, header.len - len};
    return true;
}

enum mr_rc mr_auth_check(const struct mr_auth *auth, struct mr_str header, struct mr_scope **out,
                         struct mr_err *err)
{
    struct mr_str token;
    char text[TOKEN_MAX + 1];
    *out = NULL;
    if (!auth->has_jwt && !*auth->config->auth_token.text)
        return MR_OK;
    if (!bearer_of(header, &token))
        return mr_reject(err, MR_USAGE, "expected a header \"Authorization: Bearer TOKEN\"");
    if (token.len > TOKEN_MAX)
        return mr_reject(err, MR_USAGE, "the token is too long");
    struct mr_scope *scope = calloc(1, sizeof *scope);
    if (!scope)
        return mr_reject(err, MR_RETRY, "out of memory, try again");
    atomic_init(&scope->refs, 1);
    enum mr_rc rc = MR_OK;
    if (is_master(auth, token)) {
        scope->databases.all = scope->collections.all = scope->gateways.all = true;
        scope->expires_ns = UINT64_MAX;
    } else if (auth->has_jwt && !memchr(token.data, 0, token.len)) {
        memcpy(text, token.data, token.len);
        text[token.len] = 0;
        rc = check_jwt(auth, text, scope, err);
        OPENSSL_cleanse(text, token.len);
    } else {
        rc = mr_reject(err, MR_USAGE, "the token is not valid");
    }
    if (rc == MR_OK)
        *out = scope;
    else
        free(scope);
    return rc;
}
