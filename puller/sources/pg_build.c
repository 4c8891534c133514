#include "puller/sources/pg_build.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/doc_hash.h"
#include "puller/sources/pg_place.h"

enum {
    ID_CUT_BYTES = 900, /* of an id that is too long: this much of it, then a hash of all of it */
    /* A document whose parts could exceed MR_EVENT_BYTES_MAX in sum leaves out its largest values.
     */
    DOCUMENT_BYTES_MAX = 15 * 1024 * 1024,
    /* A text of which the document cannot hold half, which is what hexadecimal takes of it, is not
     * even read: the process must beat meanwhile. */
    VALUE_BYTES_MAX = 2 * DOCUMENT_BYTES_MAX,
    LARGE_VALUE_BYTES = 64 * 1024,
    SMALL_VALUE_BYTES = 4 * 1024,
};

static_assert(ID_CUT_BYTES - 3 > MR_PG_PLACE_ORDER_BYTES, "a snapshot orders what is kept of ids");

void mr_pg_builder_init(struct mr_pg_builder *builder, struct mr_str database)
{
    *builder = (struct mr_pg_builder){.database = database};
    mr_bson_writer_init(&builder->document);
    mr_bson_writer_init(&builder->update);
    mr_bson_writer_init(&builder->before);
    /* What is too large ends where it gets so: a row may hold a gigabyte. */
    builder->document.len_max = builder->before.len_max = DOCUMENT_BYTES_MAX;
}

void mr_pg_builder_fini(struct mr_pg_builder *builder)
{
    mr_bson_writer_fini(&builder->document);
    mr_bson_writer_fini(&builder->update);
    mr_bson_writer_fini(&builder->before);
    mr_pg_scratch_fini(&builder->scratch);
}

/* The value of column i after the change. What an update left out of line untouched is taken from
 * the old row, where that was sent whole, or is part of an old key. */
static const struct mr_pg_value *value_after(const struct mr_pg_relation *relation,
                                             const struct mr_pg_message *message, uint32_t i)
{
    const struct mr_pg_value *value = &message->new_row.values[i];
    if (value->form != MR_PG_FORM_UNCHANGED || message->old_form == 0)
        return value;
    if (message->old_form == 'K' && !relation->columns[i].key)
        return value;
    return &message->old_row.values[i];
}

/* Bytes of a growing text that may be longer than an id: what does not fit is only hashed. */
struct id_text {
    struct mr_pg_id *id;
    uint64_t hash[2];
    size_t len;
};

static void id_append(struct id_text *text, const char *data, size_t len)
{
    size_t left = text->len < sizeof text->id->text ? sizeof text->id->text - text->len : 0;
    memcpy(text->id->text + (left ? text->len : 0), data, len < left ? len : left);
    text->len += len;
}

static void id_append_escaped(struct id_text *text, struct mr_str value)
{
    for (size_t i = 0, run; i < value.len; i += run) {
        if (value.data[i] == ',' || value.data[i] == '\\')
            id_append(text, "\\", 1);
        for (run = 1; i + run < value.len; run++)
            if (value.data[i + run] == ',' || value.data[i + run] == '\\')
                break;
        id_append(text, value.data + i, run);
    }
}

/* Chain the hash of one piece, so that all of an id counts and not only what is kept of it. */
static void id_hash(struct id_text *text, struct mr_str value)
{
    for (uint64_t i = 0; i < 2; i++) {
        uint64_t seed[2] = {text->hash[i], i};
        text->hash[i] =
            mr_doc_hash((struct mr_str){(const char *)seed, sizeof seed}, value, MR_STR(""));
    }
}

