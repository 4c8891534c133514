#include "puller/sources/pg_snapshot.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "puller/sources/pg_sql.h"

/* The stream waits while rows are read, and the server keeps WAL for it. */
#define EPOCH_NS (UINT64_C(5) * MR_NS_PER_S)
enum { OID_TEXT = 25, OID_VARCHAR = 1043 };
enum { WAL_HEAD_BYTES = 1 + 8 + 8 + 8, BEGIN_BYTES = 1 + 8 + 8 + 4, BODY_BYTES = 256 * 1024 };

static struct mr_pg_place *place_of(const struct mr_pg_snapshot *s)
{
    return &s->stream->position.place;
}

void mr_pg_snapshot_stop(struct mr_pg_snapshot *s)
{
    mr_pg_result_free(&s->rows);
    mr_pg_conn_close(&s->conn);
    mr_pg_relations_clear(&s->relations);
    s->table = NULL;
    s->state = MR_PG_SNAPSHOT_OFF;
}

bool mr_pg_snapshot_holds(const struct mr_pg_snapshot *s)
{
    return s->state == MR_PG_SNAPSHOT_SLOT || s->state > MR_PG_SNAPSHOT_REACH;
}

static void reach(struct mr_pg_snapshot *s)
{
    s->state = MR_PG_SNAPSHOT_TABLE;
    s->begun_ns = mr_clock_ns();
    s->sql[0] = '\0';
}

bool mr_pg_snapshot_reached(struct mr_pg_snapshot *s, const void *payload, size_t len)
{
    const uint8_t *bytes = payload;
    if (s->state != MR_PG_SNAPSHOT_REACH || len < WAL_HEAD_BYTES + BEGIN_BYTES || bytes[0] != 'w' ||
        bytes[WAL_HEAD_BYTES] != 'B')
        return false;
    struct mr_pg_bytes in = mr_pg_bytes_of(bytes + WAL_HEAD_BYTES + 1, 8);
    if (mr_pg_u64(&in) < s->lsn) /* of the commit record */
        return false;
    reach(s);
    return true;
}

void mr_pg_snapshot_look(struct mr_pg_snapshot *s)
{
    const struct mr_pg_stream *stream = s->stream;
    if (s->state == MR_PG_SNAPSHOT_REACH && !stream->in_transaction &&
        stream->position.commit_lsn == 0 && stream->position.lsn >= s->lsn)
        reach(s);
}

/* It goes with its connection, and may not take the place of another puller's. */
static void ask_slot(struct mr_pg_snapshot *s, struct mr_pg_sql *sql)
{
    char name[64];
    snprintf(name, sizeof name, "%.40s_s%d", s->config->postgres_slot.text, (int)getpid());
    mr_pg_sql_add(sql, "CREATE_REPLICATION_SLOT ");
    mr_pg_sql_identifier(sql, name);
    mr_pg_sql_add(sql, " TEMPORARY LOGICAL pgoutput USE_SNAPSHOT");
}

/* Text between begin_order and end_order is compared by its UTF-8 bytes, as ids and names are here,
 * whatever the server keeps it in. */
static void begin_order(const struct mr_pg_snapshot *s, struct mr_pg_sql *sql)
{
    mr_pg_sql_add(sql, mr_pg_conn_server_utf8(s->conn) ? "(" : "convert_to((");
}

static void end_order(const struct mr_pg_snapshot *s, struct mr_pg_sql *sql)
{
    mr_pg_sql_add(sql, mr_pg_conn_server_utf8(s->conn) ? ") COLLATE \"C\"" : "), 'UTF8')");
}

static void add_literal(struct mr_pg_sql *sql, struct mr_str text)
{
    char name[MR_EVENT_NAME_MAX + 1];
    memcpy(name, text.data, text.len);
    name[text.len] = '\0';
    mr_pg_sql_literal(sql, name);
}

static void add_place(const struct mr_pg_snapshot *s, struct mr_pg_sql *sql, struct mr_str text)
{
    begin_order(s, sql);
    add_literal(sql, text);
    end_order(s, sql);
}

