#include "puller/sources/pg_decode.h"

/* Values point into the message; nothing is copied. */
static bool read_tuple(struct mr_pg_bytes *in, struct mr_pg_tuple *out)
{
    uint32_t count = mr_pg_u16(in);
    out->count = 0;
    if (count > MR_PG_COLUMNS_MAX)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct mr_pg_value *value = &out->values[i];
        value->form = mr_pg_u8(in);
        value->data = NULL;
        value->len = 0;
        switch (value->form) {
        case MR_PG_FORM_TEXT:
        case MR_PG_FORM_BINARY:
            value->len = mr_pg_u32(in);
            value->data = mr_pg_take(in, value->len);
            if (!value->data)
                return false;
            break;
        case MR_PG_FORM_NULL:
        case MR_PG_FORM_UNCHANGED:
            break;
        default:
            return false;
        }
    }
    out->count = count;
    return !in->bad;
}

static bool read_insert(struct mr_pg_bytes *in, struct mr_pg_message *out)
{
    out->relation = mr_pg_u32(in);
    return mr_pg_u8(in) == 'N' && read_tuple(in, &out->new_row);
}

static bool read_update(struct mr_pg_bytes *in, struct mr_pg_message *out)
{
    out->relation = mr_pg_u32(in);
    uint8_t tag = mr_pg_u8(in);
    if (tag == 'K' || tag == 'O') {
        out->old_form = tag;
        if (!read_tuple(in, &out->old_row))
            return false;
        tag = mr_pg_u8(in);
    }
    return tag == 'N' && read_tuple(in, &out->new_row);
}

static bool read_delete(struct mr_pg_bytes *in, struct mr_pg_message *out)
{
    out->relation = mr_pg_u32(in);
    out->old_form = mr_pg_u8(in);
    return (out->old_form == 'K' || out->old_form == 'O') && read_tuple(in, &out->old_row);
}

static bool read_truncate(struct mr_pg_bytes *in, struct mr_pg_message *out)
{
    out->relation_count = mr_pg_u32(in);
    mr_pg_u8(in); /* CASCADE, RESTART IDENTITY: of no consequence to a reader */
    if (out->relation_count > MR_PG_TRUNCATE_MAX)
        return false;
    out->relations = mr_pg_take(in, (size_t)out->relation_count * 4);
    return out->relations;
}

static bool read_rest(struct mr_pg_bytes *in, struct mr_pg_message *out)
{
    size_t len = mr_pg_left(in);
    out->body = (struct mr_str){(const char *)in->at, len};
    mr_pg_take(in, len);
    return true;
}

static bool read_body(struct mr_pg_bytes *in, struct mr_pg_message *out)
{
    switch (out->type) {
    case 'B':
        out->lsn = mr_pg_u64(in);
        out->time_us = (int64_t)(mr_pg_u64(in) + (uint64_t)MR_PG_EPOCH_US);
        out->xid = mr_pg_u32(in);
        return true;
    case 'C':
        mr_pg_u8(in); /* flags, none defined */
        out->lsn = mr_pg_u64(in);
        out->end_lsn = mr_pg_u64(in);
        out->time_us = (int64_t)(mr_pg_u64(in) + (uint64_t)MR_PG_EPOCH_US);
        return true;
    case 'I':
        return read_insert(in, out);
    case 'U':
        return read_update(in, out);
    case 'D':
        return read_delete(in, out);
    case 'T':
        return read_truncate(in, out);
    default:
        return read_rest(in, out);
    }
}

enum mr_rc mr_pg_decode(const void *data, size_t len, struct mr_pg_message *out, struct mr_err *err)
{
    struct mr_pg_bytes in = mr_pg_bytes_of(data, len);
    out->type = mr_pg_u8(&in);
    out->old_form = 0;
    out->relation_count = 0;
    if (in.bad)
        return mr_reject(err, MR_CORRUPT, "pgoutput message: it is empty");
    if (!memchr("BCIUDTRYOM", out->type, 10))
        return mr_reject(err, MR_FATAL,
                         "pgoutput message of type 0x%02x: not part of protocol version 1",
                         out->type);
    if (!read_body(&in, out) || in.bad)
        return mr_reject(err, MR_CORRUPT,
                         "pgoutput message '%c' of %zu bytes: it ends too early or holds"
                         " an unknown mark",
                         out->type, len);
    if (in.at != in.end)
        return mr_reject(err, MR_CORRUPT, "pgoutput message '%c' of %zu bytes: %zu bytes too many",
                         out->type, len, mr_pg_left(&in));
    return MR_OK;
}
