/* SPDX-License-Identifier: BSD-3-Clause */
/* How the threads of a copy stop each other, and how its position moves. */
#ifndef COMMON_COPY_ENGINE_H
#define COMMON_COPY_ENGINE_H

#include "common/copy/batch.h"

struct copy;

/* Stop all, because of `error`, which is taken. The first one counts. Any thread, no lock. */
void engine_fail(struct copy *c, GError *error);

/* With the lock: let the position follow what has been done. */
void engine_move(struct copy *c);
/* With the lock: end a batch that has been written. */
void engine_batch_done(struct copy *c, struct batch *b);

#endif
