#include "cel/zone.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cel/zone_rule.h"
#include "common/err.h"

enum {
    NAME_MAX_BYTES = 64,
    FILE_MAX_BYTES = 1 << 18,
    ZONE_SLOTS = 2048, /* hash table, at most half full */
    HEADER_BYTES = 44
};

struct zone {
    uint32_t name_len, change_count, type_count;
    char name[NAME_MAX_BYTES];
    bool has_rule;
    struct mr_cel_zone_rule rule; /* behind the last change */
    int64_t *times;               /* of the changes, ascending */
    uint8_t *types;               /* of each change */
    int32_t offsets[256];         /* of each type */
};

/* What this process has read. Entries are only added, whole: a reader needs no lock. */
static _Atomic(struct zone *) zones[ZONE_SLOTS];
static _Atomic uint32_t zone_count;

static uint32_t big_endian_32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static int64_t big_endian_64(const uint8_t *at)
{
    return (int64_t)((uint64_t)big_endian_32(at) << 32 | big_endian_32(at + 4));
}

/* The counts in a header of TZif. */
struct counts {
    uint64_t is_ut, is_standard, leaps, times, types, chars;
};

static bool read_header(const uint8_t *at, size_t left, struct counts *out)
{
    if (left < HEADER_BYTES || memcmp(at, "TZif", 4) != 0)
        return false;
    *out = (struct counts){big_endian_32(at + 20), big_endian_32(at + 24), big_endian_32(at + 28),
                           big_endian_32(at + 32), big_endian_32(at + 36), big_endian_32(at + 40)};
    return true;
}

/* Bytes of a data block whose times have time_size bytes. Counts are 32 bits wide: no overflow. */
static uint64_t block_len(const struct counts *c, uint64_t time_size)
{
    return c->times * (time_size + 1) + c->types * 6 + c->chars + c->leaps * (time_size + 4) +
           c->is_standard + c->is_ut;
}

static bool read_block(struct zone *zone, const uint8_t *at, const struct counts *c)
{
    if (c->types == 0 || c->types > 256 || c->times > FILE_MAX_BYTES)
        return false;
    zone->change_count = (uint32_t)c->times;
    zone->type_count = (uint32_t)c->types;
    zone->times = calloc(c->times + 1, sizeof *zone->times);
    zone->types = calloc(c->times + 1, 1);
    if (!zone->times || !zone->types)
        return false;
    for (uint64_t i = 0; i < c->times; i++) {
        zone->times[i] = big_endian_64(at + i * 8);
        zone->types[i] = at[c->times * 8 + i];
        if (zone->types[i] >= c->types || (i > 0 && zone->times[i] <= zone->times[i - 1]))
            return false;
    }
    at += c->times * 9;
    for (uint64_t i = 0; i < c->types; i++) {
        zone->offsets[i] = (int32_t)big_endian_32(at + i * 6);
        if (zone->offsets[i] < -172800 || zone->offsets[i] > 172800)
            return false;
    }
    return true;
}

/* Version 2 and later: a block with 32-bit times, which is skipped, one with 64-bit times, and the
 * rule between two line ends. */
static bool read_file(struct zone *zone, const uint8_t *bytes, size_t len)
{
    struct counts first, second;
    if (!read_header(bytes, len, &first) || bytes[4] < '2')
        return false;
    uint64_t start = HEADER_BYTES + block_len(&first, 4);
    if (start > len || !read_header(bytes + start, len - start, &second))
        return false;
    start += HEADER_BYTES;
    uint64_t end = start + block_len(&second, 8);
    if (end >= len || !read_block(zone, bytes + start, &second))
        return false;
    struct mr_str footer = {(const char *)bytes + end + 1, len - end - 1};
    const char *stop = memchr(footer.data, '\n', footer.len);
    if (bytes[end] != '\n' || !stop)
        return false;
    footer.len = (size_t)(stop - footer.data);
    zone->has_rule = footer.len > 0;
    return !zone->has_rule || mr_cel_zone_rule_parse(footer, &zone->rule);
}

/* Names as the tz database has them: no way out of its folder. */
static bool is_name(struct mr_str name)
{
    if (name.len == 0 || name.len > NAME_MAX_BYTES || name.data[0] < 'A' || name.data[0] > 'Z')
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i], lower = (char)(c | 0x20);
        if (!(lower >= 'a' && lower <= 'z') && !(c >= '0' && c <= '9') && c != '/' && c != '_' &&
            c != '-' && c != '+')
            return false;
    }
    return true;
}

