/* tests/unit/keep_case.h: broken input, kept for the tests from outside, which show it to the real
 * processes (tests/integration/test_errors_*.py). */
#ifndef MR_TESTS_UNIT_KEEP_CASE_H
#define MR_TESTS_UNIT_KEEP_CASE_H
#include <stdio.h>
#include <stdlib.h>

/* Write it to the file KIND-INDEX in the directory that MILLRACE_TEST_KEEP names, if there is one.
 */
static inline void keep_case(const char *kind, size_t index, const char *bytes, size_t len)
{
    char path[512];
    const char *directory = getenv("MILLRACE_TEST_KEEP");
    if (!directory)
        return;
    snprintf(path, sizeof path, "%s/%s-%03zu", directory, kind, index);
    FILE *out = fopen(path, "w");
    if (!out || fwrite(bytes, 1, len, out) != len || fclose(out) != 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
}
#endif
