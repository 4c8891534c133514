#include "puller/sources/mongo_conn.h"

#include <mongoc/mongoc.h>
#include <stdlib.h>

#include "common/bson.h"
#include "common/log.h"

enum { SOCKET_TIMEOUT_MS = 30000 };

struct mr_mongo_conn {
    mongoc_uri_t *uri;
    mongoc_client_t *client;
    mongoc_client_session_t *session;
    uint32_t server_id;
    bool router;
};

struct mr_mongo_reply {
    bson_t bson;
};

/* By the table of error codes in MongoDB's manual and the change stream specification of its
 * drivers. What is in no row is taken for trouble that passes. */
static const struct {
    unsigned code;
    enum mr_rc rc;
} classes[] = {
    {286, MR_CLOSED},   /* ChangeStreamHistoryLost */
    {280, MR_CLOSED},   /* ChangeStreamFatalError */
    {260, MR_CLOSED},   /* InvalidResumeToken */
    {10334, MR_CLOSED}, /* BSONObjectTooLarge: the stream can never get past this event */
    {2, MR_USAGE},      /* BadValue */
    {9, MR_USAGE},      /* FailedToParse */
    {13, MR_USAGE},     /* Unauthorized */
    {14, MR_USAGE},     /* TypeMismatch */
    {18, MR_USAGE},     /* AuthenticationFailed */
    {20, MR_USAGE},     /* IllegalOperation */
    {47, MR_USAGE},     /* NoMatchingDocument: a required image is not there */
    {59, MR_USAGE},     /* CommandNotFound */
    {72, MR_USAGE},     /* InvalidOptions */
    {73, MR_USAGE},     /* InvalidNamespace */
    {166, MR_USAGE},    /* CommandNotSupportedOnView */
    {263, MR_USAGE},    /* OperationNotSupportedInTransaction */
    {40324, MR_USAGE},  /* unknown pipeline stage */
    {40415, MR_USAGE},  /* unknown field */
    {40573, MR_USAGE},  /* $changeStream needs a replica set */
};

enum mr_rc mr_mongo_error_class(unsigned code)
{
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        if (classes[i].code == code)
            return classes[i].rc;
    return MR_RETRY;
}

static void log_line(mongoc_log_level_t level, const char *domain, const char *message, void *data)
{
    (void)data;
    if (level <= MONGOC_LOG_LEVEL_WARNING)
        mr_log_warn("mongodb", "driver", "domain=%s message=\"%s\"", domain, message);
}

static void start_driver(void)
{
    mongoc_init(); /* does nothing from the second time on */
    mongoc_log_set_handler(log_line, NULL);
}

static bool has_label(const bson_t *reply, const char *label)
{
    return mongoc_error_has_label(reply, label);
}

/* reply NULL: there was none. */
static enum mr_rc fail(const bson_error_t *error, const bson_t *reply, const char *doing,
                       const char *on, struct mr_err *err)
{
    enum mr_rc rc = MR_RETRY;
    bool by_server = error->domain == MONGOC_ERROR_SERVER || error->domain == MONGOC_ERROR_QUERY ||
                     error->domain == MONGOC_ERROR_COMMAND ||
                     error->domain == MONGOC_ERROR_CURSOR ||
                     error->domain == MONGOC_ERROR_WRITE_CONCERN;
    if (by_server)
        rc = mr_mongo_error_class(error->code);
    if (reply && has_label(reply, "ResumableChangeStreamError"))
        rc = MR_RETRY;
    /* The driver's own: the server refused our credentials, or cannot have sessions. */
    if (error->code == MONGOC_ERROR_CLIENT_AUTHENTICATE ||
        error->code == MONGOC_ERROR_CLIENT_SESSION_FAILURE ||
        error->code == MONGOC_ERROR_PROTOCOL_BAD_WIRE_VERSION)
        rc = MR_USAGE;
    if (by_server)
        return mr_reject(err, rc, "%s %s: %s (code %u)", doing, on, error->message, error->code);
    return mr_reject(err, rc, "%s %s: %s", doing, on, error->message);
}

enum mr_rc mr_mongo_conn_check(const char *url, struct mr_err *err)
{
    bson_error_t error;
    start_driver();
    mongoc_uri_t *uri = mongoc_uri_new_with_error(url, &error);
    if (!uri)
        return mr_reject(err, MR_USAGE, "mongodb.url: %s", error.message);
    mongoc_uri_destroy(uri);
    return MR_OK;
}

