/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What has been copied and is to be trimmed in the source: ranges wait until all below a point is
 * durable, and are then taken one by one. Bounded: where too many wait, some are forgotten, for a
 * trim is a courtesy. Under the lock of its user.
 */
#ifndef COMMON_COPY_TRIMS_H
#define COMMON_COPY_TRIMS_H

#include "common/copy/batch.h"

struct trims;

struct trims *trims_new(void);
void trims_free(struct trims *t); /* NULL is fine */

/* The ranges of a batch have been copied. */
void trims_add(struct trims *t, const struct plan_range *ranges, unsigned n);
/* So many wait that a point should be made durable soon. */
bool trims_are_many(const struct trims *t);
/* All below `offset` is durable: what was copied there can be taken. */
void trims_release(struct trims *t, uint64_t offset);
/* Take one. False: there is none. */
bool trims_take(struct trims *t, uint64_t *offset, uint64_t *length);

#endif
