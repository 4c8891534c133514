#include "puller/sources/pg_setup.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "puller/sources/pg_sql.h"

/* One exchange with the server. ask writes the query, or leaves it empty when there is nothing to
 * ask; answer reads the result. */
struct step {
    const char *doing;
    void (*ask)(struct mr_pg_setup *setup, struct mr_pg_sql *sql);
    enum mr_rc (*answer)(struct mr_pg_setup *setup, const struct mr_pg_result *result,
                         struct mr_err *err);
};

static bool is_true(const char *text)
{
    return text[0] == 't';
}

static const char *slot_name(const struct mr_pg_setup *setup)
{
    return setup->config->postgres_slot.text;
}

static const char *publication_name(const struct mr_pg_setup *setup)
{
    return setup->config->postgres_publication.text;
}

/* The server's log does not go as far as we have read. Only what is on its disk is ever sent. */
static bool is_behind(const struct mr_pg_setup *setup)
{
    return mr_pg_position_reach(setup->position) > setup->log_end;
}

/* Asked behind whether it is a standby: one that is promoted in between has then no timeline to
 * rely on, and is waited for when it is behind. */
static void ask_system(struct mr_pg_setup *setup, struct mr_pg_sql *sql)
{
    (void)setup;
    mr_pg_sql_add(sql, "IDENTIFY_SYSTEM");
}

static enum mr_rc answer_system(struct mr_pg_setup *setup, const struct mr_pg_result *result,
                                struct mr_err *err)
{
    setup->system = strtoull(mr_pg_result_text(result, 0, 0), NULL, 10);
    setup->timeline = (uint32_t)strtoul(mr_pg_result_text(result, 0, 1), NULL, 10);
    if (setup->system == 0 || !mr_pg_lsn_parse(mr_pg_result_text(result, 0, 2), &setup->log_end))
        return mr_reject(err, MR_RETRY, "IDENTIFY_SYSTEM: the server did not say who it is");
    if (!setup->first_start && setup->position->system != setup->system)
        return mr_reject(err, MR_USAGE,
                         "postgres.url leads to cluster %" PRIu64 ", the log was filled from"
                         " cluster %" PRIu64 "; use the old server or another instance.data_dir",
                         setup->system, setup->position->system);
    if (setup->standby && !setup->first_start && is_behind(setup))
        return mr_reject(err, MR_RETRY, "server is a standby that has replayed up to %s: waiting",
                         mr_pg_lsn_format(setup->log_end).text);
    return MR_OK;
}

static void ask_session(struct mr_pg_setup *setup, struct mr_pg_sql *sql)
{
    (void)setup;
    mr_pg_sql_session(sql);
}

static enum mr_rc answer_nothing(struct mr_pg_setup *setup, const struct mr_pg_result *result,
                                 struct mr_err *err)
{
    (void)setup;
    (void)result;
    (void)err;
    return MR_OK;
}

static void ask_server(struct mr_pg_setup *setup, struct mr_pg_sql *sql)
{
    (void)setup;
    mr_pg_sql_add(sql, "SELECT current_setting('wal_level'),"
                       " (SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'),"
                       " pg_is_in_recovery()");
}

static enum mr_rc answer_server(struct mr_pg_setup *setup, const struct mr_pg_result *result,
                                struct mr_err *err)
{
    const char *wal_level = mr_pg_result_text(result, 0, 0);
    int version = mr_pg_conn_server_version(setup->conn);
    if (version < 100000)
        return mr_reject(err, MR_USAGE,
                         "server version %d: logical replication with pgoutput needs"
                         " PostgreSQL 10 or newer",
                         version);
    if (strcmp(wal_level, "logical") != 0)
        return mr_reject(err, MR_USAGE,
                         "server's wal_level is %s; set wal_level = logical in"
                         " postgresql.conf and restart the server",
                         wal_level);
    setup->standby = is_true(mr_pg_result_text(result, 0, 2));
    if (setup->standby && version < 160000)
        return mr_reject(err, MR_RETRY,
                         "server is a standby: waiting until it is promoted, or name the"
                         " primary in postgres.url (target_session_attrs=read-write)");
    setup->sender_timeout_ms = strtoull(mr_pg_result_text(result, 0, 1), NULL, 10);
    return MR_OK;
}

