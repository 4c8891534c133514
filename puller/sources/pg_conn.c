#include "puller/sources/pg_conn.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "puller/sources/pg_error.h"
#include "puller/sources/pg_resolve.h"

enum { PARAMETERS_MAX = 16, MESSAGE_MAX = 400 };

struct mr_pg_conn {
    PGconn *pg; /* NULL while names are being resolved */
    struct mr_pg_resolve *resolve;
    char *url;
    PostgresPollingStatusType polling;
    bool unsent;    /* libpq still holds bytes to send */
    PGresult *held; /* the answer, until the mark of its end has come too */
    char sqlstate[6];
};
struct mr_pg_result {
    PGresult *pg;
};

enum mr_rc mr_pg_conn_check(const char *url, struct mr_err *err)
{
    char *message = NULL;
    PQconninfoOption *options = PQconninfoParse(url, &message);
    if (options) {
        PQconninfoFree(options);
        return MR_OK;
    }
    /* libpq quotes what it does not understand, which may be a piece of the password: shown are its
     * words up to the first quotation, or a whole one about the name of an option. */
    const char *words = message ? message : "out of memory";
    bool named = strncmp(words, "invalid connection option", 25) == 0;
    if (strncmp(words, "missing \"=\"", 11) == 0)
        words = "a word without =";
    int len = (int)(named ? strcspn(words, "\n") : strcspn(words, "\"\n"));
    enum mr_rc rc =
        mr_reject(err, MR_USAGE,
                  "postgres.url: not a libpq connection string (host=db user=me dbname=app) or URI "
                  "(postgresql://me@db/app): %.*s",
                  len, words);
    PQfreemem(message);
    return rc;
}

/* Notices are the server's words to a person: one log line each, if asked for. */
static void log_notice(void *context, const char *message)
{
    (void)context;
    char text[MESSAGE_MAX];
    mr_pg_error_tidy(message, text, sizeof text);
    mr_log_debug("postgres", "server_notice", "text=\"%s\"", text);
}

/* Later keywords win: ours in front may be overridden by the url, those behind it may not. */
static enum mr_rc start(struct mr_pg_conn *conn, struct mr_err *err)
{
    const char *host = NULL, *address = NULL, *port = NULL;
    if (conn->resolve)
        mr_pg_resolve_lists(conn->resolve, &host, &address, &port);
    const char *keywords[PARAMETERS_MAX] = {"fallback_application_name",
                                            "keepalives_idle",
                                            "keepalives_interval",
                                            "keepalives_count",
                                            "tcp_user_timeout",
                                            "dbname",
                                            "replication",
                                            "client_encoding",
                                            "host",
                                            "hostaddr",
                                            "port",
                                            NULL};
    const char *values[PARAMETERS_MAX] = {"millrace", "10",   "5",  "3",     "20000", conn->url,
                                          "database", "UTF8", host, address, port,    NULL};
    conn->pg = PQconnectStartParams(keywords, values, 1);
    if (!conn->pg)
        return mr_reject(err, MR_FATAL, "connect to PostgreSQL: out of memory");
    conn->polling = PGRES_POLLING_WRITING;
    PQsetErrorVerbosity(conn->pg, PQERRORS_VERBOSE); /* the SQLSTATE shows in the text */
    PQsetNoticeProcessor(conn->pg, log_notice, NULL);
    return MR_OK;
}

enum mr_rc mr_pg_conn_open(struct mr_pg_conn **out, const char *url, struct mr_err *err)
{
    struct mr_pg_conn *conn = calloc(1, sizeof *conn);
    if (!conn)
        return mr_fail(err, MR_FATAL, "connect to PostgreSQL");
    conn->url = strdup(url);
    enum mr_rc rc = MR_OK;
    if (!conn->url)
        rc = mr_fail(err, MR_FATAL, "connect to PostgreSQL");
    if (rc == MR_OK)
        rc = mr_pg_resolve_start(&conn->resolve, url, err);
    if (rc == MR_OK && !conn->resolve)
        rc = start(conn, err);
    if (rc != MR_OK) {
        mr_pg_conn_close(&conn);
        return rc;
    }
    *out = conn;
    return MR_OK;
}

