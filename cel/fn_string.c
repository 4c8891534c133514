/* The extension library "strings": strings by code point. */
#include <string.h>

#include "cel/lib.h"
#include "cel/utf8.h"
#include "cel/writer.h"

static struct mr_cel_val out_of_range(struct mr_cel_ctx *ctx, int64_t index)
{
    return mr_cel_errorf(ctx, MR_CEL_E_INVALID_ARGUMENT, "index out of range: %lld",
                         (long long)index);
}

static struct mr_str slice(struct mr_str text, size_t start, size_t end)
{
    return (struct mr_str){text.data + start, end - start};
}

/* Where part begins in text at or behind start; text.len + 1: nowhere. part: not empty. */
static size_t find(struct mr_str text, size_t start, struct mr_str part)
{
    const char *at = text.len - start < part.len
                         ? NULL
                         : memmem(text.data + start, text.len - start, part.data, part.len);
    return at ? (size_t)(at - text.data) : text.len + 1;
}

/* Byte offset of code point number index, which may be the end. False: out of range. */
static bool offset_of(struct mr_str text, int64_t index, size_t *offset)
{
    return index >= 0 && (uint64_t)index <= text.len &&
           mr_cel_utf8_offset(text, (size_t)index, offset);
}

struct mr_cel_val mr_cel_fn_char_at(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                    uint32_t count)
{
    size_t start;
    if (!mr_cel_args_are(args, count, "si"))
        return mr_cel_no_overload();
    struct mr_str text = mr_cel_str(args[0]);
    if (!mr_cel_charge(ctx, text.len))
        return mr_cel_stopped(ctx);
    if (!offset_of(text, args[1].integer, &start))
        return out_of_range(ctx, args[1].integer);
    size_t end = start;
    if (start < text.len)
        mr_cel_utf8_next(text, &end);
    return mr_cel_string(slice(text, start, end));
}

/* Both searches: args are text, part, and the offset from which on (first) or to which (last) a
 * match may begin. UTF-8 makes a match of bytes one of code points. */
static struct mr_cel_val search(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                uint32_t count, bool last)
{
    if (!mr_cel_args_are(args, count, "ss") && !mr_cel_args_are(args, count, "ssi"))
        return mr_cel_no_overload();
    struct mr_str text = mr_cel_str(args[0]), part = mr_cel_str(args[1]);
    size_t bound = last ? text.len : 0, at;
    if (!mr_cel_charge(ctx, (uint64_t)text.len + 1))
        return mr_cel_stopped(ctx);
    if (count == 3 && !offset_of(text, args[2].integer, &bound))
        return out_of_range(ctx, args[2].integer);
    if (part.len == 0)
        at = bound;
    else if (part.len > text.len || (count == 3 && bound == text.len))
        return mr_cel_int(-1);
    else if (!last)
        at = find(text, bound, part);
    else {
        /* Backwards, and so each place by itself: charged for in full. */
        if (!mr_cel_charge(ctx, (uint64_t)text.len * (part.len / 16 + 1)))
            return mr_cel_stopped(ctx);
        at = bound < text.len - part.len ? bound : text.len - part.len;
        while (at != SIZE_MAX && memcmp(text.data + at, part.data, part.len) != 0)
            at--;
    }
    if (at > text.len)
        return mr_cel_int(-1);
    return mr_cel_int((int64_t)mr_cel_utf8_count(slice(text, 0, at)));
}

struct mr_cel_val mr_cel_fn_index_of(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                     uint32_t count)
{
    return search(ctx, args, count, false);
}

struct mr_cel_val mr_cel_fn_last_index_of(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                          uint32_t count)
{
    return search(ctx, args, count, true);
}

/* Letters from first to first + 25 get their other case. */
static struct mr_cel_val change_case(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                     uint32_t count, char first)
{
    if (!mr_cel_args_are(args, count, "s"))
        return mr_cel_no_overload();
    char *copy = mr_cel_alloc(ctx, args[0].len);
    if (!copy || !mr_cel_charge(ctx, args[0].len / 16))
        return mr_cel_stopped(ctx);
    for (uint32_t i = 0; i < args[0].len; i++) {
        char c = args[0].text[i];
        copy[i] = (char)(c >= first && c <= first + 25 ? c ^ 0x20 : c);
    }
    return mr_cel_string((struct mr_str){copy, args[0].len});
}

