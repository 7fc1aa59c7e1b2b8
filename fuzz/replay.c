/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A fuzz target as an ordinary program: every input runs once, in the order of the names.
 *
 *   replay-NAME [FILE|FOLDER]...     default: $top_builddir/fuzz/seeds/NAME
 *
 * Without arguments it prints TAP with one test for the folder: an input that does not hold ends
 * the program, and the last line of its output names it.
 */
#include "fuzz/fuzz.h"

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned replay_file(const char *path)
{
    g_autoptr(GError) err = NULL;
    char *text;
    gsize size;

    if (!g_file_get_contents(path, &text, &size, &err)) {
        printf("Bail out! %s\n", err->message);
        exit(1);
    }
    /* g_file_get_contents adds a NUL. Without it a sanitizer sees a read behind the data. */
    uint8_t *exact = g_memdup2(text, size);
    g_free(text);
    printf("# %s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput(exact, size);
    g_free(exact);
    return 1;
}

static int by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static unsigned replay(const char *path)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    GDir *dir = g_dir_open(path, 0, NULL);
    unsigned n = 0;

    if (dir == NULL)
        return replay_file(path);
    for (const char *name; (name = g_dir_read_name(dir)) != NULL;)
        g_ptr_array_add(names, g_build_filename(path, name, NULL));
    g_dir_close(dir);
    g_ptr_array_sort(names, by_name);
    for (unsigned i = 0; i < names->len; i++)
        n += replay_file(g_ptr_array_index(names, i));
    return n;
}

int main(int argc, char **argv)
{
    const char *top = g_getenv("top_builddir");
    g_autofree char *seeds =
        g_build_filename(top != NULL ? top : ".", "fuzz", "seeds", fuzz_name, NULL);
    unsigned n = 0;

    LLVMFuzzerInitialize(&argc, &argv);
    if (argc > 1 && strcmp(argv[1], "--tap") != 0) {
        for (int i = 1; i < argc; i++)
            n += replay(argv[i]);
        printf("%u inputs\n", n);
        return 0;
    }
    printf("1..1\n");
    n = replay(seeds);
    printf("%s 1 - %s: %u inputs\n", n > 0 ? "ok" : "not ok", fuzz_name, n);
    return n > 0 ? 0 : 1;
}
