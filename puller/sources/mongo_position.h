/* puller/sources/mongo_position.h: a place in a change stream, as it is stored in the log.
 *
 * Reading goes on behind the resume token. A token too large to be stored (they hold the document's
 * key) is left out: reading then begins at the cluster time itself and passes over the first index
 * changes of it. During a snapshot the place also says which documents have been taken: everything
 * in front of (ns, key) in the order of names and keys, as of the stream's place. */
#ifndef MR_PULLER_SOURCES_MONGO_POSITION_H
#define MR_PULLER_SOURCES_MONGO_POSITION_H
#include "common/bson.h"
#include "puller/source.h"

enum {
    MR_MONGO_NS_MAX = 255,    /* "database.collection" */
    MR_MONGO_KEY_MAX = 1700,  /* an _id that a snapshot can pass */
    MR_MONGO_TOKEN_MAX = 4096 /* of a resume token; MongoDB's own grow with the document's key */
};

struct mr_mongo_snapshot_place {
    char ns[MR_MONGO_NS_MAX + 1]; /* "" before the first collection */
    uint8_t key_type;             /* enum mr_bson_type of the last _id taken; 0: none yet;
                                     MR_BSON_MAXKEY: all of ns is taken */
    uint32_t key_len;
    uint8_t key[MR_MONGO_KEY_MAX];
};

struct mr_mongo_position {
    uint64_t time;  /* cluster time of the last event taken: seconds << 32 | increment; 0 none */
    uint32_t index; /* changes of that time that were taken */
    bool begun;     /* the next change makes two events, and the first was taken */
    uint32_t token_len;
    uint8_t token[MR_MONGO_TOKEN_MAX]; /* BSON */
    bool snapshot;
    struct mr_mongo_snapshot_place place; /* when snapshot */
};

void mr_mongo_position_encode(const struct mr_mongo_position *position, struct mr_position *out);
/* MR_USAGE: these bytes were written by another kind of source or another version. */
MR_MUST_USE enum mr_rc mr_mongo_position_decode(const struct mr_position *in,
                                                struct mr_mongo_position *out, struct mr_err *err);

/* False, and nothing is changed, when the token is over MR_MONGO_TOKEN_MAX. */
bool mr_mongo_position_set_token(struct mr_mongo_position *position, struct mr_str token);

/* The cluster time that a resume token begins with: MongoDB's manual calls it the token's
 * timestamp. 0: a token of an unknown form. */
uint64_t mr_mongo_token_time(struct mr_str token);
/* Whether it is a high-water mark: the token of a time, not of a change. The text is MongoDB's
 * KeyString of (time, version, kind of token, ...): 2B and 29 begin a number of one byte and a
 * zero, and kind 0 is the mark. */
bool mr_mongo_token_is_mark(struct mr_str token);

/* "1700000000.7": seconds and increment, as people write cluster times. */
struct mr_mongo_time_text {
    char text[24];
};
struct mr_mongo_time_text mr_mongo_time_format(uint64_t time);
#endif
