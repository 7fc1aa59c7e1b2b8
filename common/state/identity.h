/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whether an image is the one that bitmaps speak of, and whether somebody else has written to it
 * since. Pure.
 */
#ifndef COMMON_STATE_IDENTITY_H
#define COMMON_STATE_IDENTITY_H

#include "common/state/catalogue.h"
#include "common/state/live-file.h"

/* What is known of an image now. */
struct image_identity {
    const char *image;   /* which it is: "file dev=8:1 ino=77 gen=5", "plugin nbd uri=..." */
    const char *content; /* changes when anybody writes to it ("size=.. mtime=.. ctime=.."); "":
                            writes cannot be seen (foreign plugins, block devices) */
    int64_t modified;    /* mtime, ns since 1970; 0: not known */
    bool transient;      /* its bytes end with the process: memory, data */
};

/* How the last user of the folder ended, as far as this judgement needs it. */
struct identity_past {
    bool power_lost;       /* the machine went down, or the folder was mounted anew */
    int64_t boot_time;     /* of the present boot, ns since 1970; an mtime after it, when power was lost, is not ours */
    struct live_last last; /* not power_lost: what the live file says */
    bool last_known;
};

/* Why the disk's bitmaps do not fit its image, a sentence for people (g_free), or NULL: they do.
 * `size` is the image's size now; DISK_CLEAN disks are judged by `content`, others by `modified`
 * against `changed_until` or `past`. The size rule: see catalogue_disk.resize_to. */
char *identity_judge(const struct catalogue_disk *d, const struct image_identity *now,
                     uint64_t size, const struct identity_past *past);

#endif
