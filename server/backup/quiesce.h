/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Quiescing guests around an instant, by a program of the user's (--freeze-hook): `PROGRAM freeze
 * DISK...` before it, `PROGRAM thaw DISK...` after it. PROGRAM may have words of its own before these
 * (hook-command.h). Guests are thawed in any case, also if this process dies between: a helper process
 * runs both, and sees that this one is gone.
 *
 * freeze and thaw are called by a thread of an instant (instant_quiesce); they wait for the program,
 * each `seconds` at most: then it is killed, with its process group. freeze first waits for other
 * sessions that freeze guests, also `seconds` at most.
 */
#ifndef BACKUP_QUIESCE_H
#define BACKUP_QUIESCE_H

#include <glib.h>

struct quiesce;

/* `command` has been checked by quiesce_check. `disks`: names, copied. Any thread. */
struct quiesce *quiesce_new(const char *command, unsigned seconds, const GPtrArray *disks);
void quiesce_free(struct quiesce *q);
/* Can this process run it? `command` is one of hook_command_resolve. -1 and *err. */
int quiesce_check(const char *command, GError **err);

/* 0: the guests stand still. -1 and *err ("freeze hook: /x/y: exit status 1: LAST LINE OF ITS stderr",
 * "... it has not ended within 10 s"): they do not, or it is not known; thaw has to follow. */
int quiesce_freeze(struct quiesce *q, GError **err);
/* A failure is logged, and -1; *err (may be NULL). */
int quiesce_thaw(struct quiesce *q, GError **err);

#endif
