/* Any bytes as a program: load refuses or gives something that can be read and evaluated, and that
 * is what build would make of it again. */
#include <stdint.h>
#include <stdlib.h>

#include "cel/program.h"

static struct mr_str document(struct mr_bson_writer *w)
{
    mr_bson_writer_init(w);
    mr_bson_begin(w);
    mr_bson_put_string(w, MR_STR("a"), MR_STR("x"));
    mr_bson_put_int32(w, MR_STR("b"), 5);
    mr_bson_put_double(w, MR_STR("c"), 0.5);
    mr_bson_begin_array(w, MR_STR("d"));
    mr_bson_put_bool(w, MR_STR("0"), true);
    mr_bson_put_null(w, MR_STR("1"));
    mr_bson_end(w);
    mr_bson_end(w);
    return mr_bson_bytes(w);
}

static void rebuild(const struct mr_program *program)
{
    struct mr_predicate *predicates = calloc(program->conjunct_count + 1u, sizeof *predicates);
    MR_ASSERT(predicates);
    for (uint32_t i = 0; i < program->conjunct_count; i++) {
        mr_program_predicate(program, i, &predicates[i]);
        if (predicates[i].value.kind != MR_CONST_LIST)
            continue;
        uint32_t count = predicates[i].value.list.count;
        struct mr_const *items = calloc(count + 1u, sizeof *items);
        MR_ASSERT(items);
        for (uint32_t item = 0; item < count; item++)
            mr_program_list_item(program, i, item, &items[item]);
        predicates[i].value.list.items = items;
    }
    void *bytes;
    uint32_t len;
    MR_ASSERT(mr_program_build(program->database, program->collection, predicates,
                               program->conjunct_count, &bytes, &len, NULL) == MR_OK);
    MR_ASSERT(len == program->len && memcmp(bytes, program->bytes, len) == 0);
    free(bytes);
    for (uint32_t i = 0; i < program->conjunct_count; i++)
        if (predicates[i].value.kind == MR_CONST_LIST)
            free((void *)(uintptr_t)predicates[i].value.list.items);
    free(predicates);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mr_bson_writer w;
    static struct mr_str doc;
    if (!doc.data)
        doc = document(&w);
    struct mr_program program;
    if (mr_program_load(data, size, &program) != MR_OK)
        return 0;
    (void)mr_program_matches(&program, doc.data, doc.len, MR_STR("id"));
    (void)mr_program_matches(&program, NULL, 0, MR_STR(""));
    rebuild(&program);
    return 0;
}
