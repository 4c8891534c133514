/* The extension library "encoders": base64 of RFC 4648, with the plain and the URL alphabet. */
#include "cel/lib.h"

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

static struct mr_cel_val encode(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                uint32_t count, const char last[2])
{
    if (!mr_cel_args_are(args, count, "y"))
        return mr_cel_no_overload();
    char alphabet[64];
    memcpy(alphabet, letters, 62);
    memcpy(alphabet + 62, last, 2);
    const uint8_t *in = (const uint8_t *)args[0].text;
    uint64_t in_len = args[0].len, len = (in_len + 2) / 3 * 4;
    char *out = len <= UINT32_MAX && mr_cel_charge(ctx, len / 4) ? mr_cel_alloc(ctx, len) : NULL;
    if (!out)
        return mr_cel_stopped(ctx);
    for (uint64_t i = 0, at = 0; i < in_len; i += 3, at += 4) {
        uint32_t bits = (uint32_t)in[i] << 16 | (i + 1 < in_len ? (uint32_t)in[i + 1] << 8 : 0) |
                        (i + 2 < in_len ? in[i + 2] : 0);
        out[at] = alphabet[bits >> 18];
        out[at + 1] = alphabet[bits >> 12 & 63];
        out[at + 2] = i + 1 < in_len ? alphabet[bits >> 6 & 63] : '=';
        out[at + 3] = i + 2 < in_len ? alphabet[bits & 63] : '=';
    }
    return mr_cel_string((struct mr_str){out, len});
}

static int digit_of(char c, const char last[2])
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == last[0] ? 62 : c == last[1] ? 63 : -1;
}

/* With or without padding; bits behind the last byte are not looked at. */
static struct mr_cel_val decode(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                uint32_t count, const char last[2])
{
    if (!mr_cel_args_are(args, count, "s"))
        return mr_cel_no_overload();
    uint32_t len = args[0].len, out_len = 0, bits = 0, digits = 0;
    if (len > 0 && len % 4 == 0)
        len -= args[0].text[len - 1] != '=' ? 0 : args[0].text[len - 2] != '=' ? 1 : 2;
    uint8_t *out = mr_cel_charge(ctx, len / 4) ? mr_cel_alloc(ctx, (size_t)len / 4 * 3 + 3) : NULL;
    if (!out)
        return mr_cel_stopped(ctx);
    for (uint32_t i = 0; i < len; i++) {
        int digit = digit_of(args[0].text[i], last);
        if (digit < 0)
            return mr_cel_errorf(ctx, MR_CEL_E_INVALID_ARGUMENT, "no base64 at byte %u", i);
        bits = bits << 6 | (uint32_t)digit;
        if (++digits % 4 == 0) {
            out[out_len++] = (uint8_t)(bits >> 16);
            out[out_len++] = (uint8_t)(bits >> 8);
            out[out_len++] = (uint8_t)bits;
        }
    }
    if (digits % 4 == 1)
        return mr_cel_error(MR_CEL_E_INVALID_ARGUMENT, MR_STR("base64 that ends too early"));
    if (digits % 4 >= 2)
        out[out_len++] = (uint8_t)(digits % 4 == 2 ? bits >> 4 : bits >> 10);
    if (digits % 4 == 3)
        out[out_len++] = (uint8_t)(bits >> 2);
    return mr_cel_bytes((struct mr_str){(const char *)out, out_len});
}

struct mr_cel_val mr_cel_fn_base64_encode(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                          uint32_t count)
{
    return encode(ctx, args, count, "+/");
}

struct mr_cel_val mr_cel_fn_base64_encode_url(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                              uint32_t count)
{
    return encode(ctx, args, count, "-_");
}

struct mr_cel_val mr_cel_fn_base64_decode(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                          uint32_t count)
{
    return decode(ctx, args, count, "+/");
}

struct mr_cel_val mr_cel_fn_base64_decode_url(struct mr_cel_ctx *ctx, const struct mr_cel_val *args,
                                              uint32_t count)
{
    return decode(ctx, args, count, "-_");
}
