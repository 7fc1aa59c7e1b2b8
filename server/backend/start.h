/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A backend from a description in one call, also when clients are being served.
 *
 * plugin.h has the same in steps, for the start of the server, where all disks take each step
 * together, and the change of user lies between two of them.
 */
#ifndef BACKEND_START_H
#define BACKEND_START_H

#include "server/backend/plugin.h"

struct backend_spec {
    const char *plugin; /* a name, or a path with a slash in it */
    const char *disk;   /* names it in messages */
    const struct backend_word *words;
    size_t n_words;
};

/* Load, configure and ready a plugin, in nbdkit's order of calls. The next is b->ops->open. On
 * failure NULL and *err, and nothing is left: neither object nor descriptor.
 *
 * Any thread, and several at once; it blocks for as long as the plugin likes to, so not the thread
 * of the main loop while anybody is served. `spec` need not outlive the call.
 *
 * A plugin that starts late finds what nbdkit would not show it: other threads, a user that may not
 * be the one that the server was started as, and a folder that may be / (give paths absolute). Its
 * standard input is not its own: nbdkit_stdio_safe(3) is false. As ever, one that needs a library
 * which bears one plugin a process, and another disk's plugin has that, is refused. */
struct backend *backend_start(const struct backend_spec *spec, GError **err);

#endif
