/* Any bytes as a program: refused, or evaluated within its limits whatever they say. */
#include <stdint.h>
#include <stdlib.h>

#include "cel/cel.h"

enum { ARENA_BYTES = 1 << 18 };

static struct mr_str document(struct mr_bson_writer *w)
{
    mr_bson_writer_init(w);
    mr_bson_begin(w);
    mr_bson_put_string(w, MR_STR("a"), MR_STR("x"));
    mr_bson_put_int32(w, MR_STR("b"), 5);
    mr_bson_begin_array(w, MR_STR("c"));
    mr_bson_put_double(w, MR_STR("0"), 0.5);
    mr_bson_put_null(w, MR_STR("1"));
    mr_bson_end(w);
    mr_bson_end(w);
    return mr_bson_bytes(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mr_bson_writer w;
    static struct mr_str doc;
    static _Alignas(8) uint8_t bytes[ARENA_BYTES];
    if (!doc.data)
        doc = document(&w);
    if (size == 0)
        return 0;
    void *copy = malloc(size); /* aligned as a program is */
    MR_ASSERT(copy);
    memcpy(copy, data, size);
    if (size >=
        8) { /* a build of another version wrote the corpus: what is behind is of interest */
        uint32_t version = mr_cel_program_version();
        memcpy((char *)copy + 4, &version, sizeof version);
    }
    struct mr_cel_program program;
    if (mr_cel_load(copy, size, &program, NULL) == MR_OK) {
        struct mr_cel_arena arena;
        mr_cel_arena_init(&arena, bytes, sizeof bytes, sizeof bytes);
        const struct mr_cel_val variables[2] = {mr_cel_document(doc.data, (uint32_t)doc.len),
                                                {.kind = MR_CEL_UNKNOWN, .bits = 2}};
        struct mr_cel_run run = {
            .variables = variables, .variable_count = 2, .arena = &arena, .steps_max = 20000};
        struct mr_cel_val value = mr_cel_eval(&program, &run);
        uint32_t line, column;
        if (value.kind == MR_CEL_ERROR)
            (void)mr_cel_program_place(&program, value, &line, &column);
        (void)mr_cel_value_text(value, &arena);
        mr_cel_arena_reset(&arena);
        (void)mr_cel_disassemble(&program, &arena);
        mr_cel_unload(&program);
    }
    free(copy);
    return 0;
}
