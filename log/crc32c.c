#include "log/crc32c.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

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
/* One stream of the instruction: 8 bytes every 3 cycles. */
__attribute__((target("sse4.2"))) static uint32_t crc_instruction(uint32_t crc, const void *data,
                                                                  size_t len)
{
    const uint8_t *at = data;
    uint64_t state = ~crc;
    for (; len >= 8; at += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        state = __builtin_ia32_crc32di(state, word);
    }
    uint32_t tail = (uint32_t)state;
    for (; len > 0; at++, len--)
        tail = __builtin_ia32_crc32qi(tail, *at);
    return ~tail;
}

uint32_t mr_crc32c(uint32_t crc, const void *data, size_t len)
{
    /* cpu_supports reads a word that start-up code has filled: no cost worth caching. */
    if (__builtin_cpu_supports("sse4.2"))
        return crc_instruction(crc, data, len);
    return mr_crc32c_portable(crc, data, len);
}
#else
uint32_t mr_crc32c(uint32_t crc, const void *data, size_t len)
{
    return mr_crc32c_portable(crc, data, len);
}
#endif
