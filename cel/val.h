/* cel/val.h: a value of a CEL evaluation: 16 bytes, passed by value, owning nothing. What it points
 * to is in the program (constants), in the caller's BSON (documents, read in place), or in the
 * evaluation's arena; it is valid as long as all three are. How BSON's types become CEL's:
 * docs/cel.md */
#ifndef MR_CEL_VAL_H
#define MR_CEL_VAL_H
#include <assert.h>

#include "common/bson.h"

enum mr_cel_kind {
    MR_CEL_NULL,
    MR_CEL_BOOL,
    MR_CEL_INT,
    MR_CEL_UINT,
    MR_CEL_DOUBLE,
    MR_CEL_STRING, /* text, len: UTF-8, may hold NUL */
    MR_CEL_BYTES,  /* text, len */
    MR_CEL_LIST,   /* form, len: see enum mr_cel_form */
    MR_CEL_MAP,
    MR_CEL_TIMESTAMP, /* integer: seconds since 1970, floored; len: nanoseconds, 0 to 999,999,999 */
    MR_CEL_DURATION,  /* integer: nanoseconds */
    MR_CEL_TYPE,      /* text, len: its name, "int", "google.protobuf.Timestamp", … */
    MR_CEL_OPTIONAL,  /* some: the value inside, NULL: none */
    MR_CEL_IP,        /* text, len: 4 or 16 bytes of address, in network order */
    MR_CEL_CIDR,      /* the same; aux: prefix length */
    MR_CEL_UNKNOWN, /* bits: the variables it depends on, bit number = index in the environment (63:
                       and later) */
    MR_CEL_ERROR,   /* mr_cel_error… below */
    MR_CEL_KIND_COUNT
};

/* Where the elements of a list or a map are. */
enum mr_cel_form {
    MR_CEL_FORM_ARENA, /* list: items[len]; map: map */
    MR_CEL_FORM_CONST, /* in a program: the same two, but every value inside is a cell
                          (mr_cel_cell_load) */
    MR_CEL_FORM_BSON,  /* bson, len: bytes of the document or array, its length prefix included */
};

struct mr_cel_map;
struct mr_cel_val {
    uint8_t kind; /* enum mr_cel_kind */
    uint8_t form; /* LIST, MAP: enum mr_cel_form; ERROR: see mr_cel_error */
    uint16_t aux; /* ERROR: enum mr_cel_code; CIDR: prefix length */
    uint32_t len; /* STRING, BYTES, TYPE: bytes; LIST: items or bytes; TIMESTAMP: nanoseconds */
    union {
        bool boolean;
        int64_t integer;
        uint64_t bits; /* UINT, UNKNOWN; all of the payload */
        double number;
        const char *text;
        const uint8_t *bson;
        const struct mr_cel_val *items;
        const struct mr_cel_map *map;
        const struct mr_cel_val *some;
        int64_t
            offset; /* in a cell: bytes from the cell's own start to what the pointer would show */
    };
};
static_assert(sizeof(struct mr_cel_val) == 16,
              "a value fits two registers, and is a program's constant");

/* Copy a value as two words. A compiler's copy by one wide load has to wait until the two narrow
 * stores by which values come out of calls have left the store buffer; in the evaluator that was a
 * third of the time. */
static inline struct mr_cel_val mr_cel_get(const struct mr_cel_val *from)
{
    struct mr_cel_val v;
    uint64_t first, second;
    memcpy(&first, from, 8);
    memcpy(&second, (const char *)from + 8, 8);
    __asm__("" : "+r"(first), "+r"(second));
    memcpy(&v, &first, 8);
    memcpy((char *)&v + 8, &second, 8);
    return v;
}
static inline void mr_cel_set(struct mr_cel_val *to, struct mr_cel_val v)
{
    uint64_t first, second;
    memcpy(&first, &v, 8);
    memcpy(&second, (const char *)&v + 8, 8);
    __asm__("" : "+r"(first), "+r"(second));
    memcpy(to, &first, 8);
    memcpy((char *)to + 8, &second, 8);
}