struct mr_cel_val mr_cel_fn_lower_ascii(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                        uint32_t count)
{
    return change_case(ctx, args, count, 'A');
}

struct mr_cel_val mr_cel_fn_upper_ascii(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                        uint32_t count)
{
    return change_case(ctx, args, count, 'a');
}

/* args: text, old, new[, how many at most; negative: all]. An empty old is found in front of every
 * code point and at the end. */
struct mr_cel_val mr_cel_fn_replace(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                    uint32_t count)
{
    if (!mr_cel_args_are(args, count, "sss") && !mr_cel_args_are(args, count, "sssi"))
        return mr_cel_no_overload();
    struct mr_str text = mr_cel_str(args[0]), old = mr_cel_str(args[1]);
    uint64_t left = count == 4 ? args[3].bits : UINT64_MAX; /* negative: more than there can be */
    struct mr_cel_writer out = {.ctx = ctx};
    size_t done = 0; /* bytes of text that are in out */
    if (!mr_cel_charge(ctx, (uint64_t)text.len + 1))
        return mr_cel_stopped(ctx);
    for (bool first = true; left > 0 && !out.failed; left--, first = false) {
        size_t at = done;
        if (old.len > 0)
            at = find(text, done, old);
        else if (!first && at < text.len)
            mr_cel_utf8_next(text, &at);
        else if (!first)
            break;
        if (at > text.len)
            break;
        mr_cel_writer_put(&out, slice(text, done, at));
        mr_cel_writer_put(&out, mr_cel_str(args[2]));
        done = at + old.len;
    }
    if (out.len == 0 && done == 0)
        return out.failed ? mr_cel_stopped(ctx) : args[0];
    mr_cel_writer_put(&out, slice(text, done, text.len));
    return mr_cel_writer_end(&out);
}

/* The part of text from *at on: to the next separator, or one code point when it is empty. Moves
 * *at behind it; beyond text.len: it was the last one. */
static struct mr_str take_part(struct mr_str text, struct mr_str separator, size_t *at)
{
    size_t start = *at, end = start;
    if (separator.len > 0) {
        end = find(text, start, separator);
        *at = end > text.len ? end : end + separator.len;
        return slice(text, start, end > text.len ? text.len : end);
    }
    mr_cel_utf8_next(text, &end);
    *at = end == text.len ? text.len + 1 : end;
    return slice(text, start, end);
}

/* args: text, separator[, how many parts at most; negative: all]. */
struct mr_cel_val mr_cel_fn_split(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                  uint32_t count)
{
    if (!mr_cel_args_are(args, count, "ss") && !mr_cel_args_are(args, count, "ssi"))
        return mr_cel_no_overload();
    struct mr_str text = mr_cel_str(args[0]), separator = mr_cel_str(args[1]);
    uint64_t limit = count == 3 ? args[2].bits : UINT64_MAX;
    if (limit == 0 || (separator.len == 0 && text.len == 0))
        return mr_cel_list(NULL, 0);
    if (!mr_cel_charge(ctx, 2 * (uint64_t)text.len))
        return mr_cel_stopped(ctx);
    uint32_t parts = 0;
    for (size_t at = 0; parts < limit && at <= text.len; parts++)
        take_part(text, separator, &at);
    struct mr_cel_val *items = mr_cel_list_new(ctx, parts);
    if (!items)
        return mr_cel_stopped(ctx);
    size_t at = 0;
    for (uint32_t i = 0; i < parts; i++)
        items[i] = mr_cel_string(i + 1 == parts ? slice(text, at, text.len)
                                                : take_part(text, separator, &at));
    return mr_cel_list(items, parts);
}

/* args: list of strings[, separator]. */
struct mr_cel_val mr_cel_fn_join(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                 uint32_t count)
{
    if (!mr_cel_args_are(args, count, "l") && !mr_cel_args_are(args, count, "ls"))
        return mr_cel_no_overload();
    struct mr_cel_writer out = {.ctx = ctx};
    struct mr_cel_iter it;
    bool first = true;
    for (mr_cel_iter_init(&it, ctx, args[0]); mr_cel_iter_next(&it); first = false) {
        if (it.value.kind != MR_CEL_STRING)
            return mr_cel_errorf(ctx, MR_CEL_E_INVALID_ARGUMENT, "join of what is no string");
        if (!first && count == 2)
            mr_cel_writer_put(&out, mr_cel_str(args[1]));
        mr_cel_writer_put(&out, mr_cel_str(it.value));
    }
    return it.failed.kind != MR_CEL_NULL ? it.failed : mr_cel_writer_end(&out);
}