static enum mr_rc begin_session(struct mr_mongo_conn *conn, struct mr_err *err)
{
    bson_error_t error = {0};
    const char *hosts = mongoc_uri_get_hosts(conn->uri)
                            ? mongoc_uri_get_hosts(conn->uri)->host_and_port
                            : mongoc_uri_get_srv_hostname(conn->uri);
    mongoc_server_description_t *server = mongoc_client_select_server(
        conn->client, false, mongoc_uri_get_read_prefs_t(conn->uri), &error);
    if (!server)
        return fail(&error, NULL, "connect to MongoDB at", hosts ? hosts : "?", err);
    conn->server_id = mongoc_server_description_id(server);
    bool standalone = strcmp(mongoc_server_description_type(server), "Standalone") == 0;
    conn->router = strcmp(mongoc_server_description_type(server), "Mongos") == 0;
    mongoc_server_description_destroy(server);
    if (standalone)
        return mr_reject(err, MR_USAGE,
                         "MongoDB at %s: it is no replica set, and only those have change streams;"
                         " start it with --replSet and run rs.initiate()",
                         hosts ? hosts : "?");
    /* A cursor belongs to the session that opened it. */
    mongoc_session_opt_t *options = mongoc_session_opts_new();
    mongoc_session_opts_set_causal_consistency(options, false);
    conn->session = mongoc_client_start_session(conn->client, options, &error);
    mongoc_session_opts_destroy(options);
    return conn->session ? MR_OK
                         : fail(&error, NULL, "begin a session with", hosts ? hosts : "?", err);
}

enum mr_rc mr_mongo_conn_open(struct mr_mongo_conn **out, const char *url, struct mr_err *err)
{
    bson_error_t error;
    start_driver();
    struct mr_mongo_conn *conn = calloc(1, sizeof *conn);
    if (!conn)
        return mr_fail(err, MR_FATAL, "connect to MongoDB");
    conn->uri = mongoc_uri_new_with_error(url, &error);
    if (conn->uri && mongoc_uri_get_option_as_int32(conn->uri, MONGOC_URI_SOCKETTIMEOUTMS, 0) == 0)
        mongoc_uri_set_option_as_int32(conn->uri, MONGOC_URI_SOCKETTIMEOUTMS, SOCKET_TIMEOUT_MS);
    if (conn->uri && !mongoc_uri_get_appname(conn->uri))
        mongoc_uri_set_appname(conn->uri, "millrace");
    conn->client = conn->uri ? mongoc_client_new_from_uri_with_error(conn->uri, &error) : NULL;
    enum mr_rc rc =
        conn->client ? MR_OK : mr_reject(err, MR_USAGE, "mongodb.url: %s", error.message);
    if (rc == MR_OK) {
        mongoc_client_set_error_api(conn->client, MONGOC_ERROR_API_VERSION_2);
        rc = begin_session(conn, err);
    }
    if (rc != MR_OK)
        mr_mongo_conn_close(&conn);
    *out = conn;
    return rc;
}

void mr_mongo_conn_close(struct mr_mongo_conn **conn)
{
    struct mr_mongo_conn *c = *conn;
    if (!c)
        return;
    if (c->session)
        mongoc_client_session_destroy(c->session);
    if (c->client)
        mongoc_client_destroy(c->client);
    if (c->uri)
        mongoc_uri_destroy(c->uri);
    free(c);
    *conn = NULL;
}

bool mr_mongo_conn_is_router(const struct mr_mongo_conn *conn)
{
    return conn->router;
}

enum mr_rc mr_mongo_conn_run(struct mr_mongo_conn *conn, const char *database,
                             struct mr_str command, struct mr_mongo_reply **out, struct mr_err *err)
{
    bson_t document, options = BSON_INITIALIZER;
    bson_error_t error = {0};
    bson_iter_t first;
    bool valid = bson_init_static(&document, (const uint8_t *)command.data, command.len) &&
                 bson_iter_init(&first, &document) && bson_iter_next(&first);
    MR_ASSERT(valid); /* our own writer's */
    struct mr_mongo_reply *reply = calloc(1, sizeof *reply);
    bool ok = reply && BSON_APPEND_INT32(&options, "serverId", (int32_t)conn->server_id) &&
              mongoc_client_session_append(conn->session, &options, &error);
    if (!ok) {
        free(reply);
        bson_destroy(&options);
        return mr_reject(err, MR_FATAL, "%s on %s: no memory for its options",
                         bson_iter_key(&first), database);
    }
    ok = mongoc_client_command_with_opts(conn->client, database, &document,
                                         mongoc_uri_get_read_prefs_t(conn->uri), &options,
                                         &reply->bson, &error);
    bson_destroy(&options);
    *out = reply;
    if (ok)
        return MR_OK;
    enum mr_rc rc = fail(&error, &reply->bson, bson_iter_key(&first), database, err);
    mr_mongo_reply_free(out);
    return rc;
}

struct mr_str mr_mongo_reply_bytes(const struct mr_mongo_reply *reply)
{
    return (struct mr_str){(const char *)bson_get_data(&reply->bson), reply->bson.len};
}

void mr_mongo_reply_free(struct mr_mongo_reply **reply)
{
    if (!*reply)
        return;
    bson_destroy(&(*reply)->bson);
    free(*reply);
    *reply = NULL;
}
