/* SPDX-License-Identifier: BSD-3-Clause */
/* What progress looks like. */
#include "client/base/progress-text.h"
#include "client/base/progress.h"
#include "client/base/terminal.h"

#include <locale.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

static const struct progress_row half = {.name = "vda",
                                         .done = 50 * MIB,
                                         .total = 100 * MIB,
                                         .moved = 10 * MIB,
                                         .rate = 5.0 * MIB,
                                         .left = 80};

static char *text_of(const struct progress_row *row, unsigned name_width, unsigned width, bool utf8)
{
    GString *out = g_string_new(NULL);

    progress_text(out, row, name_width, width, utf8);
    return g_string_free(out, FALSE);
}

static void assert_text(const struct progress_row *row, unsigned name_width, unsigned width,
                        const char *expected)
{
    g_autofree char *text = text_of(row, name_width, width, false);

    g_assert_cmpstr(text, ==, expected);
}

static void test_text(void)
{
    struct progress_row row = half;

    assert_text(&half, 3, 80,
                "vda  ##############...............   50 %  10 MiB  5 MiB/s  1 min 20 s left");
    assert_text(&half, 5, 63, "vda    #####.....   50 %  10 MiB  5 MiB/s  1 min 20 s left");
    assert_text(&half, 5, 62, "vda     50 %  10 MiB  5 MiB/s  1 min 20 s left");
    row.name = "vda-of-the-other-host";
    assert_text(&row, 3, 56, "vda-of-...   50 %  10 MiB  5 MiB/s  1 min 20 s left");
    assert_text(&row, 3, 20, " 50 %  10 MiB  5 MiB");
    row.name = "vda";
    row.rate = row.left = -1;
    assert_text(&row, 3, 61, "vda  #####.....   50 %  10 MiB");
    row.done = row.total - 1;
    assert_text(&row, 3, 61, "vda  #########.   99 %  10 MiB");
    row.done = row.total;
    row.word = "done";
    assert_text(&row, 3, 61, "vda  ##########  100 %  10 MiB  done");
    row.total = 0; /* nobody knows */
    assert_text(&row, 3, 80, "vda  10 MiB  done");
}

/* Never wider than the terminal, whatever its width. */
static void test_width(void)
{
    struct progress_row row = half;

    row.name = "a-disk-with-a-rather-long-name-\xe5\xad\x97";
    for (unsigned width = 1; width < 200; width++) {
        g_autofree char *text = text_of(&row, 10, width, true);

        g_assert_cmpuint(text_width(text), <=, width);
    }
}

static void test_time(void)
{
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {{0.2, "0 s"},           {59.4, "59 s"},      {59.6, "1 min 0 s"},
                 {3599, "59 min 59 s"},  {3600, "1 h 0 min"}, {90061, "25 h 1 min"},
                 {1e300, "1000 h 0 min"}};

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GString) out = g_string_new(NULL);

        progress_append_time(out, cases[i].seconds);
        g_assert_cmpstr(out->str, ==, cases[i].text);
    }
}

static void test_json(void)
{
    struct progress_row row = {
        .name = "v\"a", .done = 1, .total = 2, .moved = 3, .rate = -1, .left = -1};
    g_autoptr(GString) out = g_string_new(NULL);

    progress_json(out, &row);
    g_assert_cmpstr(out->str, ==,
                    "{\"progress\":{\"name\":\"v\\\"a\",\"done\":1,\"total\":2,\"read\":3}}\n");
    row.rate = 4.4;
    row.left = 5.6;
    row.word = "done";
    g_string_truncate(out, 0);
    progress_json(out, &row);
    g_assert_cmpstr(out->str, ==,
                    "{\"progress\":{\"name\":\"v\\\"a\",\"done\":1,\"total\":2,\"read\":3,"
                    "\"rate\":4,\"seconds-left\":6,\"state\":\"done\"}}\n");
}

/* ---- what is printed: by a child, whose output is no terminal ---- */

static void print_rows(bool json)
{
    struct progress *p = progress_new(json);
    unsigned a = progress_add(p, "vda", 10), b = progress_add(p, "vdb", 0);

    g_assert_cmpint(progress_draw(p), >, 0);
    progress_update(p, a, 5, 10, 5);
    progress_draw(p); /* not due */
    progress_update(p, a, 10, 10, 7);
    progress_close(p, a, "done");
    progress_draw(p);
    progress_update(p, b, 1, 4, 1);
    progress_free(p);
}

static void test_prints_nothing(void)
{
    if (g_test_subprocess()) {
        print_rows(false);
        return;
    }
    g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_passed();
    g_test_trap_assert_stdout_unmatched("*vda*");
    g_test_trap_assert_stderr_unmatched("*vda*");
}

static void test_prints_json(void)
{
    if (g_test_subprocess()) {
        print_rows(true);
        return;
    }
    g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr_unmatched("*vda*");
    g_test_trap_assert_stdout(
        "*{\"progress\":{\"name\":\"vda\",\"done\":0,\"total\":10,\"read\":0}}\n"
        "{\"progress\":{\"name\":\"vdb\",\"done\":0,\"total\":0,\"read\":0}}\n"
        "{\"progress\":{\"name\":\"vda\",\"done\":10,\"total\":10,\"read\":7,\"state\":\"done\"}}\n"
        "{\"progress\":{\"name\":\"vdb\",\"done\":0,\"total\":0,\"read\":0}}\n"
        "{\"progress\":{\"name\":\"vdb\",\"done\":1,\"total\":4,\"read\":1}}\n*");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/progress/text", test_text);
    g_test_add_func("/progress/width", test_width);
    g_test_add_func("/progress/time", test_time);
    g_test_add_func("/progress/json", test_json);
    g_test_add_func("/progress/prints-nothing", test_prints_nothing);
    g_test_add_func("/progress/prints-json", test_prints_json);
    return g_test_run();
}
