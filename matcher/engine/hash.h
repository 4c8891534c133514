/* matcher/engine/hash.h: the hash behind the engine's tables. Seeded for each engine, because users
 * choose what is hashed. Never stored and never sent. */
#ifndef MR_MATCHER_ENGINE_HASH_H
#define MR_MATCHER_ENGINE_HASH_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t mr_hash_mix(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product =
        (unsigned __int128)(a ^ UINT64_C(0x9e3779b97f4a7c15)) * (b ^ UINT64_C(0xd6e8feb86659fd93));
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t mr_hash_bytes(uint64_t seed, const void *data, size_t len)
{
    const uint8_t *at = data;
    uint64_t hash = seed ^ len, words[2];
    for (; len > 16; at += 16, len -= 16) {
        memcpy(words, at, sizeof words);
        hash = mr_hash_mix(words[0] ^ hash, words[1]);
    }
    words[0] = words[1] = 0;
    if (len >= 8) { /* two loads that may overlap take 8 to 16 bytes without a branch a byte */
        memcpy(&words[0], at, 8);
        memcpy(&words[1], at + len - 8, 8);
    } else if (len >= 4) {
        memcpy(&words[0], at, 4);
        memcpy(&words[1], at + len - 4, 4);
    } else if (len > 0) {
        words[0] = (uint64_t)at[0] << 16 | (uint64_t)at[len / 2] << 8 | at[len - 1];
    }
    return mr_hash_mix(words[0] ^ hash, words[1] ^ seed);
}
#endif
