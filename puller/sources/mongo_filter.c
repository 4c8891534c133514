#include "puller/sources/mongo_filter.h"

#include <stdio.h>
#include <string.h>

enum { REGEX_BYTES = 4 * MR_CONFIG_LIST_TEXT_MAX };

static enum mr_rc check_list(const struct mr_mongo_filter *filter, const char *option,
                             const struct mr_config_list *list, struct mr_err *err)
{
    for (uint32_t i = 0; i < list->count; i++) {
        const char *dot = strchr(list->items[i], '.');
        if (filter->database.len == 0 && (!dot || dot == list->items[i] || !dot[1]))
            return mr_reject(err, MR_USAGE,
                             "%s: mongodb.database is empty, so expected database.collection, got"
                             " \"%s\"",
                             option, list->items[i]);
    }
    return MR_OK;
}

enum mr_rc mr_mongo_filter_init(struct mr_mongo_filter *filter, const struct mr_config *config,
                                struct mr_err *err)
{
    const struct mr_config_list *list = &config->mongodb_collections;
    *filter = (struct mr_mongo_filter){.config = config,
                                       .database = mr_str_from(config->mongodb_database.text)};
    if (filter->database.len > 63 || strpbrk(config->mongodb_database.text, "/\\. \"$*<>:|?"))
        return mr_reject(err, MR_USAGE, "mongodb.database: \"%s\" is no name of a database",
                         config->mongodb_database.text);
    if (filter->database.len > 0 && list->count == 1 && config->mongodb_exclude.count == 0 &&
        !strchr(list->items[0], '*'))
        filter->collection = mr_str_from(list->items[0]);
    enum mr_rc rc = check_list(filter, "mongodb.collections", list, err);
    return rc == MR_OK ? check_list(filter, "mongodb.exclude", &config->mongodb_exclude, err) : rc;
}

/* The classic match with one point to go back to. */
static bool glob(struct mr_str pattern, struct mr_str name)
{
    const char *want = pattern.data, *end = pattern.data + pattern.len, *star = NULL;
    size_t at = 0, star_at = 0;
    while (at < name.len) {
        if (want < end && *want == '*') {
            star = want++;
            star_at = at;
        } else if (want < end && *want == name.data[at]) {
            want++;
            at++;
        } else if (star) {
            want = star + 1;
            at = ++star_at;
        } else {
            return false;
        }
    }
    while (want < end && *want == '*')
        want++;
    return want == end;
}

/* A pattern's part for the database, empty when there is but one, and that for the collection. No
 * database has a dot in its name. */
static void split(const struct mr_mongo_filter *filter, const char *pattern,
                  struct mr_str *database, struct mr_str *collection)
{
    size_t dot = filter->database.len > 0 ? 0 : strcspn(pattern, ".");
    *database = (struct mr_str){pattern, dot};
    *collection = mr_str_from(pattern + dot + (filter->database.len == 0));
}

static bool in_list(const struct mr_mongo_filter *filter, const struct mr_config_list *list,
                    struct mr_str database, struct mr_str collection)
{
    for (uint32_t i = 0; i < list->count; i++) {
        struct mr_str of_database, of_collection;
        split(filter, list->items[i], &of_database, &of_collection);
        if ((filter->database.len > 0 || glob(of_database, database)) &&
            glob(of_collection, collection))
            return true;
    }
    return false;
}

bool mr_mongo_filter_takes(const struct mr_mongo_filter *filter, struct mr_str database,
                           struct mr_str collection)
{
    const struct mr_config_list *wanted = &filter->config->mongodb_collections;
    if (filter->database.len > 0 && !mr_str_equal(filter->database, database))
        return false;
    return (wanted->count == 0 || in_list(filter, wanted, database, collection)) &&
           !in_list(filter, &filter->config->mongodb_exclude, database, collection);
}