/* The columns of the next table, in their order. */
static void ask_table(struct mr_pg_snapshot *s, struct mr_pg_sql *sql)
{
    const struct mr_pg_place *place = place_of(s);
    int version = mr_pg_conn_server_version(s->conn);
    mr_pg_sql_add(sql, "WITH t AS (SELECT c.oid, n.nspname, c.relname, c.relkind,"
                       " c.relreplident AS ident, ");
    begin_order(s, sql);
    mr_pg_sql_add(sql, "CASE WHEN n.nspname = 'public' THEN c.relname::text"
                       " ELSE n.nspname || '.' || c.relname END");
    end_order(s, sql);
    mr_pg_sql_add(sql, " AS coll,");
    mr_pg_sql_add(sql, version >= 150000 ? " p.attnames AS cols, p.rowfilter AS filter"
                                         : " NULL::name[] AS cols, NULL::text AS filter");
    mr_pg_sql_add(sql, " FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname ="
                       " p.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname ="
                       " p.tablename WHERE p.pubname = ");
    mr_pg_sql_literal(sql, s->config->postgres_publication.text);
    mr_pg_sql_add(sql, place->state == MR_PG_PLACE_TABLE
                           ? "), f AS (SELECT * FROM t WHERE coll > "
                           : "), f AS (SELECT * FROM t WHERE coll >= ");
    add_place(s, sql, (struct mr_str){place->collection, place->collection_len});
    mr_pg_sql_add(sql, " ORDER BY coll LIMIT 1) SELECT f.oid, f.nspname, f.relname, f.relkind,"
                       " f.ident, coalesce(f.filter, ''), a.attname, a.atttypid, coalesce(CASE"
                       " f.ident WHEN 'f' THEN true ELSE ");
    mr_pg_sql_add(sql, mr_pg_sql_in_key(version));
    mr_pg_sql_add(
        sql,
        " END, false) FROM f JOIN pg_attribute a ON a.attrelid = f.oid AND a.attnum > 0 AND NOT"
        " a.attisdropped AND (f.cols IS NULL OR a.attname = ANY (f.cols))");
    if (version >= 120000)
        mr_pg_sql_add(sql, " AND a.attgenerated = ''");
    mr_pg_sql_add(sql,
                  " LEFT JOIN pg_index i ON i.indrelid = f.oid AND CASE f.ident WHEN 'd' THEN"
                  " i.indisprimary AND i.indimmediate WHEN 'i' THEN i.indisreplident ELSE false END"
                  " ORDER BY a.attnum");
}

static void put32(struct mr_pg_sql *out, uint32_t value, size_t bytes)
{
    for (size_t i = bytes; i-- > 0 && out->len < out->size;)
        out->text[out->len++] = (char)(value >> 8 * i);
}

static void put_name(struct mr_pg_sql *out, const char *name)
{
    size_t len = strlen(name) + 1;
    out->cut |= out->len + len > out->size;
    if (!out->cut)
        memcpy(out->text + out->len, name, len);
    out->len += out->cut ? 0 : len;
}

/* The table as the stream would describe it: the body of a Relation message. */
static enum mr_rc describe(struct mr_pg_snapshot *s, const struct mr_pg_result *columns,
                           struct mr_err *err)
{
    char *body = malloc(BODY_BYTES);
    if (!body)
        return mr_fail(err, MR_FATAL, "snapshot: describe a table");
    struct mr_pg_sql out = {.text = body, .size = BODY_BYTES};
    int count = mr_pg_result_rows(columns);
    put32(&out, (uint32_t)strtoul(mr_pg_result_text(columns, 0, 0), NULL, 10), 4);
    put_name(&out, mr_pg_result_text(columns, 0, 1));
    put_name(&out, mr_pg_result_text(columns, 0, 2));
    put32(&out, (uint8_t)mr_pg_result_text(columns, 0, 4)[0], 1);
    put32(&out, (uint32_t)count, 2);
    for (int i = 0; i < count; i++) {
        put32(&out, mr_pg_result_text(columns, i, 8)[0] == 't', 1);
        put_name(&out, mr_pg_result_text(columns, i, 6));
        put32(&out, (uint32_t)strtoul(mr_pg_result_text(columns, i, 7), NULL, 10), 4);
        put32(&out, UINT32_MAX, 4);
    }
    enum mr_rc rc = out.cut ? mr_reject(err, MR_FATAL, "snapshot: a table's columns are too many")
                            : mr_pg_relations_take(&s->relations, (struct mr_str){body, out.len},
                                                   &s->stream->catalog, &s->table, err);
    free(body);
    return rc;
}