void mr_pg_conn_close(struct mr_pg_conn **conn)
{
    if (!*conn)
        return;
    PQclear((*conn)->held);
    PQfinish((*conn)->pg);
    mr_pg_resolve_end(&(*conn)->resolve);
    free((*conn)->url);
    free(*conn);
    *conn = NULL;
}

/* The connection's own error, sorted. */
static enum mr_rc connection_failed(struct mr_pg_conn *conn, const char *what, struct mr_err *err)
{
    const char *raw = PQerrorMessage(conn->pg);
    char text[MESSAGE_MAX];
    mr_pg_error_tidy(raw, text, sizeof text);
    mr_pg_error_sqlstate(raw, conn->sqlstate);
    return mr_reject(err, mr_pg_error_class(conn->sqlstate, raw), "%s: %s%s", what,
                     text[0] ? text : "the connection is gone",
                     mr_pg_error_remedy(conn->sqlstate, raw));
}

enum mr_rc mr_pg_conn_poll(struct mr_pg_conn *conn, struct mr_err *err)
{
    if (!conn->pg) {
        enum mr_rc rc = mr_pg_resolve_poll(conn->resolve, err);
        if (rc == MR_OK)
            rc = start(conn, err);
        if (rc != MR_OK)
            return rc;
    }
    if (PQstatus(conn->pg) == CONNECTION_BAD)
        return connection_failed(conn, "connect to PostgreSQL", err);
    conn->polling = PQconnectPoll(conn->pg);
    if (conn->polling == PGRES_POLLING_FAILED)
        return connection_failed(conn, "connect to PostgreSQL", err);
    if (conn->polling != PGRES_POLLING_OK)
        return MR_AGAIN;
    if (PQsetnonblocking(conn->pg, 1) != 0)
        return connection_failed(conn, "connect to PostgreSQL", err);
    return MR_OK;
}

void mr_pg_conn_wait(const struct mr_pg_conn *conn, struct pollfd *out)
{
    *out = (struct pollfd){.fd = conn->pg ? PQsocket(conn->pg) : -1, .events = POLLIN};
    if (conn->unsent)
        out->events |= POLLOUT;
    if (conn->pg && conn->polling == PGRES_POLLING_WRITING)
        out->events = POLLOUT;
}

const char *mr_pg_conn_database(const struct mr_pg_conn *conn)
{
    return PQdb(conn->pg);
}

int mr_pg_conn_server_pid(const struct mr_pg_conn *conn)
{
    return PQbackendPID(conn->pg);
}

int mr_pg_conn_server_version(const struct mr_pg_conn *conn)
{
    return PQserverVersion(conn->pg);
}

bool mr_pg_conn_server_utf8(const struct mr_pg_conn *conn)
{
    const char *encoding = PQparameterStatus(conn->pg, "server_encoding");
    return !encoding || strcmp(encoding, "UTF8") == 0 || strcmp(encoding, "SQL_ASCII") == 0;
}

const char *mr_pg_conn_sqlstate(const struct mr_pg_conn *conn)
{
    return conn->sqlstate;
}

enum mr_rc mr_pg_conn_send(struct mr_pg_conn *conn, const char *sql, struct mr_err *err)
{
    conn->sqlstate[0] = '\0';
    if (PQsendQuery(conn->pg, sql) != 1)
        return connection_failed(conn, "send a query", err);
    return mr_pg_conn_flush(conn, err);
}

enum mr_rc mr_pg_conn_flush(struct mr_pg_conn *conn, struct mr_err *err)
{
    int left = PQflush(conn->pg);
    if (left < 0)
        return connection_failed(conn, "send to PostgreSQL", err);
    conn->unsent = left == 1;
    return MR_OK;
}

static enum mr_rc query_failed(struct mr_pg_conn *conn, const PGresult *result, struct mr_err *err)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    if (!state || !primary)
        return connection_failed(conn, "PostgreSQL", err);
    snprintf(conn->sqlstate, sizeof conn->sqlstate, "%s", state);
    return mr_reject(err, mr_pg_error_class(state, primary), "PostgreSQL says %s: %s%s%s%s", state,
                     primary, detail ? "; " : "", detail ? detail : "",
                     mr_pg_error_remedy(state, primary));
}

