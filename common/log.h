/* common/log.h: one line an occurrence on stderr, text or JSON. Never per record: count instead.
 * Text: "2026-01-01T00:00:00.000Z info topic event key=value ..."; JSON: the same members by name.
 */
#ifndef MR_COMMON_LOG_H
#define MR_COMMON_LOG_H
#include "common/err.h"

enum mr_log_level { MR_LOG_DEBUG, MR_LOG_INFO, MR_LOG_WARN, MR_LOG_ERROR };
enum mr_log_format { MR_LOG_TEXT, MR_LOG_JSON };

/* Process-wide; call before the first line, and again only where no other thread logs. name is
 * copied: it appears as process=name. */
void mr_log_setup(enum mr_log_level level, enum mr_log_format format, const char *name);
void mr_log_set_level(enum mr_log_level level);

/* Write one line. event is a fixed phrase in snake_case; fields is a printf format of
 * key=value pairs separated by blanks, or NULL; a value with blanks is written key="value".
 * At most 20 lines a second per event of a topic get through; what was held back is counted in
 * suppressed=N on the next one. Safe from any thread. */
void mr_log(enum mr_log_level level, const char *topic, const char *event, const char *fields, ...)
    MR_PRINTF(4, 5);
#define mr_log_debug(topic, event, ...) mr_log(MR_LOG_DEBUG, topic, event, __VA_ARGS__)
#define mr_log_info(topic, event, ...)  mr_log(MR_LOG_INFO, topic, event, __VA_ARGS__)
#define mr_log_warn(topic, event, ...)  mr_log(MR_LOG_WARN, topic, event, __VA_ARGS__)
#define mr_log_error(topic, event, ...) mr_log(MR_LOG_ERROR, topic, event, __VA_ARGS__)
#endif