/* A value as its type's output function writes it, which is what ids are made of. A cast to text is
 * something else for some types (inet, char(n), boolean); of text itself it is nothing, and leaves
 * an index in that order of use. */
static void add_text(uint32_t type_oid, const char *name, struct mr_pg_sql *sql)
{
    bool text = type_oid == OID_TEXT || type_oid == OID_VARCHAR;
    mr_pg_sql_add(sql, text ? "" : "concat(");
    mr_pg_sql_identifier(sql, name);
    mr_pg_sql_add(sql, text ? "::text" : ")");
}

/* The order of mr_pg_place_ahead, in SQL. */
static void add_order(const struct mr_pg_relation *table, struct mr_pg_sql *sql)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < table->column_count; i++) {
        const struct mr_pg_column *column = &table->columns[i];
        char name[256];
        if (!column->key)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)column->name.len, column->name.data);
        if (mr_pg_place_numeric(table)) {
            mr_pg_sql_identifier(sql, name);
        } else if (table->key_count == 1 && !mr_pg_place_whole(table)) {
            add_text(column->type_oid, name, sql);
        } else {
            bool several = table->key_count > 1;
            mr_pg_sql_add(sql, seen++ > 0 ? " || ',' || CASE WHEN " : "CASE WHEN ");
            mr_pg_sql_identifier(sql, name);
            mr_pg_sql_add(sql, " IS NULL THEN E'\\\\N' ELSE ");
            mr_pg_sql_add(sql, several ? "replace(replace(" : "");
            add_text(column->type_oid, name, sql);
            mr_pg_sql_add(sql, several ? ", E'\\\\', E'\\\\\\\\'), ',', E'\\\\,') END" : " END");
        }
    }
}

static void add_key(const struct mr_pg_snapshot *s, struct mr_pg_sql *sql)
{
    bool numeric = mr_pg_place_numeric(s->table);
    if (!numeric)
        begin_order(s, sql);
    add_order(s->table, sql);
    if (!numeric)
        end_order(s, sql);
}

/* Rows behind the place. Of a long id only what is ordered counts, up to a whole character: some
 * rows that were taken come again and are passed over. */
static void add_behind(const struct mr_pg_snapshot *s, struct mr_pg_sql *sql)
{
    const struct mr_pg_place *place = place_of(s);
    size_t len = place->id_len;
    if (len > MR_PG_PLACE_ORDER_BYTES)
        for (len = MR_PG_PLACE_ORDER_BYTES; len > 0 && (place->id[len] & 0xC0) == 0x80;)
            len--;
    mr_pg_sql_add(sql, " AND ");
    add_key(s, sql);
    mr_pg_sql_add(sql, " > ");
    if (!mr_pg_place_numeric(s->table)) {
        add_place(s, sql, (struct mr_str){place->id, len});
    } else {
        char number[32];
        snprintf(number, sizeof number, "'%lld'::bigint", mr_pg_place_number(place));
        mr_pg_sql_add(sql, number);
    }
}

