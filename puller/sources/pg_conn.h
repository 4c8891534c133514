/* puller/sources/pg_conn.h: a replication connection to PostgreSQL that never blocks: libpq's
 * asynchronous half, with errors sorted into the classes of common/err.h. Not thread-safe. */
#ifndef MR_PULLER_SOURCES_PG_CONN_H
#define MR_PULLER_SOURCES_PG_CONN_H
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "puller/sources/pg_decode.h"

struct mr_pg_conn;
struct mr_pg_result;

/* MR_USAGE: url is no connection string or URI. The text never shows more of it than option names.
 */
MR_MUST_USE enum mr_rc mr_pg_conn_check(const char *url, struct mr_err *err);

/* Begin to connect in replication mode. Host names are resolved in the background. MR_OK; MR_USAGE;
 * MR_RETRY; MR_FATAL: no memory. */
MR_MUST_USE enum mr_rc mr_pg_conn_open(struct mr_pg_conn **out, const char *url,
                                       struct mr_err *err);
void mr_pg_conn_close(struct mr_pg_conn **conn);
/* MR_OK: connected; MR_AGAIN: wait; MR_USAGE: refused for what the configuration says (password,
 * database, TLS); MR_RETRY: could not be reached now. */
MR_MUST_USE enum mr_rc mr_pg_conn_poll(struct mr_pg_conn *conn, struct mr_err *err);
/* What to wait for; fd -1 while a name is being resolved: then poll every few milliseconds. */
void mr_pg_conn_wait(const struct mr_pg_conn *conn, struct pollfd *out);

const char *mr_pg_conn_database(const struct mr_pg_conn *conn); /* borrowed */
int mr_pg_conn_server_pid(const struct mr_pg_conn *conn);
int mr_pg_conn_server_version(const struct mr_pg_conn *conn); /* 150020 is 15.20 */

/* Whether the server compares text as UTF-8 bytes under COLLATE "C". */
bool mr_pg_conn_server_utf8(const struct mr_pg_conn *conn);

/* One query at a time. take: MR_OK: *out is the result; MR_AGAIN: wait; otherwise the query or the
 * connection failed: rc by class, and sqlstate (5 characters, or empty) says more. */
MR_MUST_USE enum mr_rc mr_pg_conn_send(struct mr_pg_conn *conn, const char *sql,
                                       struct mr_err *err);
MR_MUST_USE enum mr_rc mr_pg_conn_take(struct mr_pg_conn *conn, struct mr_pg_result **out,
                                       struct mr_err *err);
const char *mr_pg_conn_sqlstate(const struct mr_pg_conn *conn); /* of the last failure */
void mr_pg_result_free(struct mr_pg_result **result);
int mr_pg_result_rows(const struct mr_pg_result *result);
/* Empty for NULL and for a column that is not there. */
const char *mr_pg_result_text(const struct mr_pg_result *result, int row, int column);
/* One value in text form; NULL is MR_PG_FORM_NULL. Borrowed from the result. */
void mr_pg_result_value(const struct mr_pg_result *result, int row, int column,
                        struct mr_pg_value *out);
bool mr_pg_result_streams(const struct mr_pg_result *result); /* START_REPLICATION went well */

/* The stream. next: MR_OK: *data until mr_pg_conn_release; MR_AGAIN: nothing has come; MR_RETRY and
 * the others: it is over. Reads the socket only when its own buffer holds no whole message. */
MR_MUST_USE enum mr_rc mr_pg_conn_next(struct mr_pg_conn *conn, char **data, size_t *len,
                                       struct mr_err *err);
void mr_pg_conn_release(char *data);
MR_MUST_USE enum mr_rc mr_pg_conn_put(struct mr_pg_conn *conn, const void *data, size_t len,
                                      struct mr_err *err);
/* Send what is still queued. MR_OK also when some is left: mr_pg_conn_wait then asks for POLLOUT.
 */
MR_MUST_USE enum mr_rc mr_pg_conn_flush(struct mr_pg_conn *conn, struct mr_err *err);
#endif
