/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * --config: the command line as a key file.
 *
 *     [nbdfleece]                 options by their long names; those without an argument take
 *     unix = /run/vm/nbd.sock     true or false
 *     readonly = true
 *
 *     [disk vda]                  a disk, in the order of the file
 *     plugin = file
 *     arguments = vda.raw         words as on a command line, with a shell's quotes
 *     cache = none                any other key is the plugin's own
 *
 * GKeyFile merges two groups or keys of the same name, and drops keys that end in a [language]
 * other than ours. Neither may happen here without an error. So check_repeats reads the text
 * before, by the rules of GKeyFile (g_key_file_parse_line), and languages are kept.
 */
#include "server/start/options-file.h"

#include "server/start/options-table.h"

#include <string.h>

static const char options_group[] = "nbdfleece";
static const char disk_prefix[] = "disk ";

static int bad(GError **err, const char *path, const char *group, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

static int bad(GError **err, const char *path, const char *group, const char *format, ...)
{
    g_autofree char *message = NULL;
    va_list args;

    va_start(args, format);
    message = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(err, OPTIONS_ERROR, OPTIONS_ERROR_USAGE, "%s: [%s]: %s", path, group, message);
    return -1;
}

/* A value without its escapes; g_free. If the last escape is incomplete, GLib gives both a value
 * and an error. */
static char *read_string(const char *path, GKeyFile *file, const char *group, const char *key,
                         GError **err)
{
    g_autoptr(GError) error = NULL;
    char *value = g_key_file_get_string(file, group, key, &error);

    if (!error)
        return value;
    g_free(value);
    if (g_error_matches(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE))
        bad(err, path, group, "key '%s': a backslash is to be written \\\\", key);
    else
        bad(err, path, group, "key '%s': %s", key, error->message);
    return NULL;
}

static int read_option(struct options *o, const char *path, GKeyFile *file, const char *key,
                       GError **err)
{
    g_autofree char *value = NULL;
    gboolean wanted;

    if (strcmp(key, "disk") == 0)
        return bad(err, path, options_group, "a disk is a group of its own here: [disk NAME]");
    switch (options_takes_argument(key)) {
    case -1:
        return bad(err, path, options_group, "there is no option '%s'", key);
    case 0: {
        g_autoptr(GError) error = NULL;

        wanted = g_key_file_get_boolean(file, options_group, key, &error);
        if (error)
            return bad(err, path, options_group, "option '%s' is neither true nor false", key);
        if (!wanted)
            return 0;
        break;
    }
    default:
        value = read_string(path, file, options_group, key, err);
        if (!value)
            return -1;
    }
    if (options_set(o, key, value, err) < 0) {
        g_prefix_error(err, "%s: [%s]: ", path, options_group);
        return -1;
    }
    return 0;
}

static int read_options(struct options *o, const char *path, GKeyFile *file, GError **err)
{
    g_auto(GStrv) keys = g_key_file_get_keys(file, options_group, NULL, NULL);

    for (char **key = keys; key && *key; key++) {
        if (read_option(o, path, file, *key, err) < 0)
            return -1;
    }
    return 0;
}

static int read_arguments(struct options *o, const char *path, const char *group, const char *text,
                          GError **err)
{
    g_auto(GStrv) words = NULL;
    g_autoptr(GError) error = NULL;

    if (strspn(text, " \t") == strlen(text))
        return 0;
    if (!g_shell_parse_argv(text, NULL, &words, &error))
        return bad(err, path, group, "arguments: %s", error->message);
    for (char **word = words; *word; word++) {
        if (options_add_word(o, *word, err) < 0)
            return -1;
    }
    return 0;
}

static int read_disk(struct options *o, const char *path, GKeyFile *file, const char *group,
                     GError **err)
{
    const char *name = group + strlen(disk_prefix);
    g_auto(GStrv) keys = g_key_file_get_keys(file, group, NULL, NULL);
    g_autofree char *plugin = NULL;

    if (!g_key_file_has_key(file, group, "plugin", NULL))
        return bad(err, path, group, "the key 'plugin' is missing");
    plugin = read_string(path, file, group, "plugin", err);
    if (!plugin)
        return -1;
    if (options_add_disk(o, name, err) < 0 || options_add_word(o, plugin, err) < 0) {
        g_prefix_error(err, "%s: ", path);
        return -1;
    }
    for (char **key = keys; *key; key++) {
        g_autofree char *value = NULL;

        if (strcmp(*key, "plugin") == 0)
            continue;
        value = read_string(path, file, group, *key, err);
        if (!value)
            return -1;
        if (strcmp(*key, "arguments") == 0) {
            if (read_arguments(o, path, group, value, err) < 0)
                return -1;
        } else if (options_add_config(o, *key, value, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- groups and keys that are given twice ---- */

struct scan {
    const char *path;
    GHashTable *seen; /* groups as "[NAME", keys as "[NAME]KEY" */
    char *group;      /* NULL: none has begun */
};

static int seen_twice(const struct scan *s, const char *key, GError **err)
{
    if (g_str_has_prefix(s->group, disk_prefix) && !key)
        return bad(err, s->path, s->group, "disk '%s' is given twice",
                   s->group + strlen(disk_prefix));
    if (!key)
        return bad(err, s->path, s->group, "the group is given twice");
    if (strcmp(s->group, options_group) == 0)
        return bad(err, s->path, s->group, "option '%s' is given twice", key);
    return bad(
        err, s->path, s->group,
        "key '%s' is given twice (to give it to the plugin twice, write it into 'arguments')", key);
}

static int scan_group(struct scan *s, const char *line, GError **err)
{
    const char *end = strchr(line, ']');

    if (!end)
        return 0; /* GKeyFile will complain */
    g_free(s->group);
    s->group = g_strndup(line + 1, end - line - 1);
    return g_hash_table_add(s->seen, g_strdup_printf("[%s", s->group)) ? 0
                                                                       : seen_twice(s, NULL, err);
}

static int scan_key(struct scan *s, const char *line, GError **err)
{
    const char *end = strchr(line, '=');
    g_autofree char *key = NULL;
    const struct option_def *def;

    if (!end || !s->group)
        return 0;
    key = g_strchomp(g_strndup(line, end - line));
    def = strcmp(s->group, options_group) == 0 ? options_find(key) : NULL;
    /* Two names of one option are that option twice. */
    if (g_hash_table_add(s->seen, g_strdup_printf("[%s]%s", s->group, def ? def->name : key)))
        return 0;
    return seen_twice(s, key, err);
}

static int check_repeats(const char *path, const char *text, GError **err)
{
    struct scan s = {path, g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL), NULL};
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    int r = 0;

    for (char **line = lines; r == 0 && *line; line++) {
        char *begin = *line;

        while (g_ascii_isspace(*begin))
            begin++;
        if (*begin == '[')
            r = scan_group(&s, begin, err);
        else if (*begin != '#')
            r = scan_key(&s, begin, err);
    }
    g_hash_table_unref(s.seen);
    g_free(s.group);
    return r;
}

int options_read_file(struct options *o, const char *path, const char *text, GError **err)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) groups = NULL;

    if (!g_key_file_load_from_data(file, text, strlen(text), G_KEY_FILE_KEEP_TRANSLATIONS,
                                   &error)) {
        g_set_error(err, OPTIONS_ERROR, OPTIONS_ERROR_USAGE, "%s: %s", path, error->message);
        return -1;
    }
    if (check_repeats(path, text, err) < 0)
        return -1;
    groups = g_key_file_get_groups(file, NULL);
    for (char **group = groups; *group; group++) {
        int r;

        if (strcmp(*group, options_group) == 0)
            r = read_options(o, path, file, err);
        else if (g_str_has_prefix(*group, disk_prefix))
            r = read_disk(o, path, file, *group, err);
        else
            r = bad(err, path, *group, "a group is [%s] or [disk NAME]", options_group);
        if (r < 0)
            return -1;
    }
    return 0;
}
