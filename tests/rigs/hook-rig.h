/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A freeze hook that is a script, and notes in a log what it is called with; and what is asserted of
 * guests that are quiesced by it.
 */
#ifndef TESTS_RIGS_HOOK_RIG_H
#define TESTS_RIGS_HOOK_RIG_H

#include "server/backup/quiesce.h"

/* Seconds that nothing here reaches. */
#define LONG 60

struct hook_rig {
    char *folder, *hook, *log; /* the paths */
};

/* Once: let the freeze-guard of this build be found. */
void hook_rig_find_guard(void);
/* The script runs `body` after it has noted its arguments as a line. There its first word is $action,
 * and $LOG the log's path. */
void hook_rig_init(struct hook_rig *r, const char *body);
/* The folder has to be as it was. */
void hook_rig_clear(struct hook_rig *r);

/* ---- the log ---- */

/* Free with g_free(). */
char *hook_rig_read_log(const struct hook_rig *r);
void hook_rig_assert_log(const struct hook_rig *r, const char *expected);
/* Wait until the log ends with this line. */
void hook_rig_wait_for_log(const struct hook_rig *r, const char *line);
/* The number in the log behind `word`. */
int hook_rig_noted(const struct hook_rig *r, const char *word);

/* ---- processes ---- */

/* Is it gone, or a zombie? */
bool hook_rig_has_ended(int pid);
void hook_rig_wait_for_end(int pid);

/* ---- freezing ---- */

/* For the disks "vda" and "a disk". */
struct quiesce *hook_rig_quiesce(const char *command, unsigned seconds);
void hook_rig_freeze(struct quiesce *q);
/* With this message. */
void hook_rig_freeze_fails(struct quiesce *q, const char *format, ...) G_GNUC_PRINTF(2, 3);
void hook_rig_thaw(struct quiesce *q);

#endif