static void zone_free(struct zone *zone)
{
    if (zone) {
        free(zone->times);
        free(zone->types);
    }
    free(zone);
}

static uint8_t *slurp(struct mr_str name, size_t *len)
{
    char path[32 + NAME_MAX_BYTES];
    snprintf(path, sizeof path, "/usr/share/zoneinfo/%.*s", (int)name.len, name.data);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    struct stat info;
    uint8_t *bytes = NULL;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size <= FILE_MAX_BYTES)
        bytes = malloc((size_t)info.st_size + 1);
    for (*len = 0; bytes && *len < (size_t)info.st_size;) {
        ssize_t count = read(fd, bytes + *len, (size_t)info.st_size - *len);
        if (count == 0 || (count < 0 && errno != EINTR))
            break;
        *len += count > 0 ? (size_t)count : 0;
    }
    close(fd);
    return bytes;
}

static struct zone *zone_read(struct mr_str name)
{
    size_t len = 0;
    uint8_t *bytes = slurp(name, &len);
    struct zone *zone = bytes ? calloc(1, sizeof *zone) : NULL;
    if (zone && !read_file(zone, bytes, len)) {
        zone_free(zone);
        zone = NULL;
    }
    free(bytes);
    if (zone) {
        zone->name_len = (uint32_t)name.len;
        memcpy(zone->name, name.data, name.len);
    }
    return zone;
}

static bool has_name(const struct zone *zone, struct mr_str name)
{
    return mr_str_equal((struct mr_str){zone->name, zone->name_len}, name);
}

static const struct zone *zone_find(struct mr_str name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < name.len; i++)
        hash = (hash ^ (uint8_t)name.data[i]) * 16777619u;
    struct zone *fresh = NULL;
    for (uint32_t i = hash;; i++) {
        _Atomic(struct zone *) *slot = &zones[i % ZONE_SLOTS];
        struct zone *there = atomic_load_explicit(slot, memory_order_acquire);
        if (!there) {
            if (!fresh && atomic_load_explicit(&zone_count, memory_order_relaxed) < ZONE_SLOTS / 2)
                fresh = zone_read(name);
            if (!fresh)
                return NULL;
            /* On success the zone's bytes become visible with it. */
            if (atomic_compare_exchange_strong_explicit(slot, &there, fresh, memory_order_acq_rel,
                                                        memory_order_acquire)) {
                atomic_fetch_add_explicit(&zone_count, 1, memory_order_relaxed);
                return fresh;
            }
        }
        if (has_name(there, name)) { /* maybe by another thread just now */
            zone_free(fresh);
            return there;
        }
    }
}

static int32_t zone_offset_at(const struct zone *zone, int64_t seconds)
{
    uint32_t low = 0, high = zone->change_count; /* changes before low are at or before seconds */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (zone->times[middle] <= seconds)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == zone->change_count && zone->has_rule)
        return mr_cel_zone_rule_offset(&zone->rule, seconds);
    return low > 0 ? zone->offsets[zone->types[low - 1]] : zone->offsets[0];
}

/* Digits, one or two, of a number up to max. */
static bool parse_part(struct mr_str text, int max, int *out)
{
    *out = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        *out = *out * 10 + (text.data[i] - '0');
    }
    return text.len >= 1 && text.len <= 2 && *out <= max;
}

static bool parse_offset(struct mr_str zone, size_t colon, int32_t *offset_seconds)
{
    size_t sign = zone.data[0] == '+' || zone.data[0] == '-';
    int hours, minutes;
    if (colon < sign || !parse_part((struct mr_str){zone.data + sign, colon - sign}, 23, &hours) ||
        zone.len - colon != 3 ||
        !parse_part((struct mr_str){zone.data + colon + 1, 2}, 59, &minutes))
        return false;
    *offset_seconds = (hours * 60 + minutes) * 60;
    if (zone.data[0] == '-')
        *offset_seconds = -*offset_seconds;
    return true;
}

bool mr_cel_zone_offset(struct mr_str zone, int64_t seconds, int32_t *offset_seconds)
{
    const char *colon = zone.len > 0 ? memchr(zone.data, ':', zone.len) : NULL;
    if (colon)
        return parse_offset(zone, (size_t)(colon - zone.data), offset_seconds);
    const struct zone *found = is_name(zone) ? zone_find(zone) : NULL;
    if (!found)
        return false;
    *offset_seconds = zone_offset_at(found, seconds);
    return true;
}
