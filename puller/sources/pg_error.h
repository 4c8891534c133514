/* puller/sources/pg_error.h: what to do about a failure that the server or libpq reports. */
#ifndef MR_PULLER_SOURCES_PG_ERROR_H
#define MR_PULLER_SOURCES_PG_ERROR_H
#include <stddef.h>

#include "common/err.h"

/* The SQLSTATE within libpq's verbose text ("FATAL:  28P01: ..."), or empty. */
void mr_pg_error_sqlstate(const char *text, char out[6]);

/* MR_USAGE: configuration or rights must change; MR_RETRY: it may pass; MR_FATAL: it will not.
 * Without SQLSTATE, text decides: libpq's own words about TLS are configuration, all else is the
 * network. */
enum mr_rc mr_pg_error_class(const char *sqlstate, const char *text);

/* What an operator can do about it, as a clause that begins with "; ", or empty. Static storage. */
const char *mr_pg_error_remedy(const char *sqlstate, const char *text);

/* text on one line, without libpq's LOCATION and without blanks at its end. */
void mr_pg_error_tidy(const char *text, char *out, size_t size);
#endif