static void say_other_timeline(struct mr_pg_setup *setup)
{
    snprintf(setup->diverged, sizeof setup->diverged,
             "the server is on timeline %" PRIu32 ", which does not come from timeline %" PRIu32,
             setup->timeline, setup->position->timeline);
}

/* A server whose history is not the one that was read gives no error: it would pass over all that
 * commits up to our place. */
static void ask_history(struct mr_pg_setup *setup, struct mr_pg_sql *sql)
{
    uint32_t read = setup->position->timeline;
    setup->diverged[0] = '\0';
    if (setup->first_start)
        return;
    if (is_behind(setup))
        snprintf(setup->diverged, sizeof setup->diverged,
                 "the server's log ends at %s: it was restored or lost what it had sent",
                 mr_pg_lsn_format(setup->log_end).text);
    else if (read == 0 || read == setup->timeline)
        return;
    else if (setup->timeline == 1)
        say_other_timeline(setup);
    else {
        char number[16];
        snprintf(number, sizeof number, "%" PRIu32, setup->timeline);
        mr_pg_sql_add(sql, "TIMELINE_HISTORY ");
        mr_pg_sql_add(sql, number);
    }
}

static enum mr_rc answer_history(struct mr_pg_setup *setup, const struct mr_pg_result *result,
                                 struct mr_err *err)
{
    uint64_t left;
    (void)err;
    if (!mr_pg_history_leaves(mr_pg_result_text(result, 0, 1), setup->position->timeline, &left))
        say_other_timeline(setup);
    else if (mr_pg_position_reach(setup->position) > left)
        snprintf(setup->diverged, sizeof setup->diverged,
                 "the server's history leaves timeline %" PRIu32 " at %s, before what was read",
                 setup->position->timeline, mr_pg_lsn_format(left).text);
    return MR_OK;
}

static void ask_publication(struct mr_pg_setup *setup, struct mr_pg_sql *sql)
{
    mr_pg_sql_add(sql,
                  "SELECT puballtables, pubinsert AND pubupdate AND pubdelete FROM pg_publication"
                  " WHERE pubname = ");
    mr_pg_sql_literal(sql, publication_name(setup));
}

static enum mr_rc answer_publication(struct mr_pg_setup *setup, const struct mr_pg_result *result,
                                     struct mr_err *err)
{
    setup->publication_exists = mr_pg_result_rows(result) > 0;
    if (!setup->publication_exists && !setup->config->postgres_create)
        return mr_reject(err, MR_USAGE,
                         "publication \"%s\" does not exist and postgres.create is false;"
                         " CREATE PUBLICATION it or set postgres.create",
                         publication_name(setup));
    setup->all_tables = is_true(mr_pg_result_text(result, 0, 0));
    if (setup->publication_exists && !is_true(mr_pg_result_text(result, 0, 1)))
        mr_log_warn("postgres", "publication_partial",
                    "publication=\"%s\" says=\"it does not publish all"
                    " of insert, update and delete\"",
                    publication_name(setup));
    return MR_OK;
}

/* Of a partitioned table pg_publication_tables names the partitions that hold rows, unless the
 * publication publishes via the root. It is published when it was added itself, and when all those
 * partitions are, whyever. */
static void ask_whether_published(struct mr_pg_setup *setup, struct mr_pg_sql *sql)
{
    mr_pg_sql_add(sql, "p.tablename IS NOT NULL");
    if (setup->all_tables)
        mr_pg_sql_add(sql, " OR c.relkind = 'p'");
    if (mr_pg_conn_server_version(setup->conn) < 130000)
        return; /* a publication has no partitioned table by itself */
    mr_pg_sql_add(sql, " OR c.relkind = 'p' AND (EXISTS (SELECT 1 FROM pg_publication_rel r"
                       " JOIN pg_publication b ON b.oid = r.prpubid"
                       " WHERE r.prrelid = c.oid AND b.pubname = ");
    mr_pg_sql_literal(sql, publication_name(setup));
    mr_pg_sql_add(sql, ") OR (SELECT bool_and(EXISTS (SELECT 1 FROM pg_class l"
                       " JOIN pg_namespace m ON m.oid = l.relnamespace"
                       " JOIN pg_publication_tables q ON q.schemaname = m.nspname"
                       " AND q.tablename = l.relname WHERE l.oid = t.relid AND q.pubname = ");
    mr_pg_sql_literal(sql, publication_name(setup));
    mr_pg_sql_add(sql, ")) FROM pg_partition_tree(c.oid) t WHERE t.isleaf))");
}

