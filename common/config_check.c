/* What no single key can tell: rules over the whole configuration. */
#include <string.h>

#include "common/config.h"
#include "common/config_value.h"

#define LOWER_DIGITS "abcdefghijklmnopqrstuvwxyz0123456789_"

static bool is_name(const char *text, const char *letters, size_t len_max)
{
    size_t len = strlen(text);
    return len > 0 && len <= len_max && strspn(text, letters) == len;
}

/* "host:port", "[v6]:port" or ":port"; port 0 lets the kernel choose. */
static bool is_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    if (!colon || strlen(colon + 1) == 0 || strlen(colon + 1) > 5 ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return false;
    unsigned port = 0;
    for (const char *at = colon + 1; *at; at++)
        port = port * 10 + (unsigned)(*at - '0');
    size_t host = (size_t)(colon - text);
    bool bracketed = host >= 2 && text[0] == '[' && text[host - 1] == ']';
    return port <= 65535 && (bracketed || !memchr(text, ':', host));
}

static enum mr_rc check_names(const struct mr_config *config, struct mr_err *err)
{
    if (!is_name(config->instance_name.text, LOWER_DIGITS "-", 31))
        return mr_reject(err, MR_USAGE,
                         "instance.name: expected 1 to 31 of a-z 0-9 _ -, got \"%s\"",
                         config->instance_name.text);
    if (config->instance_data_dir.text[0] != '/')
        return mr_reject(err, MR_USAGE, "instance.data_dir: expected an absolute path, got \"%s\"",
                         config->instance_data_dir.text);
    if (config->supervisor_bin_dir.text[0] && config->supervisor_bin_dir.text[0] != '/')
        return mr_reject(err, MR_USAGE, "supervisor.bin_dir: expected an absolute path, got \"%s\"",
                         config->supervisor_bin_dir.text);
    if (!config->source_database.text[0])
        return mr_reject(err, MR_USAGE, "source.database: expected a name, got an empty text");
    return MR_OK;
}

static enum mr_rc check_source(const struct mr_config *config, struct mr_err *err)
{
    const char *kind = config->source_kind.text;
    if (strcmp(kind, "postgres") == 0 && !config->postgres_url.text[0])
        return mr_reject(err, MR_USAGE,
                         "postgres.url: source.kind postgres needs it, and it is empty");
    if (strcmp(kind, "mongodb") == 0 && !config->mongodb_url.text[0])
        return mr_reject(err, MR_USAGE,
                         "mongodb.url: source.kind mongodb needs it, and it is empty");
    bool mongodb = strcmp(kind, "mongodb") == 0, postgres = strcmp(kind, "postgres") == 0;
    if (postgres && strcmp(config->source_start.text, "from_beginning") == 0)
        return mr_reject(err, MR_USAGE,
                         "source.start: a PostgreSQL server keeps no changes from before its slot;"
                         " expected from_now or snapshot");
    if (!mongodb && !postgres && strcmp(config->source_start.text, "from_now") != 0)
        return mr_reject(err, MR_USAGE, "source.start: source.kind %s knows only from_now", kind);
    if (!mongodb && !postgres && strcmp(config->source_on_unresumable.text, "fail") != 0)
        return mr_reject(err, MR_USAGE, "source.on_unresumable: source.kind %s knows only fail",
                         kind);
    if (strcmp(kind, "ndjson") == 0 && !config->ndjson_path.text[0])
        return mr_reject(err, MR_USAGE,
                         "ndjson.path: source.kind ndjson needs it, and it is empty");
    if (!is_name(config->postgres_slot.text, LOWER_DIGITS, 63))
        return mr_reject(err, MR_USAGE, "postgres.slot: expected 1 to 63 of a-z 0-9 _, got \"%s\"",
                         config->postgres_slot.text);
    size_t publication = strlen(config->postgres_publication.text);
    if (publication == 0 || publication > 63)
        return mr_reject(err, MR_USAGE,
                         "postgres.publication: expected a name of 1 to 63 bytes, got \"%s\"",
                         config->postgres_publication.text);
    for (uint32_t i = 0; i < config->postgres_tables.count; i++) {
        const char *table = config->postgres_tables.items[i], *dot = strchr(table, '.');
        if (!dot || dot == table || !dot[1])
            return mr_reject(err, MR_USAGE, "postgres.tables: expected schema.table, got \"%s\"",
                             table);
    }
    return MR_OK;
}