static void id_finish(struct id_text *text)
{
    struct mr_pg_id *id = text->id;
    id->len = text->len;
    if (text->len <= sizeof id->text)
        return;
    size_t cut = ID_CUT_BYTES;
    while (cut > 0 && (id->text[cut] & 0xC0) == 0x80) /* not inside of a UTF-8 sequence */
        cut--;
    id->len = cut + (size_t)snprintf(id->text + cut, sizeof id->text - cut,
                                     "~%016" PRIx64 "%016" PRIx64, text->hash[0], text->hash[1]);
}

/* The id of a row: the text of its key columns; several are joined by commas. */
static enum mr_rc make_id(struct mr_pg_builder *builder, const struct mr_pg_relation *relation,
                          const struct mr_pg_message *message, bool old, struct mr_pg_id *out)
{
    struct id_text text = {.id = out};
    uint32_t seen = 0;
    for (uint32_t i = 0; i < relation->column_count && seen < relation->key_count; i++) {
        if (!relation->columns[i].key)
            continue;
        const struct mr_pg_value *value =
            old ? &message->old_row.values[i] : value_after(relation, message, i);
        struct mr_str piece;
        enum mr_rc rc = mr_pg_text(relation->columns[i].type, value, &builder->scratch, &piece);
        if (rc != MR_OK)
            return rc;
        if (seen++ > 0)
            id_append(&text, ",", 1);
        if (value->form == MR_PG_FORM_NULL)
            id_append(&text, "\\N", 2);
        else if (relation->key_count == 1)
            id_append(&text, piece.data, piece.len);
        else
            id_append_escaped(&text, piece);
        if (piece.len > ID_CUT_BYTES / 2 || text.len > ID_CUT_BYTES / 2)
            id_hash(&text, piece);
    }
    id_finish(&text);
    return MR_OK;
}

static bool row_fits(const struct mr_pg_relation *relation, const struct mr_pg_tuple *row)
{
    return row->count == relation->column_count;
}

enum mr_rc mr_pg_build_ids(struct mr_pg_builder *builder, const struct mr_pg_relation *relation,
                           const struct mr_pg_message *message, uint32_t *count, struct mr_err *err)
{
    *count = 1;
    builder->rekeyed = false;
    bool has_old = message->old_form != 0, has_new = message->type != 'D';
    if ((has_old && !row_fits(relation, &message->old_row)) ||
        (has_new && !row_fits(relation, &message->new_row)))
        return mr_reject(err, MR_CORRUPT,
                         "change of table %.*s: the row does not have the table's %u"
                         " columns",
                         (int)relation->collection.len, relation->collection.data,
                         relation->column_count);
    enum mr_rc rc = MR_OK;
    if (has_new)
        rc = make_id(builder, relation, message, false, &builder->id);
    if (rc == MR_OK && has_old)
        rc = make_id(builder, relation, message, true, has_new ? &builder->old_id : &builder->id);
    if (rc != MR_OK)
        return mr_reject(err, rc, "key of table %.*s: a value does not read as its type",
                         (int)relation->collection.len, relation->collection.data);
    if (has_new && has_old && relation->key_count != 0) {
        builder->rekeyed = builder->id.len != builder->old_id.len ||
                           memcmp(builder->id.text, builder->old_id.text, builder->id.len) != 0;
        *count = builder->rekeyed ? 2 : 1;
    }
    return MR_OK;
}

void mr_pg_build_unkeyed_id(struct mr_pg_builder *builder, uint64_t commit_lsn, uint64_t index)
{
    builder->id.len = (size_t)snprintf(builder->id.text, sizeof builder->id.text,
                                       "%" PRIX32 "/%" PRIX32 ".%" PRIu64,
                                       (uint32_t)(commit_lsn >> 32), (uint32_t)commit_lsn, index);
}

/* Which row a document shows. */
enum row { ROW_AFTER, ROW_BEFORE, ROW_KEY_BEFORE };