/* A map in an arena or a program. Keys: bool, int, uint, string; no two equal. Entry i: entries[2i]
 * is the key, entries[2i + 1] the value, in the order of insertion. In a program, entries and slots
 * are offsets from the map's own start. */
struct mr_cel_map {
    uint32_t count;
    uint32_t
        slot_mask; /* slots: a power of two - 1; 0: none, few entries are searched one by one */
    union {
        const struct mr_cel_val *entries;
        int64_t entries_offset;
    };
    union {
        const uint32_t *slots; /* open addressing by mr_cel_key_hash; entry + 1, 0: free */
        int64_t slots_offset;
    };
};
static_assert(sizeof(struct mr_cel_map) == 24,
              "a constant map's head is a part of the program's layout");

/* Why there is no value: codes.def. Codes up to MR_CEL_E_LAST_ABSORBED are errors of the language,
 * which && and || absorb; those behind it end the evaluation at once. */
enum mr_cel_code {
    MR_CEL_E_NONE,
#define MR_CEL_CODE(name, text) MR_CEL_E_##name,
#include "cel/codes.def"
#undef MR_CEL_CODE
    MR_CEL_E_COUNT,
    MR_CEL_E_LAST_ABSORBED = MR_CEL_E_BAD_DOCUMENT
};
const char *mr_cel_code_name(enum mr_cel_code code); /* "no_such_key", … */
const char *mr_cel_code_text(enum mr_cel_code code); /* "no such key", … */

/* An error without a place yet: the evaluator adds the place (mr_cel_error_place). detail: borrowed
 * as any text of a value is: a literal, program, document or arena; cut at 65,535 bytes. The
 * message is "text: detail". */
static inline struct mr_cel_val mr_cel_error(enum mr_cel_code code, struct mr_str detail)
{
    return (struct mr_cel_val){.kind = MR_CEL_ERROR,
                               .aux = (uint16_t)code,
                               .len = detail.len > UINT16_MAX ? UINT16_MAX : (uint32_t)detail.len,
                               .text = detail.data};
}
static inline struct mr_str mr_cel_error_detail(struct mr_cel_val error)
{
    return (struct mr_str){error.text, error.len & UINT16_MAX};
}
/* The place is an instruction of the program + 1, 24 bits, 0: none: the lower 16 in len, the upper
 * 8 in form. */
static inline uint32_t mr_cel_error_place(struct mr_cel_val error)
{
    return (error.len >> 16) | (uint32_t)error.form << 16;
}
static inline struct mr_cel_val mr_cel_error_placed(struct mr_cel_val error, uint32_t place)
{
    if (mr_cel_error_place(error) != 0)
        return error;
    error.len |= (place & UINT16_MAX) << 16;
    error.form = (uint8_t)(place >> 16);
    return error;
}

