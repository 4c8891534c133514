/* supervisor/json.h: a text as a JSON string. */
#ifndef MR_SUPERVISOR_JSON_H
#define MR_SUPERVISOR_JSON_H
#include <stdio.h>

#include "common/utf8.h"

/* Write at most size bytes of text, up to its NUL, quoted and escaped. Texts of processes are cut
 * where their room ended, maybe within a character: what is no UTF-8 is shown as a question mark.
 */
static inline void mr_json_text(FILE *out, const char *text, size_t size)
{
    size_t left = strnlen(text, size), len;
    fputc('"', out);
    for (; left > 0; text += len, left -= len) {
        unsigned char c = (unsigned char)*text;
        len = mr_utf8_len((const uint8_t *)text, left);
        if (len == 0) {
            fputc('?', out);
            len = 1;
        } else if (c == '"' || c == '\\') {
            fprintf(out, "\\%c", c);
        } else if (c < 0x20 || c == 0x7f) {
            fprintf(out, "\\u%04x", c);
        } else {
            fwrite(text, 1, len, out);
        }
    }
    fputc('"', out);
}
#endif