#define TOKEN LOWER_DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZ-"

/* Names that NATS servers take, and files that must be named. */
static enum mr_rc check_streams(const struct mr_config *config, struct mr_err *err)
{
    const struct {
        const char *key, *text;
        bool may_be_empty;
    } names[] = {
        {"jetstream.stream", config->jetstream_stream.text, false},
        {"jetstream.subject", config->jetstream_subject.text, false},
        {"query.jetstream_stream", config->query_jetstream_stream.text, false},
        {"query.jetstream_consumer", config->query_jetstream_consumer.text, true},
        {"upstream.stream", config->upstream_stream.text, false},
        {"subscriptions.bucket", config->subscriptions_bucket.text, true},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!is_name(names[i].text, TOKEN, 100) && !(names[i].may_be_empty && !*names[i].text))
            return mr_reject(err, MR_USAGE, "%s: expected 1 to 100 of A-Z a-z 0-9 _ -, got \"%s\"",
                             names[i].key, names[i].text);
    return MR_OK;
}

static enum mr_rc check_addresses(const struct mr_config *config, struct mr_err *err)
{
    if (!is_address(config->publisher_grpc_listen.text))
        return mr_reject(err, MR_USAGE, "publisher.grpc_listen: expected host:port, got \"%s\"",
                         config->publisher_grpc_listen.text);
    const char *relay = config->relay_listen.text;
    if (*relay && !is_address(relay))
        return mr_reject(err, MR_USAGE, "relay.listen: expected host:port or nothing, got \"%s\"",
                         relay);
    const char *rest = config->rest_listen.text;
    if (*rest && !is_address(rest))
        return mr_reject(err, MR_USAGE, "rest.listen: expected host:port or nothing, got \"%s\"",
                         rest);
    const char *http = config->http_listen.text;
    if (*http && !is_address(http))
        return mr_reject(err, MR_USAGE, "http.listen: expected host:port or nothing, got \"%s\"",
                         http);
    if (strcmp(http, config->publisher_grpc_listen.text) == 0 &&
        strcmp(strrchr(http, ':'), ":0") != 0)
        return mr_reject(err, MR_USAGE,
                         "http.listen: the same address as publisher.grpc_listen, %s", http);
    return MR_OK;
}

/* Addresses that nobody outside of this machine can reach. */
static bool is_loopback(const char *address)
{
    return strncmp(address, "127.", 4) == 0 || strncmp(address, "localhost:", 10) == 0 ||
           strncmp(address, "[::1]:", 6) == 0;
}

static enum mr_rc check_reach(const struct mr_config *config, struct mr_err *err)
{
    const struct {
        const char *key, *address;
    } rows[] = {{"publisher.grpc_listen", config->publisher_grpc_listen.text},
                {"relay.listen", config->relay_listen.text},
                {"rest.listen", config->rest_listen.text}};
    bool authenticated = *config->auth_token.text || *config->auth_jwt_key.text ||
                         *config->auth_jwt_key_file.text || *config->tls_client_ca.text;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && !authenticated; i++)
        if (*rows[i].address && !is_loopback(rows[i].address))
            return mr_reject(err, MR_USAGE,
                             "%s: %s can be reached from outside, and nobody has to show who they "
                             "are: expected auth.token, auth.jwt_key, auth.jwt_key_file or "
                             "tls.client_ca, or a loopback address",
                             rows[i].key, rows[i].address);
    return MR_OK;
}

