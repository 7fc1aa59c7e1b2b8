/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/backup/backup.h"

struct backup *backup_new(struct server *s, const struct session_options *o, GError **err)
{
    struct backup *b = g_new0(struct backup, 1);

    b->checkpoints = checkpoints_new(s);
    b->sessions = sessions_new(s, b->checkpoints, o);
    if (sessions_restore(b->sessions, err) == 0)
        return b;
    backup_free(b);
    return NULL;
}

void backup_stop(struct backup *b)
{
    if (b)
        sessions_stop(b->sessions);
}

void backup_wait_for_hooks(struct backup *b)
{
    if (b)
        sessions_wait_for_hooks(b->sessions);
}

void backup_free(struct backup *b)
{
    if (!b)
        return;
    if (sessions_free(b->sessions))
        checkpoints_free(b->checkpoints);
    g_free(b);
}