/* One pattern, or one half of it, as an anchored regular expression. */
static struct mr_str regex_of(char out[REGEX_BYTES], struct mr_str pattern)
{
    size_t len = 0;
    out[len++] = '^';
    for (size_t i = 0; i < pattern.len; i++) {
        if (pattern.data[i] == '*')
            out[len++] = '.';
        else if (strchr("\\^$.|?+()[]{}", pattern.data[i]))
            out[len++] = '\\';
        out[len++] = pattern.data[i];
    }
    out[len++] = '$';
    return (struct mr_str){out, len};
}

static void put_pattern(struct mr_bson_writer *w, struct mr_str key, struct mr_str pattern)
{
    char regex[REGEX_BYTES];
    if (!memchr(pattern.data, '*', pattern.len)) {
        mr_bson_put_string(w, key, pattern);
        return;
    }
    mr_bson_begin_document(w, key);
    mr_bson_put_string(w, MR_STR("$regex"), regex_of(regex, pattern));
    mr_bson_end(w);
}

/* {ns.coll: X}, or {ns.db: D, ns.coll: X}; the same for where a rename leads to. */
static void put_clause(const struct mr_mongo_filter *filter, struct mr_bson_writer *w,
                       uint32_t number, const char *item, bool target)
{
    char key[12];
    struct mr_str database, collection;
    split(filter, item, &database, &collection);
    snprintf(key, sizeof key, "%u", number);
    mr_bson_begin_document(w, mr_str_from(key));
    if (filter->database.len == 0)
        put_pattern(w, target ? MR_STR("to.db") : MR_STR("ns.db"), database);
    put_pattern(w, target ? MR_STR("to.coll") : MR_STR("ns.coll"), collection);
    mr_bson_end(w);
}

static void put_includes(const struct mr_mongo_filter *filter, struct mr_bson_writer *w)
{
    const struct mr_config_list *list = &filter->config->mongodb_collections;
    uint32_t number = 0;
    mr_bson_begin_array(w, MR_STR("$or"));
    mr_bson_begin_document(w, MR_STR("0"));
    mr_bson_begin_document(w, MR_STR("ns.coll"));
    mr_bson_put_bool(w, MR_STR("$exists"), false);
    mr_bson_end(w);
    mr_bson_end(w);
    for (uint32_t i = 0; i < list->count; i++) {
        put_clause(filter, w, ++number, list->items[i], false);
        put_clause(filter, w, ++number, list->items[i], true);
    }
    mr_bson_end(w);
}

/* A rename out of what is left out may lead to what is wanted. */
static void put_excludes(const struct mr_mongo_filter *filter, struct mr_bson_writer *w)
{
    const struct mr_config_list *list = &filter->config->mongodb_exclude;
    mr_bson_begin_array(w, MR_STR("$and"));
    mr_bson_begin_document(w, MR_STR("0"));
    mr_bson_begin_array(w, MR_STR("$or"));
    mr_bson_begin_document(w, MR_STR("0"));
    mr_bson_put_string(w, MR_STR("operationType"), MR_STR("rename"));
    mr_bson_end(w);
    mr_bson_begin_document(w, MR_STR("1"));
    mr_bson_begin_array(w, MR_STR("$nor"));
    for (uint32_t i = 0; i < list->count; i++)
        put_clause(filter, w, i, list->items[i], false);
    mr_bson_end(w);
    mr_bson_end(w);
    mr_bson_end(w);
    mr_bson_end(w);
    mr_bson_end(w);
}

void mr_mongo_filter_put_stage(const struct mr_mongo_filter *filter, struct mr_bson_writer *w,
                               struct mr_str key)
{
    bool includes = filter->collection.len == 0 && filter->config->mongodb_collections.count > 0;
    bool excludes = filter->config->mongodb_exclude.count > 0;
    if (!includes && !excludes)
        return;
    mr_bson_begin_document(w, key);
    mr_bson_begin_document(w, MR_STR("$match"));
    if (includes)
        put_includes(filter, w);
    if (excludes)
        put_excludes(filter, w);
    mr_bson_end(w);
    mr_bson_end(w);
}
