#include "puller/sources/mongo_position.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* HEX: the token is {_data: hex}, stored in binary */
enum { FLAG_SNAPSHOT = 1, FLAG_HEX = 2, FLAG_BEGUN = 4, FLAGS_ALL = 7 };

/* As stored, little endian; then the name, the token and the key. */
struct stored_position {
    char magic[4];
    uint8_t flags, key_type;
    uint16_t ns_len, token_len, key_len;
    uint32_t index;
    uint64_t time;
};
static_assert(sizeof(struct stored_position) == 24, "the stored layout is an ABI");
static const char position_magic[4] = "MGP1";

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The text of {_data: "82..."} when it is nothing but that, in upper case; else empty. */
static struct mr_str token_hex(struct mr_str token)
{
    struct mr_bson_iter iter;
    struct mr_bson_element first, second;
    struct mr_str none = {NULL, 0};
    if (mr_bson_iter_init(&iter, token.data, token.len) != MR_OK ||
        mr_bson_iter_next(&iter, &first) != MR_OK ||
        mr_bson_iter_next(&iter, &second) != MR_AGAIN ||
        !mr_str_equal(first.key, MR_STR("_data")) || first.value.type != MR_BSON_STRING)
        return none;
    struct mr_str hex = mr_bson_string(&first.value);
    for (size_t i = 0; i < hex.len; i++)
        if (hex_digit(hex.data[i]) < 0)
            return none;
    return hex.len % 2 == 0 ? hex : none;
}

static size_t pack(struct mr_str hex, uint8_t *out)
{
    for (size_t i = 0; i < hex.len / 2; i++)
        out[i] = (uint8_t)(hex_digit(hex.data[2 * i]) << 4 | hex_digit(hex.data[2 * i + 1]));
    return hex.len / 2;
}

static bool unpack(struct mr_mongo_position *out, const uint8_t *packed, size_t len)
{
    static const char digits[] = "0123456789ABCDEF";
    char hex[MR_MONGO_TOKEN_MAX];
    if (2 * len > sizeof hex)
        return false;
    for (size_t i = 0; i < len; i++) {
        hex[2 * i] = digits[packed[i] >> 4];
        hex[2 * i + 1] = digits[packed[i] & 15];
    }
    struct mr_bson_writer w;
    mr_bson_writer_init_fixed(&w, out->token, sizeof out->token);
    mr_bson_begin(&w);
    mr_bson_put_string(&w, MR_STR("_data"), (struct mr_str){hex, 2 * len});
    mr_bson_end(&w);
    out->token_len = (uint32_t)w.len;
    return w.ok;
}

static_assert(sizeof(struct stored_position) + MR_MONGO_NS_MAX + MR_MONGO_KEY_MAX <=
                  MR_LOG_POSITION_MAX,
              "name and key always fit");

void mr_mongo_position_encode(const struct mr_mongo_position *position, struct mr_position *out)
{
    const struct mr_mongo_snapshot_place *place = &position->place;
    struct stored_position stored = {.index = position->index, .time = position->time};
    memcpy(stored.magic, position_magic, sizeof stored.magic);
    size_t room = sizeof out->bytes - sizeof stored;
    uint8_t *at = out->bytes + sizeof stored;
    if (position->snapshot) {
        stored.flags |= FLAG_SNAPSHOT;
        stored.ns_len = (uint16_t)strlen(place->ns);
        stored.key_len = (uint16_t)place->key_len;
        stored.key_type = place->key_type;
        room -= (size_t)stored.ns_len + stored.key_len;
        memcpy(at, place->ns, stored.ns_len);
        at += stored.ns_len;
    }
    if (position->begun)
        stored.flags |= FLAG_BEGUN;
    struct mr_str token = {(const char *)position->token, position->token_len};
    struct mr_str hex = token_hex(token);
    if (hex.len > 0 && hex.len / 2 <= room) {
        stored.flags |= FLAG_HEX;
        stored.token_len = (uint16_t)pack(hex, at);
    } else if (token.len <= room) {
        stored.token_len = (uint16_t)token.len;
        memcpy(at, token.data, token.len);
    }
    at += stored.token_len;
    memcpy(at, place->key, stored.key_len);
    at += stored.key_len;
    memcpy(out->bytes, &stored, sizeof stored);
    out->len = (uint32_t)(at - out->bytes);
}