static void ask_tables(struct mr_pg_setup *setup, struct mr_pg_sql *sql)
{
    const struct mr_config_list *tables = &setup->config->postgres_tables;
    if (tables->count == 0)
        return;
    mr_pg_sql_add(sql, "SELECT v.s || '.' || v.t, c.oid IS NOT NULL, ");
    ask_whether_published(setup, sql);
    mr_pg_sql_add(sql, " FROM (VALUES ");
    for (uint32_t i = 0; i < tables->count; i++) {
        char schema[128], name[128];
        mr_pg_sql_split(tables->items[i], schema, name);
        mr_pg_sql_add(sql, i ? ",(" : "(");
        mr_pg_sql_literal(sql, schema);
        mr_pg_sql_add(sql, ",");
        mr_pg_sql_literal(sql, name);
        mr_pg_sql_add(sql, ")");
    }
    mr_pg_sql_add(sql,
                  ") v(s, t) LEFT JOIN pg_namespace n ON n.nspname = v.s"
                  " LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = v.t"
                  " LEFT JOIN pg_publication_tables p ON p.schemaname = v.s AND p.tablename = v.t"
                  " AND p.pubname = ");
    mr_pg_sql_literal(sql, publication_name(setup));
}

static enum mr_rc answer_tables(struct mr_pg_setup *setup, const struct mr_pg_result *result,
                                struct mr_err *err)
{
    for (int i = 0; i < mr_pg_result_rows(result); i++) {
        const char *table = mr_pg_result_text(result, i, 0);
        if (!is_true(mr_pg_result_text(result, i, 1)))
            return mr_reject(err, MR_USAGE,
                             "postgres.tables: table %s does not exist in database %s", table,
                             mr_pg_conn_database(setup->conn));
        if (setup->publication_exists && !is_true(mr_pg_result_text(result, i, 2)))
            return mr_reject(
                err, MR_USAGE,
                "postgres.tables: publication \"%s\" does not have table %s;"
                " ALTER PUBLICATION ... ADD TABLE, or drop the publication to have it made",
                publication_name(setup), table);
    }
    if (setup->publication_exists && setup->all_tables && setup->config->postgres_tables.count > 0)
        mr_log_warn("postgres", "publication_wide",
                    "publication=\"%s\" says=\"it publishes all tables,"
                    " not only postgres.tables\"",
                    publication_name(setup));
    return MR_OK;
}

static void ask_create_publication(struct mr_pg_setup *setup, struct mr_pg_sql *sql)
{
    const struct mr_config_list *tables = &setup->config->postgres_tables;
    if (setup->publication_exists)
        return;
    mr_pg_sql_add(sql, "CREATE PUBLICATION ");
    mr_pg_sql_identifier(sql, publication_name(setup));
    mr_pg_sql_add(sql, tables->count ? " FOR TABLE " : " FOR ALL TABLES");
    for (uint32_t i = 0; i < tables->count; i++) {
        mr_pg_sql_add(sql, i ? ", " : "");
        mr_pg_sql_table(sql, tables->items[i]);
    }
}

static enum mr_rc answer_create_publication(struct mr_pg_setup *setup,
                                            const struct mr_pg_result *result, struct mr_err *err)
{
    (void)result;
    (void)err;
    mr_log_info("postgres", "publication_created", "publication=\"%s\" tables=%" PRIu32,
                publication_name(setup), setup->config->postgres_tables.count);
    return MR_OK;
}

static void ask_types(struct mr_pg_setup *setup, struct mr_pg_sql *sql)
{
    (void)setup;
    mr_pg_sql_add(sql,
                  "SELECT t.oid, CASE WHEN t.typtype IN ('e', 'd') THEN t.typtype::text"
                  " WHEN t.typelem <> 0 AND t.typlen = -1 THEN 'A'"
                  " WHEN EXISTS (SELECT 1 FROM pg_proc p WHERE p.oid = t.typsend"
                  " AND p.prosrc = 'textsend') THEN 't' ELSE 'b' END,"
                  " CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END"
                  " FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem"
                  " WHERE t.oid >= 16384 AND t.typtype <> 'c' AND coalesce(e.typtype, 'b') <> 'c'");
}

