/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whether an image is the one that bitmaps speak of, and whether somebody else has written to it
 * since. Pure.
 *
 * After a stop in order, the catalogue knows how the image was left: any difference is somebody
 * else's change. After a crash nobody could note that. Then the time of the last change that we made
 * is the bound: an image whose mtime is later was changed by somebody else. How late our last change
 * may have been depends on what is left of the last server (struct identity_past).
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

/* How the last user of the folder ended, as far as it tells when an image was changed last. */
struct identity_past {
    int64_t now;           /* wall clock, ns since 1970 */
    bool rebooted;         /* the machine went down, it was another one, or its memory is gone, or
                              the lines in it: `last` is not known */
    int64_t boot_time;     /* rebooted: of the present boot, ns since 1970; 0: it does not bound */
    int64_t lease;         /* rebooted: the folder was in order at least until then; 0: not known */
    struct live_last last; /* !rebooted: what the memory says */
    bool last_known;
};

/* CLOCK_REALTIME_COARSE, by which our changes and the kernel's mtimes are noted, goes by ticks of up
 * to 10 ms. */
#define IDENTITY_TICKS INT64_C(20000000)
/* A change that was under way ends at most so long after it was last seen under way. */
#define IDENTITY_UNDER_WAY INT64_C(1000000000)

/* Until when the image may have been changed by us: catalogue_disk.changed_until of a disk that was
 * being served when the server died. 0: that is not known. */
int64_t identity_changed_until(const struct identity_past *past);

/* Bitmaps of an image that was replaced by another one under the disk's name are kept as those of a
 * disk with this at the end of its name. */
#define IDENTITY_REPLACED "-replaced"

/* Why the disk's bitmaps do not fit its image, a sentence for people (g_free), or NULL: they do.
 * `size` is the image's size now. A DISK_CLEAN disk is judged by `content`, others by `modified`
 * against `changed_until` where `content` has changed since the server began. The size must be the disk's, or its resize_to. */
char *identity_judge(const struct catalogue_disk *d, const struct image_identity *now,
                     uint64_t size);
/* Does `size` fit what the catalogue knows of the disk? */
bool identity_size_fits(const struct catalogue_disk *d, uint64_t size);

#endif
