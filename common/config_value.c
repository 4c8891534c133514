#include "common/config_value.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};
/* Largest first, and of equal ones the preferred spelling first: format takes the first that
 * divides. */
static const struct unit durations[] = {
    {"h", UINT64_C(3600000000000)},
    {"m", UINT64_C(60000000000)},
    {"s", 1000000000},
    {"ms", 1000000},
    {"us", 1000},
    {"ns", 1},
    {"d", UINT64_C(86400000000000)},
};
static const struct unit sizes[] = {
    {"PiB", UINT64_C(1) << 50},
    {"TiB", UINT64_C(1) << 40},
    {"GiB", 1 << 30},
    {"MiB", 1 << 20},
    {"KiB", 1 << 10},
    {"B", 1},
    {"PB", 1000000000000000},
    {"TB", UINT64_C(1000000000000)},
    {"GB", 1000000000},
    {"MB", 1000000},
    {"KB", 1000},
    {"kB", 1000},
};
#define UNITS(table) (table), sizeof(table) / sizeof *(table)

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Decimal digits without sign, as many as there are. */
static bool take_digits(const char **text, uint64_t *out)
{
    const char *at = *text;
    uint64_t value = 0;
    for (; digit(*at); at++)
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return false;
    bool any = at != *text;
    *text = at;
    *out = value;
    return any;
}

