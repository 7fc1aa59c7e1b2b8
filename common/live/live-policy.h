/* SPDX-License-Identifier: BSD-3-Clause */
/* Which images are served, and which of them for writing. */
#ifndef COMMON_LIVE_LIVE_POLICY_H
#define COMMON_LIVE_LIVE_POLICY_H

#include "common/live/live-private.h"

/* Files of the longest chain that is served, if the caller does not say. */
#define LIVE_CHAIN_MOST 200

/* May the chain that has been opened be served, as far as its headers say? 0, or -1 and *err, which says what to
 * do. (What tables say is looked at where space is: live_reserve_init.) */
int live_policy_check(const struct q2_image *chain, bool writable, struct q2_error *err);
/* Whoever opened the image is told of what is wrong with it and does not hinder. */
void live_policy_tell(struct live_image *image);

#endif