static void ask_rows(struct mr_pg_snapshot *s, const struct mr_pg_result *columns,
                     struct mr_pg_sql *sql)
{
    const struct mr_pg_place *place = place_of(s);
    const char *filter = mr_pg_result_text(columns, 0, 5);
    bool behind = (place->state == MR_PG_PLACE_ROW || place->state == MR_PG_PLACE_ALIKE) &&
                  mr_str_equal((struct mr_str){place->collection, place->collection_len},
                               s->table->collection);
    mr_pg_sql_add(sql, "DECLARE s NO SCROLL CURSOR FOR SELECT ");
    for (int i = 0; i < mr_pg_result_rows(columns); i++) {
        mr_pg_sql_add(sql, i ? "," : "");
        mr_pg_sql_identifier(sql, mr_pg_result_text(columns, i, 6));
    }
    /* The rows of an inherited table come under its own name; those of a partitioned one are its
     * partitions'. */
    mr_pg_sql_add(sql, mr_pg_result_text(columns, 0, 3)[0] == 'p' ? " FROM " : " FROM ONLY ");
    mr_pg_sql_identifier(sql, mr_pg_result_text(columns, 0, 1));
    mr_pg_sql_add(sql, ".");
    mr_pg_sql_identifier(sql, mr_pg_result_text(columns, 0, 2));
    mr_pg_sql_add(sql, " WHERE ");
    mr_pg_sql_add(sql, filter[0] ? filter : "true");
    if (behind)
        add_behind(s, sql);
    mr_pg_sql_add(sql, " ORDER BY ");
    add_key(s, sql);
}

/* Behind the cursor, whose locks keep the table as it is: whether the snapshot can show its rows. A
 * table that was written anew since (ALTER TABLE) looks empty to the snapshot, and another one may
 * have its name. Answers one boolean. */
static void ask_unchanged(struct mr_pg_snapshot *s, const struct mr_pg_result *columns,
                          struct mr_pg_sql *sql)
{
    char oid[16];
    snprintf(oid, sizeof oid, "%" PRIu32, s->table->oid);
    mr_pg_sql_add(sql, "; WITH RECURSIVE t(oid) AS (SELECT ");
    mr_pg_sql_add(sql, oid);
    mr_pg_sql_add(sql, "::oid UNION SELECT i.inhrelid FROM t JOIN pg_inherits i ON"
                       " i.inhparent = t.oid) SELECT coalesce(to_regclass(format('%I.%I', ");
    mr_pg_sql_literal(sql, mr_pg_result_text(columns, 0, 1));
    mr_pg_sql_add(sql, ", ");
    mr_pg_sql_literal(sql, mr_pg_result_text(columns, 0, 2));
    mr_pg_sql_add(sql, "))::oid = ");
    mr_pg_sql_add(sql, oid);
    /* The catalog's rows are as of the snapshot, what its functions say is as of now. */
    mr_pg_sql_add(sql, ", false) AND NOT EXISTS (SELECT 1 FROM t JOIN pg_class c USING (oid) WHERE"
                       " c.relfilenode <> 0 AND c.relfilenode IS DISTINCT FROM"
                       " pg_relation_filenode(c.oid))");
}

/* Rows without identity cannot be read on after a break, nor told apart from the stream's. */
static enum mr_rc refuse_table(struct mr_pg_snapshot *s, struct mr_intake *intake,
                               struct mr_err *err)
{
    enum mr_rc rc =
        mr_pg_stream_note(s->stream, s->table->collection,
                          "table without a key: its rows are in no snapshot", s->lsn, intake, err);
    if (rc == MR_OK)
        mr_log_warn("postgres", "snapshot_without", "table=%.*s", (int)s->table->collection.len,
                    s->table->collection.data);
    return rc;
}

static enum mr_rc send(struct mr_pg_snapshot *s, const struct mr_pg_sql *sql, struct mr_err *err)
{
    if (sql->cut)
        return mr_reject(err, MR_FATAL, "snapshot: a query for a table is too long");
    return mr_pg_conn_send(s->conn, s->sql, err);
}

