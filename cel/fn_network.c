/* The extension library "network": addresses of the Internet Protocol and ranges of them. Text as
 * RFC 5952 writes it; no zones. An IPv4 address that is mapped into IPv6 is that IPv4 address when
 * its text is all hexadecimal, "::ffff:c0a8:1", and refused when it is half of each. */
#include <arpa/inet.h>

#include "cel/lib.h"
#include "cel/number.h"

/* out: 16 bytes; *len: 4 or 16. */
static bool parse_address(struct mr_str text, uint8_t out[16], uint32_t *len)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    char copy[INET6_ADDRSTRLEN];
    if (text.len >= sizeof copy || memchr(text.data, 0, text.len))
        return false;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    *len = 4;
    if (inet_pton(AF_INET, copy, out) == 1)
        return true;
    if (inet_pton(AF_INET6, copy, out) != 1)
        return false;
    *len = 16;
    if (memcmp(out, mapped, sizeof mapped) != 0)
        return true;
    memmove(out, out + sizeof mapped, 4);
    *len = 4;
    return !strchr(copy, '.');
}

/* An address, a slash, and the length of a prefix without zeros in front. */
static bool parse_range(struct mr_str text, uint8_t out[16], uint32_t *len, uint16_t *prefix)
{
    const char *slash = text.len > 0 ? memrchr(text.data, '/', text.len) : NULL;
    uint64_t bits;
    if (!slash || !parse_address((struct mr_str){text.data, (size_t)(slash - text.data)}, out, len))
        return false;
    if (*len == 4 && memchr(text.data, ':', text.len)) /* of which address would the prefix be? */
        return false;
    struct mr_str digits = {slash + 1, text.len - (size_t)(slash + 1 - text.data)};
    if (!mr_cel_uint_parse(digits, &bits) || bits > *len * 8 ||
        (digits.len > 1 && digits.data[0] == '0'))
        return false;
    *prefix = (uint16_t)bits;
    return true;
}

static size_t format_groups(char *out, const uint8_t *bytes)
{
    uint16_t groups[8];
    int best = -1, best_len = 1; /* the first of the longest runs of zeros, of two or more */
    for (int i = 0; i < 8; i++)
        groups[i] = (uint16_t)(bytes[2 * i] << 8 | bytes[2 * i + 1]);
    for (int i = 0, len; i < 8; i += len + 1) {
        for (len = 0; i + len < 8 && groups[i + len] == 0;)
            len++;
        if (len > best_len) {
            best = i;
            best_len = len;
        }
    }
    size_t at = 0;
    for (int i = 0; i < 8; i++) {
        if (i == best) {
            out[at++] = ':';
            out[at++] = ':';
            i += best_len - 1;
            continue;
        }
        if (at > 0 && out[at - 1] != ':')
            out[at++] = ':';
        bool some = false;
        for (int shift = 12; shift >= 0; shift -= 4) {
            int digit = groups[i] >> shift & 15;
            some = some || digit > 0 || shift == 0;
            if (some)
                out[at++] = "0123456789abcdef"[digit];
        }
    }
    return at;
}

size_t mr_cel_address_format(char out[MR_CEL_ADDRESS_TEXT_MAX], struct mr_cel_val address)
{
    const uint8_t *bytes = (const uint8_t *)address.text;
    size_t at = 0;
    if (address.len == 16)
        at = format_groups(out, bytes);
    for (uint32_t i = 0; address.len == 4 && i < 4; i++) {
        if (i > 0)
            out[at++] = '.';
        at += mr_cel_uint_format(out + at, bytes[i]);
    }
    if (address.kind == MR_CEL_CIDR) {
        out[at++] = '/';
        at += mr_cel_uint_format(out + at, address.aux);
    }
    return at;
}

static struct mr_cel_val make(struct mr_cel_ctx *ctx, enum mr_cel_kind kind, const uint8_t *bytes,
                              uint32_t len, uint16_t prefix)
{
    char *copy = mr_cel_alloc(ctx, len);
    if (!copy)
        return mr_cel_stopped(ctx);
    memcpy(copy, bytes, len);
    struct mr_cel_val value = mr_cel_text(kind, (struct mr_str){copy, len});
    value.aux = prefix;
    return value;
}

