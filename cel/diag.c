/* cel/diag.c: see cel/diag.h. */
#include "cel/diag.h"

#include <stdio.h>

#include "cel/utf8.h"

enum { SHOWN_BEFORE = 60, SHOWN_LEN = 100 }; /* bytes of a long line: left of the place, in all */

const char *mr_cel_stage_name(enum mr_cel_stage stage)
{
    static const char *const names[] = {"parse", "check", "limit"};
    return names[stage];
}

/* A byte that continues a code point: text is not to be cut before it. */
static bool continues(char byte)
{
    return ((uint8_t)byte & 0xc0) == 0x80;
}

static uint32_t code_points(const char *text, size_t len)
{
    uint32_t count = 0;
    for (size_t i = 0; i < len; i++)
        count += !continues(text[i]);
    return count;
}

/* Keep text one line, and cut it between code points. */
static void tidy(char *text, size_t size)
{
    size_t len = strlen(text);
    if (len + 1 == size) {
        while (len > 0 && continues(text[len - 1]))
            len--;
        if (len > 0 && (uint8_t)text[len - 1] >= 0xc0)
            len--;
        text[len] = 0;
    }
    for (size_t i = 0; i < len; i++)
        if ((uint8_t)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
}

enum mr_rc mr_cel_diag_set(struct mr_cel_diag *diag, struct mr_str source, uint32_t at,
                           uint32_t len, enum mr_cel_stage stage, const char *format, ...)
{
    if (at > source.len)
        at = (uint32_t)source.len;
    if (len > source.len - at)
        len = (uint32_t)source.len - at;
    *diag = (struct mr_cel_diag){.stage = stage, .at = at, .len = len > 0 ? len : 1, .line = 1};
    uint32_t line_start = 0;
    for (uint32_t i = 0; i < at; i++)
        if (source.data[i] == '\n') {
            diag->line++;
            line_start = i + 1;
        }
    diag->column = code_points(source.data + line_start, at - line_start) + 1;
    va_list args;
    MR_ASSERT(format != NULL); /* which gcc doubts when it sanitizes */
    va_start(args, format);
    vsnprintf(diag->text, sizeof diag->text, format, args);
    va_end(args);
    tidy(diag->text, sizeof diag->text);
    return MR_USAGE;
}

enum mr_rc mr_cel_diag_limit(struct mr_cel_diag *diag, struct mr_str source, uint32_t at,
                             enum mr_cel_limit limit, const struct mr_cel_limits *limits)
{
    static const struct {
        const char *name, *unit, *text;
    } rows[] = {
        [MR_CEL_LIMIT_NONE] = {"", "", ""},
#define MR_CEL_LIMIT(id, member, value, unit, text) [MR_CEL_LIMIT_##id] = {#member, unit, text},
#include "cel/limits.def"
    };
    const uint32_t values[] = {
        0,
#define MR_CEL_LIMIT(id, member, value, unit, text) limits->member,
#include "cel/limits.def"
    };
    (void)mr_cel_diag_set(diag, source, at, 1, MR_CEL_STAGE_LIMIT,
                          "over the limit %s: %s: at most %u%s%s", rows[limit].name,
                          rows[limit].text, values[limit], rows[limit].unit[0] ? " " : "",
                          rows[limit].unit);
    diag->limit = limit;
    return MR_USAGE;
}

/* A growing text of bounded size; what does not fit is dropped. */
struct out {
    char *text;
    size_t size, len;
};

static void put(struct out *out, const char *bytes, size_t len)
{
    size_t room = out->size - 1 - out->len;
    if (len > room)
        len = room;
    memcpy(out->text + out->len, bytes, len);
    out->len += len;
    out->text[out->len] = 0;
}

/* The part [from, to) of the source as it is shown: one column a code point. */
static void put_shown(struct out *out, struct mr_str source, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        uint8_t byte = (uint8_t)source.data[i];
        put(out, byte < 0x20 || byte == 0x7f ? " " : &source.data[i], 1);
    }
}

size_t mr_cel_diag_render(const struct mr_cel_diag *diag, struct mr_str source, char *text,
                          size_t size)
{
    MR_ASSERT(size > 0);
    struct out out = {text, size, 0};
    text[0] = 0;
    char head[400];
    snprintf(head, sizeof head, "%u:%u: %s\n", diag->line, diag->column, diag->text);
    put(&out, head, strlen(head));
    size_t at = diag->at > source.len ? source.len : diag->at, from = at, to = at;
    while (from > 0 && source.data[from - 1] != '\n' && at - from < SHOWN_BEFORE)
        from--;
    while (from < at && continues(source.data[from]))
        from++;
    while (to < source.len && source.data[to] != '\n' && to - from < SHOWN_LEN)
        to++;
    while (to < source.len && continues(source.data[to]))
        to++;
    bool cut = from > 0 && source.data[from - 1] != '\n';
    put(&out, " | ", 3);
    put(&out, "...", cut ? 3 : 0);
    put_shown(&out, source, from, to);
    put(&out, "\n | ", 4);
    uint32_t dots = code_points(source.data + from, at - from) + (cut ? 3 : 0);
    for (uint32_t i = 0; i < dots; i++)
        put(&out, " ", 1);
    size_t marked = diag->len < to - at ? diag->len : to - at;
    uint32_t carets = code_points(source.data + at, marked);
    put(&out, "^", 1);
    for (uint32_t i = 1; i < carets; i++)
        put(&out, "~", 1);
    put(&out, "\n", 1);
    return out.len;
}