static bool unfold(const struct stored_position *stored, const uint8_t *at,
                   struct mr_mongo_position *out)
{
    memcpy(out->place.ns, at, stored->ns_len);
    at += stored->ns_len;
    if (stored->flags & FLAG_HEX) {
        if (!unpack(out, at, stored->token_len))
            return false;
    } else {
        out->token_len = stored->token_len; /* no larger than the bytes it came in */
        memcpy(out->token, at, stored->token_len);
    }
    at += stored->token_len;
    memcpy(out->place.key, at, stored->key_len);
    return true;
}

enum mr_rc mr_mongo_position_decode(const struct mr_position *in, struct mr_mongo_position *out,
                                    struct mr_err *err)
{
    static const char text[] = "position in the log: not one of a mongodb source; use the log's own"
                               " source kind or another instance.data_dir";
    struct stored_position stored;
    memset(out, 0, sizeof *out);
    if (in->len < sizeof stored || in->len > sizeof in->bytes)
        return mr_reject(err, MR_USAGE, "%s", text);
    memcpy(&stored, in->bytes, sizeof stored);
    size_t parts = (size_t)stored.ns_len + stored.token_len + stored.key_len;
    if (memcmp(stored.magic, position_magic, sizeof stored.magic) != 0 ||
        in->len != sizeof stored + parts || stored.ns_len > MR_MONGO_NS_MAX ||
        stored.key_len > MR_MONGO_KEY_MAX || stored.flags > FLAGS_ALL)
        return mr_reject(err, MR_USAGE, "%s", text);
    out->time = stored.time;
    out->index = stored.index;
    out->snapshot = stored.flags & FLAG_SNAPSHOT;
    out->begun = stored.flags & FLAG_BEGUN;
    out->place.key_type = stored.key_type;
    out->place.key_len = stored.key_len;
    if (!unfold(&stored, in->bytes + sizeof stored, out))
        return mr_reject(err, MR_USAGE, "%s", text);
    return MR_OK;
}

bool mr_mongo_position_set_token(struct mr_mongo_position *position, struct mr_str token)
{
    if (token.len > sizeof position->token)
        return false;
    memcpy(position->token, token.data, token.len);
    position->token_len = (uint32_t)token.len;
    return true;
}

static struct mr_str token_text(struct mr_str token)
{
    struct mr_bson_value data;
    if (!mr_bson_find(token.data, token.len, MR_STR("_data"), &data) || data.type != MR_BSON_STRING)
        return (struct mr_str){NULL, 0};
    return mr_bson_string(&data);
}

uint64_t mr_mongo_token_time(struct mr_str token)
{
    enum { TIMESTAMP_KIND = 0x82, DIGITS = 18 }; /* a kind, then eight bytes, big endian */
    struct mr_str hex = token_text(token);
    uint64_t kind = 0, time = 0;
    for (size_t i = 0; i < DIGITS; i++) {
        int digit = i < hex.len ? hex_digit(hex.data[i]) : -1;
        if (digit < 0)
            return 0;
        if (i < 2)
            kind = kind << 4 | (uint64_t)digit;
        else
            time = time << 4 | (uint64_t)digit;
    }
    return kind == TIMESTAMP_KIND ? time : 0;
}

bool mr_mongo_token_is_mark(struct mr_str token)
{
    enum { VERSION_AT = 18, KIND_AT = 22, KIND_END = 24 };
    struct mr_str hex = token_text(token);
    return hex.len >= KIND_END && memcmp(hex.data + VERSION_AT, "2B", 2) == 0 &&
           memcmp(hex.data + KIND_AT, "29", 2) == 0;
}

struct mr_mongo_time_text mr_mongo_time_format(uint64_t time)
{
    struct mr_mongo_time_text out;
    snprintf(out.text, sizeof out.text, "%" PRIu32 ".%" PRIu32, (uint32_t)(time >> 32),
             (uint32_t)time);
    return out;
}
