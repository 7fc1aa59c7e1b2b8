/* SPDX-License-Identifier: BSD-3-Clause */
/* The usual operations on files, counted, and with something that happens in front of one of
 * them. One image at a time. */
#ifndef TESTS_RIGS_LIVE_HOOKS_H
#define TESTS_RIGS_LIVE_HOOKS_H

#include "common/live/live-file.h"

#include <stdbool.h>

enum live_call { LIVE_CALL_READ, LIVE_CALL_WRITE, LIVE_CALL_EXTEND, LIVE_CALL_ZERO, LIVE_CALLS };

extern const struct live_file_ops live_hooked;

/* Forget counts, and what was to happen. */
void live_hooks_reset(void);
/* Calls since then, and their bytes. */
unsigned live_hooks_calls(enum live_call call);
uint64_t live_hooks_bytes(enum live_call call);

/* From now on a call fails, with this negative errno; 0: it does not. */
void live_hooks_fail(enum live_call call, int error);
/* Have `run` called once, before the next call that touches this byte of the file: by the thread
 * that makes it. */
void live_hooks_before(enum live_call call, uint64_t offset, void (*run)(void *opaque),
                       void *opaque);
bool live_hooks_ran(void); /* it has been */

#endif
