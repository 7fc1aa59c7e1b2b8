/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbdkit plugins as backends; nbdkit-plugin(3) tells what a plugin may rely on.
 *
 * The order of calls is the caller's duty: plugin_load, plugin_config_words (or a plugin_config
 * for each key), plugin_config_complete, plugin_get_ready, plugin_open_ahead, [fork],
 * plugin_after_fork, then b->ops->open ... and b->ops->free at the end. For one backend all but
 * the operations on handles are called by one thread at a time; at the start of the server that is
 * the main thread, and there is no other yet. start.h has all of it in one call, for later.
 */
#ifndef BACKEND_PLUGIN_H
#define BACKEND_PLUGIN_H

#include "server/backend/backend.h"

#include <stddef.h>
#include <stdio.h>

/* One word of a plugin's configuration. */
struct backend_word {
    const char *key; /* NULL: a bare word, which the plugin has a key for */
    const char *value;
};

/* Load the plugin `name`, which is looked for in our own plugin folders and then in nbdkit's, or is
 * a path with a slash. `disk` names it in messages. Every call returns an instance with globals of
 * its own. NULL and *err. */
struct backend *plugin_load(const char *name, const char *disk, GError **err);

/* One KEY=VALUE from the command line. Here and below: 0, or -1 and *err. */
int plugin_config(struct backend *b, const char *key, const char *value, GError **err);
/* A bare word: it goes to the plugin's magic_config_key, or, as the first word, to `script`. */
int plugin_config_bare(struct backend *b, const char *word, GError **err);
/* All words of a plugin's configuration, in order, up to the first that it refuses. */
int plugin_config_words(struct backend *b, const struct backend_word *words, size_t n,
                        GError **err);
int plugin_config_complete(struct backend *b, GError **err);
int plugin_get_ready(struct backend *b, GError **err);
int plugin_after_fork(struct backend *b, GError **err);

/* Between plugin_get_ready and the fork: let a plugin of ours open its image with the rights that
 * the server was started with. It stays open as long as the backend lives, and handles that are
 * opened later share it. For a plugin of nbdkit nothing is done: it opens after the change of user.
 */
int plugin_open_ahead(struct backend *b, bool readonly, GError **err);

/* What --dump-plugin, --help and --version say of the plugin, as nbdkit does. */
void plugin_dump(struct backend *b, FILE *out);
void plugin_help(struct backend *b, FILE *out);
void plugin_version(struct backend *b, FILE *out);
/* -D NAME.FLAG=N, before plugin_config. False: the plugin has another name. If the plugin has no
 * such flag, a warning says so, as nbdkit's does: another version of the plugin may have it. */
bool plugin_debug_flag(struct backend *b, const char *name, const char *flag, int value);

/* Set what nbdkit_shutdown(3) calls. The server does so once; `request` is called from any thread,
 * and must not block. */
void plugin_set_shutdown(void (*request)(void *opaque), void *opaque);
/* Tell plugins that the server is ending: nbdkit_nanosleep(3) returns early from now on. */
void plugin_begin_shutdown(void);
/* -s is in use: nbdkit_stdio_safe(3) answers false, before configuration too. */
void plugin_set_stdio_taken(void);

#endif
