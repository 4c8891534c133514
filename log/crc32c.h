/* log/crc32c.h: CRC32C (Castagnoli, RFC 3720), by the processor's instructions where there are any.
 */
#ifndef MR_LOG_CRC32C_H
#define MR_LOG_CRC32C_H
#include <stddef.h>
#include <stdint.h>

/* Checksum of data; start with crc 0, or with an earlier result to continue it. Any thread. */
uint32_t mr_crc32c(uint32_t crc, const void *data, size_t len);

/* The same without the instruction: what other processors run, and what tests compare with. */
uint32_t mr_crc32c_portable(uint32_t crc, const void *data, size_t len);
#endif
