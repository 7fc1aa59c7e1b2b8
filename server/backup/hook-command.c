/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/backup/hook-command.h"

#include "common/util/error.h"

#include <stdlib.h>
#include <string.h>

/* The folder where the build puts our hooks, beside the program. */
static char *folder_in_build_tree(void)
{
    g_autofree char *program = g_file_read_link("/proc/self/exe", NULL);

    if (!program)
        return NULL;
    g_autofree char *top = g_path_get_dirname(program);
    return g_build_filename(top, "server", "hooks", NULL);
}

/* NULL: it is not there. */
static char *find_in(const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);

    return g_file_test(path, G_FILE_TEST_IS_REGULAR) ? g_steal_pointer(&path) : NULL;
}

char *hook_find_ours(const char *name)
{
    const char *given = secure_getenv("NBDFLEECE_HOOK_PATH");
    g_auto(GStrv) folders = g_strsplit(given ? given : "", ":", -1);
    g_autofree char *built = folder_in_build_tree();
    char *path = NULL;

    for (char **f = folders; *f && !path; f++)
        path = find_in(*f, name);
    if (!path && built)
        path = find_in(built, name);
    return path ? path : find_in(PKGLIBEXECDIR, name);
}

char **hook_command_split(const char *command, GError **err)
{
    g_autoptr(GError) why = NULL;
    char **words;

    if (g_shell_parse_argv(command, NULL, &words, &why))
        return words;
    fail(err, "freeze hook: '%s': %s", command, why->message);
    return NULL;
}

static char *find_program(const char *word)
{
    char *path;

    if (strchr(word, '/'))
        return g_canonicalize_filename(word, NULL);
    path = hook_find_ours(word);
    return path ? path : g_find_program_in_path(word);
}

char *hook_command_resolve(const char *command, GError **err)
{
    g_auto(GStrv) words = hook_command_split(command, err);
    g_autofree char *path = NULL;
    GString *resolved;

    if (!words)
        return NULL;
    path = find_program(words[0]);
    if (!path) {
        fail(err, "freeze hook: there is no program '%s', neither in $PATH nor of ours", words[0]);
        return NULL;
    }
    g_free(words[0]);
    words[0] = g_steal_pointer(&path);
    resolved = g_string_new(NULL);
    for (char **w = words; *w; w++) {
        g_autofree char *quoted = g_shell_quote(*w);

        g_string_append_printf(resolved, "%s%s", w == words ? "" : " ", quoted);
    }
    return g_string_free(resolved, FALSE);
}
