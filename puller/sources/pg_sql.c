#include "puller/sources/pg_sql.h"

#include <stdio.h>
#include <string.h>

void mr_pg_sql_init(struct mr_pg_sql *sql, char *text, size_t size)
{
    *sql = (struct mr_pg_sql){.text = text, .size = size};
    text[0] = '\0';
}

static void add_char(struct mr_pg_sql *sql, char c)
{
    if (sql->len + 2 > sql->size) {
        sql->cut = true;
        return;
    }
    sql->text[sql->len++] = c;
    sql->text[sql->len] = '\0';
}

void mr_pg_sql_add(struct mr_pg_sql *sql, const char *text)
{
    for (; *text; text++)
        add_char(sql, *text);
}

static void add_quoted(struct mr_pg_sql *sql, const char *text, char quote, bool backslashes)
{
    add_char(sql, quote);
    for (; *text; text++) {
        if (*text == quote || (backslashes && *text == '\\'))
            add_char(sql, *text);
        add_char(sql, *text);
    }
    add_char(sql, quote);
}

void mr_pg_sql_literal(struct mr_pg_sql *sql, const char *value)
{
    bool backslashes = strchr(value, '\\') != NULL;
    if (backslashes) /* whatever standard_conforming_strings says */
        mr_pg_sql_add(sql, " E");
    add_quoted(sql, value, '\'', backslashes);
}

void mr_pg_sql_identifier(struct mr_pg_sql *sql, const char *name)
{
    add_quoted(sql, name, '"', false);
}

void mr_pg_sql_split(const char *table, char schema[128], char name[128])
{
    const char *dot = strchr(table, '.');
    snprintf(schema, 128, "%.*s", dot ? (int)(dot - table) : 6, dot ? table : "public");
    snprintf(name, 128, "%s", dot ? dot + 1 : table);
}

void mr_pg_sql_table(struct mr_pg_sql *sql, const char *table)
{
    char schema[128], name[128];
    mr_pg_sql_split(table, schema, name);
    mr_pg_sql_identifier(sql, schema);
    add_char(sql, '.');
    mr_pg_sql_identifier(sql, name);
}

void mr_pg_sql_session(struct mr_pg_sql *sql)
{
    mr_pg_sql_add(sql, "SELECT set_config('DateStyle','ISO, YMD',false),"
                       " set_config('TimeZone','UTC',false),"
                       " set_config('IntervalStyle','postgres',false),"
                       " set_config('extra_float_digits','1',false),"
                       " set_config('bytea_output','hex',false),"
                       " set_config('statement_timeout','0',false),"
                       " set_config('lock_timeout','0',false),"
                       " set_config('row_security','off',false),"
                       " set_config('search_path','pg_catalog',false)");
}

const char *mr_pg_sql_in_key(int server_version)
{
    /* Behind the key come columns that the index only includes. */
    return server_version < 110000 ? "a.attnum = ANY (i.indkey)"
                                   : "a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])";
}
