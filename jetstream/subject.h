/* jetstream/subject.h: names as tokens of NATS subjects. A token keeps A-Z a-z 0-9 - _; every other
 * byte is % and two upper-case hex digits, so that different names stay different and none can add
 * a level or a wildcard; the empty name is a single %. A token over MR_JS_TOKEN_MAX bytes (a server
 * takes no line over 4 KiB) is cut and ends in %% and 16 hex digits of a hash of the name. */
#ifndef MR_JETSTREAM_SUBJECT_H
#define MR_JETSTREAM_SUBJECT_H
#include <stdint.h>

#include "common/str.h"

enum {
    MR_JS_TOKEN_MAX = 512,
    MR_JS_STREAM_NAME_MAX = 255, /* that a server takes, in bytes */
};

/* Append the token of name to out (NUL-terminated, len bytes used, of size). False: no room,
 * nothing changed. */
bool mr_js_token_append(char *out, size_t size, size_t *len, struct mr_str name);
/* Append name as the end of a stream's name: as a token, but with = in place of %, which a server
 * takes for a directive when it makes the subjects of acknowledgements, and cut to the room there
 * is. False: not even the hash has room. */
bool mr_js_stream_append(char *out, size_t size, size_t *len, struct mr_str name);
/* FNV-1a, 64 bits: the hash in a cut token; also to tell subjects apart in ids. */
uint64_t mr_js_hash(struct mr_str name);
/* Append text as it is. */
bool mr_js_text_append(char *out, size_t size, size_t *len, struct mr_str text);
#endif