static enum mr_rc put_row(struct mr_pg_builder *builder, struct mr_bson_writer *w,
                          const struct mr_pg_relation *relation,
                          const struct mr_pg_message *message, enum row row,
                          uint32_t value_bytes_max)
{
    mr_bson_writer_reset(w);
    mr_bson_begin(w);
    for (uint32_t i = 0; i < relation->column_count; i++) {
        const struct mr_pg_column *column = &relation->columns[i];
        if (row == ROW_KEY_BEFORE && !column->key)
            continue;
        const struct mr_pg_value *value =
            row == ROW_AFTER ? value_after(relation, message, i) : &message->old_row.values[i];
        if (value->len > value_bytes_max) {
            builder->cut = true;
            continue;
        }
        enum mr_rc rc = mr_pg_put(w, column->name, column->type, value, &builder->scratch);
        if (__builtin_expect(rc != MR_OK || !w->ok, 0))
            return rc;
    }
    mr_bson_end(w);
    return MR_OK;
}

/* A document of a row, without its largest values when it would be too large with them. */
static enum mr_rc make_document(struct mr_pg_builder *builder, struct mr_bson_writer *w,
                                const struct mr_pg_relation *relation,
                                const struct mr_pg_message *message, enum row row,
                                struct mr_err *err)
{
    static const uint32_t limits[] = {VALUE_BYTES_MAX, LARGE_VALUE_BYTES, SMALL_VALUE_BYTES};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        builder->cut = false;
        enum mr_rc rc = put_row(builder, w, relation, message, row, limits[i]);
        if (rc != MR_OK)
            return mr_reject(err, rc, "row of table %.*s: a value does not read as its type",
                             (int)relation->collection.len, relation->collection.data);
        if (w->ok)
            return MR_OK;
    }
    return mr_reject(err, MR_FATAL, "row of table %.*s: no document can hold it",
                     (int)relation->collection.len, relation->collection.data);
}

static bool has_field(const struct mr_bson_writer *document, struct mr_str name)
{
    struct mr_bson_iter iter;
    struct mr_bson_element element;
    if (mr_bson_iter_init(&iter, document->data, document->len) != MR_OK)
        return false;
    while (mr_bson_iter_next(&iter, &element) == MR_OK)
        if (mr_str_equal(element.key, name))
            return true;
    return false;
}