static enum mr_rc answer_types(struct mr_pg_setup *setup, const struct mr_pg_result *result,
                               struct mr_err *err)
{
    mr_pg_catalog_clear(setup->catalog);
    for (int i = 0; i < mr_pg_result_rows(result); i++) {
        struct mr_pg_catalog_type type = {
            .oid = (uint32_t)strtoul(mr_pg_result_text(result, i, 0), NULL, 10),
            .variety = mr_pg_result_text(result, i, 1)[0],
            .of = (uint32_t)strtoul(mr_pg_result_text(result, i, 2), NULL, 10)};
        if (!mr_pg_catalog_add_type(setup->catalog, &type))
            return mr_fail(err, MR_FATAL, "remember the types of the database");
    }
    return MR_OK;
}

static void ask_keys(struct mr_pg_setup *setup, struct mr_pg_sql *sql)
{
    int version = mr_pg_conn_server_version(setup->conn);
    const char *in_key = mr_pg_sql_in_key(version);
    mr_pg_sql_add(sql, "SELECT c.oid, coalesce(a.attname, '') FROM pg_class c"
                       " LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary");
    if (version >= 120000 && version < 180000) { /* generated columns are not sent */
        mr_pg_sql_add(sql, " AND NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE"
                           " a.attrelid = c.oid AND a.attgenerated <> '' AND ");
        mr_pg_sql_add(sql, in_key);
        mr_pg_sql_add(sql, ")");
    }
    mr_pg_sql_add(sql, " LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND ");
    mr_pg_sql_add(sql, in_key);
    mr_pg_sql_add(sql, " WHERE c.relkind IN ('r', 'p') AND c.relreplident = 'f'");
}

static enum mr_rc answer_keys(struct mr_pg_setup *setup, const struct mr_pg_result *result,
                              struct mr_err *err)
{
    for (int i = 0; i < mr_pg_result_rows(result); i++) {
        struct mr_pg_catalog_key key = {
            .relation = (uint32_t)strtoul(mr_pg_result_text(result, i, 0), NULL, 10)};
        snprintf(key.column, sizeof key.column, "%s", mr_pg_result_text(result, i, 1));
        if (!mr_pg_catalog_add_key(setup->catalog, &key))
            return mr_fail(err, MR_FATAL, "remember the keys of the database");
    }
    mr_pg_catalog_sort(setup->catalog);
    return MR_OK;
}

static void ask_slot(struct mr_pg_setup *setup, struct mr_pg_sql *sql)
{
    int version = mr_pg_conn_server_version(setup->conn);
    mr_pg_sql_add(sql, "SELECT coalesce(plugin, ''), coalesce(database, ''), active,"
                       " coalesce(active_pid, 0), coalesce(confirmed_flush_lsn::text, ''), ");
    mr_pg_sql_add(sql, version >= 130000 ? "coalesce(wal_status, '')" : "''");
    mr_pg_sql_add(sql, ", CASE WHEN active_pid = ");
    char pid[16];
    snprintf(pid, sizeof pid, "%d", setup->own_pid ? setup->own_pid : -1);
    mr_pg_sql_add(sql, pid);
    mr_pg_sql_add(sql, " THEN pg_terminate_backend(active_pid) END"
                       " FROM pg_replication_slots WHERE slot_name = ");
    mr_pg_sql_literal(sql, slot_name(setup));
}

/* The slot cannot give what follows our position: stop, or report a gap and go on behind it. */
static enum mr_rc slot_lost(struct mr_pg_setup *setup, const char *cause, struct mr_err *err)
{
    struct mr_pg_lsn_text from = mr_pg_lsn_format(setup->position->lsn);
    if (strcmp(setup->config->postgres_on_slot_lost.text, "recreate") != 0 &&
        strcmp(setup->config->source_on_unresumable.text, "fail") == 0)
        return mr_reject(
            err, MR_USAGE,
            "slot \"%s\": %s; changes since %s cannot be read; set"
            " postgres.on_slot_lost: recreate to go on with a gap, or begin with an empty"
            " instance.data_dir",
            slot_name(setup), cause, from.text);
    setup->gap = true;
    snprintf(setup->gap_cause, sizeof setup->gap_cause, "%s", cause);
    mr_log_error("postgres", "slot_lost", "slot=%s cause=\"%s\" from=%s", slot_name(setup), cause,
                 from.text);
    return MR_OK;
}

