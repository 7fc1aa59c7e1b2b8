/* SPDX-License-Identifier: BSD-3-Clause */
/* A live image of a folder, with a model of its disk, and QEMU's tools, which have the last
 * word. */
#ifndef TESTS_RIGS_LIVE_DISK_H
#define TESTS_RIGS_LIVE_DISK_H

#include "common/live/live.h"
#include "tests/rigs/qcow2-rig.h"

/* Kinds of images: what `qemu-img create` and qemu-io are told. */
struct live_disk_kind {
    const char *name;
    const char *base;    /* shell commands that make what is below; NULL: nothing is */
    const char *options; /* of `qemu-img create`: format, backing file */
    const char *fill;    /* shell commands that come after; NULL: none */
};
extern const struct live_disk_kind live_disk_kinds[];
extern const unsigned live_disk_n_kinds;

struct live_disk {
    struct qcow2_rig rig;
    const char *name; /* of the image's file */
    struct live_image *image;
    uint8_t *model;
    size_t size;
    GMutex lock;
    GString *told; /* sentences, each with a line break */
};

/* Make an image of a kind, with random content where `filled`; it is not opened. False, and the
 * test is skipped, where the tools are missing. */
bool live_disk_make(struct live_disk *d, const struct live_disk_kind *kind, bool filled);
/* An empty folder. */
bool live_disk_begin(struct live_disk *d);
void live_disk_end(struct live_disk *d);

/* Open "disk.qcow2"; the first time, the model is what QEMU reads in it. */
void live_disk_open(struct live_disk *d, bool writable);
/* The same with files that are read and written otherwise; NULL: as usual. */
void live_disk_open_ops(struct live_disk *d, bool writable, const struct live_file_ops *ops);
/* Close; it must succeed. */
void live_disk_close(struct live_disk *d);
/* The file is clean, and QEMU reads the model in it. */
void live_disk_judge(struct live_disk *d);

/* The disk, its extents and the places of its bytes are what the model says: all of it, or a
 * range. */
void live_disk_check(struct live_disk *d);
void live_disk_check_range(struct live_disk *d, size_t length, size_t offset);

/* Do it to both; it must succeed. Written bytes are of a pattern that begins with `seed`. */
void live_disk_write(struct live_disk *d, size_t length, size_t offset, uint8_t seed,
                     unsigned flags);
void live_disk_zero(struct live_disk *d, size_t length, size_t offset, unsigned flags);
/* What is trimmed reads as before or as zeroes, byte by byte; the model follows. */
void live_disk_trim(struct live_disk *d, size_t length, size_t offset);

/* One random operation on a random range, by GLib's random numbers. */
void live_disk_random(struct live_disk *d);

/* What kind of range is at a place: of the top layer, as live_extent says. */
void live_disk_assert_extent(struct live_disk *d, size_t offset, bool hole, bool zero);
bool live_disk_was_told(struct live_disk *d, const char *text);

#endif
