/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is to be copied, in which order: it asks the source for its extents, a window at a time,
 * rounds them to whole blocks, and hands them out in batches, ascending.
 *
 * Not locked. planner_ask: one thread at a time, which may be at work while others call the rest,
 * for what it finds is theirs only with planner_publish. The rest: under one lock of the callers.
 */
#ifndef COMMON_COPY_PLANNER_H
#define COMMON_COPY_PLANNER_H

#include "common/copy/batch.h"

struct planner;

/* `align`: a power of two; every range is made of whole blocks of it, but for the last one of the
 * disk. Only what is at `start`, a multiple of it, or beyond is asked for. The source is lent. */
struct planner *planner_new(struct copy_source *s, uint32_t align, uint64_t start);
void planner_free(struct planner *p); /* NULL is fine */

/* Ask for the next window. 0, or -1 and *err. */
int planner_ask(struct planner *p, unsigned lane, GError **err);
/* What the planner_ask found can be taken from now on. */
void planner_publish(struct planner *p);
/* Everything has been asked for and published. */
bool planner_knows_all(const struct planner *p);
/* There is less to be taken than `bytes`, and few ranges: it is time to ask. */
bool planner_is_low(const struct planner *p, uint64_t bytes);

/* Put the next ranges into an empty batch, as many as it has room for. False: there are none. */
bool planner_take(struct planner *p, struct batch *b);
/* Nothing below this offset is still to be taken. The disk's size at the end. Only grows. */
uint64_t planner_frontier(const struct planner *p);

#endif
