/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The open image that handles share: one for all that may write, and one for all that may not. The
 * first handle opens it and the last closes it. While there is one that may be written, those that
 * only read share it, too: the locks of two would exclude each other. (A server that has both kinds
 * opens the writable one first.)
 *
 * Any thread, but for shared_start.
 */
#ifndef PLUGINS_QCOW2_SHARED_H
#define PLUGINS_QCOW2_SHARED_H

#include "plugins/nbdfleece-plugin.h"
#include "plugins/qcow2/settings.h"

struct shared {
    struct live_image *image;
    const struct settings *settings;
    /* The rest is shared.c's. */
    bool readonly; /* asked for so */
    unsigned users;
    bool started;                     /* live_start */
    struct nbdfleece_identity opened; /* as the files were when they were opened */
    bool told;                        /* the identity */
    struct shared *next;
};

/* Share an open image, or open one. NULL after nbdkit_error. */
struct shared *shared_open(const struct settings *settings, bool readonly);
void shared_close(struct shared *s);

/* At the end, when no call is under way: what handles that nobody has closed share becomes durable, and
 * what was reserved is given back. nbdkit may unload its plugin, and end, while threads of its clients are
 * about to close theirs. */
void shared_settle(void);

/* The process does not fork any more: threads may be started, for what is open and what will be. 0, or -1
 * after nbdkit_error. */
int shared_start(void);

/* See nbdfleece_plugin_identity. What is asked first is answered as the files were when they were opened:
 * what we have done to them since is nobody else's change. From then on, as they are, and as
 * they are left by shared_close if nothing is changed in between. 0, or -1 after nbdkit_error. */
int shared_identity(struct shared *s, struct nbdfleece_identity *identity);

#endif
