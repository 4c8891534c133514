/* cel/env.h: what an expression may name: variables, functions, libraries, and the container (the
 * namespace in which names are looked up first). Built once by one thread, then immutable, and
 * shared by any number of compilations on any threads. */
#ifndef MR_CEL_ENV_H
#define MR_CEL_ENV_H
#include "cel/function.h"
#include "cel/type.h"

struct mr_cel_env;

#define MR_CEL_LIBRARY(name) (UINT32_C(1) << MR_CEL_LIB_##name)
/* All but MR_CEL_LIB_BLOCK, which is for what optimizers write. */
#define MR_CEL_LIBRARIES_DEFAULT (((UINT32_C(1) << MR_CEL_LIB_COUNT) - 1) & ~MR_CEL_LIBRARY(BLOCK))

/* libraries: a set of MR_CEL_LIBRARY(...); CORE is always in it. On the heap. */
MR_MUST_USE enum mr_rc mr_cel_env_create(uint32_t libraries, struct mr_cel_env **out,
                                         struct mr_err *err);
void mr_cel_env_destroy(struct mr_cel_env **env);

/* "" or a dotted name. MR_USAGE: it is neither. */
MR_MUST_USE enum mr_rc mr_cel_env_set_container(struct mr_cel_env *env, struct mr_str container,
                                                struct mr_err *err);
/* A variable: its name may be dotted ("a.b"); its type is text as mr_cel_type_parse takes it.
 * Variables are numbered from 0 in the order of declaration. MR_USAGE: not a name, not a type, or
 * declared before. */
MR_MUST_USE enum mr_rc mr_cel_env_add_variable(struct mr_cel_env *env, struct mr_str name,
                                               struct mr_str type, struct mr_err *err);

/* One signature of a function that the host declares. Texts are copied. */
struct mr_cel_signature {
    struct mr_str name;   /* may be dotted */
    struct mr_str id;     /* for messages; may be empty */
    struct mr_str result; /* types as text; type parameters are upper-case letters */
    const struct mr_str *arguments;
    uint32_t argument_count; /* at most MR_CEL_TYPE_PARAMS_MAX; with the receiver */
    bool member;             /* a.f(b) instead of f(a, b) */
};
/* Functions are numbered from 0 by name and style, in the order of their first signature. A name of
 * the standard library may get further signatures. */
MR_MUST_USE enum mr_rc mr_cel_env_add_function(struct mr_cel_env *env,
                                               const struct mr_cel_signature *signature,
                                               struct mr_err *err);

uint32_t mr_cel_env_libraries(const struct mr_cel_env *env);
struct mr_str mr_cel_env_container(const struct mr_cel_env *env);
uint32_t mr_cel_env_variable_count(const struct mr_cel_env *env);
/* Borrowed until destroy. */
struct mr_str mr_cel_env_variable_name(const struct mr_cel_env *env, uint32_t variable);
const struct mr_cel_type *mr_cel_env_variable_type(const struct mr_cel_env *env, uint32_t variable);
uint32_t mr_cel_env_function_count(const struct mr_cel_env *env);
struct mr_str mr_cel_env_function_name(const struct mr_cel_env *env, uint32_t function);
#endif
