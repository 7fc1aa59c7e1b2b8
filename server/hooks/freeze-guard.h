/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the server and its freeze-guard say to each other.
 *
 *   freeze-guard SECONDS COUNT WORD... DISK...
 *
 * COUNT words are those of the hook: its program, and words of its own. Standard input is a socket of
 * the kind SOCK_SEQPACKET. The server sends one byte; the guard runs the hook, and answers with
 * FREEZE_GUARD_DONE, or with FREEZE_GUARD_FAILED and a text, without a 0 at its end, that says why.
 * After the answer to FREEZE_GUARD_THAW the guard ends. If the server is gone before, the guard runs
 * `thaw` by itself, where it has begun to run `freeze`.
 */
#ifndef HOOKS_FREEZE_GUARD_H
#define HOOKS_FREEZE_GUARD_H

/* The server's. */
#define FREEZE_GUARD_FREEZE 'f'
#define FREEZE_GUARD_THAW   't'

/* The guard's. */
#define FREEZE_GUARD_DONE   '0'
#define FREEZE_GUARD_FAILED '1'

/* Most bytes of an answer. */
#define FREEZE_GUARD_ANSWER_MAX 1024

/* Seconds that the guard may take longer than the hook's time: to end a hook that does not end. */
#define FREEZE_GUARD_EXTRA 5

#endif
