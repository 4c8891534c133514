#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cel/find.h"

enum { FIELDS = 12, KEY_LEN_MAX = 20 };

/* A key of len bytes: letters, the number last, so that long ones differ behind their eighth byte.
 */
static struct mr_str key_of(char *out, int len, int number)
{
    memset(out, 'k', (size_t)len);
    if (len > 0)
        out[len - 1] = (char)('a' + number);
    out[len] = 0;
    return (struct mr_str){out, (size_t)len};
}

static void put(struct mr_bson_writer *w, struct mr_str key, int kind)
{
    switch (kind) {
    case 0:
        mr_bson_put_string(w, key, MR_STR("text"));
        return;
    case 1:
        mr_bson_put_bool(w, key, true);
        return;
    case 2:
        mr_bson_put_null(w, key);
        return;
    case 3:
        mr_bson_put_int32(w, key, 7);
        return;
    case 4:
        mr_bson_begin_document(w, key);
        mr_bson_put_double(w, MR_STR("x"), 0.5);
        mr_bson_end(w);
        return;
    case 5:
        mr_bson_put_binary(w, key, 0, MR_STR("\x01\x02\x03"));
        return;
    default:
        mr_bson_put_int64(w, key, 1);
    }
}

/* The document in a block of its own size: a read behind it is seen by the sanitizers. */
static enum mr_cel_found find(struct mr_str document, struct mr_str name, struct mr_bson_value *out)
{
    uint8_t *exact = malloc(document.len);
    assert_non_null(exact);
    memcpy(exact, document.data, document.len);
    struct mr_cel_path_key key = mr_cel_path_key(name);
    enum mr_cel_found found = mr_cel_find(exact, (uint32_t)document.len, &key, name.data, out);
    if (found == MR_CEL_FOUND)
        out->data = (const uint8_t *)document.data + (out->data - exact);
    free(exact);
    return found;
}

static void every_key_is_found_wherever_it_stands_and_however_long(void **state)
{
    (void)state;
    srand(11);
    for (int turn = 0; turn < 2000; turn++) {
        struct mr_bson_writer w;
        mr_bson_writer_init(&w);
        mr_bson_begin(&w);
        char keys[FIELDS][KEY_LEN_MAX + 1];
        int count = rand() % (FIELDS + 1);
        for (int i = 0; i < count; i++)
            put(&w, key_of(keys[i], 1 + rand() % KEY_LEN_MAX, i), rand() % 7);
        mr_bson_end(&w);
        struct mr_str document = mr_bson_bytes(&w);
        struct mr_bson_value expected, found;
        for (int i = 0; i < count; i++) {
            assert_int_equal(find(document, mr_str_from(keys[i]), &found), MR_CEL_FOUND);
            assert_true(mr_bson_find(document.data, document.len, mr_str_from(keys[i]), &expected));
            assert_ptr_equal(found.data, expected.data);
            assert_int_equal(found.len, expected.len);
            assert_int_equal(found.type, expected.type);
        }
        for (int len = 0; len <= KEY_LEN_MAX; len++) {
            char missing[KEY_LEN_MAX + 1];
            assert_int_equal(find(document, key_of(missing, len, FIELDS), &found), MR_CEL_MISSING);
        }
        mr_bson_writer_fini(&w);
    }
}

static void the_first_of_two_equal_keys_counts(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    struct mr_bson_value found;
    mr_bson_writer_init(&w);
    mr_bson_begin(&w);
    mr_bson_put_int32(&w, MR_STR("a"), 1);
    mr_bson_put_int32(&w, MR_STR("a"), 2);
    mr_bson_end(&w);
    assert_int_equal(find(mr_bson_bytes(&w), MR_STR("a"), &found), MR_CEL_FOUND);
    assert_int_equal(mr_bson_int32(&found), 1);
    mr_bson_writer_fini(&w);
}

/* Whatever one byte says, and wherever the document ends: nothing outside of it is read or told. */
static void damage_never_leads_out_of_the_document(void **state)
{
    (void)state;
    struct mr_bson_writer w;
    mr_bson_writer_init(&w);
    mr_bson_begin(&w);
    char key[KEY_LEN_MAX + 1];
    for (int i = 0; i < 7; i++)
        put(&w, key_of(key, 1 + 3 * i, i), i);
    mr_bson_end(&w);
    struct mr_str document = mr_bson_bytes(&w);
    char *copy = malloc(document.len);
    assert_non_null(copy);
    for (size_t at = 4; at < document.len; at++)
        for (int value = 0; value < 256; value++) {
            memcpy(copy, document.data, document.len);
            copy[at] = (char)value;
            size_t len = value % 2 == 0 ? document.len : at + 1;
            struct mr_bson_value found;
            for (int i = 0; i < 7; i++)
                if (find((struct mr_str){copy, len}, key_of(key, 1 + 3 * i, i), &found) ==
                    MR_CEL_FOUND)
                    assert_true((const char *)found.data + found.len <= copy + len - 1);
        }
    free(copy);
    mr_bson_writer_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_is_found_wherever_it_stands_and_however_long),
        cmocka_unit_test(the_first_of_two_equal_keys_counts),
        cmocka_unit_test(damage_never_leads_out_of_the_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
