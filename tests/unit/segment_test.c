/* Segments: who may map what, what is refused and what stays behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/segment.h"

static char instance[MR_INSTANCE_MAX - 2]; /* room for a suffix */
static struct mr_err err;

static int setup(void **state)
{
    (void)state;
    snprintf(instance, sizeof instance, "segment-%d", (int)getpid());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_segment_remove_all(instance);
    return 0;
}

static struct mr_segment create(uint64_t size, enum mr_segment_map map)
{
    struct mr_segment segment;
    assert_int_equal(
        mr_segment_create(&segment, instance, "t", MR_SEGMENT_RING, size, 5, map, &err), MR_OK);
    return segment;
}

static enum mr_rc attach(struct mr_segment *segment, bool read_only)
{
    return mr_segment_attach(segment, instance, "t", MR_SEGMENT_RING, read_only, MR_MAP_ONCE, &err);
}

static void path_of(char out[128], const char *part)
{
    snprintf(out, 128, "/dev/shm/millrace.%s.%s", instance, part);
}

static void mode_is_0600_whatever_the_umask(void **state)
{
    (void)state;
    char path[128];
    path_of(path, "t");
    const mode_t masks[] = {0, 0777, 0077};
    for (size_t i = 0; i < 3; i++) {
        mode_t old = umask(masks[i]);
        struct mr_segment segment = create(8192, MR_MAP_ONCE);
        umask(old);
        struct stat info;
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_mode & 07777, 0600);
        mr_segment_detach(&segment);
    }
}

static void the_data_is_seen_twice_in_a_row(void **state)
{
    (void)state;
    struct mr_segment segment = create(4096 + 65536, MR_MAP_TWICE);
    uint8_t *data = (uint8_t *)segment.head + MR_SEGMENT_DATA;
    memset(data + 65536 - 4, 0xab, 8);
    for (int i = 0; i < 4; i++)
        assert_int_equal(data[i], 0xab);
    data[100] = 7;
    assert_int_equal(data[65536 + 100], 7);
    assert_int_equal(segment.map_bytes, 4096 + 2 * 65536);
    mr_segment_detach(&segment);
}

static void an_unsealed_or_missing_segment_is_to_be_asked_for_again(void **state)
{
    (void)state;
    struct mr_segment other;
    assert_int_equal(attach(&other, false), MR_AGAIN);
    struct mr_segment segment = create(8192, MR_MAP_ONCE);
    assert_int_equal(attach(&other, false), MR_AGAIN);
    mr_segment_seal(&segment);
    assert_int_equal(attach(&other, false), MR_OK);
    assert_int_equal(other.head->epoch, 5);
    assert_string_equal(other.head->instance, instance);
    assert_int_equal(other.head->creator_pid, getpid());
    mr_segment_detach(&other);
    mr_segment_detach(&segment);
}

static void another_layout_is_refused_with_both_versions(void **state)
{
    (void)state;
    struct mr_segment segment = create(8192, MR_MAP_ONCE), other;
    atomic_store(&segment.head->version, MR_LAYOUT_VERSION + 41);
    assert_int_equal(attach(&other, true), MR_CORRUPT);
    char expected[64];
    snprintf(expected, sizeof expected, "version %u, this program's version %u",
             MR_LAYOUT_VERSION + 41, MR_LAYOUT_VERSION);
    assert_non_null(strstr(err.text, expected));
    assert_null(other.head);
    mr_segment_detach(&segment);
}

static void another_magic_kind_size_or_name_is_refused(void **state)
{
    (void)state;
    struct mr_segment segment = create(8192, MR_MAP_ONCE), other;
    mr_segment_seal(&segment);
    segment.head->magic = 1;
    assert_int_equal(attach(&other, true), MR_CORRUPT);
    assert_non_null(strstr(err.text, "magic 00000001, expected 4d524d31"));
    segment.head->magic = MR_SEGMENT_MAGIC;
    segment.head->kind = MR_SEGMENT_BOARD;
    assert_int_equal(attach(&other, true), MR_CORRUPT);
    assert_non_null(strstr(err.text, "it is a board (1), expected a ring (2)"));
    segment.head->kind = 77;
    assert_int_equal(attach(&other, true), MR_CORRUPT);
    segment.head->kind = MR_SEGMENT_RING;
    segment.head->size = 4096;
    assert_int_equal(attach(&other, true), MR_CORRUPT);
    assert_non_null(strstr(err.text, "4096"));
    assert_non_null(strstr(err.text, "8192"));
    segment.head->size = 8192;
    memset(segment.head->instance, 'a', MR_INSTANCE_MAX);
    assert_int_equal(attach(&other, true), MR_CORRUPT);
    mr_segment_detach(&segment);
}

static void files_too_short_are_refused(void **state)
{
    (void)state;
    char path[128];
    path_of(path, "t");
    struct mr_segment other;
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(attach(&other, true), MR_AGAIN); /* between its creator's open and ftruncate */
    const off_t sizes[] = {1, 4095, 5000};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(ftruncate(fd, sizes[i]), 0);
        assert_int_equal(attach(&other, true), MR_CORRUPT);
    }
    close(fd);
}