static const struct unit *take_unit(const char **text, const struct unit *units, size_t count)
{
    size_t len = strspn(*text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
    for (size_t i = 0; i < count; i++)
        if (strlen(units[i].name) == len && memcmp(units[i].name, *text, len) == 0) {
            *text += len;
            return &units[i];
        }
    return NULL;
}

/* What ".25" adds under a unit: exact, or refused. */
static bool take_fraction(const char **text, uint64_t *numerator, uint64_t *denominator)
{
    *numerator = 0;
    *denominator = 1;
    if (**text != '.')
        return true;
    const char *start = ++*text;
    if (!take_digits(text, numerator) || *text - start > 9)
        return false;
    for (ptrdiff_t i = *text - start; i > 0; i--)
        *denominator *= 10;
    return true;
}

/* "1h30m", "2.5MiB": parts of number and unit, each unit smaller than the one before. A bare number
 * is taken when bare is true or when it is zero. */
static bool parse_quantity(const char *text, const struct unit *units, size_t count, bool bare,
                           uint64_t *out)
{
    uint64_t sum = 0, before = UINT64_MAX;
    const char *at = text;
    if (!digit(*at))
        return false;
    while (*at != '\0') {
        uint64_t whole, numerator, denominator, part;
        if (!take_digits(&at, &whole) || !take_fraction(&at, &numerator, &denominator))
            return false;
        while (*at == ' ')
            at++;
        if (*at == '\0' && sum == 0 && before == UINT64_MAX && denominator == 1 &&
            (bare || whole == 0)) {
            *out = whole;
            return true;
        }
        const struct unit *unit = take_unit(&at, units, count);
        if (!unit || unit->factor >= before ||
            unit->factor * numerator / denominator * denominator != unit->factor * numerator)
            return false;
        if (__builtin_mul_overflow(whole, unit->factor, &part) ||
            __builtin_add_overflow(part, unit->factor * numerator / denominator, &part) ||
            __builtin_add_overflow(sum, part, &sum))
            return false;
        before = unit->factor;
    }
    *out = sum;
    return true;
}

static void format_quantity(uint64_t value, const struct unit *units, size_t count, char *out,
                            size_t size)
{
    for (size_t i = 0; i < count; i++)
        if (value >= units[i].factor && value % units[i].factor == 0) {
            snprintf(out, size, "%" PRIu64 "%s", value / units[i].factor, units[i].name);
            return;
        }
    snprintf(out, size, "0");
}

static bool store_bounded(const struct mr_config_row *row, uint64_t value, void *field)
{
    if (value < row->min || value > row->max)
        return false;
    *(uint64_t *)field = value;
    return true;
}

static bool parse_bool(const struct mr_config_row *row, const char *text, void *field)
{
    (void)row;
    bool is_true = strcmp(text, "true") == 0;
    if (!is_true && strcmp(text, "false") != 0)
        return false;
    *(bool *)field = is_true;
    return true;
}

static bool parse_int(const struct mr_config_row *row, const char *text, void *field)
{
    uint64_t value;
    return take_digits(&text, &value) && *text == '\0' && store_bounded(row, value, field);
}

static bool parse_duration(const struct mr_config_row *row, const char *text, void *field)
{
    uint64_t value;
    return parse_quantity(text, UNITS(durations), false, &value) &&
           store_bounded(row, value, field);
}

static bool parse_size(const struct mr_config_row *row, const char *text, void *field)
{
    uint64_t value;
    return parse_quantity(text, UNITS(sizes), true, &value) && store_bounded(row, value, field);
}

static bool parse_text(const struct mr_config_row *row, const char *text, void *field)
{
    struct mr_config_text *out = field;
    size_t len = strlen(text);
    (void)row;
    if (len >= sizeof out->text || !mr_config_text_clean(text))
        return false;
    memset(out, 0, sizeof *out);
    memcpy(out->text, text, len);
    return true;
}

static bool parse_choice(const struct mr_config_row *row, const char *text, void *field)
{
    size_t len = strlen(text);
    for (const char *at = row->choices; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (len > 0 && strcspn(at, "|") == len && memcmp(at, text, len) == 0)
            return parse_text(row, text, field);
    return false;
}

/* Items joined by commas, blanks around them dropped; an empty text is an empty list. */
static bool parse_list(const struct mr_config_row *row, const char *text, void *field)
{
    struct mr_config_list list = {0};
    (void)row;
    if (!mr_config_text_clean(text))
        return false;
    for (const char *at = text; *text != '\0';) {
        at += strspn(at, " ");
        size_t len = strcspn(at, ","), kept = len;
        while (kept > 0 && at[kept - 1] == ' ')
            kept--;
        if (kept == 0 || kept >= MR_CONFIG_LIST_TEXT_MAX || list.count == MR_CONFIG_LIST_MAX)
            return false;
        memcpy(list.items[list.count++], at, kept);
        if (at[len] == '\0')
            break;
        at += len + 1;
    }
    memcpy(field, &list, sizeof list);
    return true;
}

static void format_bool(const void *field, char *out)
{
    strcpy(out, *(const bool *)field ? "true" : "false");
}

static void format_int(const void *field, char *out)
{
    snprintf(out, MR_CONFIG_VALUE_MAX, "%" PRIu64, *(const uint64_t *)field);
}

static void format_duration(const void *field, char *out)
{
    format_quantity(*(const uint64_t *)field, UNITS(durations), out, MR_CONFIG_VALUE_MAX);
}

static void format_size(const void *field, char *out)
{
    format_quantity(*(const uint64_t *)field, UNITS(sizes), out, MR_CONFIG_VALUE_MAX);
}

static void format_text(const void *field, char *out)
{
    strcpy(out, ((const struct mr_config_text *)field)->text);
}

static void format_list(const void *field, char *out)
{
    const struct mr_config_list *list = field;
    *out = '\0';
    for (uint32_t i = 0; i < list->count; i++)
        out += sprintf(out, "%s%s", i ? "," : "", list->items[i]);
}
static_assert(MR_CONFIG_LIST_MAX * (MR_CONFIG_LIST_TEXT_MAX + 1) <= MR_CONFIG_VALUE_MAX,
              "every list fits as text");

static void expect_bool(const struct mr_config_row *row, char *out, size_t size)
{
    (void)row;
    snprintf(out, size, "true or false");
}

static void expect_int(const struct mr_config_row *row, char *out, size_t size)
{
    if (row->max == UINT64_MAX)
        snprintf(out, size, "a whole number from %" PRIu64 " on", row->min);
    else
        snprintf(out, size, "a whole number from %" PRIu64 " to %" PRIu64, row->min, row->max);
}

static void expect_duration(const struct mr_config_row *row, char *out, size_t size)
{
    char min[32], max[32];
    format_quantity(row->min, UNITS(durations), min, sizeof min);
    format_quantity(row->max, UNITS(durations), max, sizeof max);
    snprintf(out, size, "a duration such as 250ms or 1m30s, from %s to %s", min, max);
}

static void expect_size(const struct mr_config_row *row, char *out, size_t size)
{
    char min[32], max[32];
    format_quantity(row->min, UNITS(sizes), min, sizeof min);
    format_quantity(row->max, UNITS(sizes), max, sizeof max);
    snprintf(out, size, "a size such as 64MiB, from %s to %s", min, max);
}

static void expect_text(const struct mr_config_row *row, char *out, size_t size)
{
    (void)row;
    snprintf(out, size, "UTF-8 text without control characters, at most %d bytes",
             MR_CONFIG_TEXT_MAX - 1);
}

static void expect_choice(const struct mr_config_row *row, char *out, size_t size)
{
    snprintf(out, size, "one of %s", row->choices);
}

static void expect_list(const struct mr_config_row *row, char *out, size_t size)
{
    (void)row;
    snprintf(out, size, "at most %d texts of 1 to %d bytes without control characters",
             MR_CONFIG_LIST_MAX, MR_CONFIG_LIST_TEXT_MAX - 1);
}

static const struct mr_config_type types[] = {
    {"BOOL", parse_bool, format_bool, expect_bool, sizeof(bool)},
    {"INT", parse_int, format_int, expect_int, sizeof(uint64_t)},
    {"DURATION", parse_duration, format_duration, expect_duration, sizeof(uint64_t)},
    {"SIZE", parse_size, format_size, expect_size, sizeof(uint64_t)},
    {"TEXT", parse_text, format_text, expect_text, sizeof(struct mr_config_text)},
    {"SECRET", parse_text, format_text, expect_text, sizeof(struct mr_config_text)},
    {"CHOICE", parse_choice, format_text, expect_choice, sizeof(struct mr_config_text)},
    {"LIST", parse_list, format_list, expect_list, sizeof(struct mr_config_list)},
};

const struct mr_config_type *mr_config_type_find(const char *name)
{
    const struct mr_config_type *type = types;
    while (strcmp(type->name, name) != 0) {
        type++;
        MR_ASSERT(type < types + sizeof types / sizeof *types);
    }
    return type;
}

/* Bytes of the UTF-8 sequence at at, or 0: overlong forms and surrogates are refused. */
static size_t utf8_len(const unsigned char *at)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (at[0] < 0x80)
        return 1;
    size_t len = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    uint32_t code = at[0] & (0x7fu >> len);
    if (at[0] < 0xc2 || at[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (at[i] & 0x3fu);
    }
    return code < least[len] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : len;
}

bool mr_config_text_clean(const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        size_t len = utf8_len(at);
        if (len == 0 || *at < 0x20 || *at == 0x7f)
            return false;
        at += len;
    }
    return true;
}

static void append(char *out, size_t size, const char *text, size_t len)
{
    size_t used = strlen(out);
    snprintf(out + used, size - used, "%.*s", (int)len, text);
}

void mr_config_mask(const char *text, char *out, size_t size)
{
    static const char mask[] = "***";
    *out = '\0';
    const char *host = strstr(text, "://");
    const char *at = host ? strrchr(host, '@') : NULL;
    if (at) {
        const char *colon = memchr(host + 3, ':', (size_t)(at - host - 3));
        append(out, size, text, (size_t)((colon ? colon + 1 : at) - text));
        if (colon)
            append(out, size, mask, sizeof mask);
        text = at;
    }
    for (const char *secret; (secret = strstr(text, "password=")) != NULL;) {
        secret += strlen("password=");
        append(out, size, text, (size_t)(secret - text));
        append(out, size, mask, sizeof mask);
        size_t len = strcspn(secret, "& ");
        if (*secret == '\'') /* a quoted value of a connection string */
            for (len = 1; secret[len] && secret[len] != '\''; len++)
                len += secret[len] == '\\' && secret[len + 1];
        text = secret + len + (*secret == '\'' && secret[len]);
    }
    append(out, size, text, strlen(text));
}
