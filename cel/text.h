/* cel/text.h: text that grows in an evaluation's arena. */
#ifndef MR_CEL_TEXT_H
#define MR_CEL_TEXT_H
#include "cel/fn.h"

/* Zeroed but for ctx is empty. After a limit was reached failed is set and everything else is
 * ignored: mr_cel_text_end tells. */
struct mr_cel_text {
    struct mr_cel_ctx *ctx;
    char *data;
    size_t len, capacity;
    bool failed;
};
/* Room for len more bytes, to be written by the caller, who then adds to text->len; NULL: none. */
char *mr_cel_text_room(struct mr_cel_text *text, size_t len);
void mr_cel_text_put(struct mr_cel_text *text, struct mr_str bytes);
static inline void mr_cel_text_put_char(struct mr_cel_text *text, char c)
{
    mr_cel_text_put(text, (struct mr_str){&c, 1});
}
void mr_cel_text_put_point(struct mr_cel_text *text, uint32_t code_point); /* as UTF-8 */
static inline struct mr_str mr_cel_text_bytes(const struct mr_cel_text *text)
{
    return (struct mr_str){text->data, text->len};
}
/* The string, or the limit that was reached. */
struct mr_cel_val mr_cel_text_end(const struct mr_cel_text *text);
#endif
