/* SPDX-License-Identifier: BSD-3-Clause */
/* The plugins that the distribution has: do they find all that they need, and can two of each be in
 * one process? test-copies.py tests what they serve. */
#include "tests/backend/harness.h"

#include "server/backend/plugin-private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void assert_load_error(const char *plugin, const char *expected)
{
    g_autoptr(GError) err = NULL;

    g_assert_null(harness_try(&err, plugin, NULL));
    assert_contains(err->message, "disk vda: ");
    assert_contains(err->message, expected);
}

/* The names of symbols in `nm`'s third column, those that begin with nbdkit_. */
static GHashTable *symbols(const char *file, const char *option)
{
    char *argv[] = {(char *)"nm", (char *)"-D", (char *)option, (char *)file, NULL};
    GHashTable *set = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree char *out = NULL;
    int status = -1;

    g_assert_true(
        g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
    g_auto(GStrv) lines = g_strsplit(out, "\n", -1);
    for (char **l = lines; *l; l++) {
        const char *name = strrchr(*l, ' ');
        if (name && g_str_has_prefix(name + 1, "nbdkit_"))
            g_hash_table_add(set, g_strdup(name + 1));
    }
    return set;
}

static GPtrArray *installed_plugins(void)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);
    const char *folder = g_getenv("NBDKIT_PLUGINDIR");
    g_autoptr(GDir) d = folder ? g_dir_open(folder, 0, NULL) : NULL;
    const char *name;

    while (d && (name = g_dir_read_name(d))) {
        if (g_str_has_suffix(name, "-plugin.so"))
            g_ptr_array_add(paths, g_build_filename(folder, name, NULL));
    }
    return paths;
}

static void test_installed_symbols(void)
{
    g_autoptr(GPtrArray) paths = installed_plugins();
    g_autofree char *nm = g_find_program_in_path("nm");
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);

    if (!paths->len || !nm) {
        g_test_skip("no nbdkit plugins installed, or no nm");
        return;
    }
    g_autoptr(GHashTable) exported = symbols(self, "--defined-only");
    for (unsigned i = 0; i < paths->len; i++) {
        g_autoptr(GHashTable) wanted = symbols(paths->pdata[i], "--undefined-only");
        GHashTableIter iter;
        gpointer symbol;
        g_hash_table_iter_init(&iter, wanted);
        while (g_hash_table_iter_next(&iter, &symbol, NULL)) {
            if (!g_hash_table_contains(exported, symbol))
                g_error("%s needs %s", (char *)paths->pdata[i], (char *)symbol);
        }
    }
    g_test_message("%u plugins", paths->len);
    g_assert_cmpuint(g_hash_table_size(exported), >=, 45);
}

/* Load the plugin twice, in a process of its own, which alone ends where something goes wrong. The
 * second one is a copy, or it is told why there cannot be one. */
static void load_twice(const char *path)
{
    g_autoptr(GError) err = NULL;
    FILE *null = fopen("/dev/null", "w");
    struct backend *a = plugin_load(path, "vda", &err);

    g_assert_no_error(err);
    struct backend *b = plugin_load(path, "vdb", &err);
    if (b) {
        g_assert_true(plugin_of(a)->dl != plugin_of(b)->dl);
        plugin_help(b, null);
    } else { /* test-copies.py tests which plugins may be refused */
        g_test_message("%s", err->message);
        assert_contains(err->message, "disk vdb: ");
        assert_contains(err->message, "can serve only one disk of a server: it needs lib");
    }
    plugin_help(a, null); /* .load is called here */
    harness_free(a);
    if (b)
        harness_free(b);
    fclose(null);
}

static void test_installed_load(gconstpointer path)
{
    int status;

    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        load_twice(path);
        exit(0); /* and not _exit: what plugins and libraries do at exit is part of the test */
    }
    g_assert_cmpint(child, >, 0);
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    if (status != 0) {
        g_test_message("%s: wait status 0x%x", (const char *)path, (unsigned)status);
        g_test_fail();
    }
}

static void test_none_installed(void)
{
    g_test_skip("no nbdkit plugins installed");
}

static void add_installed(void)
{
    g_autoptr(GPtrArray) paths = installed_plugins();

    for (unsigned i = 0; i < paths->len; i++) {
        g_autofree char *base = g_path_get_basename(paths->pdata[i]);
        g_autofree char *name = g_strdup_printf("/installed/load/%s", base);
        g_test_add_data_func_full(name, g_strdup(paths->pdata[i]), test_installed_load, g_free);
    }
    if (paths->len == 0)
        g_test_add_func("/installed/load", test_none_installed);
}

/* ---- libraries that are not known to bear two users ---- */

/* As long as it is mapped, neither the same file nor a copy of it may be loaded. */
static void test_unknown_library(void)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *text = NULL;
    gsize length;

    if (!harness_have_plugins())
        return;
    g_autofree char *path =
        g_strdup_printf("%s/tests/plugins-src/.libs/needy.so", g_getenv("top_builddir"));
    g_assert_true(g_file_get_contents(path, &text, &length, NULL));
    g_autofree char *other = harness_file("other.so", 0, text, length);

    struct backend *b = harness_load("@needy", NULL);
    assert_load_error("@needy", "it needs libg");
    assert_load_error(other, "it needs libg");
    assert_load_error(other, "'nbd command=nbdkit arg=");
    harness_free(harness_load("@v2", NULL)); /* other plugins can still be loaded */
    harness_close(harness_open(b));
    harness_free(b);
#if !defined(__SANITIZE_ADDRESS__) &&                                                              \
    !defined(__SANITIZE_THREAD__) /* nothing is unmapped there   \
                                                                     */
    harness_free(harness_load(other, NULL));
#endif
}

static void add_tests(void)
{
    g_test_add_func("/installed/symbols", test_installed_symbols);
    g_test_add_func("/installed/unknown-library", test_unknown_library);
    add_installed();
}

int main(int argc, char **argv)
{
    return harness_main(argc, argv, add_tests);
}