static bool values_equal(const struct mr_pg_value *a, const struct mr_pg_value *b)
{
    return a->form == b->form && a->len == b->len &&
           (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* Fields that changed, where the old row is known. */
static enum mr_rc put_changed(struct mr_pg_builder *builder, const struct mr_pg_relation *relation,
                              const struct mr_pg_message *message)
{
    struct mr_bson_writer *w = &builder->update;
    mr_bson_begin_document(w, MR_STR("updatedFields"));
    for (uint32_t i = 0; i < relation->column_count; i++) {
        const struct mr_pg_value *value = &message->new_row.values[i];
        if (value->form == MR_PG_FORM_UNCHANGED ||
            values_equal(value, &message->old_row.values[i]) ||
            (builder->cut && !has_field(&builder->document, relation->columns[i].name)))
            continue;
        enum mr_rc rc = mr_pg_put(w, relation->columns[i].name, relation->columns[i].type, value,
                                  &builder->scratch);
        if (rc != MR_OK)
            return rc;
    }
    mr_bson_end(w);
    return MR_OK;
}

/* Names of columns that the document lacks although the row has them: in "unchanged" those the
 * server did not send, in "omitted" those too large. */
static void put_missing(struct mr_pg_builder *builder, const struct mr_pg_relation *relation,
                        const struct mr_pg_message *message, bool unchanged)
{
    struct mr_bson_writer *w = &builder->update;
    uint32_t count = 0;
    for (uint32_t i = 0; i < relation->column_count; i++) {
        const struct mr_pg_value *value = value_after(relation, message, i);
        bool missing = unchanged ? value->form == MR_PG_FORM_UNCHANGED
                                 : value->len > SMALL_VALUE_BYTES &&
                                       !has_field(&builder->document, relation->columns[i].name);
        if (!missing)
            continue;
        if (count == 0)
            mr_bson_begin_array(w, unchanged ? MR_STR("unchanged") : MR_STR("omitted"));
        char key[12];
        int len = snprintf(key, sizeof key, "%u", count++);
        mr_bson_put_string(w, (struct mr_str){key, (size_t)len}, relation->columns[i].name);
    }
    if (count > 0)
        mr_bson_end(w);
}

static bool any_unchanged(const struct mr_pg_relation *relation,
                          const struct mr_pg_message *message)
{
    for (uint32_t i = 0; i < relation->column_count; i++)
        if (value_after(relation, message, i)->form == MR_PG_FORM_UNCHANGED)
            return true;
    return false;
}

/* What an update or insert cannot say by its document alone, which is built. Empty when there is
 * nothing to say. */
static enum mr_rc make_update(struct mr_pg_builder *builder, const struct mr_pg_relation *relation,
                              const struct mr_pg_message *message, struct mr_event *out,
                              struct mr_err *err)
{
    bool changed = out->head.op == MR_OP_UPDATE && message->old_form == 'O';
    bool unchanged = any_unchanged(relation, message);
    if (!changed && !unchanged && !builder->cut)
        return MR_OK;
    mr_bson_writer_reset(&builder->update);
    mr_bson_begin(&builder->update);
    if (changed && put_changed(builder, relation, message) != MR_OK)
        return mr_reject(err, MR_CORRUPT, "update of table %.*s: a value does not read as its type",
                         (int)relation->collection.len, relation->collection.data);
    if (unchanged)
        put_missing(builder, relation, message, true);
    if (builder->cut)
        put_missing(builder, relation, message, false);
    mr_bson_end(&builder->update);
    out->update = mr_bson_bytes(&builder->update);
    return MR_OK;
}

/* The delete of a row of which the whole or the key is known. */
static enum mr_rc make_delete(struct mr_pg_builder *builder, const struct mr_pg_relation *relation,
                              const struct mr_pg_message *message, struct mr_event *out,
                              struct mr_err *err)
{
    bool whole = message->old_form == 'O';
    enum mr_rc rc = make_document(builder, &builder->document, relation, message,
                                  whole ? ROW_BEFORE : ROW_KEY_BEFORE, err);
    if (rc != MR_OK)
        return rc;
    const struct mr_pg_id *id = builder->rekeyed ? &builder->old_id : &builder->id;
    out->head.op = MR_OP_DELETE;
    out->document_id = (struct mr_str){id->text, id->len};
    out->document = mr_bson_bytes(&builder->document);
    if (whole)
        out->before = out->document;
    else
        out->head.flags = MR_EVENT_KEY_ONLY;
    return MR_OK;
}

enum mr_rc mr_pg_build_event(struct mr_pg_builder *builder, const struct mr_pg_relation *relation,
                             const struct mr_pg_message *message, uint32_t index,
                             struct mr_event *out, struct mr_err *err)
{
    *out = (struct mr_event){.database = builder->database, .collection = relation->collection};
    if (message->type == 'D' || (builder->rekeyed && index == 0))
        return make_delete(builder, relation, message, out, err);
    bool insert = message->type == 'I' || builder->rekeyed;
    out->head.op = insert ? MR_OP_INSERT : MR_OP_UPDATE;
    out->document_id = (struct mr_str){builder->id.text, builder->id.len};
    enum mr_rc rc = make_document(builder, &builder->document, relation, message, ROW_AFTER, err);
    if (rc != MR_OK)
        return rc;
    out->document = mr_bson_bytes(&builder->document);
    rc = make_update(builder, relation, message, out, err);
    if (rc != MR_OK || insert || message->old_form != 'O')
        return rc;
    rc = make_document(builder, &builder->before, relation, message, ROW_BEFORE, err);
    out->before = mr_bson_bytes(&builder->before);
    return rc;
}
