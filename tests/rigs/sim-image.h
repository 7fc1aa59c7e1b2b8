/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A simulated image: it outlives servers. What is in it does not matter; a byte stands for each
 * block of 4096. A power loss may take back a size that was not flushed.
 */
#ifndef TESTS_RIGS_SIM_IMAGE_H
#define TESTS_RIGS_SIM_IMAGE_H

#include "server/backend/backend.h"

#define SIM_BLOCK      4096u
#define SIM_IMAGE_MOST (UINT64_C(24) << 20) /* bytes */

struct sim_image {
    uint64_t size, flushed; /* flushed: what the size was at the last flush */
    int64_t modified;       /* its mtime */
    uint8_t blocks[SIM_IMAGE_MOST / SIM_BLOCK];
};

/* lose: what was not flushed is lost; else it was written in time. */
void sim_image_lose_power(struct sim_image *i, bool lose);

/* Called just before bytes change. */
typedef void (*sim_changed)(void *opaque, struct sim_image *i, uint64_t offset, uint64_t length);

/* A backend over it; multiples of SIM_BLOCK only. The image stays the caller's. Freed by its disk. */
struct backend *sim_image_backend(struct sim_image *i, sim_changed changed, void *opaque);

#endif
