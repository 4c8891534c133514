/* cel/writer.h: text that grows in an evaluation's arena. */
#ifndef MR_CEL_WRITER_H
#define MR_CEL_WRITER_H
#include "cel/fn.h"

/* Zeroed but for ctx is empty. After a limit was reached failed is set and everything else is
 * ignored: mr_cel_writer_end tells. */
struct mr_cel_writer {
    struct mr_cel_ctx *ctx;
    char *data;
    size_t len, capacity;
    bool failed;
};
/* Room for len more bytes, from 1 on, to be written by the caller, who then adds to text->len;
 * NULL: none. */
char *mr_cel_writer_room(struct mr_cel_writer *text, size_t len);
void mr_cel_writer_put(struct mr_cel_writer *text, struct mr_str bytes);
static inline void mr_cel_writer_put_char(struct mr_cel_writer *text, char c)
{
    mr_cel_writer_put(text, (struct mr_str){&c, 1});
}
void mr_cel_writer_put_point(struct mr_cel_writer *text, uint32_t code_point); /* as UTF-8 */
static inline struct mr_str mr_cel_writer_bytes(const struct mr_cel_writer *text)
{
    return (struct mr_str){text->data, text->len};
}
/* The string, or the limit that was reached. */
struct mr_cel_val mr_cel_writer_end(const struct mr_cel_writer *text);
#endif