/* Ask what the state is about. */
static enum mr_rc ask(struct mr_pg_snapshot *s, enum mr_pg_snapshot_state state, struct mr_err *err)
{
    struct mr_pg_sql sql;
    mr_pg_sql_init(&sql, s->sql, sizeof s->sql);
    s->state = state;
    if (state == MR_PG_SNAPSHOT_SESSION)
        mr_pg_sql_session(&sql);
    else if (state == MR_PG_SNAPSHOT_BEGIN)
        mr_pg_sql_add(&sql, "BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ");
    else if (state == MR_PG_SNAPSHOT_SLOT)
        ask_slot(s, &sql);
    else if (state == MR_PG_SNAPSHOT_TABLE)
        ask_table(s, &sql);
    else if (state == MR_PG_SNAPSHOT_FETCH) {
        snprintf(s->sql, sizeof s->sql, "FETCH %" PRIu64 " FROM s",
                 s->config->source_snapshot_rows);
    } else
        mr_pg_sql_add(&sql, "CLOSE s");
    return send(s, &sql, err);
}

static void finish(struct mr_pg_snapshot *s, struct mr_intake *intake)
{
    memset(place_of(s), 0, sizeof *place_of(s));
    mr_pg_stream_state_place(s->stream, intake);
    mr_pg_snapshot_stop(s);
    mr_gauge(s->cell, MR_COUNTER_SOURCE_SNAPSHOT, 0);
    mr_cell_say(s->cell, "postgres: streaming");
    mr_log_info("postgres", "snapshot_done", "lsn=%s", mr_pg_lsn_format(s->lsn).text);
}

static enum mr_rc answer_table(struct mr_pg_snapshot *s, const struct mr_pg_result *result,
                               struct mr_intake *intake, struct mr_err *err)
{
    if (mr_pg_result_rows(result) == 0) {
        finish(s, intake);
        return MR_OK;
    }
    enum mr_rc rc = describe(s, result, err);
    if (rc == MR_OK)
        rc = mr_pg_stream_knows(s->stream, s->table, err);
    if (rc == MR_OK && s->table->key_count == 0)
        rc = refuse_table(s, intake, err);
    else if (rc == MR_OK) {
        struct mr_pg_sql sql;
        mr_pg_sql_init(&sql, s->sql, sizeof s->sql);
        ask_rows(s, result, &sql);
        ask_unchanged(s, result, &sql);
        s->state = MR_PG_SNAPSHOT_DECLARE;
        s->table_rows = 0;
        return send(s, &sql, err);
    }
    s->sql[0] = '\0'; /* when there was no room for what is to be said, ask again */
    if (rc != MR_OK)
        return rc;
    mr_pg_place_pass_table(place_of(s), s->table->collection);
    mr_pg_stream_state_place(s->stream, intake);
    return ask(s, MR_PG_SNAPSHOT_TABLE, err);
}

static enum mr_rc answer_slot(struct mr_pg_snapshot *s, const struct mr_pg_result *result,
                              struct mr_err *err)
{
    if (!mr_pg_lsn_parse(mr_pg_result_text(result, 0, 1), &s->lsn))
        return mr_reject(err, MR_RETRY, "snapshot: the server named no place");
    s->state = MR_PG_SNAPSHOT_REACH;
    mr_pg_snapshot_look(s);
    return MR_OK;
}

/* The table is no longer what the snapshot says: take another one, as of now. */
static enum mr_rc begin_again(struct mr_pg_snapshot *s)
{
    mr_log_info("postgres", "snapshot_again", "table=%.*s why=\"it was altered meanwhile\"",
                (int)s->table->collection.len, s->table->collection.data);
    mr_pg_snapshot_stop(s);
    return MR_OK;
}

/* The cursor's query names something that is gone since the snapshot. */
static bool names_gone(const struct mr_pg_snapshot *s)
{
    const char *state = mr_pg_conn_sqlstate(s->conn);
    return s->state == MR_PG_SNAPSHOT_DECLARE &&
           (strcmp(state, "42P01") == 0 || strcmp(state, "42703") == 0);
}

