#include "common/log.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fnv.h"

enum {
    LINE_BYTES = 4096, /* PIPE_BUF: lines of several processes in one pipe never mix */
    FIELD_BYTES = 2048,
    TOPICS = 256,
    LINES_PER_SECOND = 20
};

/* One event of one topic; the two texts are told apart by their hash. */
struct topic {
    uint64_t hash;
    uint64_t second; /* of the monotonic clock, that count belongs to */
    uint32_t count;
    uint64_t suppressed;
};

static _Atomic int least_level = MR_LOG_INFO;
static enum mr_log_format line_format = MR_LOG_TEXT;
static char process_name[32];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of what follows */
static struct topic topics[TOPICS];

void mr_log_setup(enum mr_log_level level, enum mr_log_format format, const char *name)
{
    mr_log_set_level(level);
    line_format = format;
    snprintf(process_name, sizeof process_name, "%s", name);
}

void mr_log_set_level(enum mr_log_level level)
{
    atomic_store_explicit(&least_level, (int)level, memory_order_relaxed);
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    return mr_fnv_add(hash, text, strlen(text) + 1); /* with NUL: "a","bc" is not "ab","c" */
}

/* The slot of a topic's event. With more than TOPICS of them, the strangers share one slot. */
static struct topic *find_topic(const char *topic, const char *event)
{
    uint64_t hash = hash_text(hash_text(MR_FNV_BEGIN, topic), event) | 1;
    struct topic *slot = NULL;
    for (uint64_t i = 0; i < TOPICS; i++) {
        slot = &topics[(hash + i) % TOPICS];
        if (slot->hash == hash || slot->hash == 0)
            break;
    }
    slot->hash = hash;
    return slot;
}

struct line {
    char text[LINE_BYTES];
    size_t len;
};

enum { LINE_TAIL = 64 }; /* kept free for suppressed=N and the closing brace */

static void put(struct line *line, char c)
{
    if (line->len < LINE_BYTES - LINE_TAIL)
        line->text[line->len++] = c;
}

static void put_text(struct line *line, const char *text)
{
    while (*text)
        put(line, *text++);
}

/* A value in quotes, escaped the same way in both formats (the JSON way). */
static void put_quoted(struct line *line, const char *text, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    put(line, '"');
    for (size_t i = 0; i < len && line->len < LINE_BYTES - LINE_TAIL - 8; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') {
            put(line, '\\');
            put(line, (char)c);
        } else if (c >= 0x20 && c < 0x7f) {
            put(line, (char)c);
        } else if (c >= 0x80) { /* UTF-8 goes through; the reader of a log copes with a cut one */
            put(line, (char)c);
        } else {
            put_text(line, "\\u00");
            put(line, hex[c >> 4]);
            put(line, hex[c & 15]);
        }
    }
    put(line, '"');
}

