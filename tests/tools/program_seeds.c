/* program-seeds DIRECTORY: the seeds of the fuzz target "program", in the present format: one
 * program of each kind of predicate, combination and code. Run it when the format has changed. */
#include <stdio.h>
#include <stdlib.h>

#include "cel/normalise.h"

static const char *const expressions[] = {
    "",
    "true",
    "false",
    "doc.a == \"x\"",
    "doc.a != null",
    "doc.b > 4 && doc.b <= 9.5",
    "doc.a == \"x\" || doc.c == 0.5 && doc.b in [1, 5, 7]",
    "!(doc.a in [\"x\", null, true, 2, 2.5]) && has(doc.d)",
    "doc.a.startsWith(\"x\") && true in doc.d && !has(doc.e.f)",
    "doc.at > timestamp(\"2024-01-01T00:00:00Z\")",
    "doc.b + 1 == 6",
    "doc.a.matches(\"^x+$\") || doc.d.exists(e, e == null) || (doc.b > 3 ? doc.c < 1.0 : doc.b < "
    "1)",
    "doc[\"a longer name than eight\"].b == \"a longer text than eight\"",
};

static int fail(const char *what)
{
    fprintf(stderr, "program-seeds: %s\n", what);
    return 1;
}

int main(int argc, char **argv)
{
    struct mr_program_compiler *compiler;
    struct mr_err err = {.rc = MR_OK};
    if (argc != 2)
        return fail("usage: program-seeds DIRECTORY");
    if (mr_program_compiler_create(&compiler, &err) != MR_OK)
        return fail(err.text);
    for (size_t i = 0; i < sizeof expressions / sizeof *expressions; i++) {
        const struct mr_program_source source = {.database = MR_STR("db"),
                                                 .collection = MR_STR("c"),
                                                 .cel = mr_str_from(expressions[i])};
        char path[4096];
        void *program;
        uint32_t len;
        if (mr_program_compile(compiler, &source, &program, &len, &err) != MR_OK)
            return fail(err.text);
        snprintf(path, sizeof path, "%s/%02zu", argv[1], i);
        FILE *out = fopen(path, "wb");
        if (!out || fwrite(program, 1, len, out) != len || fclose(out) != 0)
            return fail("cannot write");
        free(program);
    }
    mr_program_compiler_destroy(&compiler);
    return 0;
}
