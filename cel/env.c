/* cel/env.c: see cel/env.h: one hash table of names, open addressing, at most half full. */
#include <stdlib.h>

#include "cel/names.h"

enum {
    ENV_BYTES_MAX = 64 << 20,
    SLOTS_START = 512,
    NAMES_MAX = 1 << 20,
    NAME_LEN_MAX = 1024,
    OPAQUE_MAX = 250
};

struct variable {
    struct mr_str name;
    const struct mr_cel_type *type;
};

struct mr_cel_env {
    struct mr_cel_arena arena; /* texts, types, signatures */
    uint32_t libraries;
    struct mr_str container;
    struct mr_cel_name *slots; /* text.data NULL: free */
    uint32_t slot_count, name_count;
    struct variable *variables;
    uint32_t variable_count, variable_size;
    struct mr_str *functions; /* declared ones */
    uint32_t function_count, function_size;
    struct mr_str opaque[OPAQUE_MAX];
    uint32_t opaque_count;
};

static uint32_t hash_name(struct mr_str name)
{
    uint64_t head = 0, tail = 0;
    size_t len = name.len < 8 ? name.len : 8;
    memcpy(&head, name.data, len);
    memcpy(&tail, name.data + name.len - len, len);
    uint64_t hash = (head ^ name.len) * UINT64_C(0x9e3779b97f4a7c15);
    hash = (hash ^ (hash >> 29) ^ tail) * UINT64_C(0xbf58476d1ce4e5b9);
    return (uint32_t)(hash >> 32);
}

/* The slot of a name, or the free one where it belongs. */
static struct mr_cel_name *slot_of(const struct mr_cel_env *env, struct mr_str name, uint32_t hash)
{
    uint32_t mask = env->slot_count - 1;
    for (uint32_t i = hash & mask;; i = (i + 1) & mask) {
        struct mr_cel_name *slot = &env->slots[i];
        if (!slot->text.data || (slot->hash == hash && mr_str_equal(slot->text, name)))
            return slot;
    }
}

const struct mr_cel_name *mr_cel_env_find(const struct mr_cel_env *env, struct mr_str name)
{
    if (name.len == 0)
        return NULL;
    const struct mr_cel_name *slot = slot_of(env, name, hash_name(name));
    return slot->text.data ? slot : NULL;
}

static bool grow(struct mr_cel_env *env)
{
    struct mr_cel_env larger = *env;
    larger.slot_count = env->slot_count * 2;
    larger.slots = calloc(larger.slot_count, sizeof *larger.slots);
    if (!larger.slots)
        return false;
    for (uint32_t i = 0; i < env->slot_count; i++)
        if (env->slots[i].text.data)
            *slot_of(&larger, env->slots[i].text, env->slots[i].hash) = env->slots[i];
    free(env->slots);
    env->slots = larger.slots;
    env->slot_count = larger.slot_count;
    return true;
}

static bool copy_text(struct mr_cel_env *env, struct mr_str text, struct mr_str *out)
{
    char *bytes = mr_cel_arena_alloc(&env->arena, text.len > 0 ? text.len : 1);
    if (!bytes)
        return false;
    if (text.len > 0)
        memcpy(bytes, text.data, text.len);
    *out = (struct mr_str){bytes, text.len};
    return true;
}

static enum mr_rc no_memory(struct mr_err *err, struct mr_str name)
{
    return mr_reject(err, MR_FULL, "declare %.*s: no memory, or too many names", (int)name.len,
                     name.data);
}

/* The entry of a name, made if need be; the prefixes of a dotted name get theirs. text: lives as
 * long as env. */
static struct mr_cel_name *name_entry(struct mr_cel_env *env, struct mr_str text, bool is_prefix)
{
    uint32_t hash = hash_name(text);
    struct mr_cel_name *slot = slot_of(env, text, hash);
    if (!slot->text.data) {
        if (env->name_count == NAMES_MAX)
            return NULL;
        if (2 * (env->name_count + 1) > env->slot_count) {
            if (!grow(env))
                return NULL;
            slot = slot_of(env, text, hash);
        }
        *slot = (struct mr_cel_name){.text = text, .hash = hash};
        env->name_count++;
    }
    slot->is_prefix |= is_prefix;
    return slot;
}

static struct mr_cel_name *add_name(struct mr_cel_env *env, struct mr_str text)
{
    for (size_t i = text.len; i-- > 0;)
        if (text.data[i] == '.' && !name_entry(env, (struct mr_str){text.data, i}, true))
            return NULL;
    return name_entry(env, text, false);
}

