/* SPDX-License-Identifier: BSD-3-Clause */
/* What the exit status of a freeze hook says: nbdfleece(1), --freeze-hook. */
#ifndef HOOKS_HOOK_STATUS_H
#define HOOKS_HOOK_STATUS_H

/* `freeze` has failed, and is certain that it has asked no guest to stand still, also not one that may
 * do so later. No `thaw` follows. Other statuses but 0 say that guests may stand still. */
#define HOOK_NONE_ASKED 3

/* In a hook's environment: its program. A program that is only a part of the hook can tell by it that it
 * does not speak for the whole. */
#define HOOK_VARIABLE "NBDFLEECE_HOOK"

#endif
