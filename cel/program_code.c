#include <stdlib.h>

#include "cel/cel.h"
#include "cel/program.h"
#include "cel/regex.h"

enum { ARENA_BYTES_MAX = 4 << 20 };

struct mr_program_code {
    struct mr_cel_arena arena;
    struct mr_cel_regex_cache *regex; /* of patterns that come from documents */
};

enum mr_rc mr_program_code_create(struct mr_program_code **out, struct mr_err *err)
{
    static const struct mr_cel_regex_limits limits = MR_CEL_REGEX_LIMITS_DEFAULT;
    struct mr_program_code *code = calloc(1, sizeof *code);
    bool ready = code && mr_cel_regex_cache_create(&limits, &code->regex) == MR_CEL_REGEX_OK;
    if (!ready) {
        free(code);
        return mr_fail(err, MR_FATAL, "create an evaluator");
    }
    mr_cel_arena_init(&code->arena, NULL, 0, ARENA_BYTES_MAX);
    *out = code;
    return MR_OK;
}

void mr_program_code_destroy(struct mr_program_code **code)
{
    if (!*code)
        return;
    mr_cel_arena_fini(&(*code)->arena);
    mr_cel_regex_cache_destroy(&(*code)->regex);
    free(*code);
    *code = NULL;
}

bool mr_program_code_holds(struct mr_program_code *code, struct mr_str program,
                           const void *document, size_t document_len)
{
    static const uint8_t empty[5] = {5, 0, 0, 0, 0};
    struct mr_cel_program loaded;
    bool result = false;
    void *aligned = malloc(program.len); /* a program's bytes may lie anywhere */
    if (!aligned)
        return false;
    memcpy(aligned, program.data, program.len);
    struct mr_cel_val variable = document_len > 0
                                     ? mr_cel_document(document, (uint32_t)document_len)
                                     : mr_cel_document(empty, sizeof empty);
    struct mr_cel_run run = {
        .variables = &variable, .variable_count = 1, .arena = &code->arena, .regex = code->regex};
    if (mr_cel_load(aligned, program.len, &loaded, NULL) == MR_OK) {
        if (mr_cel_program_variable_count(&loaded) == 1) {
            struct mr_cel_val value = mr_cel_eval(&loaded, &run);
            result = value.kind == MR_CEL_BOOL && value.boolean;
        }
        mr_cel_unload(&loaded);
    }
    mr_cel_arena_reset(&code->arena);
    free(aligned);
    return result;
}
