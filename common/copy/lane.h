/* SPDX-License-Identifier: BSD-3-Clause */
/* A thread that reads batches and writes them. */
#ifndef COMMON_COPY_LANE_H
#define COMMON_COPY_LANE_H

#include "common/copy/engine.h"

/* The thread's function: work until there is no more, or the copy stops. `opaque`: the lane. */
gpointer lane_main(gpointer opaque);

#endif
