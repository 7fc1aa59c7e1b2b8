/* SPDX-License-Identifier: BSD-3-Clause */
/* The records of checkpoints: what is written is read again, and nothing else is taken for one. */
#include "server/backup/checkpoint-record.h"

#include <string.h>

static struct checkpoint_record *example(void)
{
    struct checkpoint_record *r = checkpoint_record_new("mon");

    r->description = g_strdup("\"é\"\n");
    r->session = g_strdup("nightly");
    r->time_usec = INT64_C(1700000000123456);
    checkpoint_record_add_disk(r, "vda", 7);
    checkpoint_record_add_disk(r, "v\\db", INT64_MAX);
    return r;
}

static void check_same(const struct checkpoint_record *a, const struct checkpoint_record *b)
{
    g_assert_cmpstr(a->name, ==, b->name);
    g_assert_cmpstr(a->description, ==, b->description);
    g_assert_cmpstr(a->session, ==, b->session);
    g_assert_cmpint(a->time_usec, ==, b->time_usec);
    g_assert_cmpint(a->deleted, ==, b->deleted);
    g_assert_cmpuint(a->disks->len, ==, b->disks->len);
    for (guint i = 0; i < a->disks->len; i++) {
        g_assert_cmpstr(a->disks->pdata[i], ==, b->disks->pdata[i]);
        g_assert_cmpint(checkpoint_record_disk_id(a, i), ==, checkpoint_record_disk_id(b, i));
    }
}

/* Parse the text, and check that it says what `r` does. */
static void check_text(const struct checkpoint_record *r, const char *text)
{
    GError *error = NULL;
    struct checkpoint_record *back = checkpoint_record_parse(r->name, text, &error);

    g_assert_no_error(error);
    check_same(r, back);
    checkpoint_record_free(back);
}

static void test_round_trip(void)
{
    struct checkpoint_record *r = example();
    g_autofree char *pending = checkpoint_record_text(r), *kept = checkpoint_record_text_kept(r);

    check_text(r, pending);
    g_clear_pointer(&r->session, g_free);
    check_text(r, kept);
    g_clear_pointer(&r->description, g_free);
    r->deleted = true;
    g_autofree char *deleted = checkpoint_record_text(r);
    check_text(r, deleted);
    checkpoint_record_free(r);
}

/* A later version of the server may write more. */
static void test_unknown_members(void)
{
    struct checkpoint_record *r = checkpoint_record_new("mon");

    r->time_usec = 5;
    checkpoint_record_add_disk(r, "a", 0);
    check_text(r, "{\"later\": [{\"x\": null}], \"disks\": [\"a\"], \"time-usec\": 5}");
    checkpoint_record_free(r);
}

static void refuse(const char *name, const char *text, const char *why)
{
    GError *error = NULL;

    g_assert_null(checkpoint_record_parse(name, text, &error));
    g_assert_nonnull(error);
    if (!strstr(error->message, why))
        g_error("%s: %s, not %s", text, error->message, why);
    g_clear_error(&error);
}

static void test_refused(void)
{
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"", "JSON"},
        {"{", "JSON"},
        {"{} {}", "JSON"},
        {"[]", "it is not a JSON object"},
        {"{}", "its time is missing"},
        {"{\"time-usec\": \"1\", \"disks\": [\"a\"]}", "its time is missing"},
        {"{\"time-usec\": -1, \"disks\": [\"a\"]}", "its time is missing"},
        {"{\"time-usec\": 1.5, \"disks\": [\"a\"]}", "its time is missing"},
        {"{\"time-usec\": 1}", "it names no disks"},
        {"{\"time-usec\": 1, \"disks\": []}", "it names no disks"},
        {"{\"time-usec\": 1, \"disks\": {\"a\": 1}}", "it names no disks"},
        {"{\"time-usec\": 1, \"disks\": \"a\"}", "it names no disks"},
        {"{\"time-usec\": 1, \"disks\": [\"a\", 1]}", "one of its disks has no name"},
        {"{\"time-usec\": 1, \"disks\": [[\"a\"]]}", "one of its disks has no name"},
        {"{\"time-usec\": 1, \"disks\": [\"\"]}", "one of its disks has no name"},
        {"{\"time-usec\": 1, \"disks\": [\"a\", \"b\", \"a\"]}", "it names disk a twice"},
        {"{\"time-usec\": 1, \"disks\": [\"a\"], \"disk-ids\": [1, 2]}", "its disk-ids are not"},
        {"{\"time-usec\": 1, \"disks\": [\"a\"], \"disk-ids\": 1}", "its disk-ids are not"},
        {"{\"time-usec\": 1, \"disks\": [\"a\"], \"disk-ids\": [\"1\"]}", "is no number of"},
        {"{\"time-usec\": 1, \"disks\": [\"a\"], \"disk-ids\": [-1]}", "is no number of"},
        {"{\"time-usec\": 1, \"disks\": [\"a\"], \"session\": 1}", "its session is not a text"},
        {"{\"time-usec\": 1, \"disks\": [\"a\"], \"session\": null}", "its session is not a text"},
        {"{\"time-usec\": 1, \"disks\": [\"a\"], \"session\": \"\"}", "its session is not a text"},
        {"{\"time-usec\": 1, \"disks\": [\"a\"], \"description\": {}}",
         "its description is not a text"},
        {"{\"time-usec\": 1, \"disks\": [\"a\"], \"deleted\": 1}", "its deleted is not a boolean"},
        {"{\"time-usec\": 1, \"disks\": [\"a\"], \"disks\": [\"b\"]}", "duplicate"},
    };
    g_autofree char *longest = g_strnfill(CHECKPOINT_MAX_NAME + 1, 'x');
    const char *good = "{\"time-usec\": 1, \"disks\": [\"a\"]}";

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++)
        refuse("mon", bad[i].text, bad[i].why);
    refuse("", good, "no checkpoint has such a name");
    refuse(longest, good, "no checkpoint has such a name");
    longest[CHECKPOINT_MAX_NAME] = '\0';
    checkpoint_record_free(checkpoint_record_parse(longest, good, NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/checkpoint-record/round-trip", test_round_trip);
    g_test_add_func("/checkpoint-record/unknown-members", test_unknown_members);
    g_test_add_func("/checkpoint-record/refused", test_refused);
    return g_test_run();
}