static bool is_key(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* A key and its '=' at text: their length, else 0. */
static size_t key_len(const char *text)
{
    size_t len = 0;
    while (is_key(text[len]))
        len++;
    return len > 0 && text[len] == '=' ? len : 0;
}

/* Where a quoted value ends. Callers paste texts between quotes as they are, so a quote closes only
 * where the line ends or the next key follows. */
static const char *quoted_end(const char *text)
{
    for (; *text; text++)
        if (*text == '"' && (text[1] == '\0' || (text[1] == ' ' && key_len(text + 2) > 0)))
            return text;
    return text;
}

/* A number that every JSON reader takes without loss. */
static bool is_number(const char *text, size_t len)
{
    size_t i = len > 0 && text[0] == '-', start = i, dots = 0;
    for (; i < len; i++) {
        if (text[i] == '.' && i > start && i + 1 < len)
            dots++;
        else if (text[i] < '0' || text[i] > '9')
            return false;
    }
    bool leading_zero = len > start + 1 && text[start] == '0' && text[start + 1] != '.';
    return len > start && len - start <= 15 && dots <= 1 && !leading_zero;
}

static void put_pair(struct line *line, const char *key, size_t key_bytes, const char *value,
                     size_t len)
{
    bool json = line_format == MR_LOG_JSON;
    if (line->len + key_bytes + 40 > LINE_BYTES - LINE_TAIL)
        return; /* a whole pair or none: the line stays well-formed */
    put_text(line, json ? ",\"" : " ");
    for (size_t i = 0; i < key_bytes; i++)
        put(line, key[i]);
    put_text(line, json ? "\":" : "=");
    bool plain = len > 0;
    for (size_t i = 0; i < len; i++)
        plain = plain && (unsigned char)value[i] > ' ' && value[i] != '"' && value[i] != '\\' &&
                value[i] != 0x7f;
    bool word =
        (len == 4 && memcmp(value, "true", 4) == 0) || (len == 5 && memcmp(value, "false", 5) == 0);
    if (json ? !word && !is_number(value, len) : !plain) {
        put_quoted(line, value, len);
        return;
    }
    for (size_t i = 0; i < len; i++)
        put(line, value[i]);
}

/* "key=value key="two words"" pair by pair; text that is no pair becomes the value of "text". */
static void put_fields(struct line *line, const char *fields)
{
    while (*fields) {
        size_t len = key_len(fields);
        const char *key = len ? fields : "text", *value = len ? fields + len + 1 : fields, *end;
        if (len && *value == '"') {
            end = quoted_end(++value);
            fields = *end ? end + 1 : end;
        } else {
            for (end = value; *end && !(*end == ' ' && (len || key_len(end + 1) > 0)); end++)
                ;
            fields = end;
        }
        put_pair(line, key, len ? len : strlen(key), value, (size_t)(end - value));
        fields += strspn(fields, " ");
    }
}

static void put_head(struct line *line, enum mr_log_level level, const char *topic,
                     const char *event)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    int64_t now_us = mr_clock_wall_us();
    time_t seconds = (time_t)(now_us / 1000000);
    struct tm utc;
    char head[512];
    gmtime_r(&seconds, &utc);
    bool json = line_format == MR_LOG_JSON;
    snprintf(
        head, sizeof head,
        json
            ? "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\",\"level\":\"%s\",\"topic\":\"%s\","
              "\"event\":\"%s\""
            : "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ %s %s %s",
        utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
        (int)(now_us / 1000 % 1000), names[level], topic, event);
    put_text(line, head);
    if (process_name[0])
        put_pair(line, "process", strlen("process"), process_name, strlen(process_name));
}

/* Whether a line of this topic may be written now; how many were held back before it. */
static bool admit(const char *topic, const char *event, uint64_t *suppressed)
{
    uint64_t second = mr_clock_ns() / MR_NS_PER_S;
    pthread_mutex_lock(&lock);
    struct topic *slot = find_topic(topic, event);
    if (slot->second != second) {
        slot->second = second;
        slot->count = 0;
    }
    bool admitted = slot->count < LINES_PER_SECOND;
    slot->count += admitted;
    *suppressed = slot->suppressed;
    slot->suppressed = admitted ? 0 : slot->suppressed + 1;
    pthread_mutex_unlock(&lock);
    return admitted;
}

/* One write a line. A stderr that nobody reads must not stop the process: then the line is lost and
 * counted. */
static bool write_line(const struct line *line)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&out, 1, 0) > 0 && (out.revents & POLLOUT) &&
           write(STDERR_FILENO, line->text, line->len) == (ssize_t)line->len;
}

void mr_log(enum mr_log_level level, const char *topic, const char *event, const char *fields, ...)
{
    uint64_t suppressed;
    if ((int)level < atomic_load_explicit(&least_level, memory_order_relaxed) ||
        !admit(topic, event, &suppressed))
        return;
    struct line line = {.len = 0};
    put_head(&line, level, topic, event);
    if (fields) {
        char text[FIELD_BYTES];
        va_list args;
        va_start(args, fields);
        vsnprintf(text, sizeof text, fields, args);
        va_end(args);
        put_fields(&line, text);
    }
    bool json = line_format == MR_LOG_JSON;
    char tail[LINE_TAIL] = "";
    if (suppressed)
        snprintf(tail, sizeof tail, json ? ",\"suppressed\":%llu" : " suppressed=%llu",
                 (unsigned long long)suppressed);
    line.len += (size_t)snprintf(line.text + line.len, LINE_TAIL, "%s%s\n", tail, json ? "}" : "");
    if (!write_line(&line)) {
        pthread_mutex_lock(&lock);
        find_topic(topic, event)->suppressed += suppressed + 1;
        pthread_mutex_unlock(&lock);
    }
}
