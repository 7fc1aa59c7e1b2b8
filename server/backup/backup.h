/* SPDX-License-Identifier: BSD-3-Clause */
/* What a server has for backups: checkpoints and sessions, for start/ and control/. */
#ifndef BACKUP_BACKUP_H
#define BACKUP_BACKUP_H

#include "server/backup/checkpoints.h"
#include "server/backup/sessions.h"

struct backup {
    struct checkpoints *checkpoints;
    struct sessions *sessions;
};

/* After server_start_store, before clients are let in. NULL and *err: the state folder failed. */
struct backup *backup_new(struct server *s, const struct session_options *o, GError **err);
/* When the server begins to end; before server_end_changes; after it. The second one waits
 * (sessions_wait_for_hooks). */
void backup_stop(struct backup *b);
void backup_wait_for_hooks(struct backup *b);
void backup_free(struct backup *b);

#endif
