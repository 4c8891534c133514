/* puller/sources/mongo_conn.h: one connection to one server of a MongoDB deployment: commands in,
 * replies out, and what an error means. The only file that knows libmongoc. */
#ifndef MR_PULLER_SOURCES_MONGO_CONN_H
#define MR_PULLER_SOURCES_MONGO_CONN_H
#include "common/err.h"
#include "common/str.h"

struct mr_mongo_conn;
struct mr_mongo_reply; /* a command's answer; whoever has it frees it, from any thread */

/* MR_USAGE: url is no connection string. */
MR_MUST_USE enum mr_rc mr_mongo_conn_check(const char *url, struct mr_err *err);

/* Connect to the server that the url's read preference chooses (else the primary) and begin a
 * session. Blocks until connected or given up: at most about the url's connectTimeoutMS, 10 s.
 * MR_RETRY; MR_USAGE: refused for who we are, or no replica set. */
MR_MUST_USE enum mr_rc mr_mongo_conn_open(struct mr_mongo_conn **out, const char *url,
                                          struct mr_err *err);
void mr_mongo_conn_close(struct mr_mongo_conn **conn);
/* Whether the other end is a mongos, which asks several servers. */
bool mr_mongo_conn_is_router(const struct mr_mongo_conn *conn);

/* Run a command (BSON) and wait for its answer: at most the url's socketTimeoutMS, 30 s.
 *   MR_OK: *out is the answer.
 *   MR_RETRY: connection or server trouble that passes; connect anew.
 *   MR_CLOSED: the server no longer has, or cannot give, what was asked for: change stream history.
 *   MR_USAGE: refused for good: rights, options, a server that cannot do it.
 * err names the command and, where it came from the server, the code. One thread at a time. */
MR_MUST_USE enum mr_rc mr_mongo_conn_run(struct mr_mongo_conn *conn, const char *database,
                                         struct mr_str command, struct mr_mongo_reply **out,
                                         struct mr_err *err);
struct mr_str mr_mongo_reply_bytes(const struct mr_mongo_reply *reply);
void mr_mongo_reply_free(struct mr_mongo_reply **reply);

/* What an error code of a server means for a change stream. */
enum mr_rc mr_mongo_error_class(unsigned code);
#endif