/* args: text, start[, end]. */
struct mr_cel_val mr_cel_fn_substring(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                      uint32_t count)
{
    if (!mr_cel_args_are(args, count, "si") && !mr_cel_args_are(args, count, "sii"))
        return mr_cel_no_overload();
    struct mr_str text = mr_cel_str(args[0]);
    size_t start, end = text.len;
    if (!mr_cel_charge(ctx, text.len))
        return mr_cel_stopped(ctx);
    if (count == 3 && args[1].integer > args[2].integer)
        return mr_cel_errorf(ctx, MR_CEL_E_INVALID_ARGUMENT,
                             "invalid substring range. start: %lld, end: %lld",
                             (long long)args[1].integer, (long long)args[2].integer);
    if (!offset_of(text, args[1].integer, &start))
        return out_of_range(ctx, args[1].integer);
    if (count == 3 && !offset_of(text, args[2].integer, &end))
        return out_of_range(ctx, args[2].integer);
    return mr_cel_string(slice(text, start, end));
}

struct mr_cel_val mr_cel_fn_trim(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                 uint32_t count)
{
    if (!mr_cel_args_are(args, count, "s"))
        return mr_cel_no_overload();
    struct mr_str text = mr_cel_str(args[0]);
    size_t start = text.len, end = start, at = 0;
    if (!mr_cel_charge(ctx, text.len))
        return mr_cel_stopped(ctx);
    while (at < text.len) {
        size_t point = at;
        if (mr_cel_utf8_is_space(mr_cel_utf8_next(text, &at)))
            continue;
        start = point < start ? point : start;
        end = at;
    }
    return mr_cel_string(slice(text, start, end));
}

struct mr_cel_val mr_cel_fn_strings_quote(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                          uint32_t count)
{
    static const char escapes[128] = {
        ['\a'] = 'a', ['\b'] = 'b', ['\f'] = 'f',  ['\n'] = 'n', ['\r'] = 'r',
        ['\t'] = 't', ['\v'] = 'v', ['\\'] = '\\', ['"'] = '"'};
    if (!mr_cel_args_are(args, count, "s"))
        return mr_cel_no_overload();
    struct mr_str text = mr_cel_str(args[0]);
    struct mr_cel_writer out = {.ctx = ctx};
    mr_cel_writer_put_char(&out, '"');
    for (size_t at = 0; at < text.len && !out.failed;) {
        uint32_t point = mr_cel_utf8_next(text, &at);
        if (point < sizeof escapes && escapes[point] != 0) {
            mr_cel_writer_put_char(&out, '\\');
            mr_cel_writer_put_char(&out, escapes[point]);
        } else {
            mr_cel_writer_put_point(&out, point);
        }
    }
    mr_cel_writer_put_char(&out, '"');
    return mr_cel_writer_end(&out);
}

static struct mr_cel_val reverse_string(struct mr_cel_ctx *ctx, struct mr_str text)
{
    char *copy = mr_cel_alloc(ctx, text.len);
    if (!copy || !mr_cel_charge(ctx, text.len))
        return mr_cel_stopped(ctx);
    for (size_t at = 0; at < text.len;) {
        size_t start = at;
        mr_cel_utf8_next(text, &at);
        memcpy(copy + text.len - at, text.data + start, at - start);
    }
    return mr_cel_string((struct mr_str){copy, text.len});
}

struct mr_cel_val mr_cel_fn_reverse(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                    uint32_t count)
{
    if (mr_cel_args_are(args, count, "s"))
        return reverse_string(ctx, mr_cel_str(args[0]));
    if (!mr_cel_args_are(args, count, "l"))
        return mr_cel_no_overload();
    const struct mr_cel_val *items;
    struct mr_cel_val failed;
    uint32_t item_count;
    if (!mr_cel_list_items(ctx, args[0], &items, &item_count, &failed))
        return failed;
    struct mr_cel_val *reversed = mr_cel_list_new(ctx, item_count);
    if (!reversed)
        return mr_cel_stopped(ctx);
    for (uint32_t i = 0; i < item_count; i++)
        reversed[i] = items[item_count - 1 - i];
    return mr_cel_list(reversed, item_count);
}