static enum mr_rc end_of_table(struct mr_pg_snapshot *s, struct mr_intake *intake,
                               struct mr_err *err)
{
    mr_pg_place_pass_table(place_of(s), s->table->collection);
    mr_pg_stream_state_place(s->stream, intake);
    return ask(s, MR_PG_SNAPSHOT_CLOSE, err);
}

static enum mr_rc answer(struct mr_pg_snapshot *s, struct mr_pg_result **result,
                         struct mr_intake *intake, struct mr_err *err)
{
    switch (s->state) {
    case MR_PG_SNAPSHOT_SESSION:
        return ask(s, MR_PG_SNAPSHOT_BEGIN, err);
    case MR_PG_SNAPSHOT_BEGIN:
        return ask(s, MR_PG_SNAPSHOT_SLOT, err);
    case MR_PG_SNAPSHOT_SLOT:
        return answer_slot(s, *result, err);
    case MR_PG_SNAPSHOT_TABLE:
        return answer_table(s, *result, intake, err);
    case MR_PG_SNAPSHOT_DECLARE:
        if (mr_pg_result_text(*result, 0, 0)[0] != 't')
            return begin_again(s);
        return ask(s, MR_PG_SNAPSHOT_FETCH, err);
    case MR_PG_SNAPSHOT_FETCH:
        if (mr_pg_result_rows(*result) == 0)
            return end_of_table(s, intake, err);
        s->rows = *result;
        *result = NULL;
        s->row = 0;
        s->state = MR_PG_SNAPSHOT_ROWS;
        return MR_OK;
    case MR_PG_SNAPSHOT_CLOSE:
        return ask(s, MR_PG_SNAPSHOT_TABLE, err);
    default:
        MR_ASSERT(false);
        return MR_FATAL;
    }
}

/* The last row has a long id, and the next one may be ordered like it. */
static bool among_alike(const struct mr_pg_place *place)
{
    return place->state == MR_PG_PLACE_ROW && place->id_len > MR_PG_PLACE_ORDER_BYTES;
}

/* Of the rows that are not ahead: rows without a primary key that are alike have one id, they are
 * one document; and a cursor that begins behind a long id gives some that were taken. */
static bool is_taken(const struct mr_pg_snapshot *s, struct mr_str id)
{
    const struct mr_pg_place *place = place_of(s);
    bool alike = mr_pg_place_alike(place, s->table, id);
    return mr_str_equal((struct mr_str){place->id, place->id_len}, id) ||
           (alike && place->state == MR_PG_PLACE_ALIKE) ||
           (!alike && s->table_rows == 0 && place->id_len > MR_PG_PLACE_ORDER_BYTES);
}

static bool is_late(const struct mr_pg_snapshot *s, uint64_t now_ns)
{
    return now_ns - s->begun_ns >= EPOCH_NS;
}

/* Rows that are ordered alike are shown by one snapshot: a place between them would not say which
 * of them are still to come. */
static enum mr_rc end_behind_alike(struct mr_pg_snapshot *s, struct mr_intake *intake)
{
    place_of(s)->state = MR_PG_PLACE_ALIKE;
    mr_pg_stream_state_place(s->stream, intake);
    mr_pg_snapshot_stop(s);
    return MR_OK;
}

