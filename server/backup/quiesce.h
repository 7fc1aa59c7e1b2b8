/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Quiescing guests around an instant, by a program of the user's (--freeze-hook): `PROGRAM freeze
 * DISK...` before it, `PROGRAM thaw DISK...` after it. PROGRAM may have words of its own before these
 * (hook-command.h). Guests are thawed in any case, also if this process dies between: a helper process
 * runs both, and sees that this one is gone.
 *
 * freeze and thaw are called by a thread of an instant (instant_quiesce); they wait for the program,
 * each `seconds` at most: then it is killed, with its process group. freeze first waits for other
 * sessions that freeze guests, whichever disks they are of, also `seconds` at most. Where thaw has failed,
 * the helper tries on, another one goes on for it if it is killed, and no freeze begins before that has
 * ended. A freeze that has asked no guest to stand still, as the program says by its exit status
 * (server/hooks/hook-status.h), needs no thaw, and others need not wait for one.
 */
#ifndef BACKUP_QUIESCE_H
#define BACKUP_QUIESCE_H

#include <glib.h>
#include <stdbool.h>

struct quiesce;

/* `command` has been checked by quiesce_check. `disks`: names, copied. Any thread. */
struct quiesce *quiesce_new(const char *command, unsigned seconds, const GPtrArray *disks);
void quiesce_free(struct quiesce *q);
/* Can this process run it? `command` is one of hook_command_resolve. -1 and *err. */
int quiesce_check(const char *command, GError **err);

/* 0: the guests stand still. -1 and *err ("freeze hook: /x/y: exit status 1: LAST LINE OF ITS stderr",
 * "... it has not ended within 10 s"): they do not, or it is not known; thaw has to follow in any case. */
int quiesce_freeze(struct quiesce *q, GError **err);
/* A failure is logged, and -1; *err (may be NULL): "guests may stand still: thaw: ...". */
int quiesce_thaw(struct quiesce *q, GError **err);

/* The server ends: a freeze that has not succeeded yet fails soon, and its program is ended. Guests that
 * stand still do so until thaw is called. Any thread, as long as `q` is there; does not wait. */
void quiesce_cut(struct quiesce *q);
bool quiesce_is_cut(struct quiesce *q);
/* Guests may stand still: freeze has begun, and thaw has not returned. Any thread. */
bool quiesce_is_active(struct quiesce *q);
/* Seconds: most that thaw takes, and a freeze that is cut with its thaw. */
unsigned quiesce_end_seconds(unsigned seconds);

#endif
