#include "tools/cel_case.h"

#include <stdlib.h>

#include "tools/cel_value.h"

static bool take_text(const struct mr_bson_value *value, struct mr_str *out)
{
    if (value->type == MR_BSON_STRING)
        *out = mr_bson_string(value);
    return value->type == MR_BSON_STRING;
}

static bool take_flag(const struct mr_bson_value *value, bool *out)
{
    *out = value->type == MR_BSON_BOOL && mr_bson_bool(value);
    return value->type == MR_BSON_BOOL;
}

static bool take_of_type(const struct mr_bson_value *value, uint8_t type, struct mr_bson_value *out)
{
    *out = *value;
    return value->type == type;
}

/* False: the member is not what it must be. Members of other names are let pass. */
static bool take_member(struct mr_cel_case *out, const struct mr_bson_element *element)
{
    struct mr_str key = element->key;
    const struct mr_bson_value *value = &element->value;
    if (mr_str_equal(key, MR_STR("id")))
        return take_text(value, &out->id);
    if (mr_str_equal(key, MR_STR("expr")))
        return take_text(value, &out->expr);
    if (mr_str_equal(key, MR_STR("container")))
        return take_text(value, &out->container);
    if (mr_str_equal(key, MR_STR("disable_check")))
        return take_flag(value, &out->disable_check);
    if (mr_str_equal(key, MR_STR("disable_macros")))
        return take_flag(value, &out->disable_macros);
    if (mr_str_equal(key, MR_STR("type_env")))
        return take_of_type(value, MR_BSON_ARRAY, &out->type_env);
    if (mr_str_equal(key, MR_STR("bindings")))
        return take_of_type(value, MR_BSON_DOCUMENT, &out->bindings);
    if (mr_str_equal(key, MR_STR("doc")))
        out->doc = *value;
    return true;
}

enum mr_rc mr_cel_case_read(struct mr_str bson, struct mr_cel_case *out, struct mr_err *err)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    enum mr_rc result = MR_OK;
    *out = (struct mr_cel_case){0};
    if (mr_bson_iter_init(&iter, bson.data, bson.len) != MR_OK)
        return mr_reject(err, MR_USAGE, "a case is no object");
    while (mr_bson_iter_next(&iter, &element) == MR_OK)
        if (!take_member(out, &element))
            result = mr_reject(err, MR_USAGE, "\"%.*s\" has a value of a wrong type",
                               (int)element.key.len, element.key.data);
    if (result == MR_OK && !out->expr.data)
        return mr_reject(err, MR_USAGE, "\"expr\" is missing");
    return result;
}

struct mr_cel_bench {
    struct mr_cel_env *env; /* NULL: none yet */
    uint8_t *key;           /* what env was made from */
    size_t key_len, key_size;
    uint8_t *wanted; /* the same of the case at hand */
    size_t wanted_len, wanted_size;
};

enum mr_rc mr_cel_bench_create(struct mr_cel_bench **out, struct mr_err *err)
{
    *out = calloc(1, sizeof **out);
    return *out ? MR_OK : mr_fail(err, MR_FATAL, "allocate a bench");
}

void mr_cel_bench_destroy(struct mr_cel_bench **bench)
{
    if (*bench) {
        mr_cel_env_destroy(&(*bench)->env);
        free((*bench)->key);
        free((*bench)->wanted);
    }
    free(*bench);
    *bench = NULL;
}

static bool add_to_key(struct mr_cel_bench *b, const void *bytes, size_t len)
{
    if (b->wanted_size - b->wanted_len < len + sizeof len) {
        size_t size = 2 * (b->wanted_len + len + sizeof len);
        uint8_t *grown = realloc(b->wanted, size);
        if (!grown)
            return false;
        b->wanted = grown;
        b->wanted_size = size;
    }
    memcpy(b->wanted + b->wanted_len, &len, sizeof len);
    b->wanted_len += sizeof len;
    if (len > 0)
        memcpy(b->wanted + b->wanted_len, bytes, len);
    b->wanted_len += len;
    return true;
}

