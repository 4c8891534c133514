#include "rpc/auth.h"

#include <fcntl.h>
#include <jansson.h>
#include <jwt.h>
#include <math.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"

enum {
    TOKEN_MAX = 8192,
    KEY_MAX = 16384,
    NEVER_S = 1000000000, /* 32 years: a token that lives longer does not expire */
};

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

/* A claim that is a name or a list of names. value NULL, absent: everything or nothing. */
static bool get_names(const json_t *value, bool absent_is_all, struct mr_scope_names *out)
{
    out->all = !value && absent_is_all;
    if (json_is_string(value))
        return add_name(out, value);
    bool ok = !value || json_is_array(value);
    for (size_t i = 0; ok && i < json_array_size(value); i++)
        ok = add_name(out, json_array_get(value, i));
    return ok;
}

/* RFC 7519, section 2, NumericDate: seconds, perhaps with a fraction. */
static bool get_time(const json_t *value, double absent_s, double *out_s)
{
    *out_s = value ? json_number_value(value) : absent_s;
    return !value || json_is_number(value);
}

static enum mr_rc check_times(const json_t *claims, struct mr_scope *scope, struct mr_err *err)
{
    double now_s = (double)mr_clock_wall_us() / 1e6, from_s, until_s;
    if (!get_time(json_object_get(claims, "exp"), INFINITY, &until_s) ||
        !get_time(json_object_get(claims, "nbf"), -INFINITY, &from_s))
        return mr_reject(err, MR_USAGE, "the token's exp and nbf: expected seconds since 1970");
    if (now_s >= until_s)
        return mr_reject(err, MR_USAGE, "the token has expired");
    if (from_s > now_s)
        return mr_reject(err, MR_USAGE, "the token is not valid yet");
    double left_s = until_s - now_s;
    scope->expires_ns =
        left_s < NEVER_S ? mr_clock_ns() + (uint64_t)(left_s * (double)MR_NS_PER_S) : UINT64_MAX;
    return MR_OK;
}

static bool is_text(const json_t *value, const char *wanted)
{
    const char *text = json_string_value(value);
    return text && strcmp(text, wanted) == 0;
}

static enum mr_rc check_claims(const struct mr_auth *auth, const json_t *claims,
                               struct mr_scope *scope, struct mr_err *err)
{
    const char *issuer = auth->config->auth_jwt_issuer.text;
    const char *audience = auth->config->auth_jwt_audience.text;
    const char *subject = json_string_value(json_object_get(claims, "sub"));
    struct mr_scope_names audiences = {0};
    enum mr_rc rc = check_times(claims, scope, err);
    if (rc != MR_OK)
        return rc;
    if (*issuer && !is_text(json_object_get(claims, "iss"), issuer))
        return mr_reject(err, MR_USAGE, "the token has another issuer");
    if (*audience && (!get_names(json_object_get(claims, "aud"), false, &audiences) ||
                      audiences.all || !mr_scope_has(&audiences, mr_str_from(audience))))
        return mr_reject(err, MR_USAGE, "the token is for another audience");
    if (!get_names(json_object_get(claims, "databases"), false, &scope->databases) ||
        !get_names(json_object_get(claims, "collections"), true, &scope->collections) ||
        !get_names(json_object_get(claims, "gateways"), true, &scope->gateways))
        return mr_reject(err, MR_USAGE,
                         "the token's databases, collections and gateways: expected names, at "
                         "most %d each",
                         MR_SCOPE_NAMES_MAX);
    scope->gateways_stated = scope->gateways.count > 0;
    snprintf(scope->subject, sizeof scope->subject, "%s", subject ? subject : "");
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
    /* Its getters cannot tell an absent claim from one of another type: read the whole. */
    char *text = rc == MR_OK ? jwt_get_grants_json(jwt, NULL) : NULL;
    json_t *claims = text ? json_loads(text, 0, NULL) : NULL;
    if (rc == MR_OK)
        rc = claims ? check_claims(auth, claims, scope, err)
                    : mr_reject(err, MR_RETRY, "out of memory, try again");
    json_decref(claims);
    free(text);
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
