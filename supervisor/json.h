/* supervisor/json.h: a text as a JSON string. */
#ifndef MR_SUPERVISOR_JSON_H
#define MR_SUPERVISOR_JSON_H
#include <stdio.h>

/* Write at most size bytes of text, up to its NUL, quoted and escaped. Bytes that are no ASCII go
 * through as they are. */
static inline void mr_json_text(FILE *out, const char *text, size_t size)
{
    fputc('"', out);
    for (size_t i = 0; i < size && text[i]; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}
#endif