static enum mr_rc check_place(struct mr_pg_setup *setup, const char *confirmed, struct mr_err *err)
{
    if (!mr_pg_lsn_parse(confirmed, &setup->start_lsn))
        return mr_reject(err, MR_RETRY, "slot \"%s\" is not ready: it has no confirmed place yet",
                         slot_name(setup));
    if (setup->first_start || setup->start_lsn <= setup->position->lsn)
        return MR_OK;
    /* Nothing is acknowledged before our position is durable, so somebody else moved or made it. */
    setup->gap_to_lsn = setup->start_lsn;
    return slot_lost(setup, "it is ahead of what was read: recreated or advanced by somebody else",
                     err);
}

static enum mr_rc answer_slot(struct mr_pg_setup *setup, const struct mr_pg_result *result,
                              struct mr_err *err)
{
    setup->slot_exists = mr_pg_result_rows(result) > 0;
    if (!setup->slot_exists && !setup->first_start)
        return slot_lost(setup, "it is gone", err);
    if (!setup->slot_exists && !setup->config->postgres_create)
        return mr_reject(
            err, MR_USAGE,
            "slot \"%s\" does not exist and postgres.create is false;"
            " pg_create_logical_replication_slot(..., 'pgoutput') it or set postgres.create",
            slot_name(setup));
    if (!setup->slot_exists)
        return MR_OK;
    const char *plugin = mr_pg_result_text(result, 0, 0),
               *database = mr_pg_result_text(result, 0, 1),
               *wal_status = mr_pg_result_text(result, 0, 5);
    if (strcmp(plugin, "pgoutput") != 0)
        return mr_reject(err, MR_USAGE,
                         "slot \"%s\" is %s%s, not a logical one of pgoutput; choose"
                         " another postgres.slot or drop it",
                         slot_name(setup), plugin[0] ? "one of plug-in " : "physical", plugin);
    if (strcmp(database, mr_pg_conn_database(setup->conn)) != 0)
        return mr_reject(err, MR_USAGE, "slot \"%s\" belongs to database %s, postgres.url names %s",
                         slot_name(setup), database, mr_pg_conn_database(setup->conn));
    if (is_true(mr_pg_result_text(result, 0, 2)))
        return mr_reject(err, MR_RETRY,
                         "slot \"%s\" is in use by server process %s; waiting for it",
                         slot_name(setup), mr_pg_result_text(result, 0, 3));
    setup->slot_lost =
        setup->stuck || setup->diverged[0] != '\0' || strcmp(wal_status, "lost") == 0;
    if (setup->slot_lost)
        return slot_lost(setup,
                         setup->diverged[0] ? setup->diverged
                         : setup->stuck
                             ? "the publication did not exist at a place that is still to be read"
                             : "invalidated by the server (max_slot_wal_keep_size)",
                         err);
    if (strcmp(wal_status, "unreserved") == 0)
        mr_log_warn("postgres", "slot_in_danger",
                    "slot=%s says=\"its WAL may be removed at the next"
                    " checkpoint (max_slot_wal_keep_size)\"",
                    slot_name(setup));
    return check_place(setup, mr_pg_result_text(result, 0, 4), err);
}

static void ask_drop_slot(struct mr_pg_setup *setup, struct mr_pg_sql *sql)
{
    if (!setup->slot_lost || !setup->slot_exists)
        return;
    mr_pg_sql_add(sql, "DROP_REPLICATION_SLOT ");
    mr_pg_sql_identifier(sql, slot_name(setup));
    setup->slot_exists = false;
}

/* Waits for the transactions that run now; the statement is answered when they have ended. */
static void ask_create_slot(struct mr_pg_setup *setup, struct mr_pg_sql *sql)
{
    if (setup->slot_exists)
        return;
    mr_pg_sql_add(sql, "CREATE_REPLICATION_SLOT ");
    mr_pg_sql_identifier(sql, slot_name(setup));
    mr_pg_sql_add(sql, " LOGICAL pgoutput NOEXPORT_SNAPSHOT");
}

static enum mr_rc answer_create_slot(struct mr_pg_setup *setup, const struct mr_pg_result *result,
                                     struct mr_err *err)
{
    const char *lsn = mr_pg_result_text(result, 0, 1);
    if (!mr_pg_lsn_parse(lsn, &setup->start_lsn))
        return mr_reject(err, MR_RETRY, "CREATE_REPLICATION_SLOT: the server named no place");
    setup->gap_to_lsn = setup->start_lsn;
    mr_log_info("postgres", "slot_created", "slot=%s lsn=%s", slot_name(setup), lsn);
    return MR_OK;
}

