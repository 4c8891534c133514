#include "puller/sources/pg_error.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct class_row {
    const char *sqlstate; /* five characters, or the first two of a class */
    const char *text;     /* must be part of the message; NULL any */
    enum mr_rc rc;
    const char *remedy;
};

/* First match wins. SQLSTATEs: PostgreSQL manual, appendix A. */
static const struct class_row classes[] = {
    {"28P01", NULL, MR_USAGE, "; check user and password in postgres.url"},
    {"28000", "no encryption", MR_USAGE,
     "; add sslmode=require to postgres.url, or a pg_hba.conf line"},
    {"28", NULL, MR_USAGE, "; check postgres.url and the server's pg_hba.conf"},
    {"3D000", NULL, MR_USAGE, "; check the database name in postgres.url"},
    {"42501", "replication", MR_USAGE, "; ALTER ROLE ... REPLICATION"},
    {"42501", "FOR ALL TABLES", MR_USAGE,
     "; name the tables in postgres.tables, or let a superuser create the publication"},
    {"42501", NULL, MR_USAGE,
     "; the role needs REPLICATION, CREATE on the database and its tables' ownership"},
    {"55006", NULL, MR_RETRY, ""},
    {"55000", "wal_level", MR_USAGE, "; set wal_level = logical and restart the server"},
    {"53400", "replication slots", MR_RETRY, "; raise max_replication_slots or drop unused slots"},
    {"53300", NULL, MR_RETRY, "; raise max_connections or max_wal_senders"},
    {"53", NULL, MR_RETRY, ""},
    {"57", NULL, MR_RETRY, ""},
    {"08", NULL, MR_RETRY, ""},
    {"58", NULL, MR_RETRY, ""},
    {"XX", NULL, MR_RETRY, ""},
    {"40", NULL, MR_RETRY, ""},
    {"25006", NULL, MR_RETRY, ""},
    {"42704", NULL, MR_RETRY, ""},
    {"42710", NULL, MR_RETRY, ""},
    {"42", NULL, MR_FATAL, ""},
    {"22", NULL, MR_FATAL, ""},
    {"", "SSL was required", MR_USAGE, "; the server has no TLS: sslmode in postgres.url"},
    {"", "certificate", MR_USAGE, "; check sslrootcert, sslcert and sslmode in postgres.url"},
    {"", "SSL error", MR_RETRY, ""},
    {"", "no password supplied", MR_USAGE, "; give a password in postgres.url or a passfile"},
};

static const struct class_row *find(const char *sqlstate, const char *text)
{
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        size_t len = strlen(classes[i].sqlstate);
        bool same =
            len == 0 ? sqlstate[0] == '\0' : strncmp(sqlstate, classes[i].sqlstate, len) == 0;
        if (same && (!classes[i].text || strstr(text, classes[i].text)))
            return &classes[i];
    }
    return NULL;
}

void mr_pg_error_sqlstate(const char *text, char out[6])
{
    out[0] = '\0';
    for (const char *at = text; (at = strstr(at, ":  ")) != NULL; at += 3) {
        size_t len = 0;
        while (len < 5 &&
               (isdigit((unsigned char)at[3 + len]) || isupper((unsigned char)at[3 + len])))
            len++;
        if (len == 5 && at[8] == ':') {
            memcpy(out, at + 3, 5);
            out[5] = '\0';
            return;
        }
    }
}

enum mr_rc mr_pg_error_class(const char *sqlstate, const char *text)
{
    const struct class_row *row = find(sqlstate, text);
    return row ? row->rc : MR_RETRY;
}

const char *mr_pg_error_remedy(const char *sqlstate, const char *text)
{
    const struct class_row *row = find(sqlstate, text);
    return row ? row->remedy : "";
}

void mr_pg_error_tidy(const char *text, char *out, size_t size)
{
    const char *end = strstr(text, "\nLOCATION:");
    size_t len = end ? (size_t)(end - text) : strlen(text), at = 0;
    for (size_t i = 0; i < len && at + 1 < size; i++) {
        bool blank = isspace((unsigned char)text[i]) || iscntrl((unsigned char)text[i]);
        if (!blank)
            out[at++] = text[i];
        else if (at > 0 && out[at - 1] != ' ')
            out[at++] = ' ';
    }
    while (at > 0 && out[at - 1] == ' ')
        at--;
    out[at] = '\0';
}
