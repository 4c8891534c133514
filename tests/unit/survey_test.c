/* Which events of a log are the current state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/doc_hash.h"
#include "publisher/survey.h"

enum { DOCUMENTS = 5000, EVENTS = 60000 };

static struct mr_survey survey;
static uint64_t sequence;

static int setup(void **state)
{
    (void)state;
    survey = (struct mr_survey){0};
    sequence = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_survey_fini(&survey);
    return 0;
}

static uint64_t take(uint8_t op, unsigned document, bool matches)
{
    char id[24];
    int len = snprintf(id, sizeof id, "d%u", document);
    struct mr_event event = {.head = {.sequence = ++sequence, .op = op},
                             .database = MR_STR("db"),
                             .collection = MR_STR("c"),
                             .document_id = {id, (size_t)len}};
    event.head.document_hash = mr_doc_hash(event.database, event.collection, event.document_id);
    assert_int_equal(mr_survey_take(&survey, &event, matches), MR_OK);
    return sequence;
}

static void the_last_event_of_a_document_that_matches_is_kept(void **state)
{
    (void)state;
    uint64_t first = take(MR_OP_INSERT, 1, true), second = take(MR_OP_UPDATE, 1, true);
    uint64_t gone = take(MR_OP_INSERT, 2, true), left = take(MR_OP_UPDATE, 2, false);
    uint64_t removed = take(MR_OP_INSERT, 3, true), end = take(MR_OP_DELETE, 3, true);
    take(MR_OP_DELETE, 4, true);
    uint64_t back = take(MR_OP_INSERT, 4, true), never = take(MR_OP_INSERT, 5, false);
    assert_int_equal(mr_survey_finish(&survey), MR_OK);
    assert_false(mr_survey_keeps(&survey, first));
    assert_true(mr_survey_keeps(&survey, second));
    assert_true(mr_survey_keeps(&survey, second)); /* again: it did not fit the first time */
    assert_false(mr_survey_keeps(&survey, gone) || mr_survey_keeps(&survey, left));
    assert_false(mr_survey_keeps(&survey, removed) || mr_survey_keeps(&survey, end));
    assert_true(mr_survey_keeps(&survey, back));
    assert_false(mr_survey_keeps(&survey, never));
}

static void a_truncation_empties_the_state_and_a_gap_stays_in_it(void **state)
{
    (void)state;
    take(MR_OP_INSERT, 1, true);
    take(MR_OP_TRUNCATE, 0, false); /* of another collection */
    uint64_t before = take(MR_OP_INSERT, 2, true);
    take(MR_OP_TRUNCATE, 0, true);
    uint64_t after = take(MR_OP_INSERT, 2, true);
    uint64_t gaps[] = {take(MR_OP_GAP, 0, true), take(MR_OP_GAP, 0, true)};
    assert_int_equal(mr_survey_finish(&survey), MR_OK);
    assert_int_equal(survey.count, 3);
    assert_false(mr_survey_keeps(&survey, before));
    assert_true(mr_survey_keeps(&survey, after));
    assert_true(mr_survey_keeps(&survey, gaps[0]) && mr_survey_keeps(&survey, gaps[1]));
}

static void nothing_is_the_state_of_an_empty_log(void **state)
{
    (void)state;
    assert_int_equal(mr_survey_finish(&survey), MR_OK);
    assert_false(mr_survey_keeps(&survey, 1));
}

/* Against a model, through many growths of the table. */
static void many_documents_come_and_go(void **state)
{
    (void)state;
    static uint64_t model[DOCUMENTS];
    uint64_t random = 42, kept = 0;
    for (unsigned i = 0; i < EVENTS; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        unsigned document = (unsigned)(random >> 33) % DOCUMENTS;
        bool matches = random >> 20 & 1, removed = (random >> 24 & 7) == 0;
        uint64_t at = take(removed ? MR_OP_DELETE : MR_OP_UPDATE, document, matches);
        model[document] = matches && !removed ? at : 0;
    }
    assert_int_equal(mr_survey_finish(&survey), MR_OK);
    for (unsigned i = 0; i < DOCUMENTS; i++)
        kept += model[i] != 0;
    assert_int_equal(survey.count, kept);
    for (uint64_t at = 1; at <= sequence; at++) {
        bool expected = false;
        if (mr_survey_keeps(&survey, at)) {
            for (unsigned i = 0; i < DOCUMENTS && !expected; i++)
                expected = model[i] == at;
            assert_true(expected);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_last_event_of_a_document_that_matches_is_kept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_truncation_empties_the_state_and_a_gap_stays_in_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(nothing_is_the_state_of_an_empty_log, setup, teardown),
        cmocka_unit_test_setup_teardown(many_documents_come_and_go, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