static enum mr_rc hand_over(struct mr_pg_conn *conn, struct mr_pg_result **out, struct mr_err *err)
{
    struct mr_pg_result *taken = malloc(sizeof *taken);
    if (!taken)
        return mr_fail(err, MR_FATAL, "read from PostgreSQL");
    taken->pg = conn->held;
    conn->held = NULL;
    *out = taken;
    return MR_OK;
}

enum mr_rc mr_pg_conn_take(struct mr_pg_conn *conn, struct mr_pg_result **out, struct mr_err *err)
{
    enum mr_rc rc = mr_pg_conn_flush(conn, err);
    if (rc != MR_OK)
        return rc;
    if (PQconsumeInput(conn->pg) != 1)
        return connection_failed(conn, "read from PostgreSQL", err);
    while (!PQisBusy(conn->pg)) {
        PGresult *result = PQgetResult(conn->pg);
        if (!result && conn->held)
            return hand_over(conn, out, err);
        if (!result)
            return mr_reject(err, MR_RETRY, "PostgreSQL: no answer to a query");
        PQclear(conn->held);
        conn->held = result;
        ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_COPY_BOTH)
            return hand_over(conn, out, err);
        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
            return query_failed(conn, result, err);
    }
    return MR_AGAIN;
}

void mr_pg_result_free(struct mr_pg_result **result)
{
    if (!*result)
        return;
    PQclear((*result)->pg);
    free(*result);
    *result = NULL;
}

int mr_pg_result_rows(const struct mr_pg_result *result)
{
    return PQntuples(result->pg);
}

const char *mr_pg_result_text(const struct mr_pg_result *result, int row, int column)
{
    if (row >= PQntuples(result->pg) || column >= PQnfields(result->pg))
        return "";
    return PQgetvalue(result->pg, row, column);
}

void mr_pg_result_value(const struct mr_pg_result *result, int row, int column,
                        struct mr_pg_value *out)
{
    *out = (struct mr_pg_value){.form = MR_PG_FORM_NULL};
    if (PQgetisnull(result->pg, row, column))
        return;
    out->data = (const uint8_t *)PQgetvalue(result->pg, row, column);
    out->len = (uint32_t)PQgetlength(result->pg, row, column);
    out->form = MR_PG_FORM_TEXT;
}

bool mr_pg_result_streams(const struct mr_pg_result *result)
{
    return PQresultStatus(result->pg) == PGRES_COPY_BOTH;
}

/* Why the stream is over: the server says so in a result of its own. */
static enum mr_rc stream_ended(struct mr_pg_conn *conn, struct mr_err *err)
{
    PGresult *result = PQisBusy(conn->pg) ? NULL : PQgetResult(conn->pg);
    if (!result || PQresultStatus(result) != PGRES_FATAL_ERROR) {
        PQclear(result);
        return mr_reject(err, MR_RETRY, "replication stream: the server has ended it");
    }
    enum mr_rc rc = query_failed(conn, result, err);
    PQclear(result);
    return rc;
}

enum mr_rc mr_pg_conn_next(struct mr_pg_conn *conn, char **data, size_t *len, struct mr_err *err)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        int got = PQgetCopyData(conn->pg, data, 1);
        if (got > 0) {
            *len = (size_t)got;
            return MR_OK;
        }
        if (got == -1)
            return stream_ended(conn, err);
        if (got < -1)
            return connection_failed(conn, "read from PostgreSQL", err);
        if (attempt == 0 && PQconsumeInput(conn->pg) != 1)
            return connection_failed(conn, "read from PostgreSQL", err);
    }
    return MR_AGAIN;
}

void mr_pg_conn_release(char *data)
{
    PQfreemem(data);
}

enum mr_rc mr_pg_conn_put(struct mr_pg_conn *conn, const void *data, size_t len, struct mr_err *err)
{
    if (PQputCopyData(conn->pg, data, (int)len) < 0)
        return connection_failed(conn, "send to PostgreSQL", err);
    return mr_pg_conn_flush(conn, err);
}
