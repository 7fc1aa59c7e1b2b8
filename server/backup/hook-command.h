/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command of --freeze-hook: a program, and perhaps words of its own, written as for a shell; no
 * shell runs. Any thread.
 */
#ifndef BACKUP_HOOK_COMMAND_H
#define BACKUP_HOOK_COMMAND_H

#include <glib.h>

/* The path of a program of ours that the server starts: from the folders of $NBDFLEECE_HOOK_PATH (for
 * tests), the build tree, or where it was installed. NULL: it is in none of these. Free with
 * g_free(). */
char *hook_find_ours(const char *name);

/* The same command, with the path of its program absolute: it is found from any folder. A name without
 * a slash is that of a hook of ours, or is looked up in $PATH. NULL and *err: it cannot be split, or
 * there is no such program. Free with g_free(). */
char *hook_command_resolve(const char *command, GError **err);

/* The words of a command. NULL and *err: it cannot be split. Free with g_strfreev(). */
char **hook_command_split(const char *command, GError **err);

#endif
