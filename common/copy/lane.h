/* SPDX-License-Identifier: BSD-3-Clause */
/* A thread that reads batches and writes them. */
#ifndef COMMON_COPY_LANE_H
#define COMMON_COPY_LANE_H

/* The thread's function: work until there is no more, or the copy stops. `opaque`: the lane. */
void *lane_main(void *opaque);

#endif
