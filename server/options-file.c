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
 */
#include "config.h"

#include "server/options.h"

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

/* A value with its escapes undone; g_free. Where the last of them is incomplete, GLib gives both a
 * value and an error. */
static char *read_string(const char *path, GKeyFile *file, const char *group, const char *key,
                         GError **err)
{
    g_autoptr(GError) error = NULL;
    char *value = g_key_file_get_string(file, group, key, &error);

    if (error == NULL)
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
        if (value == NULL)
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
    if (plugin == NULL)
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
        if (value == NULL)
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

int options_read_file(struct options *o, const char *path, const char *text, GError **err)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) groups = NULL;

    if (!g_key_file_load_from_data(file, text, strlen(text), G_KEY_FILE_NONE, &error)) {
        g_set_error(err, OPTIONS_ERROR, OPTIONS_ERROR_USAGE, "%s: %s", path, error->message);
        return -1;
    }
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
