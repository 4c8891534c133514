#include "tools/client/filter.h"

#include <errno.h>
#include <stdlib.h>

static char *skip_blanks(char *at)
{
    while (*at == ' ' || *at == '\t')
        at++;
    return at;
}

/* Cut the next word off; returns what follows it. */
static char *take_word(char *at, struct mr_str *out)
{
    at = skip_blanks(at);
    out->data = at;
    while (*at && *at != ' ' && *at != '\t')
        at++;
    out->len = (size_t)(at - out->data);
    return at;
}

/* What follows the opening quote, unescaped in place. Returns what follows the closing one; NULL:
 * there is none. */
static char *take_quoted(char *at, struct mr_const *out)
{
    char *to = at;
    *out = (struct mr_const){.kind = MR_CONST_STRING};
    out->string.data = at;
    for (; *at != '"'; at++) {
        if (*at == '\\' && (at[1] == '"' || at[1] == '\\'))
            at++;
        if (!*at)
            return NULL;
        *to++ = *at;
    }
    out->string.len = (size_t)(to - out->string.data);
    return at + 1;
}

static bool is_number(const char *text, struct mr_const *out)
{
    char *end;
    if (!*text || !strchr("+-.0123456789", *text))
        return false;
    errno = 0;
    long long integer = strtoll(text, &end, 10);
    if (end != text && *end == '\0' && errno == 0) {
        *out = (struct mr_const){.kind = MR_CONST_INT, .integer = integer};
        return true;
    }
    double number = strtod(text, &end);
    if (end == text || *end != '\0')
        return false;
    *out = (struct mr_const){.kind = MR_CONST_DOUBLE, .number = number};
    return true;
}

static void from_word(char *text, struct mr_const *out)
{
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        *out = (struct mr_const){.kind = MR_CONST_BOOL, .boolean = *text == 't'};
    else if (!is_number(text, out))
        *out = (struct mr_const){.kind = MR_CONST_STRING, .string = mr_str_from(text)};
}

static void trim_end(char *begin)
{
    size_t len = strlen(begin);
    while (len > 0 && (begin[len - 1] == ' ' || begin[len - 1] == '\t'))
        begin[--len] = '\0';
}

/* One value, up to a character of stop or the end. Returns the place of that character, which may
 * be overwritten and is told in *stopped; NULL: a quote that is not closed, or text behind one. */
static char *take_value(char *at, const char *stop, char *stopped, struct mr_const *out)
{
    at = skip_blanks(at);
    if (*at == '"') {
        char *end = take_quoted(at + 1, out);
        if (!end)
            return NULL;
        end = skip_blanks(end);
        *stopped = *end;
        return *end == '\0' || strchr(stop, *end) ? end : NULL;
    }
    char *end = at + strcspn(at, stop);
    *stopped = *end;
    *end = '\0';
    trim_end(at);
    from_word(at, out);
    return end;
}

static enum mr_rc take_list(struct mr_client_filter *f, char *at, struct mr_err *err)
{
    uint32_t count = 0;
    char stopped = ',';
    while (stopped == ',') {
        if (count == MR_CLIENT_FILTER_LIST_MAX)
            return mr_reject(
                err, MR_USAGE, "filter \"%.*s\": expected at most %d values in the list",
                (int)f->predicate.path.len, f->predicate.path.data, MR_CLIENT_FILTER_LIST_MAX);
        at = take_value(at, ",]", &stopped, &f->items[count++]);
        if (!at || stopped == '\0')
            return mr_reject(err, MR_USAGE,
                             "filter \"%.*s\": expected a list such as [1, 2] to end in ]",
                             (int)f->predicate.path.len, f->predicate.path.data);
        at++;
    }
    if (*skip_blanks(at))
        return mr_reject(err, MR_USAGE, "filter: expected nothing behind the list, got \"%.40s\"",
                         at);
    f->predicate.value = (struct mr_const){.kind = MR_CONST_LIST};
    f->predicate.value.list.items = f->items;
    f->predicate.value.list.count = count;
    return MR_OK;
}

enum mr_rc mr_client_filter_parse(struct mr_client_filter *out, const char *text,
                                  struct mr_err *err)
{
    struct mr_str op;
    char stopped;
    if (strlen(text) >= sizeof out->text)
        return mr_reject(err, MR_USAGE, "filter: expected at most %zu bytes", sizeof out->text - 1);
    memcpy(out->text, text, strlen(text) + 1);
    char *at = take_word(out->text, &out->predicate.path);
    at = skip_blanks(take_word(at, &op));
    if (op.len == 0 || !*at)
        return mr_reject(err, MR_USAGE,
                         "filter \"%.100s\": expected PATH OP VALUE, such as \"author.id == 7\"",
                         text);
    if (!mr_predicate_op_parse(op, &out->predicate.op))
        return mr_reject(
            err, MR_USAGE,
            "filter \"%.100s\": expected ==, !=, >, >=, <, <=, in or contains, got \"%.*s\"", text,
            (int)op.len, op.data);
    if (*at == '[')
        return take_list(out, at + 1, err);
    if (!take_value(at, "", &stopped, &out->predicate.value))
        return mr_reject(err, MR_USAGE, "filter \"%.100s\": expected the text to end in \"", text);
    return MR_OK;
}