static const struct step steps[] = {
    {"set up the session", ask_session, answer_nothing},
    {"check the server", ask_server, answer_server},
    {"ask who the server is", ask_system, answer_system},
    {"compare the server's history", ask_history, answer_history},
    {"look for the publication", ask_publication, answer_publication},
    {"check postgres.tables", ask_tables, answer_tables},
    {"create the publication", ask_create_publication, answer_create_publication},
    {"read the types", ask_types, answer_types},
    {"read the keys", ask_keys, answer_keys},
    {"look for the slot", ask_slot, answer_slot},
    {"drop the lost slot", ask_drop_slot, answer_nothing},
    {"create the slot (waits for running transactions)", ask_create_slot, answer_create_slot},
};
enum { STEP_COUNT = sizeof steps / sizeof *steps };

void mr_pg_setup_start(struct mr_pg_setup *setup)
{
    setup->step = 0;
    setup->sent = setup->gap = setup->slot_lost = false;
}

const char *mr_pg_setup_doing(const struct mr_pg_setup *setup)
{
    return setup->step < STEP_COUNT ? steps[setup->step].doing : "begin to stream";
}

bool mr_pg_setup_waits_for_others(const struct mr_pg_setup *setup)
{
    return setup->step + 1 == STEP_COUNT;
}

static enum mr_rc fail_step(const struct mr_pg_setup *setup, struct mr_err *err)
{
    return mr_err_prefix(err, "%s", steps[setup->step].doing);
}

/* Ask the next question that there is. */
static enum mr_rc send_next(struct mr_pg_setup *setup, struct mr_err *err)
{
    for (; setup->step < STEP_COUNT; setup->step++) {
        struct mr_pg_sql sql;
        mr_pg_sql_init(&sql, setup->sql, sizeof setup->sql);
        steps[setup->step].ask(setup, &sql);
        if (sql.cut)
            return mr_reject(err, MR_USAGE, "postgres.tables: too long");
        if (sql.len == 0)
            continue;
        enum mr_rc rc = mr_pg_conn_send(setup->conn, setup->sql, err);
        if (rc != MR_OK)
            return fail_step(setup, err);
        setup->sent = true;
        return MR_AGAIN;
    }
    return MR_OK;
}

enum mr_rc mr_pg_setup_poll(struct mr_pg_setup *setup, struct mr_err *err)
{
    if (!setup->sent)
        return send_next(setup, err);
    struct mr_pg_result *result = NULL;
    enum mr_rc rc = mr_pg_conn_take(setup->conn, &result, err);
    if (rc == MR_AGAIN)
        return rc;
    if (rc != MR_OK)
        return fail_step(setup, err);
    rc = steps[setup->step].answer(setup, result, err);
    mr_pg_result_free(&result);
    if (rc != MR_OK)
        return rc;
    setup->sent = false;
    setup->step++;
    return send_next(setup, err);
}

void mr_pg_setup_stream_command(struct mr_pg_setup *setup, uint64_t lsn, bool binary)
{
    struct mr_pg_sql sql, names;
    char quoted[160];
    bool has_options = mr_pg_conn_server_version(setup->conn) >= 140000;
    mr_pg_sql_init(&names, quoted, sizeof quoted);
    mr_pg_sql_identifier(&names, publication_name(setup));
    mr_pg_sql_init(&sql, setup->sql, sizeof setup->sql);
    mr_pg_sql_add(&sql, "START_REPLICATION SLOT ");
    mr_pg_sql_identifier(&sql, slot_name(setup));
    mr_pg_sql_add(&sql, " LOGICAL ");
    mr_pg_sql_add(&sql, mr_pg_lsn_format(lsn).text);
    /* Version 1 gives whole transactions at their commit. Later versions add the streaming of
     * unfinished ones, which may still be rolled back: nothing that one could deliver. */
    mr_pg_sql_add(&sql, " (proto_version '1', publication_names ");
    mr_pg_sql_literal(&sql, quoted);
    if (has_options)
        mr_pg_sql_add(&sql, binary ? ", messages 'false', binary 'true'" : ", messages 'false'");
    mr_pg_sql_add(&sql, ")");
}