static bool add_standard(struct mr_cel_env *env)
{
    for (unsigned fn = MR_CEL_FN_NONE + 1; fn < MR_CEL_FN_DECLARED; fn++) {
        const struct mr_cel_function_row *row = mr_cel_function_row((enum mr_cel_function)fn);
        if (!(env->libraries & (UINT32_C(1) << row->library)))
            continue;
        struct mr_cel_name *entry = add_name(env, row->name);
        if (!entry)
            return false;
        entry->function = (uint16_t)fn;
    }
    for (unsigned kind = MR_CEL_TYPE_NULL; kind <= MR_CEL_TYPE_TYPE; kind++) {
        bool network = kind == MR_CEL_TYPE_IP || kind == MR_CEL_TYPE_CIDR;
        if ((network && !(env->libraries & MR_CEL_LIBRARY(NETWORK))) ||
            (kind == MR_CEL_TYPE_OPTIONAL && !(env->libraries & MR_CEL_LIBRARY(OPTIONALS))))
            continue;
        struct mr_cel_name *entry =
            add_name(env, mr_cel_type_kind_name((enum mr_cel_type_kind)kind));
        if (!entry)
            return false;
        entry->type_kind = (uint8_t)(kind + 1);
    }
    return true;
}

enum mr_rc mr_cel_env_create(uint32_t libraries, struct mr_cel_env **out, struct mr_err *err)
{
    struct mr_cel_env *env = calloc(1, sizeof *env);
    if (!env)
        return mr_fail(err, MR_FATAL, "make an environment of CEL");
    mr_cel_arena_init(&env->arena, NULL, 0, ENV_BYTES_MAX);
    env->libraries = libraries | MR_CEL_LIBRARY(CORE);
    env->slot_count = SLOTS_START;
    env->slots = calloc(env->slot_count, sizeof *env->slots);
    if (!env->slots || !add_standard(env)) {
        mr_cel_env_destroy(&env);
        return mr_reject(err, MR_FATAL, "make an environment of CEL: no memory");
    }
    *out = env;
    return MR_OK;
}

void mr_cel_env_destroy(struct mr_cel_env **env)
{
    if (!*env)
        return;
    mr_cel_arena_fini(&(*env)->arena);
    free((*env)->slots);
    free((*env)->variables);
    free((*env)->functions);
    free(*env);
    *env = NULL;
}

/* Names of letters, digits and underscores with dots between them; "@" starts names that optimizers
 * make up. */
static bool is_dotted_name(struct mr_str name)
{
    bool start = true;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '@';
        bool digit = c >= '0' && c <= '9';
        if (start ? !letter : !letter && !digit && c != '.')
            return false;
        start = c == '.';
    }
    return !start && name.len <= NAME_LEN_MAX;
}

enum mr_rc mr_cel_env_set_container(struct mr_cel_env *env, struct mr_str container,
                                    struct mr_err *err)
{
    if (container.len > 0 && !is_dotted_name(container))
        return mr_reject(err, MR_USAGE, "container \"%.*s\": expected names with dots between them",
                         (int)container.len, container.data);
    return copy_text(env, container, &env->container) ? MR_OK : no_memory(err, container);
}

/* Room for one more item in a growing array. */
static bool room(void **items, uint32_t count, uint32_t *size, size_t item_size)
{
    if (count < *size)
        return true;
    uint32_t larger = *size ? *size * 2 : 8;
    void *moved = realloc(*items, larger * item_size);
    if (!moved)
        return false;
    *items = moved;
    *size = larger;
    return true;
}

enum mr_rc mr_cel_env_add_variable(struct mr_cel_env *env, struct mr_str name, struct mr_str type,
                                   struct mr_err *err)
{
    struct variable variable = {0};
    if (!is_dotted_name(name))
        return mr_reject(err, MR_USAGE, "variable \"%.*s\": expected a name, dots allowed",
                         (int)(name.len < 80 ? name.len : 80), name.data);
    const struct mr_cel_name *known = mr_cel_env_find(env, name);
    if (known && known->variable)
        return mr_reject(err, MR_USAGE, "variable %.*s is declared twice", (int)name.len,
                         name.data);
    if (!copy_text(env, name, &variable.name) || !copy_text(env, type, &type) ||
        !room((void **)&env->variables, env->variable_count, &env->variable_size,
              sizeof *env->variables))
        return no_memory(err, name);
    enum mr_rc rc = mr_cel_type_parse(type, &env->arena, &variable.type, err);
    if (rc != MR_OK) {
        (void)mr_err_prefix(err, "variable %.*s", (int)name.len, name.data);
        return rc;
    }
    struct mr_cel_name *entry = add_name(env, variable.name);
    if (!entry)
        return no_memory(err, name);
    env->variables[env->variable_count++] = variable;
    entry->variable = env->variable_count;
    return MR_OK;
}

