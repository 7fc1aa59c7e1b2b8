/* SPDX-License-Identifier: BSD-3-Clause */
/* The thread that follows the lanes, makes durable what they have written, and ends the copy. */
#ifndef COMMON_COPY_CONDUCTOR_H
#define COMMON_COPY_CONDUCTOR_H

/* The thread's function. `opaque`: the copy, whose lanes run. */
void *conductor_main(void *opaque);

#endif