/* All that the environment of a case depends on. */
static enum mr_rc make_key(struct mr_cel_bench *b, const struct mr_cel_case *c, struct mr_err *err)
{
    b->wanted_len = 0;
    bool ok = add_to_key(b, c->container.data, c->container.len) &&
              add_to_key(b, c->type_env.data, c->type_env.len);
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    if (c->bindings.type != 0 &&
        mr_bson_iter_init(&iter, c->bindings.data, c->bindings.len) == MR_OK)
        while (ok && mr_bson_iter_next(&iter, &element) == MR_OK)
            ok = add_to_key(b, element.key.data, element.key.len);
    return ok ? MR_OK : mr_fail(err, MR_FATAL, "allocate an environment's key");
}

static struct mr_str member_text(const struct mr_bson_value *object, struct mr_str name)
{
    struct mr_bson_value value;
    bool there = object->type == MR_BSON_DOCUMENT &&
                 mr_bson_find(object->data, object->len, name, &value) &&
                 value.type == MR_BSON_STRING;
    return there ? mr_bson_string(&value) : (struct mr_str){NULL, 0};
}

/* {"id":.., "args":[..], "result":.., "member":true} */
static enum mr_rc add_overload(struct mr_cel_env *env, struct mr_str name,
                               const struct mr_bson_value *overload, struct mr_err *err)
{
    enum { ARGUMENTS_MAX = 64 };
    struct mr_str arguments[ARGUMENTS_MAX];
    struct mr_cel_signature signature = {
        .name = name,
        .id = member_text(overload, MR_STR("id")),
        .result = member_text(overload, MR_STR("result")),
        .arguments = arguments,
    };
    struct mr_bson_value args, member;
    if (overload->type != MR_BSON_DOCUMENT)
        return mr_reject(err, MR_USAGE, "an overload of %.*s is no object", (int)name.len,
                         name.data);
    signature.member = mr_bson_find(overload->data, overload->len, MR_STR("member"), &member) &&
                       member.type == MR_BSON_BOOL && mr_bson_bool(&member);
    if (mr_bson_find(overload->data, overload->len, MR_STR("args"), &args) &&
        args.type == MR_BSON_ARRAY) {
        struct mr_bson_iter iter;
        struct mr_bson_element element;
        enum mr_rc rc = mr_bson_iter_init(&iter, args.data, args.len);
        while (rc == MR_OK && signature.argument_count < ARGUMENTS_MAX &&
               mr_bson_iter_next(&iter, &element) == MR_OK)
            if (!take_text(&element.value, &arguments[signature.argument_count++]))
                return mr_reject(err, MR_USAGE, "an argument of %.*s is no text", (int)name.len,
                                 name.data);
    }
    return mr_cel_env_add_function(env, &signature, err);
}

static enum mr_rc add_declaration(struct mr_cel_env *env, const struct mr_bson_value *declaration,
                                  struct mr_err *err)
{
    struct mr_str name = member_text(declaration, MR_STR("name"));
    struct mr_bson_value overloads;
    if (name.len == 0)
        return mr_reject(err, MR_USAGE, "a declaration has no name");
    if (!mr_bson_find(declaration->data, declaration->len, MR_STR("overloads"), &overloads))
        return mr_cel_env_add_variable(env, name, member_text(declaration, MR_STR("type")), err);
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    enum mr_rc rc = overloads.type == MR_BSON_ARRAY
                        ? mr_bson_iter_init(&iter, overloads.data, overloads.len)
                        : mr_reject(err, MR_USAGE, "\"overloads\" is no list");
    while (rc == MR_OK && mr_bson_iter_next(&iter, &element) == MR_OK)
        rc = add_overload(env, name, &element.value, err);
    return rc;
}

static bool is_declared(const struct mr_cel_env *env, struct mr_str name)
{
    for (uint32_t i = 0; i < mr_cel_env_variable_count(env); i++)
        if (mr_str_equal(mr_cel_env_variable_name(env, i), name))
            return true;
    return false;
}