static inline struct mr_cel_val mr_cel_null(void)
{
    return (struct mr_cel_val){.kind = MR_CEL_NULL};
}
static inline struct mr_cel_val mr_cel_bool(bool value)
{
    return (struct mr_cel_val){.kind = MR_CEL_BOOL, .bits = value};
}
static inline struct mr_cel_val mr_cel_int(int64_t value)
{
    return (struct mr_cel_val){.kind = MR_CEL_INT, .integer = value};
}
static inline struct mr_cel_val mr_cel_uint(uint64_t value)
{
    return (struct mr_cel_val){.kind = MR_CEL_UINT, .bits = value};
}
static inline struct mr_cel_val mr_cel_double(double value)
{
    return (struct mr_cel_val){.kind = MR_CEL_DOUBLE, .number = value};
}
/* text.len: less than 2^32; what is longer cannot come out of an arena. */
static inline struct mr_cel_val mr_cel_text(enum mr_cel_kind kind, struct mr_str text)
{
    MR_ASSERT(text.len <= UINT32_MAX);
    return (struct mr_cel_val){.kind = (uint8_t)kind, .len = (uint32_t)text.len, .text = text.data};
}
static inline struct mr_cel_val mr_cel_string(struct mr_str text)
{
    return mr_cel_text(MR_CEL_STRING, text);
}
static inline struct mr_cel_val mr_cel_bytes(struct mr_str bytes)
{
    return mr_cel_text(MR_CEL_BYTES, bytes);
}
static inline struct mr_cel_val mr_cel_type_value(struct mr_str name)
{
    return mr_cel_text(MR_CEL_TYPE, name);
}
/* seconds, nanoseconds: in range (mr_cel_timestamp_in_range); the caller has checked. */
static inline struct mr_cel_val mr_cel_timestamp(int64_t seconds, uint32_t nanoseconds)
{
    return (struct mr_cel_val){.kind = MR_CEL_TIMESTAMP, .len = nanoseconds, .integer = seconds};
}
#define MR_CEL_TIMESTAMP_MIN INT64_C(-62135596800) /* 0001-01-01T00:00:00Z */
#define MR_CEL_TIMESTAMP_MAX INT64_C(253402300799) /* 9999-12-31T23:59:59Z */
static inline bool mr_cel_timestamp_in_range(int64_t seconds)
{
    return seconds >= MR_CEL_TIMESTAMP_MIN && seconds <= MR_CEL_TIMESTAMP_MAX;
}
static inline struct mr_cel_val mr_cel_duration(int64_t nanoseconds)
{
    return (struct mr_cel_val){.kind = MR_CEL_DURATION, .integer = nanoseconds};
}
/* items: count values in an arena, none an error, unknown or cell. */
static inline struct mr_cel_val mr_cel_list(const struct mr_cel_val *items, uint32_t count)
{
    return (struct mr_cel_val){.kind = MR_CEL_LIST, .len = count, .items = items};
}
static inline struct mr_cel_val mr_cel_optional_none(void)
{
    return (struct mr_cel_val){.kind = MR_CEL_OPTIONAL};
}
/* A whole BSON document as a map. len at most INT32_MAX. Damage is found where it is read. */
static inline struct mr_cel_val mr_cel_document(const void *bson, uint32_t len)
{
    return (struct mr_cel_val){
        .kind = MR_CEL_MAP, .form = MR_CEL_FORM_BSON, .len = len, .bson = bson};
}

static inline struct mr_str mr_cel_str(struct mr_cel_val v) /* STRING, BYTES, TYPE, IP, CIDR */
{
    return (struct mr_str){v.text, v.len};
}
static inline bool mr_cel_is_number(struct mr_cel_val v)
{
    return v.kind >= MR_CEL_INT && v.kind <= MR_CEL_DOUBLE;
}
static inline bool mr_cel_is_fatal(struct mr_cel_val v)
{
    return v.kind == MR_CEL_ERROR && v.aux > MR_CEL_E_LAST_ABSORBED;
}
/* No value: to be handed on instead of being computed with. */
static inline bool mr_cel_is_strange(struct mr_cel_val v)
{
    return v.kind >= MR_CEL_UNKNOWN;
}

/* What a cell of a program stands for: pointers in place of offsets. The program's loader has
 * checked the offsets. */
static inline struct mr_cel_val mr_cel_cell_load(const struct mr_cel_val *cell)
{
    struct mr_cel_val v = mr_cel_get(cell);
    if ((UINT32_C(1) << v.kind) &
        (UINT32_C(1) << MR_CEL_STRING | UINT32_C(1) << MR_CEL_BYTES | UINT32_C(1) << MR_CEL_LIST |
         UINT32_C(1) << MR_CEL_MAP | UINT32_C(1) << MR_CEL_TYPE | UINT32_C(1) << MR_CEL_IP |
         UINT32_C(1) << MR_CEL_CIDR | UINT32_C(1) << MR_CEL_ERROR))
        v.text = (const char *)cell + v.offset;
    return v;
}

/* The name of a value's type: "int", "list", "google.protobuf.Timestamp", … (static storage). */
struct mr_str mr_cel_type_name(struct mr_cel_val v);
#endif
