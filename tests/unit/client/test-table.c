/* SPDX-License-Identifier: BSD-3-Clause */
/* Tables and terminal-safe text. */
#include "client/cli/table.h"

#include <string.h>

static const struct terminal plain = {.utf8 = true, .width = 80};
static const struct terminal bold = {.is_terminal = true, .utf8 = true, .bold = true, .width = 80};
static const struct terminal ascii = {.width = 80};

static const char *const headers[] = {"NAME", ">SIZE", "FILE", NULL};

static char *print(const struct terminal *terminal)
{
    g_autoptr(table) t = table_new(terminal, headers);
    GString *out = g_string_new(NULL);

    table_add(t, "vda");
    table_add_size(t, 1ull << 30);
    table_add(t, "/srv/vda.raw");
    table_add(t, "\xc3\xa4\xe5\xad\x97");
    table_add_number(t, 7);
    table_add(t, NULL);
    table_print(t, out);
    return g_string_free(out, FALSE);
}

static void test_alignment(void)
{
    g_autofree char *text = print(&plain);

    g_assert_cmpstr(text, ==,
                    "NAME   SIZE  FILE\n"
                    "vda   1 GiB  /srv/vda.raw\n"
                    "\xc3\xa4\xe5\xad\x97       7  -\n");
}

static void test_bold(void)
{
    g_autofree char *text = print(&bold);

    g_assert_true(g_str_has_prefix(text, "\033[1mNAME   SIZE  FILE\033[0m\nvda "));
}

static void test_ascii(void)
{
    g_autofree char *text = print(&ascii);

    g_assert_true(g_str_is_ascii(text));
    g_assert_nonnull(strstr(text, "\\u{e4}\\u{5b57}"));
}

static void test_clean(void)
{
    static const struct {
        const char *text, *clean;
    } cases[] = {
        {"plain", "plain"},
        {"\033[2J", "\\u{1b}[2J"},
        {"a\nb\tc", "a\\u{a}b\\u{9}c"},
        {"\xc2\x9b"
         "31m",
         "\\u{9b}31m"}, /* CSI in one character */
        {"\xe2\x80\xae"
         "x",
         "\\u{202e}x"},           /* right-to-left override */
        {"\xff", "\xef\xbf\xbd"}, /* not UTF-8 */
        {"\xc3\xa4", "\xc3\xa4"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *clean = text_clean(cases[i].text, false);

        g_assert_cmpstr(clean, ==, cases[i].clean);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/client/table/alignment", test_alignment);
    g_test_add_func("/client/table/bold", test_bold);
    g_test_add_func("/client/table/ascii", test_ascii);
    g_test_add_func("/client/terminal/clean", test_clean);
    return g_test_run();
}
