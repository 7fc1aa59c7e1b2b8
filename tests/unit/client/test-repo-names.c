/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of the files of a repository; times as manifests have them and as people write them. */
#include "client/repo/repo-names.h"
#include "client/repo/repo-time.h"

#include <string.h>

#define TIME INT64_C(1793502000000000) /* 2026-11-01T03:00:00Z */

static void file_is(const char *disk, const char *file)
{
    g_autofree char *name = repo_file_name(disk, 42, REPO_INC);
    g_autoptr(GError) error = NULL;

    g_assert_cmpstr(name, ==, file);
    repo_file_check(name, &error);
    g_assert_no_error(error);
}

static void test_names(void)
{
    g_autofree char *same = repo_backing_name("vda/00001-inc.qcow2", "vda/00000-full.qcow2"),
                    *other = repo_backing_name("vda/00001-inc.qcow2", "vdab/00000-full.qcow2"),
                    *long_name = g_strnfill(300, 'a'), *longer = g_strnfill(301, 'a'),
                    *first = repo_folder_name(long_name), *second = repo_folder_name(longer);

    file_is("vda", "vda/00042-inc.qcow2");
    file_is("a b/../c", "a%20b%2F..%2Fc/00042-inc.qcow2");
    file_is(".hidden", "%2Ehidden/00042-inc.qcow2");
    file_is("..", "%2E./00042-inc.qcow2");
    file_is("-x", "%2Dx/00042-inc.qcow2");
    file_is("", "%/00042-inc.qcow2");
    file_is("lock", "%6Cock/00042-inc.qcow2");
    file_is("manifest.json", "%6Danifest.json/00042-inc.qcow2");
    file_is("\xc3\xa4", "%C3%A4/00042-inc.qcow2");
    g_assert_cmpstr(same, ==, "00000-full.qcow2");
    g_assert_cmpstr(other, ==, "../vdab/00000-full.qcow2");
    g_assert_cmpstr(first, !=, second);
    g_assert_cmpuint(strlen(first), ==, 120);
}

/* ---- times ---- */

static void until_is(const char *text, int64_t wanted)
{
    int64_t time;

    if (!repo_time_until(text, &time))
        g_error("%s is not taken", text);
    g_assert_cmpint(time, ==, wanted);
}

static void test_times(void)
{
    static const char *const wrong[] = {"",
                                        "yesterday",
                                        "2026-11-1",
                                        "2026-11-31",
                                        "2026-11-01 3:00",
                                        "2026-11-01 03:00:",
                                        "2026-11-01 03:00:00.",
                                        "2026-11-01 03:00x",
                                        "2026-11-01Z",
                                        "2026-11-01 03:00 ",
                                        "2026-11-01 03:00:61",
                                        "1926-11-01 03:00",
                                        "2026-11-01T03:00+99:99"};
    int64_t time;

    until_is("2026-11-01T03:00Z", TIME + 59999999);
    until_is("2026-11-01 03:00:00Z", TIME + 999999);
    until_is("2026-11-01T03:00:00.25Z", TIME + 250000);
    until_is("2026-11-01T03:00:00.2500009Z", TIME + 250000);
    until_is("2026-11-01T05:00:00.000000+02:00", TIME);
    until_is("2026-11-01 03:00", TIME + 59999999); /* local: $TZ, which main() sets */
    until_is("2026-11-01", TIME + 21 * INT64_C(3600000000) - 1);
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        if (repo_time_until(wrong[i], &time))
            g_error("%s is taken", wrong[i]);
    }
    for (unsigned i = 0; i < 1000; i++) {
        int64_t some = (int64_t)g_test_rand_int_range(0, G_MAXINT32) * 100003;
        g_autofree char *text = repo_time_text(some);

        g_assert_true(repo_time_parse(text, &time));
        g_assert_cmpint(time, ==, some);
    }
    g_assert_null(repo_time_text(-1));
}

int main(int argc, char **argv)
{
    g_setenv("TZ", "UTC", TRUE);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/repo-names/names", test_names);
    g_test_add_func("/repo-names/times", test_times);
    return g_test_run();
}