static enum mr_rc declare_dyn(struct mr_cel_env *env, struct mr_str name, struct mr_err *err)
{
    return is_declared(env, name) ? MR_OK : mr_cel_env_add_variable(env, name, MR_STR("dyn"), err);
}

static enum mr_rc fill_env(struct mr_cel_env *env, const struct mr_cel_case *c, struct mr_err *err)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    enum mr_rc rc = mr_cel_env_set_container(env, c->container, err);
    if (rc == MR_OK && c->type_env.type != 0) {
        rc = mr_bson_iter_init(&iter, c->type_env.data, c->type_env.len);
        while (rc == MR_OK && mr_bson_iter_next(&iter, &element) == MR_OK)
            rc = add_declaration(env, &element.value, err);
    }
    if (rc == MR_OK && c->bindings.type != 0) {
        rc = mr_bson_iter_init(&iter, c->bindings.data, c->bindings.len);
        while (rc == MR_OK && mr_bson_iter_next(&iter, &element) == MR_OK)
            rc = declare_dyn(env, element.key, err);
    }
    return rc == MR_OK ? declare_dyn(env, MR_STR("doc"), err) : rc;
}

enum mr_rc mr_cel_bench_env(struct mr_cel_bench *b, const struct mr_cel_case *c,
                            const struct mr_cel_env **out, struct mr_err *err)
{
    enum mr_rc rc = make_key(b, c, err);
    if (rc != MR_OK)
        return rc;
    if (!b->env || b->key_len != b->wanted_len || memcmp(b->key, b->wanted, b->key_len) != 0) {
        mr_cel_env_destroy(&b->env);
        rc = mr_cel_env_create(MR_CEL_LIBRARIES_DEFAULT | MR_CEL_LIBRARY(BLOCK), &b->env, err);
        if (rc == MR_OK)
            rc = fill_env(b->env, c, err);
        if (rc != MR_OK) {
            mr_cel_env_destroy(&b->env);
            return rc;
        }
        uint8_t *old = b->key;
        size_t old_size = b->key_size;
        b->key = b->wanted;
        b->key_len = b->wanted_len;
        b->key_size = b->wanted_size;
        b->wanted = old;
        b->wanted_size = old_size;
    }
    *out = b->env;
    return MR_OK;
}

static uint32_t variable_index(const struct mr_cel_env *env, struct mr_str name)
{
    uint32_t count = mr_cel_env_variable_count(env), i = 0;
    while (i < count && !mr_str_equal(mr_cel_env_variable_name(env, i), name))
        i++;
    return i;
}

enum mr_rc mr_cel_bench_variables(struct mr_cel_ctx *ctx, const struct mr_cel_env *env,
                                  const struct mr_cel_case *c, const struct mr_cel_val **out,
                                  struct mr_err *err)
{
    uint32_t count = mr_cel_env_variable_count(env);
    struct mr_cel_val *values = mr_cel_list_new(ctx, count);
    if (!values)
        return mr_reject(err, MR_FULL, "no room for %u variables", count);
    for (uint32_t i = 0; i < count; i++)
        values[i] = mr_cel_error(MR_CEL_E_NO_SUCH_ATTRIBUTE, mr_cel_env_variable_name(env, i));
    if (c->doc.type != 0)
        values[variable_index(env, MR_STR("doc"))] = mr_cel_from_bson(ctx, &c->doc);
    *out = values;
    if (c->bindings.type == 0)
        return MR_OK;
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    enum mr_rc rc = mr_bson_iter_init(&iter, c->bindings.data, c->bindings.len);
    while (rc == MR_OK && mr_bson_iter_next(&iter, &element) == MR_OK) {
        rc = mr_cel_value_read(ctx, &element.value, &values[variable_index(env, element.key)], err);
        if (rc != MR_OK)
            mr_err_prefix(err, "binding \"%.*s\"", (int)element.key.len, element.key.data);
    }
    return rc;
}