static enum mr_rc check_keys(const struct mr_config *config, struct mr_err *err)
{
    enum { TOKEN_MIN = 16, SECRET_MIN = 32 };
    size_t token = strlen(config->auth_token.text), secret = strlen(config->auth_jwt_key.text);
    bool shared = strncmp(config->auth_jwt_algorithm.text, "HS", 2) == 0;
    if (token > 0 && token < TOKEN_MIN)
        return mr_reject(err, MR_USAGE, "auth.token: expected at least %d characters", TOKEN_MIN);
    if (secret > 0 && secret < SECRET_MIN)
        return mr_reject(err, MR_USAGE, "auth.jwt_key: expected at least %d characters",
                         SECRET_MIN);
    if ((secret > 0 && !shared) || (*config->auth_jwt_key_file.text && shared))
        return mr_reject(err, MR_USAGE, "auth.jwt_algorithm: %s goes with auth.jwt_key%s",
                         config->auth_jwt_algorithm.text, shared ? "" : "_file");
    if (!*config->tls_certificate.text != !*config->tls_key.text)
        return mr_reject(err, MR_USAGE, "tls.certificate and tls.key: expected both or neither");
    if (*config->tls_client_ca.text && !*config->tls_certificate.text)
        return mr_reject(err, MR_USAGE, "tls.client_ca: it needs tls.certificate and tls.key");
    return MR_OK;
}

static bool power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* Pairs of keys of which the first may not be greater than the second. */
static const struct {
    const char *low, *high;
} ordered[] = {
    {"source.backoff_min", "source.backoff_max"},
    {"supervisor.backoff_min", "supervisor.backoff_max"},
    {"log.batch_size", "log.segment_size"},
    {"log.segment_size", "log.retention_size"},
    {"publisher.subscriptions_per_gateway_max", "publisher.subscriptions_max"},
    {"subscriptions.ttl_min", "subscriptions.ttl"},
    {"subscriptions.ttl", "subscriptions.ttl_max"},
    {"publisher.value_bytes_max", "publisher.message_bytes_max"},
    {"ring.publish_bytes", "ring.match_size"},
    {"relay.lag_soft_events", "relay.lag_hard_events"},
    {"relay.lag_soft_time", "relay.lag_hard_time"},
    {"relay.batch_size", "relay.memory_size"},
};

static uint64_t number_of(const struct mr_config *config, const struct mr_config_row *row)
{
    uint64_t value;
    memcpy(&value, (const char *)config + row->offset, sizeof value);
    return value;
}

static enum mr_rc check_order(const struct mr_config *config, struct mr_err *err)
{
    for (size_t i = 0; i < sizeof ordered / sizeof *ordered; i++) {
        const struct mr_config_row *low = mr_config_find(ordered[i].low);
        const struct mr_config_row *high = mr_config_find(ordered[i].high);
        MR_ASSERT(low && high && strcmp(low->type, high->type) == 0);
        if (number_of(config, low) <= number_of(config, high))
            continue;
        static char low_text[MR_CONFIG_VALUE_MAX], high_text[MR_CONFIG_VALUE_MAX];
        const struct mr_config_type *type = mr_config_type_find(low->type);
        type->format((const char *)config + low->offset, low_text);
        type->format((const char *)config + high->offset, high_text);
        return mr_reject(err, MR_USAGE, "%s: %.40s is greater than %s, %.40s", low->path, low_text,
                         high->path, high_text);
    }
    return MR_OK;
}

static enum mr_rc check_rings(const struct mr_config *config, struct mr_err *err)
{
    static const char *const paths[] = {"ring.event_size", "ring.match_size", "ring.control_size"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        uint64_t size = number_of(config, mr_config_find(paths[i]));
        if (!power_of_two(size))
            return mr_reject(err, MR_USAGE, "%s: expected a power of two, got %llu bytes", paths[i],
                             (unsigned long long)size);
    }
    return MR_OK;
}

enum mr_rc mr_config_check(const struct mr_config *config, struct mr_err *err)
{
    enum mr_rc rc = check_names(config, err);
    if (rc == MR_OK)
        rc = check_source(config, err);
    if (rc == MR_OK)
        rc = check_addresses(config, err);
    if (rc == MR_OK)
        rc = check_reach(config, err);
    if (rc == MR_OK)
        rc = check_keys(config, err);
    if (rc == MR_OK)
        rc = check_streams(config, err);
    if (rc == MR_OK)
        rc = check_rings(config, err);
    if (rc == MR_OK)
        rc = check_order(config, err);
    return rc;
}