static enum mr_rc emit_row(struct mr_pg_snapshot *s, struct mr_intake *intake, uint64_t now_ns,
                           struct mr_err *err)
{
    struct mr_pg_builder *builder = &s->stream->builder;
    struct mr_pg_message *message = &s->message;
    struct mr_event event;
    uint32_t count;
    message->type = 'I';
    message->old_form = 0;
    message->new_row.count = s->table->column_count;
    for (uint32_t i = 0; i < s->table->column_count; i++)
        mr_pg_result_value(s->rows, s->row, (int)i, &message->new_row.values[i]);
    enum mr_rc rc = mr_pg_build_ids(builder, s->table, message, &count, err);
    if (rc == MR_OK)
        rc = mr_pg_build_event(builder, s->table, message, 0, &event, err);
    if (rc != MR_OK)
        return rc;
    event.head.source_order = s->lsn - 1; /* a change may begin at s->lsn, and none in front */
    event.head.source_time_us = mr_clock_wall_us();
    event.head.flags |= MR_EVENT_SNAPSHOT;
    struct mr_str id = {builder->id.text, builder->id.len};
    bool ahead = mr_pg_place_ahead(place_of(s), s->table, id);
    if (ahead && among_alike(place_of(s)) && is_late(s, now_ns))
        return end_behind_alike(s, intake);
    if (!ahead && is_taken(s, id)) {
        s->row++;
        return MR_OK;
    }
    if (!ahead && !mr_pg_place_alike(place_of(s), s->table, id))
        return mr_reject(
            err, MR_FATAL, "snapshot of %.*s: row %.*s does not come in the order of its key",
            (int)s->table->collection.len, s->table->collection.data, (int)id.len, id.data);
    rc = mr_intake_emit(intake, &event, err);
    if (rc != MR_OK)
        return rc;
    mr_pg_place_pass(place_of(s), s->table->collection, id);
    mr_pg_stream_state_place(s->stream, intake);
    mr_count(s->cell, MR_COUNTER_SOURCE_SNAPSHOT_ROWS, 1);
    s->table_rows++;
    s->row++;
    return MR_OK;
}

/* All rows of the chunk; then the next one, or, when the stream has waited long enough, a new
 * snapshot behind it. */
static enum mr_rc emit_rows(struct mr_pg_snapshot *s, struct mr_intake *intake, uint64_t now_ns,
                            struct mr_err *err)
{
    while (s->row < mr_pg_result_rows(s->rows)) {
        enum mr_rc rc = emit_row(s, intake, now_ns, err);
        if (rc != MR_OK || s->state != MR_PG_SNAPSHOT_ROWS)
            return rc;
    }
    mr_pg_result_free(&s->rows);
    mr_cell_say(s->cell, "postgres: snapshot of %.*s: %" PRIu64 " rows",
                (int)s->table->collection.len, s->table->collection.data, s->table_rows);
    if (!is_late(s, now_ns) || among_alike(place_of(s)))
        return ask(s, MR_PG_SNAPSHOT_FETCH, err);
    mr_pg_snapshot_stop(s);
    return MR_OK;
}

enum mr_rc mr_pg_snapshot_poll(struct mr_pg_snapshot *s, struct mr_intake *intake, uint64_t now_ns,
                               struct mr_err *err)
{
    struct mr_pg_result *result = NULL;
    enum mr_rc rc;
    if (!place_of(s)->running)
        return MR_OK;
    switch (s->state) {
    case MR_PG_SNAPSHOT_OFF:
        mr_gauge(s->cell, MR_COUNTER_SOURCE_SNAPSHOT, 1);
        s->state = MR_PG_SNAPSHOT_CONNECT;
        return mr_pg_conn_open(&s->conn, s->config->postgres_url.text, err);
    case MR_PG_SNAPSHOT_CONNECT:
        rc = mr_pg_conn_poll(s->conn, err);
        if (rc == MR_OK)
            rc = ask(s, MR_PG_SNAPSHOT_SESSION, err);
        break;
    case MR_PG_SNAPSHOT_REACH:
        mr_pg_snapshot_look(s);
        return MR_OK;
    case MR_PG_SNAPSHOT_ROWS:
        return emit_rows(s, intake, now_ns, err);
    default:
        if (s->state == MR_PG_SNAPSHOT_TABLE && s->sql[0] == '\0')
            return ask(s, MR_PG_SNAPSHOT_TABLE, err);
        rc = mr_pg_conn_take(s->conn, &result, err);
        if (rc == MR_OK)
            rc = answer(s, &result, intake, err);
        else if (rc != MR_AGAIN && names_gone(s))
            rc = begin_again(s);
        mr_pg_result_free(&result);
        break;
    }
    if (rc == MR_AGAIN)
        return MR_OK;
    return rc == MR_OK || rc == MR_FULL ? rc : mr_err_prefix(err, "snapshot");
}
