/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-policy.h"

#include <limits.h>
#include <stdio.h>

/* ---- for reading ---- */

/* What an image does not have is its backing file's: without that it would read as zeroes. */
static int check_whole(const struct q2_image *chain, struct q2_error *err)
{
    for (const struct q2_image *i = chain; i; i = i->backing)
        if (i->over && !i->backing)
            return q2_fail(err, "'%s' is over a backing file, '%s', and may not name any",
                           i->file.path, i->header.backing);
    return 0;
}

/* `which`: of the chain's files. */
static void tell_of(struct live_image *image, const char *which, const struct q2_header *h)
{
    if (h->incompatible & Q2_INCOMPATIBLE_CORRUPT)
        live_tell(image, "%s is marked as corrupt: what is read of it may be wrong", which);
    if (h->incompatible & Q2_INCOMPATIBLE_DIRTY)
        live_tell(image,
                  "%s was not closed by its last writer: its reference counts may be wrong, which "
                  "does not matter for reading",
                  which);
}

void live_policy_tell(struct live_image *image)
{
    const struct q2_image *i = image->chain;
    char which[PATH_MAX + 32];

    tell_of(image, "it", &i->header);
    for (i = i->backing; i; i = i->backing) {
        snprintf(which, sizeof(which), "its backing file '%s'", i->file.path);
        tell_of(image, which, &i->header);
    }
}

/* ---- for writing ---- */

#define REPAIR "`fleecectl image check --repair all` or `qemu-img check -r all`"

static int check_marks(const struct q2_image *i, struct q2_error *err)
{
    if (i->header.incompatible & Q2_INCOMPATIBLE_CORRUPT)
        return q2_fail(
            err, "'%s' is marked as corrupt. It can be opened read-only, and repaired by " REPAIR,
            i->file.path);
    if (i->header.incompatible & Q2_INCOMPATIBLE_DIRTY)
        return q2_fail(err,
                       "'%s' was not closed by its last writer, and its reference counts may be "
                       "wrong. It can be opened read-only, and repaired by " REPAIR,
                       i->file.path);
    return 0;
}

/* What is in the image beside the disk, and is not kept when that is written. */
static int check_content(const struct q2_image *i, struct q2_error *err)
{
    if (i->header.nb_snapshots)
        return q2_fail(
            err,
            "'%s' has %u internal snapshots, with which an image is not written yet. It can be "
            "opened read-only, also as it was in one of them (snapshot=); `qemu-img "
            "snapshot -d` removes them",
            i->file.path, i->header.nb_snapshots);
    if (i->header.autoclear & Q2_AUTOCLEAR_BITMAPS)
        return q2_fail(
            err,
            "'%s' has persistent bitmaps of QEMU, which are not kept yet where the image is "
            "written. It can be opened read-only; `qemu-img bitmap --remove` removes them",
            i->file.path);
    return 0;
}

static int check_device(const struct q2_image *i, struct q2_error *err)
{
    const struct q2_file *device = i->file.device                      ? &i->file
                                   : i->data.fd >= 0 && i->data.device ? &i->data
                                                                       : NULL;

    if (!device)
        return 0;
    return q2_fail(err,
                   "'%s' is a block device, on which images are not written yet. It can be opened "
                   "read-only",
                   device->path);
}

int live_policy_check(const struct q2_image *chain, bool writable, struct q2_error *err)
{
    if (check_whole(chain, err) < 0)
        return -1;
    if (writable && (check_marks(chain, err) < 0 || check_content(chain, err) < 0 ||
                     check_device(chain, err) < 0))
        return -1;
    return 0;
}