/* A signature's types as codes. */
struct encoder {
    struct mr_cel_env *env;
    char *out; /* NULL: only count */
    size_t len;
    struct mr_str params[MR_CEL_CODE_PARAMS_MAX];
    uint32_t param_count;
    bool failed; /* more type parameters or opaque types than there may be */
};

static void emit(struct encoder *e, uint32_t code)
{
    if (e->out)
        e->out[e->len] = (char)code;
    e->len++;
}

/* Index of a name in a list of limited size; added if it is new. */
static uint32_t index_in(struct encoder *e, struct mr_str *names, uint32_t *count, uint32_t max,
                         struct mr_str name)
{
    for (uint32_t i = 0; i < *count; i++)
        if (mr_str_equal(names[i], name))
            return i;
    if (*count == max) {
        e->failed = true;
        return 0;
    }
    names[*count] = name;
    return (*count)++;
}

static void encode(struct encoder *e, const struct mr_cel_type *type)
{
    static const char codes[] = {
        [MR_CEL_TYPE_DYN] = '*',      [MR_CEL_TYPE_NULL] = 'n',  [MR_CEL_TYPE_BOOL] = 'b',
        [MR_CEL_TYPE_INT] = 'i',      [MR_CEL_TYPE_UINT] = 'u',  [MR_CEL_TYPE_DOUBLE] = 'd',
        [MR_CEL_TYPE_STRING] = 's',   [MR_CEL_TYPE_BYTES] = 'y', [MR_CEL_TYPE_TIMESTAMP] = 't',
        [MR_CEL_TYPE_DURATION] = 'p', [MR_CEL_TYPE_IP] = 'I',    [MR_CEL_TYPE_CIDR] = 'c',
        [MR_CEL_TYPE_LIST] = 'L',     [MR_CEL_TYPE_MAP] = 'M',   [MR_CEL_TYPE_OPTIONAL] = 'O',
        [MR_CEL_TYPE_TYPE] = 'T',
    };
    if (type->kind == MR_CEL_TYPE_PARAM) {
        emit(e, 'A' + index_in(e, e->params, &e->param_count, MR_CEL_CODE_PARAMS_MAX, type->name));
        return;
    }
    if (type->kind == MR_CEL_TYPE_OPAQUE) {
        uint32_t index = index_in(e, e->env->opaque, &e->env->opaque_count, OPAQUE_MAX, type->name);
        emit(e, MR_CEL_CODE_OPAQUE);
        emit(e, index + 1);
        emit(e, type->param_count + 1u);
    } else {
        emit(e, (uint8_t)codes[type->kind]);
        if (type->kind == MR_CEL_TYPE_TYPE && type->param_count == 0)
            emit(e, '*');
    }
    for (uint32_t i = 0; i < type->param_count; i++)
        encode(e, type->params[i]);
}

/* All types of a signature, result first; the codes of result and arguments end with a NUL each. */
static bool encode_all(struct mr_cel_env *env, const struct mr_cel_type *const *types,
                       uint32_t count, struct mr_cel_declared *out)
{
    struct encoder e = {.env = env};
    for (unsigned pass = 0; pass < 2; pass++) {
        size_t arguments = 0;
        e.len = 0;
        for (uint32_t i = 0; i < count; i++) {
            encode(&e, types[i]);
            if (i == 0) {
                emit(&e, 0);
                arguments = e.len;
            }
        }
        emit(&e, 0);
        if (pass == 0)
            e.out = mr_cel_arena_alloc(&env->arena, e.len);
        if (!e.out || e.failed)
            return false;
        out->result = e.out;
        out->arguments = e.out + arguments;
    }
    return true;
}

static enum mr_rc signature_types(struct mr_cel_env *env, const struct mr_cel_signature *signature,
                                  const struct mr_cel_type **types, struct mr_err *err)
{
    for (uint32_t i = 0; i <= signature->argument_count; i++) {
        struct mr_str text = i == 0 ? signature->result : signature->arguments[i - 1];
        if (!copy_text(env, text, &text))
            return no_memory(err, signature->name);
        enum mr_rc rc = mr_cel_type_parse(text, &env->arena, &types[i], err);
        if (rc != MR_OK) {
            (void)mr_err_prefix(err, "function %.*s", (int)signature->name.len,
                                signature->name.data);
            return rc;
        }
    }
    return MR_OK;
}

