/* Why an event does or does not match a subscription: its program as a tree, with what each part
 * gave. */
#include <inttypes.h>

#include "proto/json.h"
#include "tools/match.h"

struct explained {
    FILE *out;
    const struct mr_program *program;
    struct mr_engine_event event;
    struct mr_program_code *code;
    bool named; /* the event is of the subscription's collection */
};

static void put_const(FILE *out, const struct mr_const *value)
{
    struct mr_json json = {0};
    switch (value->kind) {
    case MR_CONST_NULL:
        fputs("null", out);
        break;
    case MR_CONST_BOOL:
        fputs(value->boolean ? "true" : "false", out);
        break;
    case MR_CONST_INT:
        fprintf(out, "%" PRId64, value->integer);
        break;
    case MR_CONST_DATE:
        fprintf(out, "date %" PRId64 " ms", value->integer);
        break;
    case MR_CONST_DOUBLE:
        mr_json_put_double(&json, value->number);
        break;
    case MR_CONST_STRING:
        mr_json_put_string(&json, value->string);
        break;
    case MR_CONST_LIST:
        break;
    }
    if (json.data && !json.failed)
        fwrite(json.data, 1, json.len, out);
    mr_json_fini(&json);
}

/* What the document has there, as JSON. */
static void put_found(const struct explained *e, const struct mr_predicate *p)
{
    struct mr_bson_value value;
    struct mr_bson_writer w;
    struct mr_json json = {0};
    if (!p->cel && mr_str_equal(p->path, MR_STR("_id"))) {
        fprintf(e->out, "the document's id is \"%.*s\"", (int)e->event.document_id.len,
                e->event.document_id.data);
        return;
    }
    if (!mr_bson_find(e->event.document.data, e->event.document.len, p->path, &value)) {
        fputs("not there", e->out);
        return;
    }
    mr_bson_writer_init(&w);
    mr_bson_begin(&w);
    mr_bson_put_value(&w, MR_STR("v"), &value);
    mr_bson_end(&w);
    /* {"v":VALUE} */
    if (mr_json_put_document(&json, mr_bson_bytes(&w)) == MR_OK && json.len > 6)
        fprintf(e->out, "it is %.*s", (int)(json.len > 106 ? 100 : json.len - 6), json.data + 5);
    mr_json_fini(&json);
    mr_bson_writer_fini(&w);
}

static bool explain_leaf(const struct explained *e, uint32_t index, int depth)
{
    struct mr_predicate p;
    mr_program_predicate(e->program, index, &p);
    bool holds = mr_program_leaf_holds(e->program, index, e->event.document.data,
                                       e->event.document.len, e->event.document_id, e->code);
    fprintf(e->out, "%*s%-5s  ", depth * 2, "", holds ? "true" : "false");
    if (p.op == MR_PRED_CODE) {
        fprintf(e->out, "code of %zu bytes (millrace cel --explain shows its inside)\n",
                p.value.string.len);
        return holds;
    }
    fprintf(e->out, "%.*s %s", (int)p.path.len, p.path.data, mr_predicate_op_name(p.op));
    if (p.value.kind == MR_CONST_LIST) {
        fputs(" [", e->out);
        for (uint32_t i = 0; i < p.value.list.count; i++) {
            struct mr_const item;
            mr_program_list_item(e->program, index, i, &item);
            fputs(i ? ", " : "", e->out);
            put_const(e->out, &item);
        }
        fputs("]", e->out);
    } else if (p.op < MR_PRED_EXISTS) {
        fputs(" ", e->out);
        put_const(e->out, &p.value);
    }
    fputs("   (", e->out);
    put_found(e, &p);
    fputs(")\n", e->out);
    return holds;
}

static bool term_holds(const struct explained *e, uint32_t *at)
{
    uint16_t token = mr_program_token(e->program, (*at)++);
    uint32_t count = token & ~(uint32_t)MR_TOKEN_KIND;
    if ((token & MR_TOKEN_KIND) == 0)
        return mr_program_leaf_holds(e->program, count, e->event.document.data,
                                     e->event.document.len, e->event.document_id, e->code);
    bool is_and = (token & MR_TOKEN_KIND) == MR_TOKEN_AND, result = is_and;
    for (uint32_t i = 0; i < count; i++) {
        bool holds = term_holds(e, at);
        result = is_and ? result && holds : result || holds;
    }
    return result;
}

static void explain_term(const struct explained *e, uint32_t *at, int depth)
{
    uint32_t start = *at;
    uint16_t token = mr_program_token(e->program, (*at)++);
    uint32_t count = token & ~(uint32_t)MR_TOKEN_KIND;
    if ((token & MR_TOKEN_KIND) == 0) {
        (void)explain_leaf(e, count, depth);
        return;
    }
    bool is_and = (token & MR_TOKEN_KIND) == MR_TOKEN_AND;
    bool holds = term_holds(e, &start);
    fprintf(e->out, "%*s%-5s  %s\n", depth * 2, "", holds ? "true" : "false",
            count == 0 ? (is_and ? "always" : "never")
            : is_and   ? "all of"
                       : "any of");
    for (uint32_t i = 0; i < count; i++)
        explain_term(e, at, depth + 1);
}

static bool explain_name(const struct explained *e, const char *what, struct mr_str wanted,
                         struct mr_str name)
{
    bool holds = mr_str_equal(wanted, MR_STR("*")) || mr_str_equal(wanted, name);
    fprintf(e->out, "%-5s  %s is \"%.*s\"   (it is \"%.*s\")\n", holds ? "true" : "false", what,
            (int)wanted.len, wanted.len ? wanted.data : "", (int)name.len,
            name.len ? name.data : "");
    return holds;
}

enum mr_rc mr_match_explain(FILE *out, const struct mr_match_sub *sub,
                            const struct mr_match_event *event, struct mr_err *err)
{
    struct mr_program program;
    struct explained e = {.out = out, .program = &program, .event = mr_match_event_view(event)};
    if (mr_program_load(sub->program, sub->len, &program) != MR_OK)
        return mr_reject(err, MR_CORRUPT, "subscription %s: no program", sub->id);
    enum mr_rc rc = mr_program_code_create(&e.code, err);
    if (rc != MR_OK)
        return rc;
    bool names = explain_name(&e, "database", program.database, e.event.database);
    names &= explain_name(&e, "collection", program.collection, e.event.collection);
    uint32_t at = 0, from = 0;
    if (e.event.everyone)
        fputs("true   the event concerns everyone in its collection\n", out);
    else
        explain_term(&e, &at, 0);
    bool matches = names && (e.event.everyone || term_holds(&e, &from));
    fprintf(out, "%s\n", matches ? "match" : "no match");
    mr_program_code_destroy(&e.code);
    return MR_OK;
}
