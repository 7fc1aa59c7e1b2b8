/* SPDX-License-Identifier: BSD-3-Clause */
/* What tests of the command line share. */
#ifndef TESTS_RIGS_OPTIONS_HARNESS_H
#define TESTS_RIGS_OPTIONS_HARNESS_H

#include "server/start/command-line.h"

#include <string.h>
#include <sys/socket.h>

/* The file that --config reads in these tests, whatever its name; NULL: it cannot be read. */
static const char *config_text;

static char *fake_reader(const char *path, GError **err)
{
    if (config_text)
        return g_strdup(config_text);
    g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOENT, "%s: gone", path);
    return NULL;
}

/* Parse a command line given as one string of words, with a shell's quotes. */
G_GNUC_UNUSED static struct options *parse(const char *words, GError **err)
{
    g_autofree char *line = g_strconcat("nbdfleece ", words, NULL);
    g_auto(GStrv) argv = NULL;
    int argc;

    g_assert_true(g_shell_parse_argv(line, &argc, &argv, NULL));
    return command_line_parse(argc, argv, fake_reader, err);
}

G_GNUC_UNUSED static struct options *parse_good(const char *words)
{
    g_autoptr(GError) err = NULL;
    struct options *o = parse(words, &err);

    g_assert_no_error(err);
    g_assert_nonnull(o);
    return o;
}

G_GNUC_UNUSED static void assert_bad(const char *words, enum options_error code,
                                     const char *message)
{
    g_autoptr(GError) err = NULL;

    g_assert_null(parse(words, &err));
    g_assert_error(err, OPTIONS_ERROR, (int)code);
    g_assert_cmpstr(err->message, ==, message);
}

G_GNUC_UNUSED static void assert_usage(const char *words, const char *message)
{
    assert_bad(words, OPTIONS_ERROR_USAGE, message);
}

G_GNUC_UNUSED static const struct option_disk *disk(const struct options *o, unsigned i)
{
    g_assert_cmpuint(i, <, o->disks->len);
    return o->disks->pdata[i];
}

/* A disk's words, as one string: "key=value bare". */
G_GNUC_UNUSED static void assert_words(const struct option_disk *d, const char *expected)
{
    g_autoptr(GString) all = g_string_new(NULL);

    for (unsigned i = 0; i < d->words->len; i++) {
        const struct backend_word *w = &g_array_index(d->words, struct backend_word, i);

        if (i)
            g_string_append_c(all, ' ');
        if (w->key)
            g_string_append_printf(all, "%s=", w->key);
        else
            g_string_append_c(all, '@');
        g_string_append(all, w->value);
    }
    g_assert_cmpstr(all->str, ==, expected);
}

#endif
