/* Runs a fuzz target once over each file of a directory: what libFuzzer has found stays found, with
 * any compiler and under any sanitizer. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES_MAX = 1 << 20 };

/* The input is given in a block of its own size, so that a read behind it is seen. */
static int run(const char *dir, const char *name, uint8_t *buffer)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    size_t size = fread(buffer, 1, INPUT_BYTES_MAX, file);
    fclose(file);
    uint8_t *exact = malloc(size > 0 ? size : 1);
    if (!exact) {
        fprintf(stderr, "%s: no memory\n", path);
        return 1;
    }
    memcpy(exact, buffer, size);
    printf("%s: %zu bytes\n", name, size);
    fflush(stdout); /* so that the last line names the input that ended it */
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 0;
}

int main(int argc, char **argv)
{
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    uint8_t *buffer = malloc(INPUT_BYTES_MAX);
    if (!dir || !buffer) {
        fprintf(stderr, "usage: %s CORPUS_DIRECTORY (must exist)\n", argv[0]);
        return 2;
    }
    int status = 0, count = 0;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.') {
            status |= run(argv[1], entry->d_name, buffer);
            count++;
        }
    closedir(dir);
    free(buffer);
    if (count == 0)
        fprintf(stderr, "%s: empty\n", argv[1]);
    return count == 0 ? 1 : status;
}