enum mr_rc mr_cel_env_add_function(struct mr_cel_env *env, const struct mr_cel_signature *signature,
                                   struct mr_err *err)
{
    const struct mr_cel_type *types[MR_CEL_TYPE_PARAMS_MAX + 1];
    struct mr_str name = signature->name;
    if (!is_dotted_name(name) || signature->argument_count > MR_CEL_TYPE_PARAMS_MAX ||
        (signature->member && signature->argument_count == 0))
        return mr_reject(err, MR_USAGE,
                         "function \"%.*s\": expected a name and at most %d arguments, the "
                         "receiver of a member first",
                         (int)(name.len < 80 ? name.len : 80), name.data, MR_CEL_TYPE_PARAMS_MAX);
    enum mr_rc rc = signature_types(env, signature, types, err);
    if (rc != MR_OK)
        return rc;
    struct mr_cel_declared *declared = mr_cel_arena_alloc(&env->arena, sizeof *declared);
    if (!declared || !copy_text(env, name, &name) ||
        !room((void **)&env->functions, env->function_count, &env->function_size,
              sizeof *env->functions))
        return no_memory(err, name);
    *declared = (struct mr_cel_declared){.style = signature->member ? MR_CEL_CALL_MEMBER
                                                                    : MR_CEL_CALL_GLOBAL};
    if (!copy_text(env, signature->id, &declared->id) ||
        !encode_all(env, types, signature->argument_count + 1, declared))
        return no_memory(err, name);
    struct mr_cel_name *entry = add_name(env, name);
    if (!entry)
        return no_memory(err, name);
    if (entry->function == MR_CEL_FN_NONE) {
        entry->function = MR_CEL_FN_DECLARED;
        entry->number = env->function_count;
        env->functions[env->function_count++] = name;
    }
    declared->next = entry->declared;
    entry->declared = declared;
    return MR_OK;
}

uint32_t mr_cel_env_libraries(const struct mr_cel_env *env)
{
    return env->libraries;
}

struct mr_str mr_cel_env_container(const struct mr_cel_env *env)
{
    return env->container;
}

uint32_t mr_cel_env_variable_count(const struct mr_cel_env *env)
{
    return env->variable_count;
}

struct mr_str mr_cel_env_variable_name(const struct mr_cel_env *env, uint32_t variable)
{
    MR_ASSERT(variable < env->variable_count);
    return env->variables[variable].name;
}

const struct mr_cel_type *mr_cel_env_variable_type(const struct mr_cel_env *env, uint32_t variable)
{
    MR_ASSERT(variable < env->variable_count);
    return env->variables[variable].type;
}

uint32_t mr_cel_env_function_count(const struct mr_cel_env *env)
{
    return env->function_count;
}

struct mr_str mr_cel_env_function_name(const struct mr_cel_env *env, uint32_t function)
{
    MR_ASSERT(function < env->function_count);
    return env->functions[function];
}

struct mr_str mr_cel_env_opaque(const struct mr_cel_env *env, uint32_t index)
{
    MR_ASSERT(index < env->opaque_count);
    return env->opaque[index];
}

unsigned mr_cel_edit_distance(struct mr_str a, struct mr_str b, unsigned max)
{
    enum { LEN_MAX = 40 };
    unsigned rows[3][LEN_MAX + 1];
    if (a.len > LEN_MAX || b.len > LEN_MAX)
        return max + 1;
    for (unsigned j = 0; j <= b.len; j++)
        rows[0][j] = j;
    for (unsigned i = 1; i <= a.len; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *second = rows[(i + 1) % 3];
        row[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            bool same = (a.data[i - 1] | 0x20) == (b.data[j - 1] | 0x20);
            unsigned best = above[j - 1] + !same;
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a.data[i - 1] == b.data[j - 2] &&
                a.data[i - 2] == b.data[j - 1] && second[j - 2] + 1 < best)
                best = second[j - 2] + 1;
            row[j] = best;
        }
    }
    unsigned distance = rows[a.len % 3][b.len];
    return distance <= max ? distance : max + 1;
}

struct mr_str mr_cel_env_nearest(const struct mr_cel_env *env, struct mr_str name, bool functions)
{
    struct mr_str nearest = {NULL, 0};
    unsigned allowed = name.len < 2 ? 0 : name.len < 5 ? 1 : name.len < 10 ? 2 : 3;
    unsigned best = allowed + 1;
    for (uint32_t i = 0; i < env->slot_count; i++) {
        const struct mr_cel_name *slot = &env->slots[i];
        bool fits =
            functions ? slot->function != MR_CEL_FN_NONE : slot->variable || slot->type_kind;
        if (!slot->text.data || !fits || slot->text.data[0] == '@' || slot->text.data[0] == '_')
            continue; /* free, or an operator */
        unsigned distance = mr_cel_edit_distance(name, slot->text, allowed);
        /* The table is in no order: of equally near names, the first by the alphabet. */
        if (distance < best ||
            (distance == best && distance <= allowed && slot->text.len <= nearest.len &&
             memcmp(slot->text.data, nearest.data, slot->text.len) < 0)) {
            best = distance;
            nearest = slot->text;
        }
    }
    return nearest;
}
