/* Any bytes as a program: load refuses or gives something that can be read and evaluated, and of
 * which build makes a program that means the same. */
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

/* The term of a loaded program, in memory that grows only. */
struct terms {
    struct mr_term *terms;
    const struct mr_term **children;
    struct mr_const **items;
    uint32_t count, child_count, item_count;
};

static struct mr_predicate predicate(const struct mr_program *program, uint32_t index,
                                     struct terms *t)
{
    struct mr_predicate p;
    mr_program_predicate(program, index, &p);
    if (p.value.kind != MR_CONST_LIST)
        return p;
    uint32_t count = p.value.list.count;
    struct mr_const *items = calloc(count + 1u, sizeof *items);
    MR_ASSERT(items);
    t->items[t->item_count++] = items;
    for (uint32_t item = 0; item < count; item++)
        mr_program_list_item(program, index, item, &items[item]);
    p.value.list.items = items;
    return p;
}

static const struct mr_term *term_of(const struct mr_program *program, uint32_t *at,
                                     struct terms *t)
{
    struct mr_term *term = &t->terms[t->count++];
    uint16_t token = mr_program_token(program, (*at)++);
    uint32_t count = token & ~(uint32_t)MR_TOKEN_KIND;
    if ((token & MR_TOKEN_KIND) == 0) {
        *term = (struct mr_term){.kind = MR_TERM_LEAF, .leaf = predicate(program, count, t)};
        return term;
    }
    bool is_and = (token & MR_TOKEN_KIND) == MR_TOKEN_AND;
    const struct mr_term **children = t->children + t->child_count;
    t->child_count += count;
    *term = (struct mr_term){
        .kind = is_and ? MR_TERM_AND : MR_TERM_OR, .count = count, .children = children};
    for (uint32_t i = 0; i < count; i++)
        children[i] = term_of(program, at, t);
    return term;
}

/* What build makes of a program means the same. */
static void rebuild(const struct mr_program *program, struct mr_str doc)
{
    uint32_t tokens = program->token_count, at = 0, len = 0;
    struct terms t = {.terms = calloc(tokens, sizeof *t.terms),
                      .children = calloc(tokens, sizeof *t.children),
                      .items = calloc(tokens, sizeof *t.items)};
    MR_ASSERT(t.terms && t.children && t.items);
    const struct mr_term *term = term_of(program, &at, &t);
    void *bytes = NULL;
    struct mr_program again;
    if (mr_program_build_term(program->database, program->collection, term, &bytes, &len, NULL) ==
        MR_OK) { /* the loader is no stricter about repeats of a leaf */
        MR_ASSERT(mr_program_load(bytes, len, &again) == MR_OK);
        MR_ASSERT(mr_program_matches(&again, doc.data, doc.len, MR_STR("id"), NULL) ==
                  mr_program_matches(program, doc.data, doc.len, MR_STR("id"), NULL));
    }
    free(bytes);
    for (uint32_t i = 0; i < t.item_count; i++)
        free(t.items[i]);
    free(t.items);
    free(t.children);
    free(t.terms);
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
    (void)mr_program_matches(&program, NULL, 0, MR_STR(""), NULL);
    rebuild(&program, doc);
    return 0;
}
