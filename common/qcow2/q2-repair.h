/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mending a qcow2 image that nobody uses: reference counts and the flags that follow from them. What
 * else may be wrong with an image is never guessed: then nothing is changed.
 *
 * (q2-repair.c begins with the order of what is written, and with what a crash leaves.)
 */
#ifndef COMMON_QCOW2_Q2_REPAIR_H
#define COMMON_QCOW2_Q2_REPAIR_H

#include "common/qcow2/q2-image.h"

#include <stdbool.h>
#include <stdint.h>

enum q2_repair_what {
    Q2_REPAIR_LEAKS, /* counts that are too high are lowered; an image with corruptions is refused */
    Q2_REPAIR_ALL,   /* and counts that are too low, the flag COPIED, and the header's bits for
                        images that were not closed in order, or are corrupt */
};

/* What was wrong, as q2_image_check counts it. */
struct q2_repaired {
    uint64_t leaks, corruptions;
    struct q2_error first; /* the first corruption; "": there was none */
    bool changed;          /* something was written, also where the repair then failed */
};

/*
 * Mend an image that was opened for writing, with QEMU's locks, without its backing file. 0: nothing is
 * wrong any more, durably. -1 and *err: it cannot be repaired, and nothing was changed; or reading or
 * writing failed, and the image is no worse than it was (r->changed). *r is set in any case. The
 * image is to be used for nothing but closing afterwards. One thread.
 */
int q2_image_repair(struct q2_image *image, enum q2_repair_what what, struct q2_repaired *r,
                    struct q2_error *err);

#endif
