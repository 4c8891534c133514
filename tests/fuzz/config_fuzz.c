/* Any bytes as a configuration file: read it or refuse it with a text, never crash; and what was
 * read comes back the same through the flat form. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "supervisor/config_source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mr_config config, again;
    static int file = -1, flat = -1;
    struct mr_err err = {0};
    char path[64];
    if (file < 0) {
        file = memfd_create("config", MFD_CLOEXEC);
        flat = memfd_create("flat", MFD_CLOEXEC);
    }
    if (ftruncate(file, 0) || pwrite(file, data, size, 0) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    mr_config_init(&config);
    if (mr_config_file_read(path, &config, &err) != MR_OK) {
        MR_ASSERT(err.text[0]);
        return 0;
    }
    if (ftruncate(flat, 0) || lseek(flat, 0, SEEK_SET))
        abort();
    MR_ASSERT(mr_config_write_flat(&config, flat, &err) == MR_OK);
    MR_ASSERT(mr_config_read_flat(&again, flat, &err) == MR_OK);
    MR_ASSERT(memcmp(&config, &again, sizeof config) == 0);
    return 0;
}