static void create_replaces_a_leftover_with_zeroes(void **state)
{
    (void)state;
    struct mr_segment first = create(8192, MR_MAP_ONCE);
    memset((uint8_t *)first.head + 4096, 0xff, 4096);
    mr_segment_seal(&first);
    struct mr_segment second = create(8192, MR_MAP_ONCE);
    assert_int_equal(((uint8_t *)second.head)[4096], 0);
    assert_int_equal(((uint8_t *)first.head)[4096], 0xff); /* mappings live on */
    mr_segment_detach(&first);
    mr_segment_detach(&second);
}

static void what_cannot_be_created_says_why_and_leaves_nothing(void **state)
{
    (void)state;
    struct mr_segment segment;
    assert_int_equal(mr_segment_create(&segment, instance, "t", MR_SEGMENT_RING, UINT64_C(1) << 50,
                                       5, MR_MAP_ONCE, &err),
                     MR_FATAL);
    assert_non_null(strstr(err.text, "millrace."));
    char path[128];
    path_of(path, "t");
    assert_int_equal(access(path, F_OK), -1);
}

static void instance_names_are_checked(void **state)
{
    (void)state;
    assert_int_equal(mr_segment_check_instance("a-b_9", &err), MR_OK);
    const char *bad[] = {"", "A", "a.b", "a/b", "a b", "0123456789012345678901234567890123"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(mr_segment_check_instance(bad[i], &err), MR_USAGE);
        assert_non_null(strstr(err.text, "instance name"));
    }
    struct mr_segment segment;
    assert_int_equal(
        mr_segment_attach(&segment, "../x", "t", MR_SEGMENT_RING, true, MR_MAP_ONCE, &err),
        MR_USAGE);
}

static void remove_all_takes_only_this_instance(void **state)
{
    (void)state;
    char other[MR_INSTANCE_MAX];
    snprintf(other, sizeof other, "%sx", instance);
    struct mr_segment a, b, c;
    assert_int_equal(
        mr_segment_create(&a, instance, "a", MR_SEGMENT_RING, 8192, 1, MR_MAP_ONCE, &err), MR_OK);
    assert_int_equal(
        mr_segment_create(&b, instance, "b", MR_SEGMENT_RING, 8192, 1, MR_MAP_ONCE, &err), MR_OK);
    assert_int_equal(mr_segment_create(&c, other, "a", MR_SEGMENT_RING, 8192, 1, MR_MAP_ONCE, &err),
                     MR_OK);
    mr_segment_remove(instance, "a");
    mr_segment_remove(instance, "a"); /* missing is no error */
    assert_int_equal(mr_segment_remove_all(instance), 1);
    assert_int_equal(mr_segment_remove_all(other), 1);
    mr_segment_detach(&a);
    mr_segment_detach(&b);
    mr_segment_detach(&c);
}

struct seen {
    uint32_t count;
    char last[MR_INSTANCE_MAX];
    bool sorted;
};

static void see(const char *name, void *context)
{
    struct seen *seen = context;
    if (strncmp(name, instance, strlen(instance)) != 0)
        return;
    seen->sorted = seen->sorted && strcmp(seen->last, name) < 0;
    snprintf(seen->last, sizeof seen->last, "%s", name);
    seen->count++;
}

static void instances_are_those_with_a_board_in_order(void **state)
{
    (void)state;
    const char *suffixes[] = {"b", "a", ""};
    struct mr_segment segment;
    for (size_t i = 0; i < 3; i++) {
        char name[MR_INSTANCE_MAX];
        snprintf(name, sizeof name, "%s%s", instance, suffixes[i]);
        const char *part = i == 2 ? "ring" : "board";
        assert_int_equal(
            mr_segment_create(&segment, name, part, MR_SEGMENT_BOARD, 8192, 1, MR_MAP_ONCE, &err),
            MR_OK);
        mr_segment_detach(&segment);
    }
    struct seen seen = {.sorted = true};
    mr_segment_each_instance(see, &seen);
    for (size_t i = 0; i < 2; i++) {
        char name[MR_INSTANCE_MAX];
        snprintf(name, sizeof name, "%s%s", instance, suffixes[i]);
        mr_segment_remove_all(name);
    }
    assert_int_equal(seen.count, 2);
    assert_true(seen.sorted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(mode_is_0600_whatever_the_umask, setup, teardown),
        cmocka_unit_test_setup_teardown(the_data_is_seen_twice_in_a_row, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unsealed_or_missing_segment_is_to_be_asked_for_again,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(another_layout_is_refused_with_both_versions, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(another_magic_kind_size_or_name_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(files_too_short_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(create_replaces_a_leftover_with_zeroes, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_created_says_why_and_leaves_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(instance_names_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(remove_all_takes_only_this_instance, setup, teardown),
        cmocka_unit_test_setup_teardown(instances_are_those_with_a_board_in_order, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
