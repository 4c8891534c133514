/* Code leaves: what of an expression no predicate can say, run by the CEL evaluator over the
 * document in place. One that fails costs only itself: what it may cost is bounded, and who fails
 * again and again is not asked any more. */
#include <stdlib.h>

#include "cel/cel.h"
#include "cel/regex.h"
#include "matcher/engine/index.h"

enum {
    ARENA_OWN_BYTES = 1 << 16,
    ARENA_BYTES_MAX = 1 << 22,
    CODE_STEPS = 16, /* what an evaluation costs beside its own steps */
};

struct mr_code {
    struct mr_cel_program program;
    bool loaded;
    uint32_t strikes; /* budgets exhausted */
    uint32_t errors;  /* in a row, but for missing fields */
    mr_ref previous, next;
};

struct mr_code_runner {
    struct mr_cel_arena arena;
    struct mr_cel_regex_cache *regex; /* of patterns that come from documents */
    _Alignas(16) uint8_t own[ARENA_OWN_BYTES];
};

struct mr_code_runner *mr_code_runner_create(void)
{
    static const struct mr_cel_regex_limits limits = MR_CEL_REGEX_LIMITS_DEFAULT;
    struct mr_code_runner *runner = malloc(sizeof *runner);
    if (!runner)
        return NULL;
    if (mr_cel_regex_cache_create(&limits, &runner->regex) != MR_CEL_REGEX_OK) {
        free(runner);
        return NULL;
    }
    mr_cel_arena_init(&runner->arena, runner->own, sizeof runner->own, ARENA_BYTES_MAX);
    return runner;
}

void mr_code_runner_destroy(struct mr_code_runner *runner)
{
    if (!runner)
        return;
    mr_cel_regex_cache_destroy(&runner->regex);
    mr_cel_arena_fini(&runner->arena);
    free(runner);
}

static struct mr_code *code_at(const struct mr_engine *engine, mr_ref leaf)
{
    return ((const struct mr_leaf *)mr_at(engine, leaf))->code;
}

bool mr_code_load(struct mr_engine *engine, struct mr_leaf *leaf)
{
    struct mr_str bytes = mr_leaf_text(leaf);
    struct mr_code *code = calloc(1, sizeof *code);
    if (!code)
        return false;
    mr_ref ref = mr_heap_ref(&engine->heap, leaf);
    code->loaded = bytes.len > sizeof leaf->text &&
                   mr_cel_load(bytes.data, bytes.len, &code->program, NULL) == MR_OK &&
                   mr_cel_program_variable_count(&code->program) == 1;
    leaf->resting = !code->loaded;
    engine->stats.quarantined += leaf->resting;
    code->next = engine->code_leaves;
    if (code->next)
        code_at(engine, code->next)->previous = ref;
    engine->code_leaves = ref;
    leaf->code = code;
    return true;
}

mr_ref mr_code_next(const struct mr_leaf *leaf)
{
    return leaf->code->next;
}

void mr_code_unload(struct mr_engine *engine, struct mr_leaf *leaf)
{
    struct mr_code *code = leaf->code;
    if (code->previous)
        code_at(engine, code->previous)->next = code->next;
    else
        engine->code_leaves = code->next;
    if (code->next)
        code_at(engine, code->next)->previous = code->previous;
    if (code->loaded)
        mr_cel_unload(&code->program);
    engine->stats.quarantined -= leaf->resting;
    free(code);
}

/* What a document lacks or has wrong is not the filter's fault. */
static bool is_documents_fault(enum mr_cel_code code)
{
    return code == MR_CEL_E_NO_SUCH_KEY || code == MR_CEL_E_NO_SUCH_FIELD ||
           code == MR_CEL_E_INDEX || code == MR_CEL_E_BAD_DOCUMENT;
}

/* An evaluation gave no bool. */
static void note_failure(struct mr_engine *engine, struct mr_leaf *leaf, struct mr_cel_val value)
{
    struct mr_code *code = leaf->code;
    engine->stats.code_errors++;
    if (mr_cel_is_fatal(value))
        code->strikes++;
    else if (value.kind != MR_CEL_ERROR || !is_documents_fault((enum mr_cel_code)value.aux))
        code->errors++;
    if (code->strikes < MR_ENGINE_STRIKES_MAX && code->errors < MR_ENGINE_ERRORS_MAX)
        return;
    leaf->resting = true;
    engine->stats.quarantined++;
}

bool mr_code_holds(struct mr_engine *engine, struct mr_leaf *leaf)
{
    static const uint8_t empty[5] = {5, 0, 0, 0, 0};
    struct mr_str document = engine->document;
    if (document.len == 0)
        document = (struct mr_str){(const char *)empty, sizeof empty};
    if (leaf->resting) {
        engine->rested = true;
        engine->rested_budget = leaf->code->strikes >= MR_ENGINE_STRIKES_MAX;
        return false;
    }
    struct mr_cel_val variable = mr_cel_document(document.data, (uint32_t)document.len);
    struct mr_cel_run run = {.variables = &variable,
                             .variable_count = 1,
                             .arena = &engine->runner->arena,
                             .regex = engine->runner->regex,
                             .steps_max = MR_ENGINE_STEPS_MAX};
    struct mr_cel_val value = mr_cel_eval(&leaf->code->program, &run);
    engine->stats.code_runs++;
    engine->work += run.steps_used + CODE_STEPS;
    if (value.kind == MR_CEL_BOOL)
        leaf->code->errors = 0;
    else
        note_failure(engine, leaf, value);
    mr_cel_arena_reset(&engine->runner->arena);
    return value.kind == MR_CEL_BOOL && value.boolean;
}
