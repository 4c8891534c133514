#include "log/crc32c.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define CRC_POLYNOMIAL UINT32_C(0x82f63b78) /* reflected */

/* Tables of the portable way (four bytes a step), filled on first use. Two threads may fill them at
 * once: they write the same values. */
static uint32_t tables[4][256];
static _Atomic bool tables_ready;

static void fill_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ CRC_POLYNOMIAL : crc >> 1;
        tables[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int slice = 1; slice < 4; slice++)
            tables[slice][i] = tables[slice - 1][i] >> 8 ^ tables[0][tables[slice - 1][i] & 0xff];
    atomic_store_explicit(&tables_ready, true, memory_order_release);
}

uint32_t mr_crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *at = data;
    if (!atomic_load_explicit(&tables_ready, memory_order_acquire))
        fill_tables();
    crc = ~crc;
    for (; len >= 4; at += 4, len -= 4) {
        uint32_t word;
        memcpy(&word, at, 4);
        crc ^= word;
        crc = tables[3][crc & 0xff] ^ tables[2][crc >> 8 & 0xff] ^ tables[1][crc >> 16 & 0xff] ^
              tables[0][crc >> 24];
    }
    for (; len > 0; at++, len--)
        crc = crc >> 8 ^ tables[0][(crc ^ *at) & 0xff];
    return ~crc;
}

#if defined(__x86_64__)
/* One stream of the instruction: 8 bytes every 3 cycles. state: the inverted checksum. */
__attribute__((target("sse4.2"))) static uint32_t crc_instruction(uint32_t state, const uint8_t *at,
                                                                  size_t len)
{
    uint64_t wide = state;
    for (; len >= 8; at += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    state = (uint32_t)wide;
    for (; len > 0; at++, len--)
        state = __builtin_ia32_crc32qi(state, *at);
    return state;
}

/* Multiplying 64 bits of the message by x^n mod P moves them n bits forward without changing what
 * remains of them (Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ",
 * Intel 2009). Forward by D bits takes x^(D+31) for the low half of 128 bits and x^(D-33) for the
 * high half, as 32 bits in reversed order; 33 rather than 32 is for the bit by which the product of
 * two reversed numbers is off. */
enum { FOLD_LANES = 4, FOLD_BYTES = FOLD_LANES * 16 };
#define FORWARD_512_LOW  0x740eef02
#define FORWARD_512_HIGH 0x9e4addf8
#define FORWARD_128_LOW  0xf20c0dfe
#define FORWARD_128_HIGH 0x493c7d27

__attribute__((target("sse4.2,pclmul"))) static inline __m128i forward(__m128i lane, __m128i by,
                                                                       __m128i onto)
{
    __m128i low = _mm_clmulepi64_si128(lane, by, 0x00);
    __m128i high = _mm_clmulepi64_si128(lane, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), onto);
}

__attribute__((target("sse4.2,pclmul"))) static inline __m128i load(const uint8_t *at, int lane)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at + lane);
}

/* Four lanes that do not wait for one another, 64 bytes in about 8 cycles. At least FOLD_BYTES. */
__attribute__((target("sse4.2,pclmul"))) static uint32_t crc_folded(uint32_t state,
                                                                    const uint8_t *at, size_t len)
{
    __m128i by = _mm_set_epi64x(FORWARD_512_HIGH, FORWARD_512_LOW), lanes[FOLD_LANES];
    for (int i = 0; i < FOLD_LANES; i++)
        lanes[i] = load(at, i);
    lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi32_si128((int)state));
    for (at += FOLD_BYTES, len -= FOLD_BYTES; len >= FOLD_BYTES;
         at += FOLD_BYTES, len -= FOLD_BYTES)
        for (int i = 0; i < FOLD_LANES; i++)
            lanes[i] = forward(lanes[i], by, load(at, i));
    by = _mm_set_epi64x(FORWARD_128_HIGH, FORWARD_128_LOW);
    __m128i all = lanes[0];
    for (int i = 1; i < FOLD_LANES; i++)
        all = forward(all, by, lanes[i]);
    uint64_t wide = __builtin_ia32_crc32di(0, (uint64_t)_mm_cvtsi128_si64(all));
    wide = __builtin_ia32_crc32di(wide, (uint64_t)_mm_extract_epi64(all, 1));
    return crc_instruction((uint32_t)wide, at, len);
}

uint32_t mr_crc32c(uint32_t crc, const void *data, size_t len)
{
    /* cpu_supports reads a word that start-up code has filled: no cost worth caching. */
    if (!__builtin_cpu_supports("sse4.2"))
        return mr_crc32c_portable(crc, data, len);
    if (len < FOLD_BYTES || !__builtin_cpu_supports("pclmul"))
        return ~crc_instruction(~crc, data, len);
    return ~crc_folded(~crc, data, len);
}
#else
uint32_t mr_crc32c(uint32_t crc, const void *data, size_t len)
{
    return mr_crc32c_portable(crc, data, len);
}
#endif
