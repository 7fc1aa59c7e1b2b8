/* SPDX-License-Identifier: BSD-3-Clause */
/* Which images are served, and which of them for writing. */
#ifndef COMMON_LIVE_LIVE_POLICY_H
#define COMMON_LIVE_LIVE_POLICY_H

#include "common/live/live-private.h"

/* Files of the longest chain that is served, if the caller does not say. */
#define LIVE_CHAIN_MOST 200

/* May the chain that has been opened be served as the options want it? 0, or -1 and *err, which
 * says what to do. Whoever opened it is told of what is wrong but does not hinder. */
int live_policy_check(struct live_image *image, struct q2_error *err);

#endif
