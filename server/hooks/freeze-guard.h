/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the server and its freeze-guard say to each other.
 *
 *   freeze-guard SECONDS COUNT WORD... DISK...
 *
 * COUNT words are those of the hook: its program, and words of its own. Standard input is a socket of
 * the kind SOCK_SEQPACKET. The server sends one byte; the guard runs the hook, and answers with
 * FREEZE_GUARD_DONE, or with FREEZE_GUARD_FAILED and a text, without a 0 at its end, that says why; or,
 * to FREEZE_GUARD_FREEZE, with FREEZE_GUARD_NONE_ASKED and such a text: no guest was asked to stand still.
 * After the answer to FREEZE_GUARD_THAW the guard ends; where `thaw` has failed, it first goes on trying,
 * for an hour, and its exit status tells whether guests are thawed. If the server closes its end, or shuts
 * it down for writing, a `freeze` under way is ended, and where guests may stand still the guard goes on
 * as if it had been sent FREEZE_GUARD_THAW.
 */
#ifndef HOOKS_FREEZE_GUARD_H
#define HOOKS_FREEZE_GUARD_H

/* The server's. */
#define FREEZE_GUARD_FREEZE 'f'
#define FREEZE_GUARD_THAW   't'

/* The guard's. */
#define FREEZE_GUARD_DONE       '0'
#define FREEZE_GUARD_FAILED     '1'
#define FREEZE_GUARD_NONE_ASKED '2'

/* Most bytes of an answer. */
#define FREEZE_GUARD_ANSWER_MAX 1024

/* Seconds that the guard may take longer than the hook's time: to end a hook that does not end. */
#define FREEZE_GUARD_EXTRA 5

#endif
