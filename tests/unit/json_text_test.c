/* What status and /health say of a process is JSON, whatever its text holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/json.h"

static void assert_text(const char *text, size_t size, const char *expected)
{
    char *json = NULL;
    size_t len;
    FILE *out = open_memstream(&json, &len);
    assert_non_null(out);
    mr_json_text(out, text, size);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(json, expected);
    free(json);
}

static void a_text_is_quoted_and_escaped_and_ends_at_its_nul_or_size(void **state)
{
    (void)state;
    assert_text("say \"no\" \\\n", 64, "\"say \\\"no\\\" \\\\\\u000a\"");
    assert_text("Gr\xc3\xb6\xc3\x9f"
                "e \xe2\x82\xac",
                64,
                "\"Gr\xc3\xb6\xc3\x9f"
                "e \xe2\x82\xac\"");
    assert_text("abcdef", 3, "\"abc\"");
}

static void what_is_no_utf_8_is_shown_as_a_question_mark(void **state)
{
    (void)state;
    assert_text("cut \xc3", 64, "\"cut ?\""); /* by the room that there was for it */
    assert_text("cut \xc3\xb6", 5, "\"cut ?\"");
    assert_text("\xff\xe2\x82 \x80", 64, "\"??? ?\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_is_quoted_and_escaped_and_ends_at_its_nul_or_size),
        cmocka_unit_test(what_is_no_utf_8_is_shown_as_a_question_mark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
