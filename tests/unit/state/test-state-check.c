/* SPDX-License-Identifier: BSD-3-Clause */
/* Checking and mending state folders. */
#include "common/state/folder.h"
#include "common/state/journal-format.h"
#include "tests/rigs/checked-state.h"

/* A folder that was left in order is good, and a check changes none of its files. */
static void test_clean(void)
{
    g_autoptr(folder_image) i = checked_make(MADE_CLEAN);
    g_autoptr(checked) r = checked_image(i);
    struct verdict v = checked_judge(r);

    checked_print(r);
    g_assert_null(r->error);
    g_assert_false(v.found);
    g_assert_cmpuint(v.good, ==, n_made_bitmaps);
    g_assert_cmpint(r->recovery, ==, RECOVERY_NONE);
    g_assert_cmpuint(r->notes->len, ==, 0);
}

static void test_killed(void)
{
    g_autofree char *path = checked_path("killed");
    g_autoptr(checked) r = NULL;
    struct verdict v;

    made_state(path, MADE_KILLED);
    r = checked_folder(path);
    checked_print(r);
    v = checked_judge(r);
    g_assert_false(v.found);
    g_assert_cmpuint(v.good, ==, n_made_bitmaps);
    g_assert_cmpint(r->recovery, ==, RECOVERY_PROCESS);
    made_state_forget(path);
    folder_remove(path);
}

static void test_power(void)
{
    g_autoptr(folder_image) i = checked_make(MADE_POWER);
    g_autoptr(checked) r = checked_image(i);
    struct verdict v = checked_judge(r);

    checked_print(r);
    g_assert_false(v.found);
    g_assert_cmpint(r->recovery, ==, RECOVERY_POWER_LOSS);
    g_assert_cmpuint(v.good, ==, n_made_bitmaps - 2); /* a and b of vda are wider */
    g_assert_cmpuint(v.wide, ==, 2);
    g_assert_cmpuint(checked_excess(r, &made_bitmaps[0]), ==, 1 << JOURNAL_REGION_SHIFT);
}

/* The bits of a folder that failed are not trusted. */
static void test_failed(void)
{
    g_autoptr(folder_image) i = checked_make(MADE_FAILED);
    g_autoptr(checked) r = checked_image(i);
    struct verdict v = checked_judge(r);

    checked_print(r);
    g_assert_null(r->error);
    g_assert_cmpuint(v.absent, ==, n_made_bitmaps - 1);
    g_assert_cmpuint(v.good, ==, 1); /* the one that was inconsistent before */
}

/* What a check has mended, another one does not find again. */
static void check_twice(const folder_image *i, unsigned at_least)
{
    g_autofree char *path = checked_path("twice");
    g_autoptr(checked) first = NULL, second = NULL;

    folder_image_write(i, path);
    first = checked_folder(path);
    checked_print(first);
    g_assert_null(first->error);
    g_assert_cmpuint(first->findings->len, >=, at_least);
    for (guint f = 0; f < first->findings->len; f++)
        g_assert_true(((struct state_finding *)first->findings->pdata[f])->mended);
    second = checked_folder(path);
    checked_print(second);
    g_assert_null(second->error);
    g_assert_cmpuint(second->findings->len, ==, 0);
    g_assert_cmpuint(second->damaged->len, ==, 0);
    folder_remove(path);
}

static void test_repair(void)
{
    g_autoptr(folder_image) i = checked_make(MADE_CLEAN);

    for (guint f = 0; f < i->names->len; f++) {
        GByteArray *bytes = i->bytes->pdata[f];

        if (g_str_has_prefix(i->names->pdata[f], STATE_BITS))
            bytes->data[bytes->len / 2 + 1]++;
    }
    g_ptr_array_add(i->names, g_strdup("bits/0f8fad5b-d9cb-469f-a165-70867728950e"));
    g_ptr_array_add(i->bytes, g_byte_array_new());
    g_ptr_array_add(i->names, g_strdup(STATE_LIVE));
    g_ptr_array_add(i->bytes, g_byte_array_new_take((guint8 *)g_strdup("x"), 1));
    check_twice(i, n_made_bitmaps - 1 + 2);
}

/* A file that somebody has put there. */
static void test_stranger_in_bits(void)
{
    g_autoptr(folder_image) i = checked_make(MADE_CLEAN);
    g_autoptr(checked) r = NULL;

    g_ptr_array_add(i->names, g_strdup("bits/0f8fad5b-d9cb-469f-a165-70867728950e.bak"));
    g_ptr_array_add(i->bytes, g_byte_array_new());
    r = checked_image(i);
    g_assert_cmpuint(r->findings->len, ==, 0);
    g_assert_cmpuint(r->notes->len, ==, 1);
    g_assert_true(g_str_has_prefix(r->notes->pdata[0], "bits/0f8fad5b-"));
}

int main(int argc, char **argv)
{
    int code;

    g_test_init(&argc, &argv, NULL);
    checked_begin();
    g_test_add_func("/state-check/clean", test_clean);
    g_test_add_func("/state-check/killed", test_killed);
    g_test_add_func("/state-check/power", test_power);
    g_test_add_func("/state-check/failed", test_failed);
    g_test_add_func("/state-check/repair", test_repair);
    g_test_add_func("/state-check/stranger-in-bits", test_stranger_in_bits);
    code = g_test_run();
    checked_end();
    return code;
}