/* text is quoted up to 64 bytes; addresses are ASCII. */
static struct mr_cel_val unreadable(struct mr_cel_ctx *ctx, struct mr_cel_val text,
                                    const char *what)
{
    for (uint32_t i = 0; i < text.len; i++)
        if (text.text[i] < 0x20 || text.text[i] > 0x7e || i == 64)
            return mr_cel_errorf(ctx, MR_CEL_E_CONVERSION, "the string is no %s", what);
    return mr_cel_errorf(ctx, MR_CEL_E_CONVERSION, "\"%.*s\" is no %s", (int)text.len, text.text,
                         what);
}

static struct mr_cel_val to_ip(struct mr_cel_ctx *ctx, struct mr_cel_val text)
{
    uint8_t bytes[16];
    uint32_t len;
    if (!parse_address(mr_cel_str(text), bytes, &len))
        return unreadable(ctx, text, "IP address");
    return make(ctx, MR_CEL_IP, bytes, len, 0);
}

static struct mr_cel_val to_cidr(struct mr_cel_ctx *ctx, struct mr_cel_val text)
{
    uint8_t bytes[16];
    uint32_t len;
    uint16_t prefix;
    if (!parse_range(mr_cel_str(text), bytes, &len, &prefix))
        return unreadable(ctx, text, "CIDR range");
    return make(ctx, MR_CEL_CIDR, bytes, len, prefix);
}

/* ip(string), and CIDR.ip(). */
struct mr_cel_val mr_cel_fn_ip(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                               uint32_t count)
{
    if (mr_cel_args_are(args, count, "C"))
        return mr_cel_text(MR_CEL_IP, mr_cel_str(args[0]));
    return mr_cel_args_are(args, count, "s") ? to_ip(ctx, args[0]) : mr_cel_no_overload();
}

struct mr_cel_val mr_cel_fn_cidr(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                 uint32_t count)
{
    return mr_cel_args_are(args, count, "s") ? to_cidr(ctx, args[0]) : mr_cel_no_overload();
}

struct mr_cel_val mr_cel_fn_ip_is_canonical(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                            uint32_t count)
{
    if (!mr_cel_args_are(args, count, "s"))
        return mr_cel_no_overload();
    struct mr_cel_val address = to_ip(ctx, args[0]);
    if (address.kind == MR_CEL_ERROR)
        return address;
    char text[MR_CEL_ADDRESS_TEXT_MAX];
    struct mr_str canonical = {text, mr_cel_address_format(text, address)};
    return mr_cel_bool(mr_str_equal(canonical, mr_cel_str(args[0])));
}

struct mr_cel_val mr_cel_fn_is_ip(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                  uint32_t count)
{
    (void)ctx;
    uint8_t bytes[16];
    uint32_t len;
    return mr_cel_args_are(args, count, "s")
               ? mr_cel_bool(parse_address(mr_cel_str(args[0]), bytes, &len))
               : mr_cel_no_overload();
}

struct mr_cel_val mr_cel_fn_is_cidr(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                    uint32_t count)
{
    (void)ctx;
    uint8_t bytes[16];
    uint32_t len;
    uint16_t prefix;
    return mr_cel_args_are(args, count, "s")
               ? mr_cel_bool(parse_range(mr_cel_str(args[0]), bytes, &len, &prefix))
               : mr_cel_no_overload();
}

