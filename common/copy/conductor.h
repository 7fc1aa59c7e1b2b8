/* SPDX-License-Identifier: BSD-3-Clause */
/* The thread that follows the lanes, makes durable what they have written, and ends the copy. */
#ifndef COMMON_COPY_CONDUCTOR_H
#define COMMON_COPY_CONDUCTOR_H

#include "common/copy/engine.h"

/* The thread's function. `opaque`: the copy, whose lanes run. */
gpointer conductor_main(gpointer opaque);

#endif