static bool same_bits(const uint8_t *a, const uint8_t *b, uint32_t bits)
{
    uint32_t whole = bits / 8, rest = bits % 8;
    return memcmp(a, b, whole) == 0 && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

static bool all_zero(const uint8_t *bytes, uint32_t len)
{
    static const uint8_t zeros[16];
    return memcmp(bytes, zeros, len) == 0;
}

enum address_kind { UNSPECIFIED, LOOPBACK, LINK_LOCAL, LINK_LOCAL_MULTICAST, MULTICAST };

/* RFC 6890 and RFC 4291. */
static bool is_of(struct mr_cel_val ip, enum address_kind kind)
{
    const uint8_t *at = (const uint8_t *)ip.text;
    bool v4 = ip.len == 4;
    switch (kind) {
    case UNSPECIFIED:
        return all_zero(at, ip.len);
    case LOOPBACK:
        return v4 ? at[0] == 127 : all_zero(at, 15) && at[15] == 1;
    case LINK_LOCAL:
        return v4 ? at[0] == 169 && at[1] == 254 : at[0] == 0xfe && (at[1] & 0xc0) == 0x80;
    case LINK_LOCAL_MULTICAST:
        return v4 ? at[0] == 224 && at[1] == 0 && at[2] == 0
                  : at[0] == 0xff && (at[1] & 0x0f) == 0x02;
    case MULTICAST:
        return v4 ? (at[0] & 0xf0) == 0xe0 : at[0] == 0xff;
    }
    return false;
}

static struct mr_cel_val tell(const struct mr_cel_val *args, uint32_t count, enum address_kind kind)
{
    return mr_cel_args_are(args, count, "I") ? mr_cel_bool(is_of(args[0], kind))
                                             : mr_cel_no_overload();
}

struct mr_cel_val mr_cel_fn_is_unspecified(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                           uint32_t count)
{
    (void)ctx;
    return tell(args, count, UNSPECIFIED);
}

struct mr_cel_val mr_cel_fn_is_loopback(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                        uint32_t count)
{
    (void)ctx;
    return tell(args, count, LOOPBACK);
}

struct mr_cel_val mr_cel_fn_is_link_local_unicast(struct mr_cel_ctx *ctx,
                                                  const struct mr_cel_val *args, uint32_t count)
{
    (void)ctx;
    return tell(args, count, LINK_LOCAL);
}

struct mr_cel_val mr_cel_fn_is_link_local_multicast(struct mr_cel_ctx *ctx,
                                                    const struct mr_cel_val *args, uint32_t count)
{
    (void)ctx;
    return tell(args, count, LINK_LOCAL_MULTICAST);
}

struct mr_cel_val mr_cel_fn_is_global_unicast(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                              uint32_t count)
{
    (void)ctx;
    if (!mr_cel_args_are(args, count, "I"))
        return mr_cel_no_overload();
    static const uint8_t broadcast[4] = {255, 255, 255, 255};
    for (int kind = UNSPECIFIED; kind <= MULTICAST; kind++)
        if (is_of(args[0], (enum address_kind)kind))
            return mr_cel_bool(false);
    return mr_cel_bool(args[0].len == 16 || memcmp(args[0].text, broadcast, 4) != 0);
}

struct mr_cel_val mr_cel_fn_family(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                   uint32_t count)
{
    (void)ctx;
    return mr_cel_args_are(args, count, "I") ? mr_cel_int(args[0].len == 4 ? 4 : 6)
                                             : mr_cel_no_overload();
}

/* Whether inner, an IP or a CIDR range, lies in the range outer. */
static bool lies_in(struct mr_cel_val outer, struct mr_cel_val inner)
{
    return outer.len == inner.len && (inner.kind == MR_CEL_IP || inner.aux >= outer.aux) &&
           same_bits((const uint8_t *)outer.text, (const uint8_t *)inner.text, outer.aux);
}

static struct mr_cel_val contains(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                  uint32_t count, enum mr_cel_kind kind)
{
    if (count != 2 || args[0].kind != MR_CEL_CIDR)
        return mr_cel_no_overload();
    struct mr_cel_val inner = args[1];
    if (inner.kind == MR_CEL_STRING)
        inner = kind == MR_CEL_IP ? to_ip(ctx, inner) : to_cidr(ctx, inner);
    if (inner.kind == MR_CEL_ERROR)
        return inner;
    return inner.kind == kind ? mr_cel_bool(lies_in(args[0], inner)) : mr_cel_no_overload();
}

struct mr_cel_val mr_cel_fn_contains_ip(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                        uint32_t count)
{
    return contains(ctx, args, count, MR_CEL_IP);
}

struct mr_cel_val mr_cel_fn_contains_cidr(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                          uint32_t count)
{
    return contains(ctx, args, count, MR_CEL_CIDR);
}

/* out: 16 bytes. */
static void mask(struct mr_cel_val cidr, uint8_t out[16])
{
    memcpy(out, cidr.text, cidr.len);
    for (uint32_t bit = cidr.aux; bit < cidr.len * 8; bit++)
        out[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
}

struct mr_cel_val mr_cel_fn_masked(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                   uint32_t count)
{
    uint8_t bytes[16];
    if (!mr_cel_args_are(args, count, "C"))
        return mr_cel_no_overload();
    mask(args[0], bytes);
    return make(ctx, MR_CEL_CIDR, bytes, args[0].len, args[0].aux);
}

struct mr_cel_val mr_cel_fn_is_mask(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                    uint32_t count)
{
    (void)ctx;
    uint8_t bytes[16];
    if (!mr_cel_args_are(args, count, "C"))
        return mr_cel_no_overload();
    mask(args[0], bytes);
    return mr_cel_bool(memcmp(bytes, args[0].text, args[0].len) == 0);
}

struct mr_cel_val mr_cel_fn_prefix_length(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                          uint32_t count)
{
    (void)ctx;
    return mr_cel_args_are(args, count, "C") ? mr_cel_int(args[0].aux) : mr_cel_no_overload();
}
